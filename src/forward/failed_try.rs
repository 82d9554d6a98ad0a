//! A try that brought no answer to hand on: what became of it, and which further tries that lets
//! happen without harm. Whether there is one is decided in `attempt.rs`.

use std::error::Error as _;

use http::Response;
use hyper::body::Incoming;

use super::attempt::Sent;
use super::balance::Chosen;
use super::client::ConnectError;
use super::head::Head;
use super::lease::{Lease, Wanted};
use super::retry::{self, RetryOn};
use super::send_error::SendError;
use crate::body::Body;

/// A try that came to nothing, or to an answer that is not the last word.
pub(super) struct Failed {
    pub(super) endpoint: Chosen,
    pub(super) why: Why,
    /// The request, if another try can do no harm.
    pub(super) message: Option<(Head, Body)>,
    /// Set where it is a kept connection that was stale: which one will do instead.
    pub(super) stale: Option<Wanted>,
}

pub(super) enum Why {
    /// There is no connection.
    Unreached(ConnectError),
    /// The connection was closed before anything was sent.
    Unsent(hyper::Error),
    /// The upstream says that it did not look at it.
    Refused(hyper::Error),
    /// It may have been acted on.
    Lost(hyper::Error),
    /// This is the answer.
    Answered(Box<(Response<Incoming>, Lease)>),
    /// No further try would help.
    Over(SendError),
}

impl Failed {
    pub(super) fn before_sending(endpoint: Chosen, why: Why, head: Head, body: Body) -> Box<Self> {
        Box::new(Self { endpoint, why, message: Some((head, body)), stale: None })
    }

    pub(super) fn over(endpoint: Chosen, error: SendError) -> Box<Self> {
        Box::new(Self { endpoint, why: Why::Over(error), message: None, stale: None })
    }

    /// There is no further try: what the caller gets.
    pub(super) fn for_good(self) -> Result<Sent, SendError> {
        match self.why {
            Why::Unreached(error) => Err(SendError::Connect(error)),
            Why::Unsent(error) | Why::Refused(error) | Why::Lost(error) => {
                Err(SendError::Http(error))
            }
            Why::Answered(answered) => {
                let (response, lease) = *answered;
                Ok(Sent { response, lease, endpoint: self.endpoint, head: None })
            }
            Why::Over(error) => Err(error),
        }
    }
}

impl Why {
    /// Whether it is one of those that a further try may follow.
    pub(super) fn is_in(&self, on: RetryOn) -> bool {
        match self {
            // No endpoint has more room than another.
            Self::Unreached(error) => on.connect_failure && !error.is_our_limit(),
            Self::Unsent(_) => on.connect_failure,
            Self::Refused(_) => on.refused_stream,
            Self::Answered(answered) => on.takes(answered.0.status()),
            Self::Lost(_) | Self::Over(_) => false,
        }
    }

    /// Whether another address of the same name is no further try.
    pub(super) fn is_unconnected(&self) -> bool {
        matches!(self, Self::Unreached(error) if error.is_tcp())
    }

    pub(super) fn asks_to_wait(&self) -> bool {
        match self {
            Self::Answered(answered) => retry::asks_to_wait(answered.0.headers()),
            Self::Unreached(_)
            | Self::Unsent(_)
            | Self::Refused(_)
            | Self::Lost(_)
            | Self::Over(_) => false,
        }
    }
}

/// Whether the connection went away before anything of an answer came.
pub(super) fn is_lost(error: &hyper::Error) -> bool {
    let broken = error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || broken
}

/// Whether the upstream says that it did not look at the request (RFC 9113 §8.7): it refused the
/// stream, or its GOAWAY names an earlier one as the last. An error of a GOAWAY reaches only the
/// streams behind that (`shared.rs`); what the others get is that the connection is gone.
pub(super) fn is_refused(error: &hyper::Error) -> bool {
    of_http2(error).is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (refused || error.is_go_away())
    })
}

/// Whether it is of one stream, and its connection goes on.
pub(super) fn is_reset(error: &hyper::Error) -> bool {
    of_http2(error).is_some_and(h2::Error::is_reset)
}

fn of_http2(error: &hyper::Error) -> Option<&h2::Error> {
    error.source().and_then(|source| source.downcast_ref())
}
