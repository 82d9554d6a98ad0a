//! Whose tokens are a provider's own: the tenant that `iss` names, and whether it is one of its.
//!
//! What else a token of that tenant must say is in `dialect.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::limits;
use crate::rejection::Rejection;

use super::super::discovery::MetadataError;
use super::super::issuing::{Issuing, Version};
use super::super::refusal;
use super::super::tenants::Tenants;
use super::Provider;

impl Provider {
    /// Whether it has several tenants, so that without a caller there is nobody to ask.
    pub fn has_several_tenants(&self) -> bool {
        matches!(self.settings.kind, Issuing::Entra { tenants: Tenants::Several { .. }, .. })
    }

    /// Whether it has endpoints for every caller whose token `other` accepts, as far as the file
    /// says: of several tenants only their own callers have.
    pub fn has_endpoints_for_callers_of(&self, other: &Self) -> bool {
        let Issuing::Entra { tenants: Tenants::Several { allowed, .. }, .. } = &self.settings.kind
        else {
            return true;
        };
        match &other.settings.kind {
            Issuing::Entra { tenants, .. } => match tenants {
                Tenants::One(tenant) => allowed.contains(tenant),
                // Which it is turns out later.
                Tenants::Domain(_) => true,
                Tenants::Several { allowed: theirs, .. } => theirs.is_subset(allowed),
            },
            Issuing::Oidc { .. } => false,
        }
    }

    /// Whether tokens with this `iss` are its own, as far as is known yet.
    pub(in crate::authn) fn issues(&self, iss: &str) -> bool {
        match &self.settings.kind {
            Issuing::Entra { .. } => self.tenant_of(iss).is_some(),
            Issuing::Oidc { issuer } => iss == issuer,
        }
    }

    /// The tenant that its own tokens with this `iss` are of, in lower case.
    pub(in crate::authn) fn tenant_of<'i>(&self, iss: &'i str) -> Option<(&'i str, Version)> {
        let Issuing::Entra { tenants, .. } = &self.settings.kind else { return None };
        let (tenant, version) = self.settings.kind.tenant_in(iss)?;
        let is_own = match tenants {
            Tenants::One(own) => tenant == own,
            Tenants::Domain(_) => self.learned.get().is_some_and(|own| tenant == own),
            Tenants::Several { allowed, .. } => allowed.contains(tenant),
        };
        is_own.then_some((tenant, version))
    }

    /// Why it can't be said yet whether tokens with this `iss` are its own; `None` where it can.
    pub(in crate::authn) fn may_issue(&self, iss: &str) -> Option<Rejection> {
        let Issuing::Entra { tenants: Tenants::Domain(domain), .. } = &self.settings.kind else {
            return None;
        };
        if self.learned.get().is_some() || self.settings.kind.tenant_in(iss).is_none() {
            return None;
        }
        let failure = self.store.failure().map(|why| format!(" ({why})")).unwrap_or_default();
        let name = self.name();
        Some(refusal::unavailable(
            format!(
                "provider `{name}` is unavailable: which tenant `{domain}` is has not been learned from its metadata yet{failure}"
            ),
            limits::DEFAULT_RETRY_AFTER,
        ))
    }

    /// The tenant that this `iss` names, and the tenants that are allowed, if it is none of them.
    pub(in crate::authn) fn stranger<'i>(
        &self,
        iss: &'i str,
    ) -> Option<(&'i str, &BTreeSet<String>)> {
        let kind = &self.settings.kind;
        let Issuing::Entra { tenants: Tenants::Several { allowed, .. }, .. } = kind else {
            return None;
        };
        let (tenant, _) = kind.tenant_in(iss)?;
        (!allowed.contains(tenant)).then_some((tenant, allowed))
    }

    pub(super) fn is_domain(&self) -> bool {
        matches!(self.settings.kind, Issuing::Entra { tenants: Tenants::Domain(_), .. })
    }

    /// The id of the tenant that its domain turned out to be.
    pub(in crate::authn) fn learned_tenant(&self) -> Option<&str> {
        self.learned.get().map(String::as_str)
    }

    /// Takes a made-up tenant for each domain of `providers`, of which only the network knows which it
    /// is: for policy tests, of a configuration that is never served. What is one domain is one tenant.
    pub(crate) fn suppose_tenants(providers: &[Arc<Self>]) {
        let mut known = Vec::new();
        for provider in providers {
            let Issuing::Entra { tenants: Tenants::Domain(domain), authority, .. } =
                &provider.settings.kind
            else {
                continue;
            };
            let directory = (authority, domain);
            let index = known.iter().position(|it| *it == directory).unwrap_or_else(|| {
                known.push(directory);
                known.len() - 1
            });
            let number = index + 1;
            provider.learned.get_or_init(|| format!("00000000-0000-0000-0000-{number:012}"));
        }
    }

    /// Takes the tenant that a domain turned out to be; it must be the same each time.
    pub(super) fn learn(&self, tenant: &str) -> Result<(), MetadataError> {
        let known = self.learned.get_or_init(|| {
            let domain = self.settings.kind.issuer();
            tracing::info!("provider `{}`: `{domain}` is of tenant `{tenant}`", self.name());
            tenant.to_owned()
        });
        if known == tenant {
            return Ok(());
        }
        let domain = match &self.settings.kind {
            Issuing::Entra { tenants, .. } => tenants.name(),
            Issuing::Oidc { issuer } => issuer,
        };
        let (domain, known, found) = (domain.to_owned(), known.clone(), tenant.to_owned());
        Err(MetadataError::Moved { domain, known, found })
    }
}
