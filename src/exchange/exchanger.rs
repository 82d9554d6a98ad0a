//! Tokens obtained: out of the cache, or by one exchange for all who want the same, and renewed
//! before they end.
//!
//! It decides when an exchange is made and who waits for it (`flying`), and which token is renewed
//! (`renewing`). It refuses to know what an exchange is, and for whom: a token has a name, and a call
//! that gets it.

mod flying;
mod renewing;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::barred::{Bar, Barred};
use super::breaker::{BreakerStatus, Breakers};
use super::cache::{CacheUsage, Found, TokenCache};
use super::client::Office;
use super::erasing::Erasures;
use super::failure::ExchangeError;
use super::flight::{Flights, Outcome};
use super::forgotten::{NameDigest, Tagger, Tags};
use super::lanes::{Lanes, ProviderLoad};
use super::negative::Refusals;
use super::shared::Sought;
use super::terms::Key;
use super::throttle::Throttles;
use super::upstream_credential::UpstreamCredential;
use crate::authn::Provider;
use crate::clock::{SharedClock, UnixTime};
use crate::identity::Identity;
use crate::limits;
use crate::observe::handles::UpstreamMetrics;
use crate::observe::metrics::{CacheResult, Metrics};
use crate::rejection::Rejection;
use crate::secret::SecretHeader;
use crate::shared_store::{Audience, SharedStore, Waited};

pub(super) use self::flying::Boarding;

/// What exchanges share, over reloads: outbound tokens, exchanges under way, calls to
/// providers, waits that those asked for.
pub struct Exchanger {
    pub(super) cache: TokenCache,
    flights: Arc<Flights>,
    throttles: Throttles,
    lanes: Lanes,
    breakers: Breakers,
    refusals: Refusals,
    pub(super) barred: Barred,
    pub(super) erasures: Erasures,
    pub(super) tagger: Tagger,
    pub(super) store: Arc<SharedStore>,
    pub(super) clock: SharedClock,
    pub(super) metrics: Metrics,
}

/// A token, and how it was had.
pub(super) struct Obtained {
    pub(super) header: SecretHeader,
    pub(super) cache: CacheResult,
    /// How long the request waited for it; `None` if it did not.
    pub(super) took: Option<Duration>,
    /// How long the request waited for the shared store, at most.
    pub(super) waited: Waited,
}

impl Obtained {
    /// What one request has of an outcome, which it waited for since `began`, having `waited` for the
    /// shared store before; counted in `metrics`.
    pub(super) fn after(
        began: Instant,
        (cache, outcome): (CacheResult, Result<SecretHeader, Arc<ExchangeError>>),
        metrics: &UpstreamMetrics,
        waited: Waited,
    ) -> Result<Self, Rejection> {
        metrics.token_cache(cache);
        let header = outcome.map_err(|error| error.rejection())?;
        let took = (cache != CacheResult::Hit).then(|| began.elapsed());
        // How much of it was the store is not known: no more than all.
        let waited = waited.and(took.unwrap_or_default());
        Ok(Self { header, cache, took, waited })
    }
}

impl Exchanger {
    /// An exchanger that keeps at most `max_entries` tokens.
    pub fn new(max_entries: usize, clock: SharedClock, metrics: Metrics) -> Arc<Self> {
        let store = SharedStore::new(metrics.clone());
        Self::sharing(max_entries, clock, metrics, store)
    }

    /// The same, that shares with other replicas what `store` is configured for.
    pub fn sharing(
        max_entries: usize,
        clock: SharedClock,
        metrics: Metrics,
        store: Arc<SharedStore>,
    ) -> Arc<Self> {
        let exchanger = Arc::new(Self {
            cache: TokenCache::new(max_entries, limits::MAX_CACHED_TOKEN_BYTES),
            flights: Arc::default(),
            throttles: Throttles::default(),
            lanes: Lanes::default(),
            breakers: Breakers::default(),
            refusals: Refusals::default(),
            barred: Barred::default(),
            erasures: Erasures::default(),
            tagger: Tagger::default(),
            store,
            clock,
            metrics,
        });
        let audience: Weak<dyn Audience> = Arc::<Self>::downgrade(&exchanger);
        exchanger.store.listen(audience);
        exchanger
    }

    /// What the token of `caller` for `upstream` is to be known by; nobody's without one.
    pub(super) fn tags(&self, upstream: &str, caller: Option<&Identity>) -> Tags {
        self.tagger.tags(upstream, caller)
    }

    /// The same where what stands for the upstream is known.
    pub(super) fn tags_at(&self, upstream: &NameDigest, caller: Option<&Identity>) -> Tags {
        self.tagger.tags_at(upstream, caller)
    }

    /// Changes how many tokens are kept at most; what is too many is dropped at once.
    pub fn set_max_entries(&self, max_entries: usize) {
        self.cache.set_max_entries(max_entries, self.clock.now());
        self.metrics.token_cache_entries(self.cache.len());
    }

    /// Drops the token of `credential` from the cache, because its upstream refused it. A newer
    /// token of the same exchange stays; a credential that is no token is left alone.
    ///
    /// The token exchanged in its place is dropped no sooner than
    /// [`limits::REFUSED_TOKEN_FLOOR`] after it: an upstream that refuses a fresh token refuses
    /// the next one too, and one user there must not make us storm the provider, which would
    /// throttle everybody.
    pub fn forget(self: &Arc<Self>, credential: &UpstreamCredential) {
        if let Some((key, header)) = credential.obtained() {
            let end = self.end_of(key, header);
            if self.cache.forget(key, header) {
                self.erase(*key, Bar::of(header), end);
            }
            self.metrics.token_cache_entries(self.cache.len());
        }
    }

    /// Drops `refused`, the token under `key`, and takes a seat in `flight`, which gives a better one;
    /// `None` if none may be asked for, as one was just now ([`limits::REFUSED_TOKEN_FLOOR`]).
    pub(super) fn make_way(
        self: &Arc<Self>,
        key: &Key,
        refused: &SecretHeader,
        flight: &Key,
    ) -> Option<Boarding> {
        if let Some(seat) = self.join(flight) {
            return Some(seat);
        }
        let end = self.end_of(key, refused);
        let boarded = self.cache.replace(key, refused, || self.board(*flight, *key));
        if boarded.is_some() {
            self.erase(*key, Bar::of(refused), end);
        }
        self.metrics.token_cache_entries(self.cache.len());
        boarded.or_else(|| self.join(flight))
    }

    /// The end of `header`, the token under `key`; of one that is not in memory any more it is not known.
    fn end_of(&self, key: &Key, header: &SecretHeader) -> UnixTime {
        let end = self.cache.held(key).and_then(|held| held.end_of(header));
        end.unwrap_or(UnixTime(u64::MAX))
    }

    /// How much of the cache of outbound tokens is used.
    pub fn cache_usage(&self) -> CacheUsage {
        self.cache.usage()
    }

    /// How busy the token endpoint of `provider` is; nothing at all if it was never asked.
    pub fn load(&self, provider: &str) -> ProviderLoad {
        self.lanes.load(provider).unwrap_or_default()
    }

    /// Which calls `provider` is not asked for, as it fails sustainedly: at most `most` of them, and
    /// how many there are.
    pub fn open_breakers(&self, provider: &str, most: usize) -> (Vec<BreakerStatus>, usize) {
        self.breakers.not_closed(provider, most)
    }

    /// How many exchanges are under way.
    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn office(&self) -> Office<'_> {
        Office {
            throttles: &self.throttles,
            lanes: &self.lanes,
            breakers: &self.breakers,
            clock: &*self.clock,
            metrics: &self.metrics,
        }
    }

    /// What the configuration says of `providers`.
    pub fn configure(&self, providers: &[Arc<Provider>]) {
        for provider in providers {
            self.lanes.set(provider.name(), provider.settings().max_in_flight);
        }
    }

    /// Forgets what providers refused a short while ago, so that they are asked again: another
    /// configuration is in force, and what is new in it may be what they were about. Exchanges
    /// under way are of the one before, and what they are refused is not remembered.
    pub fn forget_refusals(&self) {
        self.refusals.clear();
    }

    /// The token that is `sought`, by no exchange in particular: out of the cache, or by the exchange
    /// with `provider` that `call` describes.
    ///
    /// A token that is due is renewed behind the request's back. One that is stale is used
    /// where the provider can't give another, or not soon; never after a refusal.
    pub(super) async fn obtain<F>(
        self: &Arc<Self>,
        sought: Sought,
        provider: &Arc<str>,
        call: impl FnOnce() -> F,
    ) -> (CacheResult, Result<SecretHeader, Arc<ExchangeError>>)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let Sought { key, inbound_expires_at, .. } = sought;
        let stale = match self.find(&key, inbound_expires_at) {
            Some(Found::Fresh(header)) => return (CacheResult::Hit, Ok(header)),
            Some(Found::Due(header)) => {
                self.renew(sought, provider, call);
                return (CacheResult::Hit, Ok(header));
            }
            Some(Found::Stale(_)) => true,
            None => false,
        };
        let flight = self.fly(sought, call);
        if !stale {
            let (result, outcome) = flight.await;
            return (result, outcome.map(|granted| granted.header));
        }
        let mut flight = std::pin::pin!(flight);
        let landed = timeout(limits::STALE_PATIENCE, &mut flight).await.ok();
        let last_resort = match &landed {
            Some((_, Ok(_))) => None,
            Some((_, Err(error))) if !error.is_passing() => None,
            // Looked up anew: it may have expired, or been dropped, while we waited.
            Some((_, Err(_))) | None => self.usable(&key, inbound_expires_at),
        };
        if let Some(header) = last_resort {
            return (CacheResult::Stale, Ok(header));
        }
        let (result, outcome) = match landed {
            Some(landed) => landed,
            None => flight.await,
        };
        (result, outcome.map(|granted| granted.header))
    }

    /// The token under `key` if nothing at all is to be done about it, counted in `metrics`.
    pub(super) fn at_hand(
        &self,
        key: &Key,
        inbound_expires_at: UnixTime,
        metrics: &UpstreamMetrics,
        waited: Waited,
    ) -> Option<Obtained> {
        let Found::Fresh(header) = self.find(key, inbound_expires_at)? else { return None };
        metrics.token_cache(CacheResult::Hit);
        Some(Obtained { header, cache: CacheResult::Hit, took: None, waited })
    }

    fn find(&self, key: &Key, inbound_expires_at: UnixTime) -> Option<Found> {
        self.cache.find(key, inbound_expires_at, self.clock.now())
    }

    /// The token under `key`, if one is there that nobody has to replace first.
    pub(super) fn cached(&self, key: &Key, inbound_expires_at: UnixTime) -> Option<SecretHeader> {
        self.cached_by(key, key, inbound_expires_at)
    }

    /// The same, if it is what the exchange called `flight` gives.
    pub(super) fn cached_by(
        &self,
        flight: &Key,
        key: &Key,
        inbound_expires_at: UnixTime,
    ) -> Option<SecretHeader> {
        match self.cache.find_by(flight, key, inbound_expires_at, self.clock.now())? {
            Found::Fresh(header) | Found::Due(header) => Some(header),
            Found::Stale(_) => None,
        }
    }

    /// The token under `key`, if one is there that has not expired.
    fn usable(&self, key: &Key, inbound_expires_at: UnixTime) -> Option<SecretHeader> {
        match self.find(key, inbound_expires_at)? {
            Found::Fresh(header) | Found::Due(header) | Found::Stale(header) => Some(header),
        }
    }
}

impl fmt::Debug for Exchanger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchanger").field("tokens", &self.cache.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
