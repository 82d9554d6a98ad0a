//! Where providers differ: what Entra's tokens must say beyond the RFCs, and the signs by
//! which other providers mark tokens that are no access tokens.

use crate::rejection::Rejection;

use super::claims::Signer;
use super::issuing::{Issuing, TENANT_PLACEHOLDER, Version};
use super::json::Object;
use super::keys::Key;
use super::provider::Provider;
use super::refusal::{self, shown};
use super::tenants::is_guid;
use super::typed;

/// Checks the claims by the rules of the provider's kind and gives Entra's tenant.
pub(super) fn check(
    claims: &Object<'_>,
    signer: Signer<'_>,
    provider: &Provider,
) -> Result<Option<String>, Rejection> {
    check_mark(claims)?;
    let kind = &provider.settings().kind;
    match kind {
        Issuing::Entra { .. } => {
            let (issuer, tenant) = check_tenancy(claims, provider)?;
            match signer {
                Signer::Is(key) => check_key_issuer(key, issuer, tenant, kind)?,
                Signer::Unknown => {}
            }
            check_caller(claims)?;
            Ok(Some(tenant.to_owned()))
        }
        Issuing::Oidc { .. } => Ok(None),
    }
}

/// Keycloak's own mark: `Bearer` on access tokens.
pub(super) fn check_mark(claims: &Object<'_>) -> Result<(), Rejection> {
    match typed::text(claims, "typ")? {
        Some(mark)
            if ["ID", "Refresh", "Offline", "Logout"]
                .iter()
                .any(|bad| mark.eq_ignore_ascii_case(bad)) =>
        {
            Err(refusal::invalid(format!(
                "its claim `typ` is {}: it is no access token",
                shown(mark)
            )))
        }
        Some(_) | None => Ok(()),
    }
}

/// The issuer and the tenant of Entra's claims, which fit each other, `tid` and `ver`.
pub(super) fn check_tenancy<'c>(
    claims: &'c Object<'_>,
    provider: &Provider,
) -> Result<(&'c str, &'c str), Rejection> {
    let issuer = typed::text(claims, "iss")?.unwrap_or_default();
    let Some((tenant, version)) = provider.tenant_of(issuer) else {
        return Err(refusal::invalid(format!(
            "its `iss` is {}, and provider `{}` does not issue that",
            shown(issuer),
            provider.name()
        )));
    };
    check_tenant(claims, issuer, tenant)?;
    check_version(claims, issuer, version)?;
    Ok((issuer, tenant))
}

/// `tid` must be a GUID, and the tenant that `iss` names.
fn check_tenant(claims: &Object<'_>, issuer: &str, tenant: &str) -> Result<(), Rejection> {
    let Some(tid) = typed::text(claims, "tid")? else {
        return Err(refusal::invalid("it has no `tid`"));
    };
    if !is_guid(tid) || !tid.eq_ignore_ascii_case(tenant) {
        return Err(refusal::invalid(format!(
            "its `tid` is {}, and the tenant of its `iss` {} is `{tenant}`",
            shown(tid),
            shown(issuer)
        )));
    }
    Ok(())
}

/// `ver`, where it is there, must fit the issuer: 1.0 and 2.0 have one each.
fn check_version(claims: &Object<'_>, issuer: &str, version: Version) -> Result<(), Rejection> {
    let Some(found) = typed::text(claims, "ver")? else { return Ok(()) };
    if found != version.ver() {
        return Err(refusal::invalid(format!(
            "its `ver` is {}, and tokens of issuer {} have `{}`",
            shown(found),
            shown(issuer),
            version.ver()
        )));
    }
    Ok(())
}

/// The key's own `issuer`, with the tenant put in, must be the token's or the tenant's v2 issuer:
/// keys of other tenants are published in the same place.
pub(super) fn check_key_issuer(
    key: &Key,
    issuer: &str,
    tenant: &str,
    kind: &Issuing,
) -> Result<(), Rejection> {
    let Some(template) = key.issuer() else { return Ok(()) };
    if is_filled(template, tenant, issuer) {
        return Ok(());
    }
    let owner = template.replace(TENANT_PLACEHOLDER, tenant);
    // The first is that of v2 tokens: Entra publishes the keys of v1 tokens under it, too.
    if kind.issuers_of(tenant).first() == Some(&owner) {
        return Ok(());
    }
    Err(refusal::invalid(format!(
        "key {} is for issuer {}, and its `iss` is {}",
        shown(key.kid()),
        shown(&owner),
        shown(issuer)
    )))
}

/// Whether `issuer` is what `template` says with the tenant put in.
fn is_filled(template: &str, tenant: &str, issuer: &str) -> bool {
    let mut parts = template.split(TENANT_PLACEHOLDER);
    let begin = parts.next().unwrap_or_default();
    let rest = parts.try_fold(issuer.strip_prefix(begin), |rest, part| {
        Some(rest?.strip_prefix(tenant)?.strip_prefix(part))
    });
    rest.flatten() == Some("")
}

/// An access token names the application that asked for it, and a kind of caller that we know.
pub(super) fn check_caller(claims: &Object<'_>) -> Result<(), Rejection> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_with_the_tenant_and_nothing_else() {
        for (template, issuer, wanted) in [
            ("https://a/{tenantid}/v2.0", "https://a/t/v2.0", true),
            ("https://a/{tenantid}/v2.0", "https://a/t/v2.0/", false),
            ("https://a/{tenantid}/v2.0", "https://a/u/v2.0", false),
            ("https://a/{tenantid}/v2.0", "https://a//v2.0", false),
            ("https://a/{tenantid}/v2.0", "https://a/{tenantid}/v2.0", false),
            ("https://a/t/v2.0", "https://a/t/v2.0", true),
            ("https://a/t/v2.0", "https://a/t/v2.", false),
            ("{tenantid}", "t", true),
            ("{tenantid}{tenantid}", "tt", true),
            ("{tenantid}{tenantid}", "t", false),
            ("", "", true),
            ("", "t", false),
        ] {
            assert_eq!(is_filled(template, "t", issuer), wanted, "{template} {issuer}");
            assert_eq!(template.replace(TENANT_PLACEHOLDER, "t") == issuer, wanted);
        }
    }
}
