//! Why there is no answer of the upstream to hand on, and what the caller gets instead.

use std::time::Duration;

use super::Trail;
use super::balance::NoEndpoint;
use super::client::ConnectError;
use super::response::BadAnswer;
use super::upgrade::UpgradeFault;
use super::upload::Progress;
use super::upstream::Upstream;
use crate::limits;
use crate::rejection::{Code, Extra, Rejection};

/// Why there is no answer that could be handed on.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error(transparent)]
    Nowhere(NoEndpoint),
    #[error(transparent)]
    Connect(ConnectError),
    #[error("the request can't be encoded")]
    Encode(#[source] http::Error),
    #[error("the connection failed before an answer came")]
    Http(#[source] hyper::Error),
    #[error("the answer can't be passed on")]
    Answer(#[source] BadAnswer),
    #[error("there is no upgrade")]
    Upgrade(#[from] UpgradeFault),
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
}

impl SendError {
    pub(super) fn rejection(
        self,
        upstream: &Upstream,
        trail: &Trail<'_>,
        upload: Option<&Progress>,
    ) -> Rejection {
        // The upstream only sees that the request was aborted; the cause is the caller's body.
        if let Some(fault) = upload.and_then(Progress::fault) {
            return fault.rejection();
        }
        let retry_after = match &self {
            Self::Nowhere(NoEndpoint::Down(outage)) => Extra::RetryAfter(outage.retry_after),
            Self::Connect(error) if error.is_our_limit() => {
                Extra::RetryAfter(limits::OVERLOADED_RETRY_AFTER)
            }
            Self::Nowhere(_)
            | Self::Connect(_)
            | Self::Encode(_)
            | Self::Http(_)
            | Self::Answer(_)
            | Self::Upgrade(_)
            | Self::Timeout(_) => Extra::None,
        };
        let (code, detail) = match self {
            Self::Nowhere(NoEndpoint::Down(_)) => (
                Code::UpstreamOverloaded,
                "The service behind this route is down. Try again later.",
            ),
            Self::Connect(ref error) if error.is_our_limit() => (
                Code::UpstreamOverloaded,
                "The service behind this route is busy. Try again later.",
            ),
            Self::Timeout(_)
            | Self::Connect(ConnectError::Timeout(_))
            | Self::Nowhere(NoEndpoint::Slow { .. }) => {
                (Code::UpstreamTimeout, "The service behind this route did not answer in time.")
            }
            Self::Nowhere(_)
            | Self::Connect(_)
            | Self::Http(_)
            | Self::Answer(_)
            | Self::Upgrade(_) => {
                (Code::UpstreamUnreachable, "The service behind this route can't be reached.")
            }
            Self::Encode(_) => (Code::BadRequest, "The request can't be forwarded."),
        };
        let mut reason = match &*trail.endpoint {
            Some(endpoint) => format!("upstream `{}` at {endpoint}", upstream.name()),
            None => format!("upstream `{}`", upstream.name()),
        };
        let advice = upstream.tls.as_ref().and_then(|tls| tls.advice(&self));
        for more in advice.as_deref().into_iter().chain(trail.reason.as_deref()) {
            reason = format!("{reason} ({more})");
        }
        Rejection::new(code, detail, reason).with(retry_after).caused_by(self)
    }
}
