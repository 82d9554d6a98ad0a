//! Which credential the upstream gets.
//!
//! Takes the `token:` of an upstream or route and a [`Permit`], and gives an
//! [`UpstreamCredential`], which only [`credential`] makes: none, the inbound token as it
//! came, a fixed header, or a token that a provider gave on behalf of the caller. It refuses
//! to know how a token is verified, and how a request is sent. When no credential can be had
//! the request is refused; there is no other one to fall back to.
//!
//! ```
//! use obo_gateway::exchange::UpstreamCredential;
//! fn bound_to(credential: &UpstreamCredential) -> &str {
//!     credential.upstream()
//! }
//! ```
//!
//! ```compile_fail,E0616
//! use obo_gateway::exchange::UpstreamCredential;
//! // The fields are private: a credential can't be bound to another upstream.
//! fn bound_to(credential: &UpstreamCredential) -> &str {
//!     &credential.upstream
//! }
//! ```
//!
//! ```compile_fail,E0451
//! use obo_gateway::exchange::UpstreamCredential;
//! // Nor made up, with all its fields named.
//! let made_up = UpstreamCredential { upstream: "graph".into(), header: None, exchanged: None };
//! ```

mod advice;
mod answer;
mod breaker;
mod cache;
mod client;
mod credential;
mod failure;
mod flight;
mod grant;
mod lanes;
mod negative;
mod plan;
mod refused;
mod renewal;
mod terms;
mod throttle;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use tokio::time::{Instant, timeout};

use crate::authn::{Caller, Provider};
use crate::authz::Permit;
use crate::clock::{SharedClock, UnixTime};
use crate::limits;
use crate::observe::metrics::{CacheResult, Metrics};
use crate::rejection::Rejection;
use crate::secret::SecretHeader;

use self::breaker::Breakers;
use self::cache::{Found, Granted, TokenCache};
use self::client::{Call, Office};
use self::failure::{ExchangeError, Memory};
use self::flight::{Flights, Outcome, Pilot, Seat};
use self::lanes::Lanes;
use self::negative::Refusals;
use self::plan::TokenRequest;
use self::terms::Key;
use self::throttle::Throttles;

pub use self::credential::ClientCredential;
pub use self::grant::Grant;
pub use self::plan::{
    AppCallers, ExchangePlan, ExchangeSettings, InNameOf, OAuthClient, OAuthClients,
};
pub use self::terms::Requested;

/// `token:` of an upstream or route, resolved.
#[derive(Clone, Debug)]
pub enum TokenPlan {
    /// No credential goes on.
    None,
    /// The inbound token goes on as it came; on an open route there is none.
    Passthrough,
    /// A fixed header: an API key, say.
    Header {
        /// The header's name.
        name: HeaderName,
        /// Its value.
        value: SecretHeader,
    },
    /// A token that a provider gives, for the caller's or in the gateway's own name.
    Exchange(Arc<ExchangePlan>),
}

/// What an upstream is shown, bound to that upstream by name.
#[derive(Debug)]
pub struct UpstreamCredential {
    upstream: Arc<str>,
    header: Option<(HeaderName, SecretHeader)>,
    exchanged: Option<Exchanged>,
}

/// How a token came out of the exchanger.
struct Exchanged {
    key: Key,
    cache: CacheResult,
    took: Option<Duration>,
}

/// What exchanges share, over reloads: outbound tokens, exchanges under way, calls to
/// providers, waits that those asked for.
pub struct Exchanger {
    cache: TokenCache,
    flights: Arc<Flights>,
    throttles: Throttles,
    lanes: Lanes,
    breakers: Breakers,
    refusals: Refusals,
    clock: SharedClock,
    metrics: Metrics,
}

/// The credential that `plan` gives the caller of `permit` at `upstream`.
///
/// # Errors
///
/// A caller that can't be acted for, a provider that refuses, fails or is not there, each with
/// its code; `internal` for what the configuration should have refused.
///
/// # Cancel safety
///
/// Dropping the future gives up waiting; an exchange that it started goes on for others who
/// wait, and its token is kept.
pub async fn credential(
    exchanger: &Arc<Exchanger>,
    plan: &TokenPlan,
    upstream: &Arc<str>,
    permit: &Permit,
) -> Result<UpstreamCredential, Rejection> {
    credential_of(exchanger, plan, upstream, permit.caller()).await
}

async fn credential_of(
    exchanger: &Arc<Exchanger>,
    plan: &TokenPlan,
    upstream: &Arc<str>,
    caller: Option<&Caller>,
) -> Result<UpstreamCredential, Rejection> {
    let header = match plan {
        TokenPlan::None => None,
        TokenPlan::Passthrough => caller.map(|caller| {
            (AUTHORIZATION, SecretHeader::new(caller.token().expose_header().clone()))
        }),
        TokenPlan::Header { name, value } => Some((name.clone(), value.clone())),
        TokenPlan::Exchange(plan) => return exchanged(exchanger, plan, upstream, caller).await,
    };
    Ok(UpstreamCredential { upstream: Arc::clone(upstream), header, exchanged: None })
}

async fn exchanged(
    exchanger: &Arc<Exchanger>,
    plan: &ExchangePlan,
    upstream: &Arc<str>,
    caller: Option<&Caller>,
) -> Result<UpstreamCredential, Rejection> {
    if **plan.upstream() != **upstream {
        return Err(Rejection::internal("a token of one upstream was asked for another"));
    }
    let request = plan.request(caller)?;
    let (key, expires_at) = (request.key(), request.subject_expires_at());

    let bound = |header, cache, took| UpstreamCredential {
        upstream: Arc::clone(upstream),
        header: Some((AUTHORIZATION, header)),
        exchanged: Some(Exchanged { key, cache, took }),
    };
    if let Some(Found::Fresh(header)) = exchanger.find(&key, expires_at) {
        exchanger.metrics.token_cache(upstream, CacheResult::Hit);
        return Ok(bound(header, CacheResult::Hit, None));
    }

    let provider = Arc::clone(&request.terms.provider);
    let call = || {
        let TokenRequest { client, terms, subject } = request;
        let oid = subject.and_then(|caller| caller.identity().claim("oid")?.as_str());
        let call = Call {
            anchor: grant::anchor(oid, terms.tenant.as_deref()),
            terms,
            client: Arc::clone(client),
            subject: subject.map(|caller| caller.token().clone()),
            upstream: Arc::clone(upstream),
        };
        let exchanger = Arc::clone(exchanger);
        async move { call.make(exchanger.office()).await }
    };
    let started = Instant::now();
    let (cache, outcome) = exchanger.obtain(key, expires_at, &provider, call).await;
    exchanger.metrics.token_cache(upstream, cache);
    let header = outcome.map_err(|error| error.rejection())?;
    let took = (cache != CacheResult::Hit).then(|| started.elapsed());
    Ok(bound(header, cache, took))
}

impl Exchanger {
    /// An exchanger that keeps at most `max_entries` tokens.
    pub fn new(max_entries: usize, clock: SharedClock, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            cache: TokenCache::new(max_entries, limits::MAX_CACHED_TOKEN_BYTES),
            flights: Arc::default(),
            throttles: Throttles::default(),
            lanes: Lanes::default(),
            breakers: Breakers::default(),
            refusals: Refusals::default(),
            clock,
            metrics,
        })
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
        if let (Some(exchanged), Some((_, header))) = (&credential.exchanged, &credential.header) {
            self.cache.forget(&exchanged.key, header);
            self.metrics.token_cache_entries(self.cache.len());
        }
    }

    fn office(&self) -> Office<'_> {
        Office {
            throttles: &self.throttles,
            lanes: &self.lanes,
            breakers: &self.breakers,
            clock: &*self.clock,
            metrics: &self.metrics,
        }
    }

    /// What the configuration in force says of `providers`. Refusals of the one before it are
    /// forgotten: what is new in it may be what they were about.
    pub fn configure(&self, providers: &[Arc<Provider>]) {
        for provider in providers {
            self.lanes.set(provider.name(), provider.settings().max_in_flight);
        }
        self.forget_refusals();
    }

    /// Forgets what providers refused a short while ago, so that they are asked again.
    pub fn forget_refusals(&self) {
        self.refusals.clear();
    }

    /// The token under `key`, for an inbound one that expires at `inbound_expires_at`: out of the
    /// cache, or by the exchange with `provider` that `call` describes.
    ///
    /// A token that is due is renewed behind the request's back. One that is stale is used
    /// where the provider can't give another, or not soon; never after a refusal.
    async fn obtain<F>(
        self: &Arc<Self>,
        key: Key,
        inbound_expires_at: UnixTime,
        provider: &Arc<str>,
        call: impl FnOnce() -> F,
    ) -> (CacheResult, Result<SecretHeader, Arc<ExchangeError>>)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let stale = match self.find(&key, inbound_expires_at) {
            Some(Found::Fresh(header)) => return (CacheResult::Hit, Ok(header)),
            Some(Found::Due(header)) => {
                self.renew(key, inbound_expires_at, provider, call);
                return (CacheResult::Hit, Ok(header));
            }
            Some(Found::Stale(_)) => true,
            None => false,
        };
        let flight = self.fly(key, inbound_expires_at, call);
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

    /// Renews the token under `key` in a task of its own, unless that is being done, was tried a
    /// moment ago, or would be in the way of requests that wait.
    fn renew<F>(
        self: &Arc<Self>,
        key: Key,
        inbound_expires_at: UnixTime,
        provider: &Arc<str>,
        call: impl FnOnce() -> F,
    ) where
        F: Future<Output = Outcome> + Send + 'static,
    {
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
                self.take_off(key, inbound_expires_at, pilot, async move {
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

    fn find(&self, key: &Key, inbound_expires_at: UnixTime) -> Option<Found> {
        self.cache.find(key, inbound_expires_at, self.clock.now())
    }

    /// The token under `key`, if one is there that nobody has to replace first.
    fn cached(&self, key: &Key, inbound_expires_at: UnixTime) -> Option<SecretHeader> {
        match self.find(key, inbound_expires_at)? {
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

    /// Makes the exchange that `call` describes, or waits for one of the same key that is
    /// under way; a refusal that is remembered is given again.
    async fn fly<F>(
        self: &Arc<Self>,
        key: Key,
        inbound_expires_at: UnixTime,
        call: impl FnOnce() -> F,
    ) -> (CacheResult, Outcome)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        if let Some(refusal) = self.refusals.recall(&key) {
            return (CacheResult::Miss, Err(Arc::new(refusal)));
        }
        let (result, passenger) = match self.flights.board(key) {
            Seat::Passenger(passenger) => (CacheResult::Coalesced, passenger),
            Seat::Pilot(pilot, passenger) => {
                // A flight may have landed between our look into the cache and our boarding.
                if let Some(header) = self.cached(&key, inbound_expires_at) {
                    let asked_at = self.clock.now();
                    let granted = Granted { header, asked_at, life: None, refresh_in: None };
                    pilot.land(Ok(granted.clone()));
                    return (CacheResult::Hit, Ok(granted));
                }
                self.take_off(key, inbound_expires_at, pilot, call());
                (CacheResult::Miss, passenger)
            }
        };
        let outcome = passenger.outcome().await.and_then(|granted| {
            if granted.is_expired(self.clock.now()) {
                return Err(Arc::new(ExchangeError::unavailable(
                    "the token that the provider gave had expired before it could be used; compare the clocks, and the lifetime of its tokens".into(),
                    None,
                )));
            }
            Ok(granted)
        });
        (result, outcome)
    }

    /// Starts a flight, in a task of its own: the request that it is for may go away.
    fn take_off(
        self: &Arc<Self>,
        key: Key,
        inbound_expires_at: UnixTime,
        pilot: Pilot,
        call: impl Future<Output = Outcome> + Send + 'static,
    ) {
        let exchanger = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = call.await;
            exchanger.keep(key, inbound_expires_at, &outcome);
            // After the cache has it: who does not find the flight finds the token.
            pilot.land(outcome);
        });
    }

    /// Keeps what an exchange came to, the token or the refusal.
    fn keep(&self, key: Key, inbound_expires_at: UnixTime, outcome: &Outcome) {
        match outcome {
            Ok(granted) => self.cache.put(key, granted, inbound_expires_at, self.clock.now()),
            Err(error) => {
                // The provider's word on this user is newer than the token: an account that was
                // blocked, or a policy that now asks for more, must not wait for its expiry.
                if error.ends_access() {
                    self.cache.drop_token(&key);
                }
                self.refusals.remember(key, error);
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

impl UpstreamCredential {
    /// The header to add to the request, if any.
    pub fn header(&self) -> Option<(&HeaderName, &HeaderValue)> {
        self.header.as_ref().map(|(name, value)| (name, value.expose()))
    }

    /// The one upstream that may be shown this.
    pub fn upstream(&self) -> &Arc<str> {
        &self.upstream
    }

    /// Whether it is a token that a provider gave for the caller's.
    pub fn is_exchanged(&self) -> bool {
        self.exchanged.is_some()
    }

    /// How the token cache answered; `None` where no exchange is asked for.
    pub fn cache_result(&self) -> Option<CacheResult> {
        self.exchanged.as_ref().map(|exchanged| exchanged.cache)
    }

    /// How long the request waited for an exchange, its own or another's; `None` if it did not.
    pub fn exchange_time(&self) -> Option<Duration> {
        self.exchanged.as_ref().and_then(|exchanged| exchanged.took)
    }
}

impl fmt::Debug for Exchanged {
    // The key holds the digest of a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchanged")
            .field("cache", &self.cache)
            .field("took", &self.took)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Exchanger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchanger").field("tokens", &self.cache.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
