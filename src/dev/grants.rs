//! The grants of the token endpoint: who gets which token, and who does not.
//!
//! On-behalf-of, client credentials, password, and the refresh that Microsoft's libraries try
//! on their own. The checks go in Entra's order: the form, the client, the grant's own
//! parameters, the assertion, and last the policies on the user.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::dev::answer::Asked as Request;
use crate::dev::authority::{Authority, Delegated, LIFETIME, Unfit, text};
use crate::dev::directory::{
    App, GATEWAY_CLIENT_ID, GATEWAY_URI, OnExchange, TENANT, USER_PASSWORD, User, user, user_by_oid,
};
use crate::dev::keys::Claims;
use crate::dev::scope::{Asked, Wanted};
use crate::dev::token_error::Refusal;
use crate::dev::token_request::{Form, client};

const ON_BEHALF_OF: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Which tenant the path of a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tenant {
    /// The one there is.
    Home,
    /// `common` or `organizations`: whichever the user belongs to.
    Shared,
}

/// Answers a token request with the body of a token response (RFC 6749 §5.1).
pub(super) fn token(
    authority: &Authority,
    tenant: Tenant,
    request: &Request,
) -> Result<Value, Refusal> {
    let form = Form::parse(request)?;
    let grant_type = form.required("grant_type")?;
    let grant = match grant_type {
        ON_BEHALF_OF => on_behalf_of,
        "client_credentials" => match tenant {
            Tenant::Home => client_credentials,
            Tenant::Shared => return Err(Refusal::TenantNeeded),
        },
        "password" => password,
        "refresh_token" => refresh_token,
        other => return Err(Refusal::UnsupportedGrant(other.to_owned())),
    };
    grant(authority, client(&form, request.headers())?, &form)
}

fn on_behalf_of(authority: &Authority, client: &App, form: &Form) -> Result<Value, Refusal> {
    if client.secret.is_none() {
        return Err(Refusal::NoClientCredential);
    }
    if form.required("requested_token_use")? != "on_behalf_of" {
        return Err(Refusal::InvalidParameter("requested_token_use"));
    }
    if form.optional("requested_token_type").is_some_and(|wanted| wanted != ACCESS_TOKEN) {
        return Err(Refusal::InvalidParameter("requested_token_type"));
    }
    let scope = Asked::parse(form.required("scope")?)?;
    let assertion = authority.verify(form.required("assertion")?).map_err(|unfit| match unfit {
        Unfit::Malformed => Refusal::AssertionMalformed,
        Unfit::Signature | Unfit::Issuer => Refusal::AssertionSignature,
        Unfit::Expired | Unfit::NotYetValid => Refusal::AssertionExpired,
    })?;
    let user = subject(&assertion, client)?;
    match user.on_exchange {
        OnExchange::Granted => user_tokens(authority, client, form, user, &scope, &[]),
        OnExchange::WantsClaims if has_factor(&assertion) => {
            user_tokens(authority, client, form, user, &scope, &WITH_FACTOR)
        }
        OnExchange::WantsClaims => Err(Refusal::WantsClaims),
        OnExchange::NeedsConsent => Err(Refusal::NeedsConsent),
        OnExchange::Blocked => Err(Refusal::Blocked),
    }
}

/// How a user signed in who also showed another factor (RFC 8176 §2): nothing here asks for one,
/// so that whoever asks for the policy by its claims has.
const WITH_FACTOR: [&str; 2] = ["pwd", "mfa"];

/// Whether the user showed another factor for this token.
fn has_factor(assertion: &Claims) -> bool {
    assertion.get("amr").is_some_and(|amr| *amr == json!(WITH_FACTOR))
}

/// The user of an assertion that `client` may present.
fn subject(assertion: &Claims, client: &App) -> Result<&'static User, Refusal> {
    // An ID token names no client that asked for it; its audience is that client.
    if text(assertion, "azp").is_none() && text(assertion, "appid").is_none() {
        return Err(Refusal::AssertionIsIdToken);
    }
    let audience = text(assertion, "aud");
    let by_uri = client.client_id == GATEWAY_CLIENT_ID && audience == Some(GATEWAY_URI);
    if audience != Some(client.client_id) && !by_uri {
        return Err(Refusal::AssertionAudience);
    }
    if text(assertion, "idtyp") == Some("app") || text(assertion, "scp").is_none() {
        return Err(Refusal::AssertionAppOnly);
    }
    text(assertion, "oid").and_then(user_by_oid).ok_or(Refusal::UnknownUser)
}

fn client_credentials(authority: &Authority, client: &App, form: &Form) -> Result<Value, Refusal> {
    if client.secret.is_none() {
        return Err(Refusal::NoClientCredential);
    }
    let name = form.required("scope")?;
    let scope = Asked::parse(name)?;
    if scope.wanted != Wanted::Default || !scope.openid_scopes.is_empty() {
        return Err(Refusal::NotDefaultScope(name.to_owned()));
    }
    let audience = scope.resource.audience(&scope.identifier);
    let roles = scope.resource.roles_of(client);
    let claims = authority.app_only(client, &audience, roles, authority.usual());
    Ok(Value::Object(response(authority, claims, form)?))
}

fn password(authority: &Authority, client: &App, form: &Form) -> Result<Value, Refusal> {
    let (name, secret) = (form.required("username")?, form.required("password")?);
    let scope = Asked::parse(form.required("scope")?)?;
    // Here, other than at `/dev/token`, a user has a full name only.
    let user = user(name).filter(|_| name.contains('@')).ok_or(Refusal::UnknownUser)?;
    if secret != USER_PASSWORD {
        return Err(Refusal::WrongPassword);
    }
    user_tokens(authority, client, form, user, &scope, methods(form)?)
}

fn refresh_token(authority: &Authority, client: &App, form: &Form) -> Result<Value, Refusal> {
    let claims =
        authority.verify(form.required("refresh_token")?).map_err(|unfit| match unfit {
            Unfit::Expired | Unfit::NotYetValid => Refusal::RefreshExpired,
            Unfit::Malformed | Unfit::Signature | Unfit::Issuer => Refusal::RefreshInvalid,
        })?;
    if !Authority::is_refresh(&claims) || text(&claims, "azp") != Some(client.client_id) {
        return Err(Refusal::RefreshInvalid);
    }
    let user = text(&claims, "oid").and_then(user_by_oid).ok_or(Refusal::RefreshInvalid)?;
    let scope = Asked::parse(form.required("scope")?)?;
    user_tokens(authority, client, form, user, &scope, methods(form)?)
}

/// How the user signed in for this request; nothing is said of a password alone.
fn methods(form: &Form) -> Result<&'static [&'static str], Refusal> {
    Ok(if form.asks_for_factor()? { &WITH_FACTOR } else { &[] })
}

/// The tokens of a user, who signed in by `methods`: always an access token, and what else was asked for.
fn user_tokens(
    authority: &Authority,
    client: &App,
    form: &Form,
    user: &User,
    scope: &Asked,
    methods: &[&str],
) -> Result<Value, Refusal> {
    let (audience, scopes) = (scope.resource.audience(&scope.identifier), scope.delegated());
    let of = Delegated { user, client, audience: &audience, scopes: &scopes };
    let mut claims = authority.delegated(of, authority.usual());
    claims.insert("upn".to_owned(), user.upn().into());
    if !methods.is_empty() {
        claims.insert("amr".to_owned(), json!(methods));
    }
    let mut response = response(authority, claims, form)?;
    response.insert("scope".to_owned(), scope.granted().into());
    if scope.openid {
        let id_token = sign(authority, &authority.id_token(user, client))?;
        response.insert("id_token".to_owned(), id_token.into());
    }
    if scope.offline_access {
        let refresh_token = sign(authority, &authority.refresh_token(user, client))?;
        response.insert("refresh_token".to_owned(), refresh_token.into());
    }
    if form.optional("client_info") == Some("1") {
        let info = json!({ "uid": user.oid, "utid": TENANT }).to_string();
        response.insert("client_info".to_owned(), URL_SAFE_NO_PAD.encode(info).into());
    }
    Ok(Value::Object(response))
}

/// The members that every token response has.
fn response(
    authority: &Authority,
    mut claims: Claims,
    form: &Form,
) -> Result<Map<String, Value>, Refusal> {
    if form.declares_cp1()? {
        claims.insert("xms_cc".to_owned(), json!(["cp1"]));
    }
    let access_token = sign(authority, &claims)?;
    // One second less than it lives, as Entra says, so that nobody uses it in its last one.
    let expires_in = LIFETIME.as_secs() - 1;
    Ok(Map::from_iter([
        ("token_type".to_owned(), json!("Bearer")),
        ("expires_in".to_owned(), json!(expires_in)),
        ("ext_expires_in".to_owned(), json!(expires_in)),
        ("access_token".to_owned(), json!(access_token)),
    ]))
}

fn sign(authority: &Authority, claims: &Claims) -> Result<String, Refusal> {
    authority.sign(claims).map_err(|error| {
        tracing::error!(%error, "the development identity provider could not sign a token");
        Refusal::Fault
    })
}

#[cfg(test)]
mod tests;
