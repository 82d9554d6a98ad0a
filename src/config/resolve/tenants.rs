//! `tenant` and `allowed_tenants` of an Entra provider: whose tokens it accepts, and what that
//! asks of its other keys.

use super::super::file::{Entra, ProviderCalls};
use super::super::spanned::{List, Spanned};
use super::super::value::{Tenant, TenantId};
use super::Finding;
use crate::authn::{Directory, TENANT_PLACEHOLDER, Tenants};

/// Whose tokens `entra` accepts; what doesn't fit is said, and nothing is accepted for it.
pub(super) fn resolve(entra: &Entra, finding: &mut Finding<'_>) -> Tenants {
    let allowed = entra.allowed_tenants.as_ref();
    match &entra.tenant.value {
        Tenant::Id(TenantId(id)) => {
            refuse_allowed(allowed, finding);
            Tenants::One(id.clone())
        }
        Tenant::Domain(domain) => {
            refuse_allowed(allowed, finding);
            refuse_key_file(domain, &entra.calls, finding);
            Tenants::Domain(domain.clone())
        }
        Tenant::Organizations => several(Directory::Organizations, entra, finding),
        Tenant::Common => several(Directory::Common, entra, finding),
    }
}

fn several(directory: Directory, entra: &Entra, finding: &mut Finding<'_>) -> Tenants {
    ask_for_placeholder(directory, &entra.calls, finding);
    let Some(list) = &entra.allowed_tenants else {
        finding.error(
            entra.tenant.place,
            format!("`tenant: {}` without `allowed_tenants`", directory.name()),
            "anyone can make a tenant: name those whose tokens are accepted, `allowed_tenants: [11111111-2222-3333-4444-555555555555]`",
        );
        return Tenants::Several { directory, allowed: [].into() };
    };
    for tenant in &list.value.0 {
        if tenant.value.0 == Tenants::PERSONAL_ACCOUNTS && directory == Directory::Organizations {
            finding.warning(
                tenant.place,
                format!(
                    "`{}` is the tenant of personal accounts, and `organizations` has none of them",
                    tenant.value.0
                ),
                "write `tenant: common`, or remove it",
            );
        }
    }
    let allowed = list.value.0.iter().map(|tenant| tenant.value.0.clone()).collect();
    Tenants::Several { directory, allowed }
}

fn refuse_allowed(allowed: Option<&Spanned<List<Spanned<TenantId>>>>, finding: &mut Finding<'_>) {
    if let Some(allowed) = allowed {
        finding.error(
            allowed.key_place(),
            "`allowed_tenants` for a provider with one `tenant`",
            "remove it: only that tenant's tokens are accepted; or write `tenant: organizations`",
        );
    }
}

/// Keys from a file promise that no network is needed to be ready, and the id of a domain is
/// learned over the network.
fn refuse_key_file(domain: &str, calls: &ProviderCalls, finding: &mut Finding<'_>) {
    if let Some(file) = &calls.jwks_file {
        finding.error(
            file.key_place(),
            format!("`jwks_file` with the domain `{domain}` as `tenant`"),
            "a domain's id is learned from the provider's metadata, over the network: write the tenant's id, and none is needed",
        );
    }
}

/// One endpoint for several tenants would exchange a token in another tenant than the caller's.
fn ask_for_placeholder(directory: Directory, calls: &ProviderCalls, finding: &mut Finding<'_>) {
    let Some(endpoint) = &calls.token_endpoint else { return };
    if !endpoint.text.contains(TENANT_PLACEHOLDER) {
        finding.error(
            endpoint.place,
            format!("`{}` is one endpoint for all of `{}`", endpoint.text, directory.name()),
            "write `{tenantid}` where the caller's tenant belongs: `https://login.microsoftonline.com/{tenantid}/oauth2/v2.0/token`",
        );
    }
}
