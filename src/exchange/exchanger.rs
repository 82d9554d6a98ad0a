//! Tokens obtained: out of the cache, or by one exchange for all who want the same, and renewed
//! before they end.
//!
//! It decides when an exchange is made and who waits for it. It refuses to know what an exchange
//! is, and for whom: a token has a name, and a call that gets it.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::barred::{Bar, Barred};
use super::breaker::{BreakerStatus, Breakers};
use super::cache::{CacheUsage, Departure, Found, Granted, Source, TokenCache};
use super::client::Office;
use super::failure::{ExchangeError, Memory};
use super::flight::{Flights, Outcome, Pilot, Seat};
use super::forgotten::{Tagger, Tags};
use super::lanes::{Lanes, ProviderLoad};
use super::negative::{Era, Refusals};
use super::renewal;
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
use crate::shared_store::{Audience, SharedStore};

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
}

impl Obtained {
    /// What one request has of an outcome, which it waited for since `began`; counted in `metrics`.
    pub(super) fn after(
        began: Instant,
        (cache, outcome): (CacheResult, Result<SecretHeader, Arc<ExchangeError>>),
        metrics: &UpstreamMetrics,
    ) -> Result<Self, Rejection> {
        metrics.token_cache(cache);
        let header = outcome.map_err(|error| error.rejection())?;
        let took = (cache != CacheResult::Hit).then(|| began.elapsed());
        Ok(Self { header, cache, took })
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
    pub fn forget(&self, credential: &UpstreamCredential) {
        if let Some((key, header)) = credential.obtained() {
            if self.cache.forget(key, header) {
                self.erase(*key, Bar::of(header));
            }
            self.metrics.token_cache_entries(self.cache.len());
        }
    }

    /// Drops `refused`, the token under `key`, and says whether a better one may be had by `flight`:
    /// that is being asked for, or none was just now ([`limits::REFUSED_TOKEN_FLOOR`]).
    pub(super) fn make_way(&self, key: &Key, refused: &SecretHeader, flight: &Key) -> bool {
        let is_dropped = !self.flights.is_under_way(flight) && self.cache.replace(key, refused);
        if is_dropped {
            self.erase(*key, Bar::of(refused));
        }
        let may_fly = is_dropped || self.flights.is_under_way(flight);
        self.metrics.token_cache_entries(self.cache.len());
        may_fly
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

    /// Renews the token that is `sought` in a task of its own, unless that is being done, was tried a
    /// moment ago, or would be in the way of requests that wait.
    fn renew<F>(self: &Arc<Self>, sought: Sought, provider: &Arc<str>, call: impl FnOnce() -> F)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let key = sought.key;
        let (now, room) = (self.clock.now(), self.lanes.room_for_renewal(provider));
        let pause = if room.is_some() { renewal::pause } else { renewal::give_way };
        if !self.cache.claim_renewal(&key, now, now.plus(pause(fastrand::f64()))) {
            return;
        }
        let Some(room) = room else { return };
        if self.refusals.recall(&key).is_some() {
            return;
        }
        match self.flights.board(key) {
            Seat::Passenger(_) => {}
            Seat::Pilot(pilot, _) => {
                let call = call();
                self.take_off(sought, vec![pilot], async move {
                    let outcome = call.await;
                    drop(room);
                    if let Err(error) = &outcome {
                        log_failed_renewal(error);
                    }
                    outcome
                });
            }
        }
    }

    /// The token under `key` if nothing at all is to be done about it, counted in `metrics`.
    pub(super) fn at_hand(
        &self,
        key: &Key,
        inbound_expires_at: UnixTime,
        metrics: &UpstreamMetrics,
    ) -> Option<Obtained> {
        let Found::Fresh(header) = self.find(key, inbound_expires_at)? else { return None };
        metrics.token_cache(CacheResult::Hit);
        Some(Obtained { header, cache: CacheResult::Hit, took: None })
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

    /// Makes the exchange that `call` describes, or waits for the one of its name that is under way; a
    /// refusal of it that is remembered is given again.
    pub(super) async fn fly<F>(
        self: &Arc<Self>,
        sought: Sought,
        call: impl FnOnce() -> F,
    ) -> (CacheResult, Outcome)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let Sought { key, flight, inbound_expires_at, tags: _ } = sought;
        if let Some(refusal) = self.refusals.recall(&flight) {
            return (CacheResult::Miss, Err(Arc::new(refusal)));
        }
        let (result, passenger) = match self.flights.board(flight) {
            Seat::Passenger(passenger) => (CacheResult::Coalesced, passenger),
            Seat::Pilot(pilot, passenger) => {
                // A flight may have landed between our look into the cache and our boarding.
                if let Some(header) = self.cached_by(&flight, &key, inbound_expires_at) {
                    let asked_at = self.clock.now();
                    let (life, refresh_in, source) = (None, None, Source::Provider);
                    let granted = Granted { header, asked_at, life, refresh_in, source };
                    pilot.land(Ok(granted.clone()));
                    return (CacheResult::Hit, Ok(granted));
                }
                let mut pilots = vec![pilot];
                // Who finds no token under `key` meanwhile waits for this one, which is better.
                if flight != key
                    && let Seat::Pilot(beside, _) = self.flights.board(key)
                {
                    pilots.push(beside);
                }
                self.take_off(sought, pilots, call());
                (CacheResult::Miss, passenger)
            }
        };
        let outcome = passenger.outcome().await.and_then(|granted| {
            if granted.is_expired(self.clock.now()) {
                let what = "the token that the provider gave had expired before it could be used";
                return Err(Arc::new(
                    ExchangeError::unavailable(what.to_owned(), None)
                        .with_remedy("compare the clocks, and the lifetime of its tokens"),
                ));
            }
            Ok(granted)
        });
        let is_shared = outcome.as_ref().is_ok_and(|granted| granted.source == Source::Replica);
        let is_hit = result == CacheResult::Miss && is_shared;
        (if is_hit { CacheResult::SharedHit } else { result }, outcome)
    }

    /// Starts the flight of `pilots`, in a task of its own: the request that it is for may go away.
    fn take_off(
        self: &Arc<Self>,
        sought: Sought,
        pilots: Vec<Pilot>,
        call: impl Future<Output = Outcome> + Send + 'static,
    ) {
        let (exchanger, era) = (Arc::clone(self), self.refusals.era());
        let departure = self.cache.departure(sought.flight, sought.tags);
        tokio::spawn(async move {
            let outcome = call.await;
            exchanger.keep(departure, &sought, era, &outcome);
            // After the cache has it: who does not find the flight finds the token.
            for pilot in pilots {
                pilot.land(outcome.clone());
            }
        });
    }

    /// Keeps what an exchange came to, the token or the refusal.
    fn keep(&self, departure: Departure, sought: &Sought, era: Era, outcome: &Outcome) {
        let Sought { key, inbound_expires_at, .. } = *sought;
        match outcome {
            Ok(granted) => {
                let now = self.clock.now();
                self.cache.put(key, departure, granted, inbound_expires_at, now);
            }
            Err(error) => {
                // The provider's word on this user is newer than the token: an account that was
                // blocked, or a policy that now asks for more, must not wait for its expiry.
                if error.ends_access() {
                    self.cache.drop_token(&key);
                    self.erase(key, Bar::AskedUntil(self.clock.now()));
                }
                self.refusals.remember(departure.flight, error, era);
            }
        }
        self.metrics.token_cache_entries(self.cache.len());
    }
}

/// The requests of the token go on well, so nothing else tells the operator.
fn log_failed_renewal(error: &ExchangeError) {
    let reason = error.reason();
    match error.memory() {
        // Once in a while for all callers: it is remembered. Their tokens run out one by one.
        Memory::Client(_) => tracing::warn!("tokens in use can't be renewed: {reason}"),
        Memory::Token(_) | Memory::None => tracing::debug!("a token can't be renewed: {reason}"),
    }
}

impl fmt::Debug for Exchanger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchanger").field("tokens", &self.cache.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
