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
mod assertion;
mod breaker;
mod cache;
pub mod challenge;
mod claims;
mod client;
mod credential;
mod failure;
mod federated_file;
mod federated_identity;
mod flight;
mod grant;
mod lanes;
mod managed_identity;
mod negative;
mod plan;
mod refused;
mod renewal;
mod signing_key;
mod terms;
mod throttle;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

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
use crate::rejection::{Code, Extra, Rejection};
use crate::secret::SecretHeader;

use self::breaker::Breakers;
use self::cache::{Found, Granted, TokenCache};
use self::challenge::Claims;
use self::client::{Call, Office};
use self::failure::{ExchangeError, Memory};
use self::flight::{Flights, Outcome, Pilot, Seat};
use self::lanes::Lanes;
use self::negative::{Era, Refusals};
use self::plan::TokenRequest;
use self::terms::{Key, Terms};
use self::throttle::Throttles;

pub use self::credential::ClientCredential;
pub use self::federated_file::FederatedFile;
pub use self::federated_identity::FederatedIdentity;
pub use self::grant::{Grant, UnfitParameter, UserGrant, may_be_added};
pub use self::managed_identity::{
    KEY_DIRECTORY, ManagedIdentity, ManagedIdentityHost, ManagedIdentityPlan, MetadataService,
    may_be_asked,
};
pub use self::plan::{
    AppCallers, ExchangePlan, ExchangeSettings, InNameOf, OAuthClient, OAuthClients,
};
pub use self::signing_key::{ClientCertificate, KeyError, KeyFile, SigningKey};
pub use self::terms::{Requested, default_scope};

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
    /// A token that the machine gives the gateway, in the name of its managed identity.
    ManagedIdentity(Arc<ManagedIdentityPlan>),
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
    /// On which terms a provider gave it; `None` for one of a managed identity.
    terms: Option<Arc<Terms>>,
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
        TokenPlan::ManagedIdentity(plan) => return plan.credential(exchanger, upstream).await,
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
    if let Some(Found::Fresh(header)) = exchanger.find(&key, expires_at) {
        exchanger.metrics.token_cache(upstream, CacheResult::Hit);
        return Ok(bound(upstream, &request, header, CacheResult::Hit, None));
    }
    let flown = exchanger.fly_for(upstream, &request, key, None);
    let (header, cache, took) = flown.await?;
    Ok(bound(upstream, &request, header, cache, took))
}

/// The credential to repeat a request with, after its upstream refused `refused` and asked for a
/// token with `claims`.
///
/// The refused token is dropped. The new one takes its place for all requests of the same key:
/// it says all that the old one said, and the upstream would ask each of them for the same.
///
/// # Errors
///
/// As of [`credential`]; and the challenge itself, for the caller, where a token was asked for
/// just now ([`limits::REFUSED_TOKEN_FLOOR`]): an upstream that always wants another must not
/// make us storm the provider.
pub async fn answer_challenge(
    exchanger: &Arc<Exchanger>,
    plan: &TokenPlan,
    refused: &UpstreamCredential,
    caller: Option<&Caller>,
    claims: &Claims,
) -> Result<UpstreamCredential, Rejection> {
    if let TokenPlan::ManagedIdentity(_) = plan {
        // The machine can't be asked for claims, and gives the same token until it expires.
        exchanger.forget(refused);
        return Err(refused.challenge_stands(claims));
    }
    let (TokenPlan::Exchange(plan), Some((_, old)), Some(Exchanged { key, .. })) =
        (plan, &refused.header, &refused.exchanged)
    else {
        return Err(Rejection::internal("a challenge to a credential that is no exchanged token"));
    };
    let upstream = &refused.upstream;
    let request = plan.request(caller)?;
    // Another request may have been challenged before this one.
    let newer = exchanger.cached(key, request.subject_expires_at());
    if let Some(newer) = newer.filter(|newer| newer.expose() != old.expose()) {
        return Ok(bound(upstream, &request, newer, CacheResult::Hit, None));
    }
    let flight = key.with_claims(claims.text());
    if !exchanger.flights.is_under_way(&flight) && !exchanger.cache.replace(key, old) {
        return Err(refused.challenge_stands(claims));
    }
    exchanger.metrics.token_cache_entries(exchanger.cache.len());
    let flown = exchanger.fly_for(upstream, &request, flight, Some(claims));
    let (header, cache, took) = flown.await?;
    Ok(bound(upstream, &request, header, cache, took))
}

fn bound(
    upstream: &Arc<str>,
    request: &TokenRequest<'_>,
    header: SecretHeader,
    cache: CacheResult,
    took: Option<Duration>,
) -> UpstreamCredential {
    UpstreamCredential {
        upstream: Arc::clone(upstream),
        header: Some((AUTHORIZATION, header)),
        exchanged: Some(Exchanged {
            key: request.key(),
            terms: Some(Arc::clone(&request.terms)),
            cache,
            took,
        }),
    }
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

    /// Gets the token of `request` by an exchange of the name `flight`, and says how, and how long
    /// it took.
    async fn fly_for(
        self: &Arc<Self>,
        upstream: &Arc<str>,
        request: &TokenRequest<'_>,
        flight: Key,
        claims: Option<&Claims>,
    ) -> Result<(SecretHeader, CacheResult, Option<Duration>), Rejection> {
        let started = Instant::now();
        let call = || {
            let TokenRequest { client, terms, subject } = request;
            let oid = subject.and_then(|caller| caller.identity().claim("oid")?.as_str());
            let call = Call {
                anchor: grant::anchor(oid, terms.tenant.as_deref()),
                terms: Arc::clone(terms),
                client: Arc::clone(client),
                subject: subject.map(|caller| caller.token().clone()),
                claims: claims.cloned(),
                upstream: Arc::clone(upstream),
            };
            let exchanger = Arc::clone(self);
            async move { call.make(exchanger.office()).await }
        };
        let (key, expires_at) = (request.key(), request.subject_expires_at());
        let (cache, outcome) = if flight == key {
            self.obtain(key, expires_at, &request.terms.provider, call).await
        } else {
            let (cache, outcome) = self.fly(flight, key, expires_at, call).await;
            (cache, outcome.map(|granted| granted.header))
        };
        self.metrics.token_cache(upstream, cache);
        let header = outcome.map_err(|error| error.rejection())?;
        let took = (cache != CacheResult::Hit).then(|| started.elapsed());
        Ok((header, cache, took))
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
        let flight = self.fly(key, key, inbound_expires_at, call);
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
                self.take_off(key, key, inbound_expires_at, vec![pilot], async move {
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

    /// Makes the exchange that `call` describes, or waits for the one called `flight` that is
    /// under way; a refusal of it that is remembered is given again. A token is kept under `key`.
    async fn fly<F>(
        self: &Arc<Self>,
        flight: Key,
        key: Key,
        inbound_expires_at: UnixTime,
        call: impl FnOnce() -> F,
    ) -> (CacheResult, Outcome)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        if let Some(refusal) = self.refusals.recall(&flight) {
            return (CacheResult::Miss, Err(Arc::new(refusal)));
        }
        let (result, passenger) = match self.flights.board(flight) {
            Seat::Passenger(passenger) => (CacheResult::Coalesced, passenger),
            Seat::Pilot(pilot, passenger) => {
                // A flight may have landed between our look into the cache and our boarding.
                if let Some(header) = self.cached(&key, inbound_expires_at) {
                    let asked_at = self.clock.now();
                    let granted = Granted { header, asked_at, life: None, refresh_in: None };
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
                self.take_off(flight, key, inbound_expires_at, pilots, call());
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

    /// Starts the flight of `pilots`, in a task of its own: the request that it is for may go away.
    fn take_off(
        self: &Arc<Self>,
        flight: Key,
        key: Key,
        inbound_expires_at: UnixTime,
        pilots: Vec<Pilot>,
        call: impl Future<Output = Outcome> + Send + 'static,
    ) {
        let (exchanger, era) = (Arc::clone(self), self.refusals.era());
        tokio::spawn(async move {
            let outcome = call.await;
            exchanger.keep(flight, key, inbound_expires_at, era, &outcome);
            // After the cache has it: who does not find the flight finds the token.
            for pilot in pilots {
                pilot.land(outcome.clone());
            }
        });
    }

    /// Keeps what an exchange came to, the token or the refusal.
    fn keep(
        &self,
        flight: Key,
        key: Key,
        inbound_expires_at: UnixTime,
        era: Era,
        outcome: &Outcome,
    ) {
        match outcome {
            Ok(granted) => self.cache.put(key, granted, inbound_expires_at, self.clock.now()),
            Err(error) => {
                // The provider's word on this user is newer than the token: an account that was
                // blocked, or a policy that now asks for more, must not wait for its expiry.
                if error.ends_access() {
                    self.cache.drop_token(&key);
                }
                self.refusals.remember(flight, error, era);
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

    /// The refusal of a request whose upstream goes on asking for a token with `claims`: the
    /// challenge is passed on, unless nobody could answer it: that of a managed identity.
    pub fn challenge_stands(&self, claims: &Claims) -> Rejection {
        let upstream = &self.upstream;
        match &self.exchanged {
            Some(Exchanged { terms: Some(terms), .. }) => Rejection::new(
                Code::ClaimsChallenge,
                "The service wants the user to sign in again.",
                format!(
                    "upstream `{upstream}` asks for a token with more claims (continuous access evaluation), and the one from provider `{}` does not satisfy it; the client has to sign the user in again with the `claims` of our answer",
                    terms.provider
                ),
            )
            .with(Extra::Claims {
                authorization_uri: terms.authorization_endpoint.clone().unwrap_or_default(),
                client_id: terms.client_id.clone(),
                claims: Some(claims.text().to_owned()),
            }),
            Some(Exchanged { .. }) | None => Rejection::new(
                Code::ExchangeFailed,
                "The gateway could not get a token for the service.",
                format!(
                    "upstream `{upstream}` asks for more claims in the token of a managed identity, which can't have them; see the policies that hold for that identity"
                ),
            ),
        }
    }

    /// Whether it is a token that a provider gave.
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
