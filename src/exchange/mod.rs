//! Which credential the upstream gets.
//!
//! Takes the `token:` of an upstream or route and a [`Permit`], and gives an
//! [`UpstreamCredential`], which only [`credential()`] makes: none, the inbound token as it
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
mod barred;
mod breaker;
mod cache;
pub mod challenge;
mod claims;
mod client;
mod credential;
mod erasing;
mod exchanger;
mod failure;
mod federated_file;
mod federated_identity;
mod flight;
mod foreseen;
mod forgetting;
mod forgotten;
mod grant;
mod lanes;
mod managed_identity;
mod negative;
mod plan;
mod refusal;
mod refused;
mod renewal;
mod shared;
mod shared_entry;
mod signing_key;
mod terms;
mod throttle;
mod trial;
mod upstream_credential;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

use std::sync::Arc;

use http::HeaderName;
use http::header::AUTHORIZATION;
use serde_json::Value;
use tokio::time::Instant;

use crate::authn::Caller;
use crate::authz::Permit;
use crate::identity::Identity;
use crate::observe::handles::UpstreamMetrics;
use crate::observe::metrics::CacheResult;
use crate::rejection::Rejection;
use crate::secret::SecretHeader;
use crate::shared_store::Waited;

use self::challenge::Claims;
use self::client::Call;
use self::exchanger::{Boarding, Obtained};
use self::plan::TokenRequest;
use self::shared::Sought;
use self::terms::Key;

pub use self::breaker::BreakerStatus;
pub use self::cache::CacheUsage;
pub use self::credential::ClientCredential;
pub use self::exchanger::Exchanger;
pub use self::federated_file::{FederatedFile, FederatedToken};
pub use self::federated_identity::FederatedIdentity;
pub use self::foreseen::{Foreseen, foresee};
pub use self::forgetting::{Forgot, Others};
pub use self::forgotten::{Forgetting, Whose};
pub use self::grant::{Grant, UnfitParameter, UserGrant, may_be_added};
pub use self::lanes::ProviderLoad;
pub use self::managed_identity::{
    KEY_DIRECTORY, ManagedIdentity, ManagedIdentityHost, ManagedIdentityPlan, MetadataService,
    PROVIDER as MANAGED_IDENTITY_NAME, may_be_asked,
};
pub use self::plan::{
    AppCallers, ExchangePlan, ExchangeSettings, ForeseenExchange, InNameOf, OAuthClient,
    OAuthClients,
};
pub use self::signing_key::{ClientCertificate, KeyError, KeyFile, SigningKey};
pub use self::terms::{Requested, default_scope};
pub use self::trial::{Came, Purpose, Standing, Told, Trial, Tried};
pub use self::upstream_credential::{Unanswered, UpstreamCredential};

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

impl TokenPlan {
    /// Whether a token is obtained, for which a request may have to wait.
    pub fn obtains(&self) -> bool {
        match self {
            Self::None | Self::Passthrough | Self::Header { .. } => false,
            Self::Exchange(_) | Self::ManagedIdentity(_) => true,
        }
    }

    /// Who is asked for the token of a caller, by name in the routes file; `None` where nobody is.
    pub fn provider(&self, caller: Option<&Identity>) -> Option<Arc<str>> {
        match self {
            Self::None | Self::Passthrough | Self::Header { .. } => None,
            Self::Exchange(plan) => match plan.named_provider() {
                Some(named) => Some(Arc::clone(named.name())),
                None => caller.map(|caller| Arc::clone(&caller.provider)),
            },
            Self::ManagedIdentity(_) => Some(Arc::from(MANAGED_IDENTITY_NAME)),
        }
    }
}

/// The credential that `plan` gives the caller of `permit` at `upstream`, whose `metrics` count how
/// the cache answered, for a request that has `waited` for the shared store before.
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
    metrics: &UpstreamMetrics,
    permit: &Permit,
    waited: Waited,
) -> Result<UpstreamCredential, Rejection> {
    credential_of(exchanger, plan, upstream, metrics, permit.caller(), waited).await
}

async fn credential_of(
    exchanger: &Arc<Exchanger>,
    plan: &TokenPlan,
    upstream: &Arc<str>,
    metrics: &UpstreamMetrics,
    caller: Option<&Caller>,
    waited: Waited,
) -> Result<UpstreamCredential, Rejection> {
    let header = match plan {
        TokenPlan::None => None,
        TokenPlan::Passthrough => caller.map(|caller| {
            (AUTHORIZATION, SecretHeader::new(caller.token().expose_header().clone()))
        }),
        TokenPlan::Header { name, value } => Some((name.clone(), value.clone())),
        TokenPlan::Exchange(plan) => {
            return exchanged(exchanger, plan, upstream, metrics, caller, waited).await;
        }
        TokenPlan::ManagedIdentity(plan) => {
            return plan.credential(exchanger, upstream, metrics).await;
        }
    };
    Ok(UpstreamCredential::fixed(upstream, header))
}

async fn exchanged(
    exchanger: &Arc<Exchanger>,
    plan: &ExchangePlan,
    upstream: &Arc<str>,
    metrics: &UpstreamMetrics,
    caller: Option<&Caller>,
    waited: Waited,
) -> Result<UpstreamCredential, Rejection> {
    if **plan.upstream() != **upstream {
        return Err(Rejection::internal("a token of one upstream was asked for another"));
    }
    let request = plan.request(caller)?;
    let key = request.key();
    let obtained = match exchanger.at_hand(&key, request.subject_expires_at(), metrics, waited) {
        Some(at_hand) => at_hand,
        None => obtain(exchanger, metrics, &request, None, waited).await?,
    };
    Ok(UpstreamCredential::token(upstream, key, Some(&request.terms), obtained))
}

/// The credential to repeat a request with, after its upstream refused `refused` and asked for a
/// token with `claims`.
///
/// The refused token is dropped. The new one takes its place for all requests of the same key:
/// it says all that the old one said, and the upstream would ask each of them for the same.
///
/// # Errors
///
/// As of [`credential()`]; and the challenge itself, for the caller, where a token was asked for
/// just now ([`REFUSED_TOKEN_FLOOR`](crate::limits::REFUSED_TOKEN_FLOOR)): an upstream that always
/// wants another must not make us storm the provider.
pub async fn answer_challenge(
    exchanger: &Arc<Exchanger>,
    plan: &TokenPlan,
    refused: &UpstreamCredential,
    metrics: &UpstreamMetrics,
    caller: Option<&Caller>,
    claims: &Claims,
) -> Result<UpstreamCredential, Rejection> {
    if let TokenPlan::ManagedIdentity(_) = plan {
        // The machine can't be asked for claims, and gives the same token until it expires.
        exchanger.forget(refused);
        return Err(refused.challenge_stands(claims, Unanswered::NotSatisfied));
    }
    let (TokenPlan::Exchange(plan), Some((key, old))) = (plan, refused.obtained()) else {
        return Err(Rejection::internal("a challenge to a credential that is no exchanged token"));
    };
    let upstream = refused.upstream();
    let request = plan.request(caller)?;
    let bound = |obtained| {
        UpstreamCredential::token(upstream, request.key(), Some(&request.terms), obtained)
    };
    let waited = refused.waited();
    let kept = |header| bound(Obtained { header, cache: CacheResult::Hit, took: None, waited });
    let is_another = |header: &SecretHeader| header.expose() != old.expose();
    let expires_at = request.subject_expires_at();
    // Another request may have been challenged in the same words before this one. A token that came
    // by a mere renewal is no answer.
    let flight = key.with_claims(claims.text());
    if let Some(header) = exchanger.cached_by(&flight, key, expires_at).filter(is_another) {
        return Ok(kept(header));
    }
    let Some(seat) = exchanger.make_way(key, old, &flight) else {
        // None may be asked for. One that came meanwhile may do, and costs the provider nothing.
        let other = exchanger.cached(key, expires_at).filter(is_another);
        return other
            .map(kept)
            .ok_or_else(|| refused.challenge_stands(claims, Unanswered::TooSoon));
    };
    let asked = Asked { flight, claims, seat };
    obtain(exchanger, metrics, &request, Some(asked), waited).await.map(bound)
}

/// An exchange that asks for claims, boarded already.
struct Asked<'a> {
    /// Its name, which is another than the token's.
    flight: Key,
    claims: &'a Claims,
    seat: Boarding,
}

/// The token of `request`; where claims are `asked` for, by that exchange alone.
async fn obtain(
    exchanger: &Arc<Exchanger>,
    metrics: &UpstreamMetrics,
    request: &TokenRequest<'_>,
    asked: Option<Asked<'_>>,
    waited: Waited,
) -> Result<Obtained, Rejection> {
    let began = Instant::now();
    let (key, expires_at) = (request.key(), request.subject_expires_at());
    let caller = request.subject.map(|caller| &**caller.identity());
    let tags = exchanger.tags_at(&request.terms.upstream, caller);
    let flight = asked.as_ref().map_or(key, |asked| asked.flight);
    let claims = asked.as_ref().map(|asked| asked.claims);
    let sought = Sought { key, flight, inbound_expires_at: expires_at, tags, shared: Some(waited) };
    let call = || {
        let TokenRequest { client, terms, subject } = request;
        let oid = subject.and_then(|caller| caller.identity().claims.get("oid"));
        let oid = oid.as_ref().and_then(Value::as_str);
        let call = Call {
            anchor: grant::anchor(oid, terms.tenant.as_deref()),
            terms: Arc::clone(terms),
            client: Arc::clone(client),
            subject: subject.map(|caller| caller.token().clone()),
            claims: claims.cloned(),
            upstream: Arc::clone(metrics.name()),
        };
        let exchanger = Arc::clone(exchanger);
        async move { call.make(exchanger.office()).await }
    };
    let flown = match asked {
        None => exchanger.obtain(sought, &request.terms.provider, call).await,
        Some(asked) => {
            let (cache, outcome) = exchanger.travel(asked.seat, sought, call).await;
            (cache, outcome.map(|granted| granted.header))
        }
    };
    Obtained::after(began, flown, metrics, waited)
}

#[cfg(test)]
mod tests;
