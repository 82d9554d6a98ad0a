//! A refusal: what the caller is told and what the operator is told.
//!
//! Each phase builds a [`Rejection`] with the [`Code`] that names it; one exhaustive `match`
//! ([`Code::answer`]) gives status, title and the rest. It does not know how a
//! response is written: that is `respond.rs`.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::{Method, StatusCode};

use crate::body::BoxError;
use crate::chain::with_sources;

/// The stable name of a refusal: the `code` member of the problem document, of the
/// access log and of `auth_failures_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// A malformed target, an ambiguous path, several `Authorization` headers.
    BadRequest,
    /// The route asks for a bearer token and there is none.
    TokenMissing,
    /// Signature, issuer, audience, form …, or the provider refuses the assertion.
    TokenInvalid,
    /// Past `exp`, or the provider says that the assertion is.
    TokenExpired,
    /// The provider wants interaction or more claims.
    ClaimsChallenge,
    /// Neither a scope nor a role that the route asks for.
    InsufficientScope,
    /// Client, tenant, claim or kind of caller.
    CallerNotAllowed,
    /// Nobody consented to the upstream's scopes.
    ConsentRequired,
    /// No route fits.
    RouteNotFound,
    /// The path fits a route, the method none.
    MethodNotAllowed,
    /// The caller did not send in time what was due.
    RequestTimeout,
    /// More body than `max_body_bytes`.
    BodyTooLarge,
    /// More requests than the route's `rate_limit`.
    RateLimited,
    /// More header fields, or larger ones, than are taken.
    HeadersTooLarge,
    /// A broken invariant; one request is lost, not the process.
    Internal,
    /// The upstream refused, reset, or broke TLS or the protocol.
    UpstreamUnreachable,
    /// The provider refuses the gateway itself.
    ExchangeFailed,
    /// Keys or tokens are needed and the provider is down, slow or throttling.
    ProviderUnavailable,
    /// No room at the upstream.
    UpstreamOverloaded,
    /// The upstream did not connect or answer in time.
    UpstreamTimeout,
}

/// What a [`Code`] means on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The `code` member of the problem document.
    pub name: &'static str,
    /// The `title` member: the same for every occurrence (RFC 9457 §3.1.3).
    pub title: &'static str,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::BadRequest,
        Self::TokenMissing,
        Self::TokenInvalid,
        Self::TokenExpired,
        Self::ClaimsChallenge,
        Self::InsufficientScope,
        Self::CallerNotAllowed,
        Self::ConsentRequired,
        Self::RouteNotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::BodyTooLarge,
        Self::RateLimited,
        Self::HeadersTooLarge,
        Self::Internal,
        Self::UpstreamUnreachable,
        Self::ExchangeFailed,
        Self::ProviderUnavailable,
        Self::UpstreamOverloaded,
        Self::UpstreamTimeout,
    ];

    /// Status, name and title of this code.
    pub fn answer(self) -> Answer {
        let (status, name, title) = match self {
            Self::BadRequest => (400, "bad_request", "Bad request"),
            Self::TokenMissing => (401, "token_missing", "A bearer token is required"),
            Self::TokenInvalid => (401, "token_invalid", "The bearer token is not accepted"),
            Self::TokenExpired => (401, "token_expired", "The bearer token has expired"),
            Self::ClaimsChallenge => (401, "claims_challenge", "The user has to sign in again"),
            Self::InsufficientScope => {
                (403, "insufficient_scope", "The token lacks a scope or role")
            }
            Self::CallerNotAllowed => {
                (403, "caller_not_allowed", "This caller is not allowed here")
            }
            Self::ConsentRequired => (403, "consent_required", "Consent to the service is missing"),
            Self::RouteNotFound => (404, "route_not_found", "No such route"),
            Self::MethodNotAllowed => (405, "method_not_allowed", "Method not allowed"),
            Self::RequestTimeout => (408, "request_timeout", "The request took too long to arrive"),
            Self::BodyTooLarge => (413, "body_too_large", "The request body is too large"),
            Self::RateLimited => (429, "rate_limited", "Too many requests"),
            Self::HeadersTooLarge => {
                (431, "headers_too_large", "The request's headers are too large")
            }
            Self::Internal => (500, "internal", "Internal error"),
            Self::UpstreamUnreachable => {
                (502, "upstream_unreachable", "The service can't be reached")
            }
            Self::ExchangeFailed => (502, "exchange_failed", "The token exchange failed"),
            Self::ProviderUnavailable => {
                (503, "provider_unavailable", "The identity provider is unavailable")
            }
            Self::UpstreamOverloaded => (503, "upstream_overloaded", "The service is overloaded"),
            Self::UpstreamTimeout => {
                (504, "upstream_timeout", "The service did not answer in time")
            }
        };
        Answer {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            name,
            title,
        }
    }
}

/// What a refusal adds to the headers of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Nothing.
    None,
    /// `Allow` of a 405.
    Allow(Vec<Method>),
    /// `Retry-After` of a 429 or 503, rounded up to whole seconds.
    RetryAfter(Duration),
    /// The one version of WebSocket that is spoken: `Sec-WebSocket-Version` of RFC 6455 §4.4.
    WebSocketVersion,
    /// The scopes, any one of which would have been enough: `scope` of RFC 6750 §3.
    Scopes(Vec<String>),
    /// The token came with the scheme `DPoP`, or ought to have: `error` of RFC 9449 §7.1, in a
    /// challenge of that scheme.
    Dpop(&'static str),
    /// The challenge that Microsoft's client libraries parse; without `claims` it asks for interaction.
    Claims {
        /// The provider's authorization endpoint.
        authorization_uri: String,
        /// The gateway's own application.
        client_id: String,
        /// The claims request as the provider gave it: JSON text.
        claims: Option<String>,
    },
}

/// A refused request. There is one per request at most.
///
/// Boxed: refusals are rare, and every `Result` on the path has room for one.
#[derive(Debug)]
pub struct Rejection(Box<Refusal>);

#[derive(Debug)]
struct Refusal {
    code: Code,
    detail: Cow<'static, str>,
    reason: String,
    extra: Extra,
    closes: bool,
    source: Option<BoxError>,
}

impl Rejection {
    /// A refusal with `code`.
    ///
    /// `detail` goes to the caller: it names no secret, token, upstream address or rule.
    /// `reason` goes to the operator's log: it names both sides of the failed comparison
    /// and what to do, and still no token or secret.
    pub fn new(
        code: Code,
        detail: impl Into<Cow<'static, str>>,
        reason: impl Into<String>,
    ) -> Self {
        Self(Box::new(Refusal {
            code,
            detail: detail.into(),
            reason: reason.into(),
            extra: Extra::None,
            closes: false,
            source: None,
        }))
    }

    /// A broken invariant: the caller is told no more than that, the operator `reason`.
    pub fn internal(reason: impl Into<String>) -> Self {
        Self::new(Code::Internal, "Something went wrong in the gateway.", reason)
    }

    /// Adds headers.
    #[must_use]
    pub fn with(mut self, extra: Extra) -> Self {
        self.0.extra = extra;
        self
    }

    /// The connection can't be used again: its framing is in doubt.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.0.closes = true;
        self
    }

    /// Keeps what caused the refusal.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The stable name.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The sentence for the caller.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The headers it adds.
    pub fn extra(&self) -> &Extra {
        &self.0.extra
    }

    /// Whether the connection closes behind the answer.
    pub fn closes(&self) -> bool {
        self.0.closes
    }

    /// The sentence for the operator, with the chain of sources.
    pub fn reason(&self) -> String {
        match &self.0.source {
            Some(source) => format!("{}: {}", self.0.reason, with_sources(source.as_ref())),
            None => self.0.reason.clone(),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code.answer().name, self.0.reason)
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
