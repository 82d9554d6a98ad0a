//! What a form of the token endpoint must be, grant by grant: every parameter is known, comes as
//! often as it may, and has a value that the provider takes.
//!
//! A form that no right gateway sends, whoever calls it, is a [`Fault::Mistake`], which the
//! provider tells the test of; what depends on callers and secrets is a [`Fault::Refusal`].

use std::collections::HashSet;

use http::HeaderMap;
use serde_json::{Map, Value};

use super::client_auth::ClientAuth;
use super::obo::{Answer, Form, Issued};
use super::token::{CLIENT_ID, OIDC_CLIENT, decode_claims, is_genuine};

/// Whose token endpoint it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Desk<'a> {
    /// Entra's, of this tenant.
    Entra(&'a str),
    /// One as Keycloak's, of the generic OIDC issuer.
    Realm,
}

/// Why there is no token.
#[derive(Debug)]
pub enum Fault {
    /// The gateway sends what it never should.
    Mistake(String),
    /// This provider does not give a token for that.
    Refusal(Answer),
}

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// How often a parameter comes.
#[derive(Clone, Copy)]
enum Times {
    Once,
    AtMostOnce,
    Any,
}

type Parameters = &'static [(&'static str, Times)];

/// Those that every grant has, beside those of client authentication.
const OF_ALL: Parameters = &[("grant_type", Times::Once)];

const ON_BEHALF_OF: Parameters = &[
    ("assertion", Times::Once),
    ("scope", Times::Once),
    ("requested_token_use", Times::Once),
    ("claims", Times::AtMostOnce),
];

const EXCHANGE: Parameters = &[
    ("subject_token", Times::Once),
    ("subject_token_type", Times::Once),
    ("requested_token_type", Times::Once),
    ("audience", Times::Any),
    ("resource", Times::Any),
    ("scope", Times::AtMostOnce),
    ("claims", Times::AtMostOnce),
];

const BEARER: Parameters = &[
    ("assertion", Times::Once),
    ("audience", Times::Any),
    ("resource", Times::Any),
    ("scope", Times::AtMostOnce),
    ("claims", Times::AtMostOnce),
];

const OWN_AT_ENTRA: Parameters = &[("scope", Times::Once), ("claims", Times::AtMostOnce)];

const OWN: Parameters = &[
    ("audience", Times::Any),
    ("resource", Times::Any),
    ("scope", Times::AtMostOnce),
    ("claims", Times::AtMostOnce),
];

/// What the form asks for, as the provider understood it; `extra` are the parameters that the
/// routes file of the test adds, and each must be there as it stands.
pub fn judge(
    desk: Desk<'_>,
    form: &Form,
    extra: &[(String, String)],
    client: &ClientAuth,
) -> Result<Issued, Fault> {
    must_be_a_form(&form.headers)?;
    let grant = form.field("grant_type").unwrap_or_default();
    let parameters = match (desk, grant) {
        (Desk::Entra(_), JWT_BEARER) => ON_BEHALF_OF,
        (Desk::Entra(_), "client_credentials") => OWN_AT_ENTRA,
        (Desk::Realm, TOKEN_EXCHANGE) => EXCHANGE,
        (Desk::Realm, JWT_BEARER) => BEARER,
        (Desk::Realm, "client_credentials") => OWN,
        _ => return mistake(format!("{desk:?} has no grant `{grant}`")),
    };
    must_be_whole(form, parameters, extra)?;
    client.judge(desk, form)?;
    match (desk, grant) {
        (Desk::Entra(tenant), JWT_BEARER) => on_behalf_of(tenant, form),
        (Desk::Entra(tenant), _) => own_at_entra(tenant, form),
        (Desk::Realm, TOKEN_EXCHANGE) => exchange(form),
        (Desk::Realm, JWT_BEARER) => bearer(form),
        (Desk::Realm, _) => Ok(issued(form, &Map::new(), "")),
    }
}

fn mistake<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Mistake(what.into()))
}

fn refuse<T>(status: u16, error: &str, number: u32) -> Result<T, Fault> {
    Err(Fault::Refusal(Answer::aadsts(status, error, number)))
}

fn must_be_a_form(headers: &HeaderMap) -> Result<(), Fault> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let kind = header(http::header::CONTENT_TYPE).unwrap_or_default();
    if kind != "application/x-www-form-urlencoded" {
        return mistake(format!("the content type is `{kind}`"));
    }
    match header(http::header::ACCEPT) {
        None | Some("application/json") => Ok(()),
        Some(other) => mistake(format!("`{other}` is accepted")),
    }
}

/// Every parameter that is there is known, and comes as often as it must.
fn must_be_whole(
    form: &Form,
    parameters: Parameters,
    extra: &[(String, String)],
) -> Result<(), Fault> {
    for (name, value) in &form.fields {
        let times = form.fields.iter().filter(|(other, _)| other == name).count();
        let known = OF_ALL.iter().chain(parameters).find(|(known, _)| known == name);
        let added = extra.iter().find(|(added, _)| added == name);
        let at_most = match (known, added) {
            (_, Some((_, wanted))) if wanted == value => 1,
            (_, Some((_, wanted))) => {
                return mistake(format!("`{name}` is `{value}` and the file says `{wanted}`"));
            }
            (Some((_, Times::Any)), None) => usize::MAX,
            (Some((_, Times::Once | Times::AtMostOnce)), None) => 1,
            (None, None) if AUTHENTICATION.contains(&name.as_str()) => 1,
            (None, None) => return mistake(format!("`{name}` is no parameter of this grant")),
        };
        if times > at_most {
            return mistake(format!("`{name}` comes {times} times"));
        }
        if value.is_empty() {
            return mistake(format!("`{name}` is empty"));
        }
    }
    let must = OF_ALL.iter().chain(parameters).filter(|(_, times)| matches!(times, Times::Once));
    let mut must = must.map(|(name, _)| *name).chain(extra.iter().map(|(name, _)| name.as_str()));
    if let Some(missing) = must.find(|name| form.field(name).is_none()) {
        return mistake(format!("`{missing}` is missing"));
    }
    let claims = form.field("claims").map(serde_json::from_str::<Map<String, Value>>);
    if let Some(Err(error)) = claims {
        return mistake(format!("`claims` is no JSON object: {error}"));
    }
    Ok(())
}

/// The parameters by which a client says who it is: `client_auth.rs` judges them.
const AUTHENTICATION: [&str; 4] =
    ["client_id", "client_secret", "client_assertion", "client_assertion_type"];

fn on_behalf_of(tenant: &str, form: &Form) -> Result<Issued, Fault> {
    if form.field("requested_token_use") != Some("on_behalf_of") {
        return mistake("`requested_token_use` is not `on_behalf_of`");
    }
    let assertion = form.field("assertion").unwrap_or_default();
    let Some(claims) = decode_claims(assertion) else {
        return refuse(400, "invalid_grant", 50_027);
    };
    if !is_genuine(assertion) {
        return refuse(400, "invalid_grant", 50_013);
    }
    let own = [CLIENT_ID.to_owned(), format!("api://{CLIENT_ID}")];
    if !own.iter().any(|own| claims.get("aud").is_some_and(|aud| aud == own.as_str())) {
        return refuse(400, "invalid_grant", 500_131);
    }
    if claims.get("tid").is_none_or(|tid| tid != tenant) {
        return refuse(400, "invalid_request", 90_002);
    }
    if is_app(&claims) {
        return mistake("an application's token is swapped on behalf of a user");
    }
    if resources(form.field("scope").unwrap_or_default()).len() != 1 {
        return refuse(400, "invalid_scope", 70_011);
    }
    Ok(Issued { tenant: tenant.to_owned(), ..issued(form, &claims, assertion) })
}

/// An application gets tokens of one resource by its `.default`, and nothing else.
fn own_at_entra(tenant: &str, form: &Form) -> Result<Issued, Fault> {
    let scope = form.field("scope").unwrap_or_default();
    let resource = scope.strip_suffix("/.default");
    if resource.is_none_or(|resource| resource.is_empty() || scope.contains(' ')) {
        return refuse(400, "invalid_scope", 1_002_012);
    }
    if ["common", "organizations"].contains(&tenant) {
        return mistake(format!("an application's token is asked for at `{tenant}`"));
    }
    Ok(Issued { tenant: tenant.to_owned(), ..issued(form, &Map::new(), "") })
}

/// RFC 8693, with Keycloak's rule that the requester is in the `aud` of the subject's token.
fn exchange(form: &Form) -> Result<Issued, Fault> {
    if form.field("subject_token_type") != Some(ACCESS_TOKEN) {
        return mistake("`subject_token_type` is not that of an access token");
    }
    if ![Some(ACCESS_TOKEN), Some(JWT)].contains(&form.field("requested_token_type")) {
        return mistake("`requested_token_type` is not that of an access token or a JWT");
    }
    for resource in form.all("resource") {
        if !resource.contains(':') || resource.contains('#') {
            return mistake(format!("`{resource}` is no absolute URI without a fragment"));
        }
    }
    let token = form.field("subject_token").unwrap_or_default();
    let claims = of_realm(token)?;
    let audience = match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(|one| one == OIDC_CLIENT),
        Some(one) => one == OIDC_CLIENT,
        None => false,
    };
    if !audience {
        return Err(Fault::Refusal(refusal("access_denied")));
    }
    Ok(issued(form, &claims, token))
}

fn bearer(form: &Form) -> Result<Issued, Fault> {
    let token = form.field("assertion").unwrap_or_default();
    let claims = of_realm(token)?;
    Ok(issued(form, &claims, token))
}

fn of_realm(token: &str) -> Result<Map<String, Value>, Fault> {
    let claims = decode_claims(token).filter(|_| is_genuine(token));
    let Some(claims) = claims else { return Err(Fault::Refusal(refusal("invalid_grant"))) };
    let iss = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
    if !iss.ends_with("/realms/main") {
        return Err(Fault::Refusal(refusal("invalid_grant")));
    }
    Ok(claims)
}

/// As providers other than Entra say it.
fn refusal(error: &str) -> Answer {
    Answer::json(400, &serde_json::json!({ "error": error, "error_description": "as judged" }))
}

fn is_app(claims: &Map<String, Value>) -> bool {
    claims.get("idtyp").is_some_and(|kind| kind == "app") || !claims.contains_key("scp")
}

fn issued(form: &Form, claims: &Map<String, Value>, assertion: &str) -> Issued {
    let user = claims.get("oid").or_else(|| claims.get("sub")).and_then(Value::as_str);
    let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
    Issued {
        grant: form.field("grant_type").unwrap_or_default().to_owned(),
        assertion: assertion.to_owned(),
        user: user.unwrap_or_default().to_owned(),
        scope: form.field("scope").unwrap_or_default().to_owned(),
        audiences: owned(form.all("audience")),
        resources: owned(form.all("resource")),
        tenant: String::new(),
    }
}

/// The resources that scopes belong to; OIDC's own belong to none.
fn resources(scope: &str) -> HashSet<&str> {
    let own = ["openid", "profile", "offline_access", "email"];
    let scopes = scope.split(' ').filter(|scope| !scope.is_empty() && !own.contains(scope));
    scopes.map(|scope| scope.rsplit_once('/').map_or("", |(resource, _)| resource)).collect()
}
