//! How the stand-ins judge the bearer token that reaches them: as the real upstreams would.
//!
//! Signature, issuer, time and audience are decided here; scopes by each stand-in.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use crate::dev::authority::{Authority, Unfit, text};
use crate::dev::directory::{User, user_by_oid};
use crate::dev::keys::Claims;

/// A token that is good and meant for the stand-in.
#[derive(Debug)]
pub(super) struct Presented(Claims);

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// No `Authorization: Bearer`.
    Missing,
    /// More than one, or text that is not ASCII.
    Unreadable,
    /// Not a good token of the identity provider.
    Unfit(Unfit),
    /// A good token for somebody else.
    Audience(String),
}

/// Judges the token of a request that must be for one of `audiences`.
pub(super) fn present(
    authority: &Authority,
    headers: &HeaderMap,
    audiences: &[&str],
) -> Result<Presented, Refused> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(if headers.contains_key(AUTHORIZATION) {
            Refused::Unreadable
        } else {
            Refused::Missing
        });
    };
    let text_value = value.to_str().ok().ok_or(Refused::Unreadable)?;
    let (scheme, token) = text_value.split_once(' ').ok_or(Refused::Missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refused::Missing);
    }
    let claims = authority.verify(token).map_err(Refused::Unfit)?;
    let audience = text(&claims, "aud").unwrap_or_default();
    if audiences.contains(&audience) {
        Ok(Presented(claims))
    } else {
        Err(Refused::Audience(audience.to_owned()))
    }
}

impl Presented {
    /// Whether the token was delegated with this scope.
    pub(super) fn has_scope(&self, scope: &str) -> bool {
        self.scopes().any(|one| one == scope)
    }

    /// Whether an application acts by itself.
    pub(super) fn is_app(&self) -> bool {
        text(&self.0, "idtyp") == Some("app")
    }

    /// The user, unless an application acts by itself.
    pub(super) fn user(&self) -> Option<&'static User> {
        text(&self.0, "oid").filter(|_| !self.is_app()).and_then(user_by_oid)
    }

    /// Whom the token is for. Never the token itself.
    pub(super) fn token_for(&self) -> Value {
        json!({
            "user": text(&self.0, "upn").or(text(&self.0, "preferred_username")),
            "oid": text(&self.0, "oid"),
            "audience": text(&self.0, "aud"),
            "scopes": self.scopes().collect::<Vec<_>>(),
            "appid": text(&self.0, "azp"),
        })
    }

    fn scopes(&self) -> impl Iterator<Item = &str> {
        text(&self.0, "scp").unwrap_or_default().split_whitespace()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::authority::Delegated;
    use crate::dev::authority::tests::authority;
    use crate::dev::directory::{GATEWAY, user};
    use http::HeaderValue;

    fn headers(values: &[String]) -> HeaderMap {
        let values = values.iter().map(|value| HeaderValue::from_str(value).unwrap());
        values.map(|value| (AUTHORIZATION, value)).collect()
    }

    #[test]
    fn a_token_for_this_audience_passes_and_any_other_does_not() {
        let authority = authority();
        let scopes = ["User.Read".to_owned()];
        let alice = user("alice").unwrap();
        let of = Delegated { user: alice, client: &GATEWAY, audience: "graph", scopes: &scopes };
        let sign = |seconds| {
            authority.sign(&authority.delegated(of, authority.ending_in(seconds))).unwrap()
        };
        let judged =
            |values: &[String]| present(&authority, &headers(values), &["graph", "g"]).err();

        let good = format!("Bearer {}", sign(1));
        assert_eq!(judged(std::slice::from_ref(&good)), None);
        assert_eq!(judged(&[good.replace("Bearer", "bearer")]), None);
        assert_eq!(judged(&[]), Some(Refused::Missing));
        assert_eq!(judged(&["Basic eDp5".into()]), Some(Refused::Missing));
        assert_eq!(judged(&["Bearer".into()]), Some(Refused::Missing));
        assert_eq!(judged(&[good.clone(), good.clone()]), Some(Refused::Unreadable));
        assert_eq!(judged(&["Bearer x".into()]), Some(Refused::Unfit(Unfit::Malformed)));
        let expired = format!("Bearer {}", sign(0));
        assert_eq!(judged(&[expired]), Some(Refused::Unfit(Unfit::Expired)));
        let other = present(&authority, &headers(&[good]), &["arm"]).unwrap_err();
        assert_eq!(other, Refused::Audience("graph".into()));
    }

    #[test]
    fn it_says_whom_a_token_is_for_and_not_the_token() {
        let authority = authority();
        let scopes = ["User.Read".to_owned(), "Mail.Read".to_owned()];
        let alice = user("alice").unwrap();
        let of = Delegated { user: alice, client: &GATEWAY, audience: "graph", scopes: &scopes };
        let presented = Presented(authority.delegated(of, authority.usual()));
        assert!(presented.has_scope("Mail.Read") && !presented.has_scope("Mail"));
        assert_eq!(
            presented.token_for(),
            json!({
                "user": "alice@dev.local",
                "oid": alice.oid,
                "audience": "graph",
                "scopes": ["User.Read", "Mail.Read"],
                "appid": GATEWAY.client_id,
            })
        );
    }
}
