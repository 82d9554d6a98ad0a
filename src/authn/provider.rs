//! An identity provider: its settings, its keys and its endpoints, as they are now.
//!
//! It fetches metadata and keys; when it does so is decided in `refresh.rs`, and what a token
//! must be like in `token.rs` and `claims.rs`. The keys of two providers never meet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;

use crate::chain::with_sources;
use crate::clock::{SharedClock, UnixTime};
use crate::observe::metrics::Metrics;
use crate::rejection::Rejection;
use crate::trust::TrustError;

use super::discovery::{self, Endpoints, MetadataError};
use super::endpoints::{self, EndpointStore, NoEndpoints};
use super::fetch::{FetchError, Fetched, Fetcher};
use super::keys::{Dropped, Key, KeySet, KeySetError};
use super::refresh::{KeyStore, Lookup};
use super::refusal::{self, shown};
use super::settings::ProviderSettings;

mod tenancy;
mod trial;

pub use self::trial::{Failure, KeysFound, Trial};

/// An identity provider, as the routes file names it.
pub struct Provider {
    id: ProviderId,
    settings: ProviderSettings,
    fetcher: Fetcher,
    clock: SharedClock,
    metrics: Metrics,
    store: KeyStore,
    endpoints: EndpointStore,
    /// The id of the tenant that the file names by a domain, once metadata has said it. It stays:
    /// whoever gets hold of a domain does not become the tenant.
    learned: OnceLock<String>,
}

/// Tells one provider from another, and from an earlier one of its name, within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ProviderId(u64);

/// How a provider is doing, for readiness and the admin port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// How many keys are loaded; `None` until that has succeeded once.
    pub keys: Option<usize>,
    /// How long ago they were fetched; `None` also for keys from a file.
    pub age: Option<Duration>,
    /// Why the last fetch failed; `None` if it did not, or there was none yet.
    pub failure: Option<Arc<str>>,
}

/// Why a provider can't be made from its settings.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Its `ca_file`, or the system's roots, can't be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Its `jwks_file` holds no usable key.
    #[error("the `jwks_file` can't be used")]
    Keys(#[source] KeySetError),
}

/// Why metadata or keys were not fetched. The texts hold no query.
#[derive(Debug, thiserror::Error)]
enum FetchFailure {
    #[error("{what}")]
    Call {
        what: &'static str,
        #[source]
        source: FetchError,
    },
    #[error("{what} was answered with status {status}")]
    Status { what: &'static str, status: StatusCode },
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("the metadata has no `jwks_uri`; set `jwks_uri` or `jwks_file`")]
    NoJwksUri,
    #[error(transparent)]
    Keys(#[from] KeySetError),
}

const METADATA: &str = "the request for the metadata";
const KEYS: &str = "the request for the keys";

impl Provider {
    /// A provider that has no keys yet, unless they come from a file; see [`Self::keep_keys`].
    ///
    /// # Errors
    ///
    /// Roots that can't be used, or a key file without a usable key.
    pub fn new(
        settings: ProviderSettings,
        clock: SharedClock,
        metrics: Metrics,
    ) -> Result<Arc<Self>, ProviderError> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let fetcher = Fetcher::new(&settings.roots, settings.timeout)?;
        let store = match &settings.jwks {
            None => KeyStore::empty(),
            Some(text) => {
                let read = KeySet::read(text, &settings.algorithms);
                let (keys, dropped) = read.map_err(ProviderError::Keys)?;
                log_dropped(&settings.name, &dropped);
                KeyStore::fixed(keys)
            }
        };
        let endpoints = EndpointStore::new(&settings);
        Ok(Arc::new(Self {
            id: ProviderId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            settings,
            fetcher,
            clock,
            metrics,
            store,
            endpoints,
            learned: OnceLock::new(),
        }))
    }

    /// Takes over what `before`, a provider of an earlier configuration, has loaded, if it is from
    /// the same place: a reload that changes audiences or tenants leaves no moment without keys.
    pub fn inherit(&self, before: &Self) {
        if !self.settings.has_the_keys_of(&before.settings) {
            return;
        }
        if let Some(tenant) = before.learned.get() {
            self.learned.get_or_init(|| tenant.clone());
        }
        if self.settings.token_endpoint == before.settings.token_endpoint {
            self.endpoints.inherit(&before.endpoints);
        } else if let Some(tenant) = before.learned.get() {
            self.endpoints.discovered(Endpoints::default(), Some(tenant), &self.settings);
        }
        self.store.inherit(&before.store);
    }

    /// Its name in the routes file.
    pub fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// What the routes file says of it.
    pub fn settings(&self) -> &ProviderSettings {
        &self.settings
    }

    /// The client for calls to it.
    pub fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// Its endpoints: Entra's and a configured one at once, others once [`Self::keep_keys`] has
    /// read the metadata; `None` until then, and for several tenants, which have no common ones.
    pub fn endpoints(&self) -> Option<Arc<Endpoints>> {
        self.endpoints.one()
    }

    /// Its endpoints for a caller of `tenant` (a GUID in lower case, as in
    /// [`Identity::tenant`](crate::identity::Identity)). Of several tenants each is asked at its
    /// own endpoint, never at `organizations` or `common`; others have one for all callers.
    ///
    /// # Errors
    ///
    /// They are not known yet, or the caller is of none of several tenants.
    pub fn endpoints_for(&self, tenant: Option<&str>) -> Result<Arc<Endpoints>, NoEndpoints> {
        self.endpoints.of(tenant, &self.settings, || self.store.failure())
    }

    /// Whether its keys have been loaded once.
    pub fn has_keys(&self) -> bool {
        self.store.published().is_some()
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        let published = self.store.published();
        Status {
            keys: published.as_ref().map(|published| published.keys.len()),
            age: published.as_ref().and_then(|published| published.age()),
            failure: self.store.failure(),
        }
    }

    /// The ids of its keys, sorted; `most` of them at most.
    pub fn key_ids(&self, most: usize) -> Vec<String> {
        let Some(published) = self.store.published() else { return Vec::new() };
        let mut ids: Vec<_> = published.keys.ids().map(str::to_owned).collect();
        ids.sort_unstable();
        ids.truncate(most);
        ids
    }

    /// Loads metadata and keys, with back-off, and keeps them fresh. The caller spawns it, once.
    ///
    /// Returns only if there is nothing to keep: with keys from a file no call is made at all,
    /// unless tokens are exchanged there and the endpoint is not configured. A provider whose keys
    /// are known without the metadata is ready, and judges tokens, whatever becomes of that call.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the fetching; keys that are loaded stay.
    pub async fn keep_keys(self: Arc<Self>) {
        let refresh = self.settings.metadata_refresh;
        let keys = async {
            if self.settings.jwks.is_none() {
                self.store.keep(self.name(), refresh, || self.fetch_keys()).await;
            }
        };
        let endpoints = async {
            if endpoints::are_discovered_alone(&self.settings) {
                self.endpoints.keep(self.name(), refresh, || self.fetch_endpoints()).await;
            }
        };
        tokio::join!(keys, endpoints);
    }

    /// Loads metadata and keys once, or finds out that they can't be had, for who asks one question
    /// and is gone; a gateway that serves keeps them ([`Self::keep_keys`]). No call is made for keys
    /// from a file.
    ///
    /// # Cancel safety
    ///
    /// As of [`Self::keep_keys`].
    pub async fn load_once(&self) {
        let keys = async {
            if self.settings.jwks.is_none() {
                self.store.fill_once(self.name(), self.fetch_keys()).await;
            }
        };
        let endpoints = async {
            if endpoints::are_discovered_alone(&self.settings)
                && let Err(why) = self.fetch_endpoints().await
            {
                let name = self.name();
                tracing::warn!("the endpoints of provider `{name}` can't be discovered: {why}");
            }
        };
        tokio::join!(keys, endpoints);
    }

    pub(super) fn id(&self) -> ProviderId {
        self.id
    }

    pub(super) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// See [`KeyStore::generation`].
    pub(super) fn generation(&self) -> Option<u64> {
        self.store.generation()
    }

    /// The key `kid` of this provider, and the generation of the set that it is from.
    ///
    /// # Errors
    ///
    /// `token_invalid` if it is not published, `provider_unavailable` if that can't be known.
    pub(super) async fn key(&self, kid: &str) -> Result<(Arc<Key>, u64), Rejection> {
        let name = self.name();
        match self.store.find(kid, self.settings.timeout).await {
            Lookup::Found(key, generation) => Ok((key, generation)),
            Lookup::Unknown(published) => {
                let count = published.keys.len();
                let since = match published.age() {
                    None => "from its `jwks_file`".to_owned(),
                    Some(age) => format!(
                        "fetched {} s ago; next fetch in {} s",
                        age.as_secs(),
                        self.store.next_forced().as_secs()
                    ),
                };
                Err(refusal::invalid(format!(
                    "signed with key {}, which provider `{name}` does not publish ({count} keys, {since})",
                    shown(kid)
                )))
            }
            Lookup::Unavailable(outage) => Err(refusal::unavailable(
                format!("provider `{name}` is unavailable: {}", outage.why),
                outage.retry_after,
            )),
        }
    }

    async fn fetch_keys(&self) -> Result<KeySet, String> {
        let fetched = self.try_fetch_keys().await;
        let outcome = if fetched.is_ok() { "success" } else { "failure" };
        self.metrics.jwks_refreshed(self.name(), outcome);
        fetched.map_err(|failure| with_sources(&failure))
    }

    async fn try_fetch_keys(&self) -> Result<KeySet, FetchFailure> {
        let url = match &self.settings.jwks_uri {
            // Without its id nothing can be judged by a tenant's keys.
            Some(url) if self.is_domain() => {
                self.discover().await?;
                url.clone()
            }
            Some(url) => url.clone(),
            None => self.discover().await?.ok_or(FetchFailure::NoJwksUri)?,
        };
        let answer = self.fetcher.json(&url).await;
        let (keys, dropped) = self.take_keys(answer)?;
        log_dropped(self.name(), &dropped);
        Ok(keys)
    }

    /// The keys that an answer holds, and those of it that are left out.
    fn take_keys(
        &self,
        answer: Result<Fetched, FetchError>,
    ) -> Result<(KeySet, Vec<Dropped>), FetchFailure> {
        Ok(KeySet::read(&body(KEYS, answer)?, &self.settings.algorithms)?)
    }

    async fn fetch_endpoints(&self) -> Result<(), String> {
        self.discover().await.map(drop).map_err(|failure| with_sources(&failure))
    }

    /// Fetches the metadata, takes the endpoints from it, and gives its `jwks_uri`.
    async fn discover(&self) -> Result<Option<String>, FetchFailure> {
        let answer = self.fetcher.json(&self.metadata_url()).await;
        self.take_metadata(answer)
    }

    fn metadata_url(&self) -> String {
        let well_known = || self.settings.kind.metadata_url();
        self.settings.metadata_url.clone().unwrap_or_else(well_known)
    }

    /// Takes the endpoints from an answer that is the metadata, and gives its `jwks_uri`.
    fn take_metadata(
        &self,
        answer: Result<Fetched, FetchError>,
    ) -> Result<Option<String>, FetchFailure> {
        let settings = &self.settings;
        let metadata = discovery::read(&body(METADATA, answer)?, &settings.kind)?;
        if let Some(tenant) = &metadata.tenant {
            self.learn(tenant)?;
        }
        self.endpoints.discovered(metadata.endpoints, metadata.tenant.as_deref(), settings);
        Ok(metadata.jwks_uri)
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("name", self.name()).finish_non_exhaustive()
    }
}

/// The body of an answer that is a plain 200.
fn body(what: &'static str, answer: Result<Fetched, FetchError>) -> Result<Vec<u8>, FetchFailure> {
    let answer = answer.map_err(|source| FetchFailure::Call { what, source })?;
    if answer.status != StatusCode::OK {
        return Err(FetchFailure::Status { what, status: answer.status });
    }
    Ok(answer.body)
}

fn log_dropped(name: &str, dropped: &[Dropped]) {
    for key in dropped {
        let kid = shown(key.kid.as_deref().unwrap_or("(none)"));
        if key.why.is_ordinary() {
            tracing::debug!("key {kid} of provider `{name}` is not used: {}", key.why);
        } else {
            tracing::warn!("key {kid} of provider `{name}` is refused: {}", key.why);
        }
    }
}
