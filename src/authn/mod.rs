//! Who is calling: takes the token out of a request, verifies it, and sees to it that a token
//! that is bound to its caller is presented by that one.
//!
//! The witness is [`Authenticated`]: only [`authenticate`] makes one. What a caller may do is
//! not decided here (`authz/`).
//!
//! ```compile_fail,E0451
//! // Nobody else can say that a request is authenticated.
//! let forged = obo_gateway::authn::Authenticated { caller: None };
//! ```

pub mod fetch;
mod algorithm;
mod bearer;
mod binding;
mod claims;
mod dialect;
mod discovery;
mod dpop;
mod endpoints;
mod header_type;
mod issuing;
pub mod json;
pub mod keys;
mod provider;
mod public_place;
mod refresh;
pub(crate) mod refusal;
mod settings;
pub(crate) mod supposition;
mod tenants;
mod thumbprint;
mod token;
mod token_end;
mod typed;
mod used_proofs;
mod verified;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
pub(crate) mod forge;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::HeaderMap;

use crate::identity::Identity;
use crate::peer::Peer;
use crate::rejection::{Code, Extra, Rejection};
use crate::route::Target;
use crate::secret::InboundToken;

pub use self::algorithm::Algorithm;
pub use self::discovery::{Endpoints, may_be_called};
pub use self::dpop::{DPOP, PROOF_ALGORITHMS};
pub use self::endpoints::NoEndpoints;
pub use self::header_type::HeaderType;
pub use self::issuing::{Cloud, Issuing, TENANT_PLACEHOLDER};
pub use self::provider::{Failure, KeysFound, Provider, ProviderError, Status, Trial};
pub use self::public_place::CalledAt;
pub use self::settings::{Exchanges, ProviderSettings};
pub(crate) use self::tenants::is_guid;
pub use self::tenants::{Directory, Tenants};
pub use self::token_end::TokenEnd;
pub use self::used_proofs::UsedProofs;
pub use self::verified::VerifiedTokens;

use self::bearer::Scheme;
use self::binding::Vouched;
use self::json::Object;
use self::refusal::{shown, shown_all};
use self::token::{Parts, Unverified};

/// A caller whose token was verified.
#[derive(Clone, Debug)]
pub struct Caller {
    token: InboundToken,
    identity: Arc<Identity>,
}

impl Caller {
    /// The token as it came.
    pub fn token(&self) -> &InboundToken {
        &self.token
    }

    /// What it says.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }
}

#[cfg(test)]
impl Caller {
    /// For tests only: a caller whom nobody verified.
    pub(crate) fn forged(token: InboundToken, identity: Identity) -> Self {
        Self { token, identity: Arc::new(identity) }
    }
}

/// The outcome of authentication: a verified caller, or nobody on an open route.
#[derive(Debug)]
pub struct Authenticated {
    caller: Option<Caller>,
}

impl Authenticated {
    /// Who the caller is; `None` on an open route.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.caller.as_ref().map(Caller::identity)
    }

    /// The verified caller; `None` on an open route.
    pub fn into_caller(self) -> Option<Caller> {
        self.caller
    }
}

/// What a route asks of the caller's token before its policy is looked at.
#[derive(Debug)]
pub enum Requirement {
    /// `auth: none`: a token that comes is removed unread.
    Open,
    /// A token that one of these providers issued.
    Token {
        /// The providers of the route.
        providers: Vec<Arc<Provider>>,
        /// What was verified before.
        verified: Arc<VerifiedTokens>,
        /// The DPoP proofs that were used.
        proofs: Arc<UsedProofs>,
        /// Which URL a DPoP proof for it has to name.
        called_at: CalledAt,
    },
}

/// What of a request its authentication looks at. It has no `Debug`: tokens are in the headers.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// What it is aimed at.
    pub target: &'a Target,
    /// Its header fields, as they came.
    pub headers: &'a HeaderMap,
    /// The connection it came over.
    pub peer: &'a Peer,
    /// What callers call the gateway, if that is known: an absolute URL without query; the path
    /// of the request goes behind it. Else they are taken to call the host that it names.
    pub public_url: Option<&'a str>,
}

/// Verifies the caller of a request.
///
/// A token that was verified before costs a digest and a look-up; what a token is bound to is
/// proved anew by each request.
///
/// # Errors
///
/// `bad_request`, `token_missing`, `token_invalid`, `token_expired`, `provider_unavailable` while
/// the keys that would judge the token can't be had, or `upstream_overloaded` while no more
/// DPoP keys can be remembered.
///
/// # Cancel safety
///
/// Nothing is held; a fetch of keys that it caused goes on.
pub async fn authenticate(
    requirement: &Requirement,
    presented: Presented<'_>,
) -> Result<Authenticated, Rejection> {
    match requirement {
        Requirement::Open => {
            bearer::single(presented.headers)?;
            Ok(Authenticated { caller: None })
        }
        Requirement::Token { providers, verified, proofs, called_at } => {
            let (scheme, token) = bearer::token(presented.headers)?;
            let vouched = identify(&token, providers, verified).await;
            let identity = vouched.and_then(|vouched| {
                vouched.held_by(&token, scheme, &presented, *called_at, proofs)
            });
            match identity {
                Ok(identity) => Ok(Authenticated { caller: Some(Caller { token, identity }) }),
                Err(rejection) => Err(challenged(rejection, scheme)),
            }
        }
    }
}

/// The refusal of a token in the words of the scheme that it came with (RFC 9449 §7.1).
fn challenged(rejection: Rejection, scheme: Scheme) -> Rejection {
    let is_of_token = matches!(rejection.code(), Code::TokenInvalid | Code::TokenExpired);
    if scheme == Scheme::Dpop && is_of_token && *rejection.extra() == Extra::None {
        return rejection.with(Extra::Dpop("invalid_token"));
    }
    rejection
}

/// What a token says of its caller, from memory or by verification: the outcome is the same.
async fn identify(
    token: &InboundToken,
    providers: &[Arc<Provider>],
    verified: &VerifiedTokens,
) -> Result<Vouched, Rejection> {
    match verified.find(&token.digest(), providers) {
        Some(vouched) => Ok(vouched),
        None => verify(token, providers, verified).await,
    }
}

/// Verifies a token from the start.
///
/// The order is security: the provider comes from `iss`, the key from that provider alone,
/// keys are fetched only for what passed every check that needs none, and claims are judged
/// only behind a good signature.
async fn verify(
    token: &InboundToken,
    providers: &[Arc<Provider>],
    verified: &VerifiedTokens,
) -> Result<Vouched, Rejection> {
    let parts = Parts::of(token)?;
    let unverified = Unverified::read(&parts)?;
    let provider = choose(providers, unverified.claims())?;
    let settings = provider.settings();
    check_algorithm(&unverified, settings)?;
    check_form(&unverified, settings)?;
    let (key, generation) = provider.key(unverified.kid()).await?;
    let claims = unverified.verify(&key)?;
    let vouched = Vouched::new(Arc::new(claims::judge(claims, &key, provider, provider.now())?))?;
    verified.remember(token, provider, generation, &vouched);
    Ok(vouched)
}

/// `alg` of the header.
fn check_algorithm(token: &Unverified<'_>, settings: &ProviderSettings) -> Result<(), Rejection> {
    let algorithm = token.algorithm();
    if settings.algorithms.contains(&algorithm) {
        return Ok(());
    }
    Err(refusal::invalid(format!(
        "its `alg` is {algorithm}, and provider `{}` accepts {}",
        settings.name,
        shown_all(settings.algorithms.iter().map(|own| own.name()))
    )))
}

/// `typ` of the header, where the provider's tokens have one without exception.
fn check_form(token: &Unverified<'_>, settings: &ProviderSettings) -> Result<(), Rejection> {
    match settings.typ {
        Some(wanted) if token.typ() != Some(wanted) => {
            let found = token.typ().map_or("absent".to_owned(), |found| format!("`{found}`"));
            Err(refusal::invalid(format!(
                "the `typ` of its header is {found}, and provider `{}` asks for `{wanted}`",
                settings.name
            )))
        }
        Some(_) | None => Ok(()),
    }
}

/// The provider of the route that `iss` names; of several with one issuer, the first that
/// accepts the audience.
fn choose<'a>(
    providers: &'a [Arc<Provider>],
    claims: &Object<'_>,
) -> Result<&'a Provider, Rejection> {
    let issuer = claims::issuer(claims)?;
    let mut first: Option<&Provider> = None;
    for candidate in providers.iter().filter(|own| own.issues(issuer)) {
        if claims::meets_audience(claims, candidate.settings())? {
            return Ok(candidate);
        }
        first = first.or(Some(candidate));
    }
    // Before a refusal: one whose tenant is not known yet may be the one.
    for candidate in providers {
        if let Some(outage) = candidate.may_issue(issuer)
            && (first.is_none() || claims::meets_audience(claims, candidate.settings())?)
        {
            return Err(outage);
        }
    }
    // Judged by the first, which says what is wrong with the audience, behind the signature.
    first.ok_or_else(|| no_provider(providers, issuer))
}

fn no_provider(providers: &[Arc<Provider>], issuer: &str) -> Rejection {
    for provider in providers {
        if let Some((tenant, allowed)) = provider.stranger(issuer) {
            return refusal::invalid(format!(
                "its tenant is `{tenant}`, and provider `{}` accepts those in `allowed_tenants`: {}",
                provider.name(),
                shown_all(allowed.iter().map(String::as_str))
            ));
        }
    }
    let own: Vec<String> =
        providers.iter().flat_map(|provider| provider.settings().kind.issuers()).collect();
    refusal::invalid(format!(
        "its `iss` is {}, and the providers of this route ({}) issue {}",
        shown(issuer),
        shown_all(providers.iter().map(|provider| &**provider.name())),
        shown_all(own.iter().map(String::as_str))
    ))
}
