//! `Expect: 100-continue` (RFC 9110 §10.1.1): the body of such a request stays with the caller
//! until the upstream asks for it, or says nothing for [`limits::CONTINUE_PATIENCE`]. The caller
//! gets its 100 from hyper when the body is first asked for; a final answer that comes before
//! that means the body is not wanted, and it is never read.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::header::EXPECT;
use http::{HeaderMap, Version};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::upload::{Progress, Upload};
use crate::body::BoxError;
use crate::limits;

/// Takes `Expect` out of the caller's fields; whether it asks for a 100. HTTP/1.0 has none, and
/// what else is in it is of no meaning (RFC 9110 knows no other expectation).
pub(super) fn asks_for_continue(version: Version, headers: &mut HeaderMap) -> bool {
    let expected = headers.remove(EXPECT);
    version > Version::HTTP_10
        && expected.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// A body that has not been asked for.
#[derive(Debug)]
pub(super) struct Hold(Mutex<Held>);

struct Held {
    /// `None`: it was asked for, or let go of.
    upload: Option<Upload>,
    wanted: bool,
    /// Which try of the request may ask for it.
    turn: u32,
    /// The answer to a request whose body was let go of has been read.
    answer_over: bool,
    waker: Option<Waker>,
}

impl Hold {
    /// Holds `upload` back.
    pub(super) fn new(upload: Upload) -> Arc<Self> {
        let held =
            Held { upload: Some(upload), wanted: false, turn: 0, answer_over: false, waker: None };
        Arc::new(Self(Mutex::new(held)))
    }

    /// The body for a request; one that was made before has no part in it any more.
    pub(super) fn body(self: &Arc<Self>) -> Expected {
        let mut held = self.lock();
        held.turn += 1;
        held.wanted = false;
        held.answer_over = false;
        let (turn, waker) = (held.turn, held.waker.take());
        let size = held.upload.as_ref().map(Upload::size_hint).unwrap_or_default();
        drop(held);
        wake(waker);
        Expected { hold: Arc::clone(self), turn, size, patience: None, begun: None }
    }

    /// The same once more, if nobody has asked for it, and how far it is.
    pub(super) fn body_again(self: &Arc<Self>) -> Option<(Expected, Arc<Progress>)> {
        let progress = self.lock().upload.as_ref().map(Upload::progress)?;
        Some((self.body(), progress))
    }

    /// Whether nobody has asked for the body.
    pub(super) fn is_holding(&self) -> bool {
        self.lock().upload.is_some()
    }

    /// The upstream asks for the body.
    pub(super) fn want(&self) {
        let mut held = self.lock();
        held.wanted = true;
        let waker = held.waker.take();
        drop(held);
        wake(waker);
    }

    /// The final answer came: the body is not wanted. Whether it was still held.
    pub(super) fn let_go(&self) -> bool {
        let mut held = self.lock();
        let (upload, waker) = (held.upload.take(), held.waker.take());
        drop(held);
        wake(waker);
        upload.is_some()
    }

    /// The final answer has been read, or nobody wants it.
    pub(super) fn answer_over(&self) {
        let mut held = self.lock();
        held.answer_over = true;
        let waker = held.waker.take();
        drop(held);
        wake(waker);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { upload, wanted, turn, answer_over, waker: _ } = self;
        f.debug_struct("Held")
            .field("holding", &upload.is_some())
            .field("wanted", wanted)
            .field("turn", turn)
            .field("answer_over", answer_over)
            .finish()
    }
}

/// The body as the upstream's connection sees it.
pub(super) struct Expected {
    hold: Arc<Hold>,
    turn: u32,
    size: SizeHint,
    /// Runs from when the head was sent.
    patience: Option<Pin<Box<Sleep>>>,
    begun: Option<Upload>,
}

#[derive(Debug, thiserror::Error)]
#[error("the upstream answered without asking for the body")]
struct NotAsked;

impl Expected {
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NotAsked>> {
        let mut held = self.hold.lock();
        let gone = held.upload.is_none();
        if held.turn != self.turn || (gone && held.answer_over) {
            return Poll::Ready(Err(NotAsked));
        }
        if !gone && !held.wanted {
            let patience =
                self.patience.get_or_insert_with(|| Box::pin(sleep(limits::CONTINUE_PATIENCE)));
            held.wanted = patience.as_mut().poll(cx).is_ready();
        }
        if gone || !held.wanted {
            // An error now would end the connection under the answer.
            held.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.begun = held.upload.take();
        self.patience = None;
        Poll::Ready(Ok(()))
    }
}

impl http_body::Body for Expected {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(upload) = &mut self.begun {
                return Pin::new(upload).poll_frame(cx);
            }
            if let Err(not_asked) = ready!(self.poll_asked(cx)) {
                return Poll::Ready(Some(Err(not_asked.into())));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.begun.as_ref().is_some_and(Upload::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.begun.as_ref().map_or_else(|| self.size, Upload::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_one_expectation_is_known_and_http_1_0_has_none() {
        for (version, value, asks) in [
            (Version::HTTP_11, "100-continue", true),
            (Version::HTTP_11, "100-Continue", true),
            (Version::HTTP_2, "100-continue", true),
            (Version::HTTP_10, "100-continue", false),
            (Version::HTTP_11, "200-ok", false),
            (Version::HTTP_11, "100-continue, x", false),
        ] {
            let mut headers = HeaderMap::from_iter([(EXPECT, HeaderValue::from_static(value))]);
            assert_eq!(asks_for_continue(version, &mut headers), asks, "{version:?} {value}");
            assert!(headers.is_empty());
        }
        assert!(!asks_for_continue(Version::HTTP_11, &mut HeaderMap::new()));
    }
}
