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
mod cache;
mod client;
mod failure;
mod flight;
mod grant;
mod lanes;
mod on_behalf_of;
mod refused;
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
use crate::rejection::{Code, Rejection};
use crate::secret::SecretHeader;

use self::cache::{Granted, TokenCache};
use self::client::{Call, Office};
use self::failure::ExchangeError;
use self::flight::{Flights, Outcome, Seat};
use self::lanes::Lanes;
use self::terms::Key;
use self::throttle::Throttles;

pub use self::grant::ClientCredential;
pub use self::on_behalf_of::{OAuthClient, OAuthClients, OnBehalfOf, OnBehalfOfSettings};

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
    /// A token on behalf of the caller.
    OnBehalfOf(Arc<OnBehalfOf>),
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
        TokenPlan::OnBehalfOf(plan) => {
            let caller = caller.ok_or_else(|| {
                broken("`on_behalf_of` on an open route, which the configuration refuses")
            })?;
            return on_behalf_of(exchanger, plan, upstream, caller).await;
        }
    };
    Ok(UpstreamCredential { upstream: Arc::clone(upstream), header, exchanged: None })
}

async fn on_behalf_of(
    exchanger: &Arc<Exchanger>,
    plan: &OnBehalfOf,
    upstream: &Arc<str>,
    caller: &Caller,
) -> Result<UpstreamCredential, Rejection> {
    if **plan.upstream() != **upstream {
        return Err(broken("a token of one upstream was asked for another"));
    }
    let identity = caller.identity();
    let (client, terms) = plan.terms(identity)?;
    let key = terms.key(caller.token().digest());

    let bound = |header, cache, took| UpstreamCredential {
        upstream: Arc::clone(upstream),
        header: Some((AUTHORIZATION, header)),
        exchanged: Some(Exchanged { key, cache, took }),
    };
    if let Some(header) = exchanger.cached(&key, identity.expires_at) {
        exchanger.metrics.token_cache(upstream, CacheResult::Hit);
        return Ok(bound(header, CacheResult::Hit, None));
    }

    let started = Instant::now();
    let call = || {
        let oid = identity.claim("oid").and_then(|oid| oid.as_str());
        let call = Call {
            anchor: grant::anchor(oid, terms.tenant.as_deref()),
            terms,
            credential: client.credential.clone(),
            fetcher: client.provider.fetcher().clone(),
            assertion: caller.token().clone(),
            upstream: Arc::clone(upstream),
        };
        let exchanger = Arc::clone(exchanger);
        async move { call.make(exchanger.office()).await }
    };
    let (cache, outcome) = exchanger.fly(key, identity.expires_at, call).await;
    exchanger.metrics.token_cache(upstream, cache);
    let granted = outcome.map_err(|error| error.rejection())?;
    let took = (cache != CacheResult::Hit).then(|| started.elapsed());
    Ok(bound(granted.header, cache, took))
}

fn broken(reason: &'static str) -> Rejection {
    Rejection::new(Code::Internal, "Something went wrong in the gateway.", reason)
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

    /// The token under `key`, if one is there that may still be used.
    fn cached(&self, key: &Key, inbound_expires_at: UnixTime) -> Option<SecretHeader> {
        self.cache.find(key, inbound_expires_at, self.clock.now())
    }

    /// Makes the exchange that `call` describes, or waits for one of the same key that is
    /// under way.
    async fn fly<F>(
        self: &Arc<Self>,
        key: Key,
        inbound_expires_at: UnixTime,
        call: impl FnOnce() -> F,
    ) -> (CacheResult, Outcome)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let (result, passenger) = match self.flights.board(key) {
            Seat::Passenger(passenger) => (CacheResult::Coalesced, passenger),
            Seat::Pilot(pilot, passenger) => {
                // A flight may have landed between our look into the cache and our boarding.
                if let Some(header) = self.cached(&key, inbound_expires_at) {
                    let granted = Granted { header, asked_at: self.clock.now(), life: None };
                    pilot.land(Ok(granted.clone()));
                    return (CacheResult::Hit, Ok(granted));
                }
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
