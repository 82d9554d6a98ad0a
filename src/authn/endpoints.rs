//! The endpoints of a provider: known by layout, configured or discovered, for each tenant.
//!
//! Decides which endpoint a tenant's tokens are exchanged at, and when metadata is fetched for
//! the endpoints alone, because the keys come from elsewhere. How it is fetched is not known here.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;

use super::discovery::Endpoints;
use super::issuing::{Issuing, TENANT_PLACEHOLDER};
use super::refresh::back_off;
use super::settings::{Exchanges, ProviderSettings};
use super::tenants::Tenants;

/// Why a provider has no endpoints for a caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoints {
    /// They are discovered, and that has not succeeded yet.
    #[error(
        "the endpoints of provider `{provider}` are not known: its discovery document has not been loaded yet{why}"
    )]
    NotLoaded {
        /// The provider.
        provider: Arc<str>,
        /// The last failure in parentheses, or nothing.
        why: String,
    },
    /// It has several tenants, and the caller is of none.
    #[error(
        "provider `{provider}` has several tenants, and the caller's token names none: exchange such tokens at a provider with one `tenant`"
    )]
    NoTenant {
        /// The provider.
        provider: Arc<str>,
    },
    /// It has several tenants, and the caller is of another.
    #[error(
        "the caller is of tenant `{tenant}`, which is not among `allowed_tenants` of provider `{provider}`"
    )]
    Stranger {
        /// The provider.
        provider: Arc<str>,
        /// The caller's.
        tenant: String,
    },
}

/// What is known of a provider's endpoints now.
#[derive(Debug)]
pub(super) struct EndpointStore {
    /// Those of its one tenant, or of all its callers.
    one: ArcSwapOption<Endpoints>,
    /// Of several tenants each has its own, known by layout from the start.
    of_tenants: BTreeMap<String, Arc<Endpoints>>,
    /// Why metadata could not be fetched for the endpoints alone.
    failure: ArcSwapOption<String>,
}

impl EndpointStore {
    /// What is known without discovery: Entra's by its layout, another's if configured.
    pub(super) fn new(settings: &ProviderSettings) -> Self {
        let mut of_tenants = BTreeMap::new();
        let one = match &settings.kind {
            Issuing::Entra { tenants: Tenants::One(tenant), .. } => {
                Some(by_layout(settings, tenant))
            }
            // Its id may be part of the layout.
            Issuing::Entra { tenants: Tenants::Domain(_), .. } => None,
            Issuing::Entra { tenants: Tenants::Several { allowed, .. }, .. } => {
                let each =
                    |tenant: &String| (tenant.clone(), Arc::new(by_layout(settings, tenant)));
                of_tenants.extend(allowed.iter().map(each));
                None
            }
            Issuing::Oidc { .. } => {
                let token = settings.token_endpoint.clone();
                token.map(|token| Endpoints { token: Some(token), authorization: None })
            }
        };
        Self {
            one: ArcSwapOption::new(one.map(Arc::new)),
            of_tenants,
            failure: ArcSwapOption::empty(),
        }
    }

    /// Those that are the same for all callers.
    pub(super) fn one(&self) -> Option<Arc<Endpoints>> {
        self.one.load_full()
    }

    /// Begins with what another store found, where nothing is known yet.
    pub(super) fn inherit(&self, other: &Self) {
        if let (None, true, Some(found)) = (self.one(), self.of_tenants.is_empty(), other.one()) {
            self.one.store(Some(found));
        }
    }

    /// Those for a caller of `tenant`. `failure` is why the keys could not be fetched, if so.
    pub(super) fn of(
        &self,
        tenant: Option<&str>,
        settings: &ProviderSettings,
        failure: impl FnOnce() -> Option<Arc<str>>,
    ) -> Result<Arc<Endpoints>, NoEndpoints> {
        let provider = || Arc::clone(&settings.name);
        if self.of_tenants.is_empty() {
            return self.one().ok_or_else(|| {
                let own = self.failure.load_full().map(|why| format!(" ({why})"));
                let why = own.or_else(|| failure().map(|why| format!(" ({why})")));
                NoEndpoints::NotLoaded { provider: provider(), why: why.unwrap_or_default() }
            });
        }
        let tenant = tenant.ok_or_else(|| NoEndpoints::NoTenant { provider: provider() })?;
        self.of_tenants.get(tenant).cloned().ok_or_else(|| NoEndpoints::Stranger {
            provider: provider(),
            tenant: tenant.to_owned(),
        })
    }

    /// Takes what metadata names; `learned` is the tenant that a domain turned out to be.
    pub(super) fn discovered(
        &self,
        found: Endpoints,
        learned: Option<&str>,
        settings: &ProviderSettings,
    ) {
        let (found, known) = match &settings.kind {
            // Metadata of several tenants names endpoints that are nobody's.
            Issuing::Entra { tenants: Tenants::Several { .. }, .. } => return,
            Issuing::Entra { tenants: Tenants::One(tenant), .. } => {
                (found, by_layout(settings, tenant))
            }
            // By its id, whatever the metadata of the domain says: tokens name the id, too.
            Issuing::Entra { tenants: Tenants::Domain(domain), .. } => {
                (Endpoints::default(), by_layout(settings, learned.unwrap_or(domain)))
            }
            Issuing::Oidc { .. } => {
                (found, Endpoints { token: settings.token_endpoint.clone(), authorization: None })
            }
        };
        let is_configured = settings.token_endpoint.is_some();
        let token = if is_configured { known.token } else { found.token.or(known.token) };
        let authorization = found.authorization.or(known.authorization);
        self.one.store(Some(Arc::new(Endpoints { token, authorization })));
    }

    /// Has metadata fetched now, every `refresh` (10 % more or less) and after a failure with
    /// back-off: for the endpoints alone. What was found is kept while it fails. Never returns.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the fetching; endpoints that are known stay.
    pub(super) async fn keep<F, Fut>(&self, name: &str, refresh: Duration, mut fetch: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<(), String>>,
    {
        let mut failures = 0_u32;
        loop {
            // Nothing outlives a fetch but its outcome, so that none is left half changed.
            let fetched = AssertUnwindSafe(async { fetch().await }).catch_unwind().await;
            let fetched = fetched.unwrap_or_else(|_| Err("the fetch panicked; see the log".into()));
            let pause = match fetched {
                Ok(()) => {
                    self.failure.store(None);
                    failures = 0;
                    refresh.mul_f64(0.9 + 0.2 * fastrand::f64())
                }
                Err(failure) => {
                    failures = failures.saturating_add(1);
                    if failures.is_power_of_two() {
                        let since = match self.one() {
                            Some(_) => "those that were found before are still used",
                            None => "until they are known, exchanges there answer 503",
                        };
                        tracing::warn!(
                            "the endpoints of provider `{name}` can't be discovered: {failure}; {since}"
                        );
                    }
                    self.failure.store(Some(Arc::new(failure)));
                    back_off(failures)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whether metadata has to be fetched for the endpoints although the keys come from elsewhere.
pub(super) fn are_discovered_alone(settings: &ProviderSettings) -> bool {
    let keys_need_none = settings.jwks.is_some() || settings.jwks_uri.is_some();
    let by_layout = matches!(settings.kind, Issuing::Entra { .. });
    keys_need_none
        && !by_layout
        && settings.exchanges == Exchanges::Asked
        && settings.token_endpoint.is_none()
}

/// Entra's endpoints for `tenant`, or what is configured in their place.
fn by_layout(settings: &ProviderSettings, tenant: &str) -> Endpoints {
    let configured = settings.token_endpoint.as_ref();
    let configured = configured.map(|url| url.replace(TENANT_PLACEHOLDER, tenant));
    Endpoints {
        token: configured.or_else(|| settings.kind.entra_endpoint(tenant, "token")),
        authorization: settings.kind.entra_endpoint(tenant, "authorize"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::issuing::Cloud;
    use super::super::tenants::Directory;
    use super::*;

    const ONE: &str = "11111111-2222-3333-4444-55555555aaaa";
    const TWO: &str = "22222222-2222-3333-4444-55555555aaaa";

    fn settings(tenants: Tenants) -> ProviderSettings {
        let kind = Issuing::entra_of(tenants, Cloud::Public, None);
        ProviderSettings::new("entra", kind, Vec::new())
    }

    fn several() -> ProviderSettings {
        let allowed = [ONE.to_owned(), TWO.to_owned()].into();
        settings(Tenants::Several { directory: Directory::Organizations, allowed })
    }

    fn token(settings: &ProviderSettings, tenant: Option<&str>) -> Result<String, NoEndpoints> {
        let endpoints = EndpointStore::new(settings).of(tenant, settings, || None)?;
        Ok(endpoints.token.clone().unwrap())
    }

    #[test]
    fn of_several_tenants_each_is_asked_at_its_own_endpoint() {
        let at = |tenant: &str| {
            Ok(format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"))
        };
        assert_eq!(token(&several(), Some(ONE)), at(ONE));
        assert_eq!(token(&several(), Some(TWO)), at(TWO));
        let other = "33333333-2222-3333-4444-55555555aaaa";
        for stranger in [other, "organizations", "common", "{tenantid}", ""] {
            let refused = token(&several(), Some(stranger)).unwrap_err();
            assert!(matches!(refused, NoEndpoints::Stranger { .. }), "{refused}");
        }
        assert!(matches!(token(&several(), None), Err(NoEndpoints::NoTenant { .. })));
        assert_eq!(EndpointStore::new(&several()).one(), None);
    }

    #[test]
    fn metadata_of_several_tenants_changes_no_endpoint() {
        let store = EndpointStore::new(&several());
        let found = Endpoints {
            token: Some("https://login.microsoftonline.com/organizations/oauth2/v2.0/token".into()),
            authorization: None,
        };
        store.discovered(found, None, &several());
        assert_eq!(store.one(), None);
        let token = store.of(Some(ONE), &several(), || None).unwrap().token.clone().unwrap();
        assert!(token.contains(ONE), "{token}");
    }

    #[test]
    fn a_configured_endpoint_may_hold_the_tenant() {
        let configured = Some("https://sts.example/{tenantid}/token".to_owned());
        let several = ProviderSettings { token_endpoint: configured.clone(), ..several() };
        assert_eq!(token(&several, Some(TWO)).unwrap(), format!("https://sts.example/{TWO}/token"));
        let one = settings(Tenants::One(ONE.to_owned()));
        let one = ProviderSettings { token_endpoint: configured, ..one };
        assert_eq!(token(&one, Some(TWO)).unwrap(), format!("https://sts.example/{ONE}/token"));
    }

    #[test]
    fn a_domains_endpoints_are_those_of_the_tenant_that_it_turned_out_to_be() {
        let domain = settings(Tenants::Domain("contoso.example".to_owned()));
        let store = EndpointStore::new(&domain);
        let none = store.of(Some(ONE), &domain, || Some(Arc::from("no answer"))).unwrap_err();
        assert!(none.to_string().ends_with("loaded yet (no answer)"), "{none}");
        store.discovered(Endpoints::default(), Some(ONE), &domain);
        let endpoints = store.of(None, &domain, || None).unwrap();
        let at = |name: &str| {
            Some(format!("https://login.microsoftonline.com/{ONE}/oauth2/v2.0/{name}"))
        };
        assert_eq!(
            (endpoints.token.clone(), endpoints.authorization.clone()),
            (at("token"), at("authorize"))
        );
    }

    #[test]
    fn metadata_is_fetched_for_the_endpoints_alone_only_where_they_are_asked() {
        let kind = Issuing::Oidc { issuer: "https://sso.example".to_owned() };
        let sso = ProviderSettings::new("sso", kind, Vec::new());
        let with_file = ProviderSettings { jwks: Some(Vec::new()), ..sso.clone() };
        let with_url = ProviderSettings { jwks_uri: Some("https://sso.example/k".into()), ..sso };
        for settings in [with_file, with_url] {
            assert!(!are_discovered_alone(&settings), "no exchange");
            let asked = ProviderSettings { exchanges: Exchanges::Asked, ..settings };
            assert!(are_discovered_alone(&asked));
            let known = Some("https://sso.example/token".to_owned());
            let known = ProviderSettings { token_endpoint: known, ..asked.clone() };
            assert!(!are_discovered_alone(&known), "configured");
            let fetched = ProviderSettings { jwks: None, jwks_uri: None, ..asked.clone() };
            assert!(!are_discovered_alone(&fetched), "they come with the keys");
            let kind = Issuing::entra(ONE, Cloud::Public, None);
            assert!(!are_discovered_alone(&ProviderSettings { kind, ..asked }), "by layout");
        }
    }
}
