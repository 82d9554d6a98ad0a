//! A refusal of a provider in words: who has to act, what the log says, what the caller gets.
//!
//! It decides nothing of an answer, which `answer.rs` judged. It fills in the sentences of
//! `advice.rs`, and rewords what the gateway asked for in its own name: no caller is at fault then.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use super::advice::{self, Class};
use super::failure::{ExchangeError, Memory};
use super::grant::Grant;
use super::terms::Terms;
use crate::limits;
use crate::rejection::Extra;

/// An answer that is no token.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Who has to act.
    pub(super) class: Class,
    /// What the answer shows, in a word: `AADSTS50076`, ``error `invalid_grant` ``, `status 502`.
    pub(super) sign: Box<str>,
    /// Why more claims are asked for, where that is known.
    pub(super) cause: Option<&'static str>,
    /// What it means and what to do, with places to fill in.
    pub(super) advice: &'static str,
    /// [`Marks`] in words: what finds the call in the provider's own logs.
    pub(super) marks: Box<str>,
    /// A claims request: JSON text of an object.
    pub(super) claims: Option<String>,
    /// For whom it holds a while longer.
    pub(super) memory: Memory,
}

/// What finds a call in the provider's own logs. None of it can be a token or a name.
pub(super) struct Marks<'a> {
    pub(super) status: StatusCode,
    pub(super) error: Option<&'a str>,
    pub(super) suberror: Option<&'a str>,
    pub(super) numbers: &'a [u64],
    pub(super) trace_id: Option<&'a str>,
    pub(super) correlation_id: Option<&'a str>,
    pub(super) timestamp: Option<&'a str>,
}

impl Refusal {
    /// Who has to act.
    pub(super) fn class(&self) -> Class {
        self.class
    }

    /// The failure of an exchange on these `terms`; `wait` is the provider's `Retry-After`.
    pub(super) fn explain(self, terms: &Terms, wait: Option<Duration>) -> ExchangeError {
        let link = (self.class == Class::Consent).then(|| consent_link(terms)).flatten();
        let refusal = self.worded_for(terms);
        let (cause, remedy) = refusal.filled_in(terms);
        let remedy = remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default();
        let mut reason = format!(
            "exchange refused by provider `{}`: {}, {cause}{remedy}{}",
            terms.provider, refusal.sign, refusal.marks
        );
        if terms.grant == Grant::ClientCredentials {
            reason.push_str("; the token was asked for in the gateway's own name");
        }
        if let Some(link) = link {
            reason.push_str("; an administrator consents at ");
            reason.push_str(&link);
        }
        let error = match refusal.class {
            Class::Interaction => ExchangeError::new(refusal.class, reason).with(Extra::Claims {
                authorization_uri: terms.authorization_endpoint.clone().unwrap_or_default(),
                client_id: terms.client_id.clone(),
                claims: refusal.claims,
            }),
            Class::Unavailable => ExchangeError::unavailable(reason, wait),
            Class::Consent
            | Class::NotAllowed
            | Class::Expired
            | Class::Invalid
            | Class::Gateway => ExchangeError::new(refusal.class, reason),
        };
        error.remembered(refusal.memory)
    }

    /// The same in parts, for `trial.rs`: what came and why, and what there is to do, if anything.
    pub(super) fn in_parts(self, terms: &Terms) -> (String, Option<String>) {
        let refusal = self.worded_for(terms);
        let (cause, remedy) = refusal.filled_in(terms);
        (format!("{}, {cause}{}", refusal.sign, refusal.marks), remedy)
    }

    fn worded_for(self, terms: &Terms) -> Self {
        match terms.grant {
            Grant::ClientCredentials => self.of_the_gateway_itself(),
            Grant::EntraOnBehalfOf | Grant::TokenExchange | Grant::JwtBearer => self,
        }
    }

    /// What it means and what there is to do, with what the places in them stand for.
    fn filled_in(&self, terms: &Terms) -> (String, Option<String>) {
        let fill = |text: &str| {
            text.replace("{client}", &terms.client_id)
                .replace("{provider}", &terms.provider)
                .replace("{tenant}", terms.tenant.as_deref().unwrap_or("of the provider"))
                .replace("{scopes}", &asked_for(terms))
        };
        let (meaning, remedy) = advice::parts(self.advice);
        let cause = self.cause.map(|cause| format!("{cause}; ")).unwrap_or_default();
        (fill(&format!("{cause}{meaning}")), remedy.map(fill))
    }

    /// The same where the gateway asks in its own name: no caller is at fault, and none can mend
    /// it. `claims` are passed on whatever they are for.
    fn of_the_gateway_itself(self) -> Self {
        if self.claims.is_some() {
            return self;
        }
        let advice = match self.class {
            Class::Gateway | Class::Unavailable => return self,
            Class::Consent => {
                "no administrator consented to {scopes} as permissions of application {client} itself"
            }
            Class::Interaction | Class::NotAllowed | Class::Expired | Class::Invalid => {
                "the provider refuses application {client} a token of its own; compare its permissions, and the policies for applications, with {scopes}"
            }
        };
        let memory = Memory::Token(limits::SHORT_REFUSAL_MEMORY);
        Self { class: Class::Gateway, cause: None, advice, memory, ..self }
    }
}

impl fmt::Display for Marks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " (status {}", self.status.as_u16())?;
        let mut add = |name: &str, value: Option<&str>| {
            value.map_or(Ok(()), |value| write!(f, ", {name} {value}"))
        };
        add("error", self.error)?;
        add("suberror", self.suberror)?;
        for number in self.numbers {
            add("code", Some(&number.to_string()))?;
        }
        add("trace_id", self.trace_id)?;
        add("correlation_id", self.correlation_id)?;
        add("at", self.timestamp)?;
        f.write_str(")")
    }
}

/// What the exchange is for, in backticks.
fn asked_for(terms: &Terms) -> String {
    match terms.wanted() {
        nothing if nothing.is_empty() => "the permissions asked for".to_owned(),
        wanted => format!("`{wanted}`"),
    }
}

/// Where an administrator of the caller's Entra tenant consents; other providers have no such page.
fn consent_link(terms: &Terms) -> Option<String> {
    let authorize = terms.authorization_endpoint.as_deref()?;
    let (authority, named) = authorize.strip_suffix("/oauth2/v2.0/authorize")?.rsplit_once('/')?;
    // The endpoint of several tenants names none of them.
    let tenant = terms.tenant.as_deref().unwrap_or(named);
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &terms.client_id)
        .append_pair("scope", &terms.scope())
        .finish();
    Some(format!("{authority}/{tenant}/v2.0/adminconsent?{query}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::terms::{Parts, Requested};
    use super::*;

    #[test]
    fn what_is_asked_for_does_not_part_the_advice() {
        let terms = super::super::terms::tests::terms("c; d", &["api://a;", "api://b/x"]);
        let body = br#"{"error":"invalid_resource","error_codes":[500011]}"#;
        let refusal = || super::super::answer::read(StatusCode::BAD_REQUEST, body).err().unwrap();
        let (what, remedy) = refusal().in_parts(&terms);
        let cause = "the resource of `api://a; api://b/x` is unknown in tenant t1";
        let marks = "(status 400, error invalid_resource, code 500011)";
        assert_eq!(what, format!("AADSTS500011, {cause} {marks}"));
        let remedy = remedy.unwrap();
        assert_eq!(remedy, "correct `scopes`, or add the resource's service principal");
        let reason = refusal().explain(&terms, None).rejection().reason();
        assert!(reason.contains(&format!("{cause}; {remedy} {marks}")), "{reason}");
    }

    #[test]
    fn the_link_to_consent_is_of_the_callers_tenant_and_cloud() {
        let link = |endpoint: &str, tenant| {
            let parts = Parts {
                provider: &Arc::from("entra"),
                grant: Grant::EntraOnBehalfOf,
                issuer: Some(&Arc::from("i")),
                tenant,
                client_id: "66666666",
                requested: &Arc::new(Requested::scopes(vec!["a/b".to_owned(), "a/c".to_owned()])),
                upstream: "u",
                token_endpoint: "e",
                authorization_endpoint: Some(endpoint),
            };
            consent_link(&Terms::new(&parts))
        };
        let query = "v2.0/adminconsent?client_id=66666666&scope=a%2Fb+a%2Fc";
        for (authority, tenant, wanted) in [
            (
                "https://login.microsoftonline.com/t1",
                Some("t1"),
                "https://login.microsoftonline.com/t1",
            ),
            (
                "https://login.microsoftonline.com/organizations",
                Some("t2"),
                "https://login.microsoftonline.com/t2",
            ),
            (
                "https://login.microsoftonline.us/contoso.us",
                Some("t3"),
                "https://login.microsoftonline.us/t3",
            ),
            (
                "https://login.partner.microsoftonline.cn/t4",
                None,
                "https://login.partner.microsoftonline.cn/t4",
            ),
        ] {
            let endpoint = format!("{authority}/oauth2/v2.0/authorize");
            assert_eq!(link(&endpoint, tenant), Some(format!("{wanted}/{query}")));
        }
        let elsewhere = "https://sso.example/realms/main/protocol/openid-connect/auth";
        assert_eq!(link(elsewhere, None), None);
    }
}
