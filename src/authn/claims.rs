//! What the claims of a verified token must say (RFC 7519 §4.1), and the identity they make.
//!
//! Rules that hold for every provider are here; those of one kind are in `dialect.rs`. The
//! signature has held before anything here is looked at: the input is the witness of that.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::identity::{CallerKind, Identity};
use crate::rejection::Rejection;

use super::dialect;
use super::issuing::Issuing;
use super::json::{Object, Value};
use super::keys::Key;
use super::provider::Provider;
use super::refusal::{self, shown_all};
use super::settings::ProviderSettings;
use super::token::VerifiedClaims;
use super::typed::{self, Round};

/// Judges the claims of a token that `key` signed and makes the identity of its caller.
///
/// # Errors
///
/// `token_expired` past `exp`; `token_invalid` for everything else.
pub(super) fn judge(
    verified: VerifiedClaims<'_>,
    key: &Key,
    provider: &Provider,
    now: UnixTime,
) -> Result<Identity, Rejection> {
    let settings = provider.settings();
    let claims = verified.into_claims();
    let (expires_at, tenant) = check(&claims, Signer::Is(key), provider, now)?;
    identity(&claims, tenant, expires_at, settings)
}

/// Whose key the claims are signed with.
#[derive(Clone, Copy)]
pub(super) enum Signer<'k> {
    /// This one; the signature held.
    Is(&'k Key),
    /// Nobody knows, as there is no signature or it was not checked: what follows of such claims
    /// is a supposition (`supposition.rs`) and makes nobody a caller.
    Unknown,
}

/// What the claims by themselves must say; gives `exp` and Entra's tenant.
pub(super) fn check(
    claims: &Object<'_>,
    signer: Signer<'_>,
    provider: &Provider,
    now: UnixTime,
) -> Result<(UnixTime, Option<String>), Rejection> {
    let settings = provider.settings();
    let issuer = issuer(claims)?;
    // These are the claims that the provider was chosen by.
    debug_assert!(provider.issues(issuer), "a provider judges its own tokens only");
    check_audience(claims, settings)?;
    let expires_at = check_times(claims, settings.clock_skew, now)?;
    check_use(claims)?;
    let tenant = dialect::check(claims, signer, provider)?;
    Ok((expires_at, tenant))
}

/// Who claims that passed [`check()`] speak of.
pub(super) fn identity(
    claims: &Object<'_>,
    tenant: Option<String>,
    expires_at: UnixTime,
    settings: &ProviderSettings,
) -> Result<Identity, Rejection> {
    let issuer = Arc::from(issuer(claims)?);
    let subject = typed::text(claims, "sub")?;
    let user = typed::text(claims, "oid")?.or(subject).map(str::to_owned);
    let client_id = client(claims, settings)?;
    let (scopes, kind) = scopes(claims, settings)?;
    let mut roles = Vec::new();
    for name in &settings.roles_claims {
        let found = match settings.kind {
            Issuing::Entra { .. } => typed::texts(claims, name)?,
            Issuing::Oidc { .. } => typed::names(claims, name)?,
        };
        let found = found.unwrap_or_default();
        roles.extend(found.into_iter().map(str::to_owned));
    }
    let provider = Arc::clone(&settings.name);
    Ok(Identity {
        provider,
        issuer,
        tenant,
        user,
        client_id,
        kind,
        scopes,
        roles,
        claims: claims.iter().collect(),
        expires_at,
    })
}

/// `iss`: one string. An array is how a token of one issuer passes for another's.
pub(super) fn issuer<'c>(claims: &'c Object<'_>) -> Result<&'c str, Rejection> {
    match claims.get("iss") {
        Some(Value::String(issuer)) => Ok(issuer),
        Some(_) => Err(refusal::invalid("`iss` is not a string")),
        None => Err(refusal::invalid("it has no `iss`")),
    }
}

/// Whether `aud` (a string or an array of strings) meets the provider's list.
pub(super) fn meets_audience(
    claims: &Object<'_>,
    settings: &ProviderSettings,
) -> Result<bool, Rejection> {
    let audiences = audiences(claims)?;
    Ok(audiences.iter().any(|audience| settings.audiences.iter().any(|own| own == audience)))
}

fn audiences<'c>(claims: &'c Object<'_>) -> Result<Vec<&'c str>, Rejection> {
    // Looked up by hand: `aud` is no dotted path, and has to be there.
    if !claims.has("aud") {
        return Err(refusal::invalid("it has no `aud`; it names no API that it is for"));
    }
    Ok(typed::texts(claims, "aud")?.unwrap_or_default())
}

pub(super) fn check_audience(
    claims: &Object<'_>,
    settings: &ProviderSettings,
) -> Result<(), Rejection> {
    if meets_audience(claims, settings)? {
        return Ok(());
    }
    Err(refusal::invalid(format!(
        "it is for audience {}, and provider `{}` accepts {}; the caller asked for a token for another API, or `audiences` lacks it",
        shown_all(audiences(claims)?),
        settings.name,
        shown_all(settings.audiences.iter().map(String::as_str))
    )))
}

/// `exp` and, where they are there, `nbf` and `iat`; gives `exp`.
fn check_times(claims: &Object<'_>, skew: Duration, now: UnixTime) -> Result<UnixTime, Rejection> {
    let end = end(claims)?;
    let begin = Begin::of(claims, end)?;
    check_end(end, skew, now)?;
    begin.check(skew, now)?;
    Ok(end)
}

/// `exp`.
pub(super) fn end(claims: &Object<'_>) -> Result<UnixTime, Rejection> {
    typed::time(claims, "exp", Round::Down)?
        .ok_or_else(|| refusal::invalid("it has no `exp`; a token without an end is not accepted"))
}

pub(super) fn check_end(exp: UnixTime, skew: Duration, now: UnixTime) -> Result<(), Rejection> {
    if now < exp.plus(skew) {
        return Ok(());
    }
    let (ago, leeway) = (now.since(exp).as_secs(), skew.as_secs());
    Err(refusal::expired(format!("expired {ago} s ago (exp {exp}, now {now}, leeway {leeway} s)")))
}

/// `nbf` and `iat`, where they are there.
pub(super) struct Begin {
    nbf: Option<UnixTime>,
    iat: Option<UnixTime>,
}

impl Begin {
    /// Those of a token that ends with `exp`, which is not before it begins.
    pub(super) fn of(claims: &Object<'_>, exp: UnixTime) -> Result<Self, Rejection> {
        let nbf = typed::time(claims, "nbf", Round::Up)?;
        let iat = typed::time(claims, "iat", Round::Up)?;
        match nbf {
            Some(nbf) if nbf > exp => {
                Err(refusal::invalid(format!("it begins after its end (nbf {nbf}, exp {exp})")))
            }
            Some(_) | None => Ok(Self { nbf, iat }),
        }
    }

    pub(super) fn check(self, skew: Duration, now: UnixTime) -> Result<(), Rejection> {
        let leeway = skew.as_secs();
        for (name, begin) in [("nbf", self.nbf), ("iat", self.iat)] {
            if let Some(begin) = begin.filter(|begin| *begin > now.plus(skew)) {
                let ahead = begin.since(now).as_secs();
                return Err(refusal::invalid(format!(
                    "it begins in {ahead} s ({name} {begin}, now {now}, leeway {leeway} s); compare the clocks"
                )));
            }
        }
        Ok(())
    }
}

/// Refuses what is no access token (RFC 8725 §3.12). What a token is bound to is for
/// `binding.rs`.
pub(super) fn check_use(claims: &Object<'_>) -> Result<(), Rejection> {
    for name in ["nonce", "at_hash", "c_hash"] {
        if claims.has(name) {
            return Err(refusal::invalid(format!(
                "it is an ID token (it has `{name}`); the caller has to send the access token"
            )));
        }
    }
    if claims.has("events") {
        return Err(refusal::invalid("it is a logout or security event token (it has `events`)"));
    }
    // Types of the other registered claims, also where nothing reads them.
    typed::text(claims, "jti")?;
    Ok(())
}

fn client(claims: &Object<'_>, settings: &ProviderSettings) -> Result<Option<String>, Rejection> {
    for name in &settings.client_claims {
        if let Some(client) = typed::text(claims, name)? {
            return Ok(Some(client.to_owned()));
        }
    }
    Ok(None)
}

/// The scopes, and whether a user or an app is calling: an app if `idtyp` says so, or if
/// there is neither `idtyp` nor any scope claim.
fn scopes(
    claims: &Object<'_>,
    settings: &ProviderSettings,
) -> Result<(Vec<String>, CallerKind), Rejection> {
    let mut scopes: Vec<String> = Vec::new();
    let mut delegated = false;
    for name in &settings.scope_claims {
        if let Some(words) = typed::words(claims, name)? {
            delegated = true;
            scopes.extend(words.into_iter().map(str::to_owned));
        }
    }
    let kind = match typed::text(claims, "idtyp")? {
        Some("app") => CallerKind::App,
        Some(_) => CallerKind::User,
        None if delegated => CallerKind::User,
        None => CallerKind::App,
    };
    Ok((scopes, kind))
}
