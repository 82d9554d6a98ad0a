//! Where providers differ: what Entra's tokens must say beyond the RFCs, and the signs by
//! which other providers mark tokens that are no access tokens.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::rejection::Rejection;

use super::issuing::Issuing;
use super::keys::Key;
use super::refusal::{self, shown};
use super::typed;

/// Checks the claims by the rules of `kind` and gives Entra's tenant.
pub(super) fn check(
    claims: &Map<String, Value>,
    key: &Key,
    kind: &Issuing,
) -> Result<Option<String>, Rejection> {
    // Keycloak's own mark: `Bearer` on access tokens.
    if let Some(mark) = typed::text(claims, "typ")?
        && ["ID", "Refresh", "Offline", "Logout"].iter().any(|bad| mark.eq_ignore_ascii_case(bad))
    {
        return Err(refusal::invalid(format!(
            "its claim `typ` is {}: it is no access token",
            shown(mark)
        )));
    }
    match kind {
        Issuing::Entra { tenant, v1_issuer, .. } => {
            check_tenant(claims, tenant)?;
            check_version(claims, v1_issuer)?;
            check_key_issuer(claims, key, tenant, &kind.issuer())?;
            check_caller(claims)?;
            Ok(Some(tenant.clone()))
        }
        Issuing::Oidc { .. } => Ok(None),
    }
}

/// `tid` must be the tenant.
fn check_tenant(claims: &Map<String, Value>, tenant: &str) -> Result<(), Rejection> {
    let Some(tid) = typed::text(claims, "tid")? else {
        return Err(refusal::invalid("it has no `tid`"));
    };
    if !is_guid(tid) || !tid.eq_ignore_ascii_case(tenant) {
        return Err(refusal::invalid(format!(
            "its `tid` is {}, and the provider's tenant is `{tenant}`",
            shown(tid)
        )));
    }
    Ok(())
}

/// `ver`, where it is there, must fit the issuer: 1.0 and 2.0 have one each.
fn check_version(claims: &Map<String, Value>, v1_issuer: &str) -> Result<(), Rejection> {
    let Some(version) = typed::text(claims, "ver")? else { return Ok(()) };
    let issuer = typed::text(claims, "iss")?.unwrap_or_default();
    let wanted = if issuer == v1_issuer { "1.0" } else { "2.0" };
    if version != wanted {
        return Err(refusal::invalid(format!(
            "its `ver` is {}, and tokens of issuer {} have `{wanted}`",
            shown(version),
            shown(issuer)
        )));
    }
    Ok(())
}

/// The key's own `issuer`, with the tenant put in, must be the token's or the tenant's v2 issuer:
/// keys of other tenants are published in the same place.
fn check_key_issuer(
    claims: &Map<String, Value>,
    key: &Key,
    tenant: &str,
    v2_issuer: &str,
) -> Result<(), Rejection> {
    let Some(template) = key.issuer() else { return Ok(()) };
    let owner = template.replace("{tenantid}", tenant);
    let issuer = typed::text(claims, "iss")?.unwrap_or_default();
    if owner != issuer && owner != v2_issuer {
        return Err(refusal::invalid(format!(
            "key {} is for issuer {}, and its `iss` is {}",
            shown(key.kid()),
            shown(&owner),
            shown(issuer)
        )));
    }
    Ok(())
}

/// An access token names the application that asked for it, and a kind of caller that we know.
fn check_caller(claims: &Map<String, Value>) -> Result<(), Rejection> {
    let azp = typed::text(claims, "azp")?;
    let appid = typed::text(claims, "appid")?;
    if azp.or(appid).is_none() {
        return Err(refusal::invalid(
            "it is an ID token (it has neither `azp` nor `appid`); the caller has to send the access token",
        ));
    }
    match typed::text(claims, "idtyp")? {
        None | Some("app" | "user") => Ok(()),
        Some(other) => Err(refusal::invalid(format!(
            "its `idtyp` is {}, and callers are `user` or `app`",
            shown(other)
        ))),
    }
}

/// Whether `text` is a GUID in its usual form of 36 characters.
pub(crate) fn is_guid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}
