//! What an upstream is shown, and what becomes of it when the upstream refuses it.
//!
//! Plain data, bound to one upstream. Which credential a request gets is decided in `mod.rs`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};

use super::challenge::Claims;
use super::exchanger::Obtained;
use super::terms::{Key, Terms};
use crate::limits;
use crate::observe::metrics::CacheResult;
use crate::rejection::{Code, Extra, Rejection};
use crate::secret::SecretHeader;
use crate::shared_store::Waited;

/// What an upstream is shown, bound to that upstream by name.
#[derive(Debug)]
pub struct UpstreamCredential {
    upstream: Arc<str>,
    header: Option<(HeaderName, SecretHeader)>,
    exchanged: Option<Exchanged>,
}

/// Why a request is not repeated, or not again, after a claims challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The upstream was shown the new token, and asks for another one still.
    NotSatisfied,
    /// There is a new token; the request's body was not kept.
    BodyGone,
    /// A new token was asked for just now ([`limits::REFUSED_TOKEN_FLOOR`]).
    TooSoon,
}

/// How a token came out of the exchanger.
struct Exchanged {
    key: Key,
    /// On which terms a provider gave it; `None` for one of a managed identity.
    terms: Option<Arc<Terms>>,
    cache: CacheResult,
    took: Option<Duration>,
    waited: Waited,
}

impl UpstreamCredential {
    /// What the file says, which nobody was asked for: a header, or nothing.
    pub(super) fn fixed(upstream: &Arc<str>, header: Option<(HeaderName, SecretHeader)>) -> Self {
        Self { upstream: Arc::clone(upstream), header, exchanged: None }
    }

    /// The token that the exchanger has under `key`; `terms` are those that a provider gave it on.
    pub(super) fn token(
        upstream: &Arc<str>,
        key: Key,
        terms: Option<&Arc<Terms>>,
        obtained: Obtained,
    ) -> Self {
        let Obtained { header, cache, took, waited } = obtained;
        Self {
            upstream: Arc::clone(upstream),
            header: Some((AUTHORIZATION, header)),
            exchanged: Some(Exchanged { key, terms: terms.map(Arc::clone), cache, took, waited }),
        }
    }

    /// The header to add to the request, if any.
    pub fn header(&self) -> Option<(&HeaderName, &HeaderValue)> {
        self.header.as_ref().map(|(name, value)| (name, value.expose()))
    }

    /// The one upstream that may be shown this.
    pub fn upstream(&self) -> &Arc<str> {
        &self.upstream
    }

    /// The refusal of a request whose upstream asks for a token with `claims`, which it did not
    /// get, or not as it was asked for, for the reason `why`: the challenge is passed on, unless
    /// nobody could answer it: that of a managed identity.
    pub fn challenge_stands(&self, claims: &Claims, why: Unanswered) -> Rejection {
        let upstream = &self.upstream;
        match &self.exchanged {
            Some(Exchanged { terms: Some(terms), .. }) => Rejection::new(
                Code::ClaimsChallenge,
                why.detail(),
                format!(
                    "upstream `{upstream}` asks for a token with more claims (continuous access evaluation), and {}",
                    why.reason(&terms.provider)
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

    /// The token, and its name in the cache, if it is one that was obtained.
    pub(super) fn obtained(&self) -> Option<(&Key, &SecretHeader)> {
        let (_, header) = self.header.as_ref()?;
        self.exchanged.as_ref().map(|exchanged| (&exchanged.key, header))
    }

    /// How long the request may have waited for the shared store until it had this.
    pub(super) fn waited(&self) -> Waited {
        self.exchanged.as_ref().map(|exchanged| exchanged.waited).unwrap_or_default()
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

impl Unanswered {
    /// For the caller.
    fn detail(self) -> &'static str {
        match self {
            Self::NotSatisfied => "The service wants the user to sign in again.",
            Self::BodyGone => {
                "The service wants a new token for the user, and the request was too large or too slow to be repeated; send it again, and sign the user in again if the service asks for that."
            }
            Self::TooSoon => {
                "The service wants a new token for the user, and was given one just now; sign the user in again, or try again in a few seconds."
            }
        }
    }

    /// For the operator, after what the upstream asks for.
    fn reason(self, provider: &str) -> String {
        match self {
            Self::NotSatisfied => format!(
                "the one from provider `{provider}` does not satisfy it; the client has to sign the user in again with the `claims` of our answer"
            ),
            Self::BodyGone => format!(
                "the body was not kept (over {} KiB, or not all of it came within {} s), so the request was not repeated; a new token of provider `{provider}` is at hand for the next request",
                limits::REPLAY_BUFFER_BYTES / 1024,
                limits::REPLAY_PATIENCE.as_secs(),
            ),
            Self::TooSoon => format!(
                "provider `{provider}` was asked for one less than {} s ago for this user, so it was not asked again; if the service refuses each new token, the client has to sign the user in again with the `claims` of our answer",
                limits::REFUSED_TOKEN_FLOOR.as_secs(),
            ),
        }
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
