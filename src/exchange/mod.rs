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
mod plan;
mod refused;
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
use tokio::time::Instant;

use crate::authn::Caller;
use crate::authz::Permit;
use crate::clock::{SharedClock, UnixTime};
use crate::limits;
use crate::observe::metrics::{CacheResult, Metrics};
use crate::rejection::{Code, Extra, Rejection};
use crate::secret::SecretHeader;

use self::cache::{Granted, TokenCache};
use self::challenge::Claims;
use self::client::{Call, Office};
use self::failure::ExchangeError;
use self::flight::{Flights, Outcome, Seat};
use self::lanes::Lanes;
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
    /// On which terms it was swapped for a caller's; `None` for one in the gateway's own name.
    for_caller: Option<Arc<Terms>>,
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
    if let Some(header) = exchanger.cached(&key, expires_at) {
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
    let for_caller = request.subject.map(|_| Arc::clone(&request.terms));
    UpstreamCredential {
        upstream: Arc::clone(upstream),
        header: Some((AUTHORIZATION, header)),
        exchanged: Some(Exchanged { key: request.key(), for_caller, cache, took }),
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
        let (cache, outcome) =
            self.fly(flight, request.key(), request.subject_expires_at(), call).await;
        self.metrics.token_cache(upstream, cache);
        let granted = outcome.map_err(|error| error.rejection())?;
        let took = (cache != CacheResult::Hit).then(|| started.elapsed());
        Ok((granted.header, cache, took))
    }

    /// The token under `key`, if one is there that may still be used.
    fn cached(&self, key: &Key, inbound_expires_at: UnixTime) -> Option<SecretHeader> {
        self.cache.find(key, inbound_expires_at, self.clock.now())
    }

    /// Makes the exchange that `call` describes, or waits for the one called `flight` that is
    /// under way. What comes of it is kept under `key`.
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
        let (result, passenger) = match self.flights.board(flight) {
            Seat::Passenger(passenger) => (CacheResult::Coalesced, passenger),
            Seat::Pilot(pilot, passenger) => {
                // A flight may have landed between our look into the cache and our boarding.
                if let Some(header) = self.cached(&key, inbound_expires_at) {
                    let granted = Granted { header, asked_at: self.clock.now(), life: None };
                    pilot.land(Ok(granted.clone()));
                    return (CacheResult::Hit, Ok(granted));
                }
                // Who finds no token under `key` meanwhile waits for this one, which is better.
                let beside = (flight != key).then(|| self.flights.board(key));
                let (exchanger, call) = (Arc::clone(self), call());
                // A task of its own: the request that starts the exchange may go away.
                tokio::spawn(async move {
                    let outcome = call.await;
                    if let Ok(granted) = &outcome {
                        let now = exchanger.clock.now();
                        exchanger.cache.put(key, granted, inbound_expires_at, now);
                        exchanger.metrics.token_cache_entries(exchanger.cache.len());
                    }
                    // After the cache has it: who does not find the flight finds the token.
                    if let Some(Seat::Pilot(beside, _)) = beside {
                        beside.land(outcome.clone());
                    }
                    pilot.land(outcome);
                });
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
    /// caller has to get them, unless the token is the gateway's own.
    pub fn challenge_stands(&self, claims: &Claims) -> Rejection {
        let upstream = &self.upstream;
        match &self.exchanged {
            Some(Exchanged { for_caller: Some(terms), .. }) => Rejection::new(
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
                    "upstream `{upstream}` asks for more claims in the gateway's own token, which no caller can get; see the sign-in log of the gateway's application or managed identity, and the policies that hold for it"
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
