//! What becomes of a stream when the caller's token ends before it does (`outlive_token: false`).
//!
//! A stream is what nobody said the length of. While its bytes come it costs a look at the clock
//! for each piece, and no timer: one is made when it first has to wait. How it ends depends on what it is: event streams end well, so that
//! their readers come back and are told; gRPC ends with a status; of all else the transfer is
//! aborted, since a clean end would pass a part off as the whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::authn::TokenEnd;
use crate::body::BoxError;
use crate::limits;
use crate::observe::access_log::ByteCounter;
use crate::rejection::Code;

/// The end of the token that a request came with, and where it is noted that it ended something.
#[derive(Clone, Debug)]
pub(super) struct StreamEnd {
    pub(super) token: TokenEnd,
    pub(super) note: ByteCounter,
}

impl StreamEnd {
    /// Notes for the log that `what` was ended.
    pub(super) fn note(&self, what: &str) {
        self.note.cut_short(Code::TokenExpired, self.reason(what));
    }

    /// Why `what` was ended, for operators.
    pub(super) fn reason(&self, what: &str) -> String {
        format!(
            "{what} was ended with the caller's token, at {}; `outlive_token: true` lets it go on",
            self.token.at()
        )
    }
}

/// Waits for the end of a token.
#[derive(Debug)]
pub(super) struct Expiry {
    pub(super) end: StreamEnd,
    look: Option<Pin<Box<Sleep>>>,
}

impl Expiry {
    pub(super) fn new(end: StreamEnd) -> Self {
        Self { end, look: None }
    }

    /// Whether the token has ended: one look at the clock.
    pub(super) fn is_over(&self) -> bool {
        self.end.token.left().is_zero()
    }

    /// Asked while the stream waits; ready once the token has ended, and from then on.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(look) = &mut self.look {
                ready!(look.as_mut().poll(cx));
            }
            let left = self.end.token.left();
            if left.is_zero() {
                return Poll::Ready(());
            }
            // The wall's clock may be set while we wait: it is looked at again.
            let next = Instant::now() + left.min(limits::TOKEN_END_LOOK);
            match &mut self.look {
                Some(look) => look.as_mut().reset(next),
                empty => *empty = Some(Box::pin(sleep_until(next))),
            }
        }
    }
}

/// The end of an answer whose length nobody said.
#[derive(Debug)]
pub(super) struct AnswerEnd {
    expiry: Expiry,
    how: How,
    over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Cleanly,
    WithStatus,
    Abruptly,
}

/// A frame of an answer, as bodies give it.
type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

#[derive(Debug, thiserror::Error)]
#[error("the caller's token expired")]
struct TokenExpired;

impl AnswerEnd {
    /// For an answer with these fields.
    pub(super) fn new(end: StreamEnd, headers: &HeaderMap) -> Self {
        Self { expiry: Expiry::new(end), how: how(headers), over: false }
    }

    /// Asked while the answer waits for its upstream: ready with its end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Polled {
        if self.over {
            return Poll::Ready(None);
        }
        ready!(self.expiry.poll_over(cx));
        Poll::Ready(self.end())
    }

    /// Whether it is to end though bytes have come: an answer of which there is always more than
    /// its caller takes never waits.
    pub(super) fn is_due(&self) -> bool {
        self.expiry.is_over()
    }

    /// Ends it, once: what the caller gets last.
    pub(super) fn end(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        self.over = true;
        self.expiry.end.note("the answer");
        match self.how {
            How::Cleanly => None,
            How::WithStatus => Some(Ok(Frame::trailers(unauthenticated()))),
            How::Abruptly => Some(Err(TokenExpired.into())),
        }
    }

    /// Whether it has ended: what the upstream still sends is nobody's.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }
}

fn how(headers: &HeaderMap) -> How {
    let Some(media_type) = headers.get(CONTENT_TYPE) else { return How::Abruptly };
    let media_type = media_type.as_bytes();
    let essence = media_type.split(|byte| *byte == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii().to_ascii_lowercase();
    // A status that came with the head can't be given again (and `grpc-web` has it in its body).
    let is_grpc = essence == b"application/grpc" || essence.starts_with(b"application/grpc+");
    if essence == b"text/event-stream" {
        How::Cleanly
    } else if is_grpc && !headers.contains_key(&GRPC_STATUS) {
        How::WithStatus
    } else {
        How::Abruptly
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// `UNAUTHENTICATED`, as the numbers of gRPC have it.
fn unauthenticated() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("16"));
    let message = HeaderValue::from_static("The bearer token has expired.");
    trailers.insert(HeaderName::from_static("grpc-message"), message);
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_stream_ends_depends_on_what_it_is() {
        for (media_type, expected) in [
            ("text/event-stream", How::Cleanly),
            ("Text/Event-Stream; charset=utf-8", How::Cleanly),
            ("text/event-streams", How::Abruptly),
            ("application/grpc", How::WithStatus),
            ("application/grpc+proto", How::WithStatus),
            ("application/grpc-web", How::Abruptly),
            ("application/json", How::Abruptly),
        ] {
            let mut headers = HeaderMap::new();
            assert_eq!(how(&headers), How::Abruptly);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            assert_eq!(how(&headers), expected, "{media_type}");
            headers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
            assert_ne!(how(&headers), How::WithStatus, "{media_type}");
        }
    }
}
