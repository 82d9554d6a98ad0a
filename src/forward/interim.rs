//! Informational answers of an upstream (1xx): which are passed on to the caller, and with which
//! fields. 100 is not among them: the caller gets its own when its body is asked for
//! ([`super::expect`]); nor is 101, which is final.
//!
//! Only HTTP/1.1 on both sides: hyper tells nothing of those that came over HTTP/2, and has no
//! way to send them there.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRAILER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};

use super::expect::Hold;
use super::headers::{self, HeaderRules};
use super::response::BadAnswer;
use super::send_error::SendError;
use crate::body::Body;
use crate::interim::Interim;
use crate::limits;

/// Hears of the informational answers to one request.
#[derive(Debug)]
pub(super) struct Listener {
    /// The way to a caller who can be told: one of HTTP/1.1.
    caller: Option<Interim>,
    /// What such a caller says of trailers.
    trailers: Trailers,
    /// The body that waits for a 100.
    hold: Option<Arc<Hold>>,
    /// Whether there is anything to look for behind the lock: with most requests, never.
    has_heard: AtomicBool,
    heard: Mutex<Heard>,
    /// There were more than are taken.
    flooded: AtomicBool,
    waker: AtomicWaker,
}

/// What is to be done so that trailers of an answer reach the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trailers {
    /// Nothing: HTTP/2 has them in any case, or the caller takes none.
    AsTheyCome,
    /// The caller takes them over HTTP/1.1: announced, and behind chunks.
    Taken,
}

#[derive(Debug, Default)]
struct Heard {
    answers: Vec<(StatusCode, HeaderMap)>,
    /// Of those.
    bytes: usize,
    /// Of all so far.
    number: usize,
}

impl Listener {
    /// For a request with these fields, already cleaned; `None`: nobody would be told.
    pub(super) fn new(
        caller: Option<Interim>,
        hold: Option<Arc<Hold>>,
        headers: &HeaderMap,
    ) -> Option<Arc<Self>> {
        if caller.is_none() && hold.is_none() {
            return None;
        }
        let taken = caller.is_some() && headers.contains_key(TE);
        let trailers = if taken { Trailers::Taken } else { Trailers::AsTheyCome };
        let (has_heard, heard) = (AtomicBool::new(false), Mutex::default());
        let (flooded, waker) = (AtomicBool::new(false), AtomicWaker::new());
        Some(Arc::new(Self { caller, trailers, hold, has_heard, heard, flooded, waker }))
    }

    /// Hears of the answers to `request`, which goes over HTTP/1.1.
    pub(super) fn listen(self: Arc<Self>, request: &mut Request<Body>) {
        if self.is_holding() {
            request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        hyper::ext::on_informational(request, move |answer| {
            self.hear(answer.status(), answer.headers());
        });
    }

    /// `request` goes over HTTP/2, where a 100 would not be heard: the upstream may refuse the body,
    /// but it is not waited for.
    pub(super) fn let_through(&self, request: &mut Request<Body>) {
        if let Some(hold) = self.hold.as_ref().filter(|hold| hold.is_holding()) {
            request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
            hold.want();
        }
    }

    /// The body, if nobody has asked for it yet.
    pub(super) fn held(&self) -> Option<&Arc<Hold>> {
        self.hold.as_ref().filter(|hold| hold.is_holding())
    }

    /// What the caller says of trailers.
    pub(super) fn trailers(&self) -> Trailers {
        self.trailers
    }

    /// The final answer is there. A body that was not asked for is not read any more, so the caller's
    /// connection can't carry another request; over HTTP/2 the stream ends alone.
    pub(super) fn answered(&self, headers: &mut HeaderMap) {
        let let_go = self.hold.as_ref().is_some_and(|hold| hold.let_go());
        if let_go && self.caller.is_some() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    fn is_holding(&self) -> bool {
        self.held().is_some()
    }

    fn hear(&self, status: StatusCode, headers: &HeaderMap) {
        let mut heard = self.heard();
        if heard.number >= limits::MAX_INTERIM_ANSWERS {
            drop(heard);
            self.flooded.store(true, Ordering::Release);
            self.waker.wake();
            return;
        }
        heard.number += 1;
        if status == StatusCode::CONTINUE {
            drop(heard);
            if let Some(hold) = &self.hold {
                hold.want();
            }
            return;
        }
        if self.caller.is_none() {
            return;
        }
        let bytes = heard.bytes + size(headers);
        if bytes > limits::MAX_WAITING_INTERIM_BYTES {
            tracing::debug!(%status, "too many informational answers wait; one is dropped");
            return;
        }
        heard.bytes = bytes;
        heard.answers.push((status, headers.clone()));
        drop(heard);
        self.has_heard.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Passes on what was heard. More is taken only when the caller took what was before.
    fn poll_passed(&self, rules: &HeaderRules, cx: &mut Context<'_>) -> Poll<()> {
        let Some(caller) = &self.caller else { return Poll::Ready(()) };
        if !self.has_heard.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        loop {
            if caller.poll_written(cx).is_pending() {
                return Poll::Pending;
            }
            let answers = {
                let mut heard = self.heard();
                heard.bytes = 0;
                std::mem::take(&mut heard.answers)
            };
            if answers.is_empty() {
                return Poll::Ready(());
            }
            for (status, mut headers) in answers {
                clean(&mut headers, rules);
                caller.put(&head(status, &headers));
            }
        }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pin_project_lite::pin_project! {
    /// Waits for the final answer, and passes on what `listener` hears before it. An upstream that
    /// says more than [`limits::MAX_INTERIM_ANSWERS`] is not listened to any longer.
    ///
    /// Not an `async fn`: that would have three places for the large future it is given.
    pub(super) struct PassingOn<'r, F, T> {
        listener: Option<&'r Listener>,
        rules: &'r HeaderRules,
        // `None`: it was given up.
        #[pin]
        coming: Option<F>,
        // It is there, and what was heard before it has not been passed on.
        answer: Option<Box<Result<T, SendError>>>,
    }
}

impl<'r, F, T> PassingOn<'r, F, T> {
    pub(super) fn new(listener: Option<&'r Listener>, rules: &'r HeaderRules, answer: F) -> Self {
        Self { listener, rules, coming: Some(answer), answer: None }
    }
}

impl<F, T> Future for PassingOn<'_, F, T>
where
    F: Future<Output = Result<T, SendError>>,
{
    type Output = Result<T, SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let rules = this.rules;
        let poll_answer = |cx: &mut Context<'_>, coming: &mut Pin<&mut Option<F>>| match coming
            .as_mut()
            .as_pin_mut()
        {
            Some(answer) => answer.poll(cx),
            None => Poll::Pending,
        };
        let Some(listener) = this.listener else { return poll_answer(cx, &mut this.coming) };
        if let Some(answer) = this.answer.take() {
            if listener.poll_passed(rules, cx).is_ready() {
                return Poll::Ready(*answer);
            }
            *this.answer = Some(answer);
            return Poll::Pending;
        }
        let polled = poll_answer(cx, &mut this.coming);
        if polled.is_pending() {
            // Before the looks: what is heard in between wakes it all the same.
            listener.waker.register(cx.waker());
        }
        // Behind it: that is where the connection may be run.
        let polled = if listener.flooded.load(Ordering::Acquire) {
            // Its connection goes now, not when the caller has taken what was before.
            this.coming.set(None);
            Poll::Ready(Err(SendError::Answer(BadAnswer::InterimFlood)))
        } else {
            polled
        };
        // What was heard comes before it, and a final answer must not have begun meanwhile. What can't be
        // passed on yet holds up nothing else.
        let passed = listener.poll_passed(rules, cx);
        let answer = ready!(polled);
        if passed.is_pending() {
            *this.answer = Some(Box::new(answer));
            return Poll::Pending;
        }
        Poll::Ready(answer)
    }
}

/// Removes what would not pass in an answer either, and what makes no sense before one. What the
/// route puts into answers goes into the final one.
fn clean(headers: &mut HeaderMap, rules: &HeaderRules) {
    headers::clean_response(headers);
    for name in [CONTENT_LENGTH, TRAILER, WWW_AUTHENTICATE] {
        headers.remove(name);
    }
    // What pages may read is said of the final answer, and by the route where it has `cors`.
    let of_pages = headers.keys().filter(|name| name.as_str().starts_with("access-control-"));
    for name in of_pages.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
    rules.remove_ruled(headers);
}

/// The head as HTTP/1.1 has it. Names and values are valid: they were parsed.
fn head(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut head = Vec::with_capacity(32 + size(headers));
    head.extend_from_slice(b"HTTP/1.1 ");
    head.extend_from_slice(status.as_str().as_bytes());
    head.push(b' ');
    head.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    head.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn size(headers: &HeaderMap) -> usize {
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    fields.sum::<usize>() + 32
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt as _;
    use http::header::{LINK, SERVER};

    use super::*;

    fn hints(bytes: usize) -> HeaderMap {
        HeaderMap::from_iter([(LINK, HeaderValue::try_from("x".repeat(bytes)).unwrap())])
    }

    #[test]
    fn fields_are_cleaned_as_in_an_answer() {
        let mut headers = hints(1);
        headers.insert(CONNECTION, HeaderValue::from_static("x-hop"));
        headers.insert("x-hop", HeaderValue::from_static("1"));
        headers.insert("x-request-id", HeaderValue::from_static("theirs"));
        headers.insert("x-secret", HeaderValue::from_static("1"));
        headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
        headers.insert(SERVER, HeaderValue::from_static("theirs"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
        let ours = HeaderValue::from_static("ours");
        let rules = HeaderRules {
            remove: vec!["x-secret".parse().unwrap()],
            set: vec![(SERVER, ours)],
            add: vec![],
        };
        clean(&mut headers, &rules);
        let head = String::from_utf8(head(StatusCode::EARLY_HINTS, &headers)).unwrap();
        assert_eq!(head, "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n");
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes_and_number() {
        let line = Interim::default();
        let rules = HeaderRules::default();
        let listener = Listener::new(Some(line.clone()), None, &HeaderMap::new()).unwrap();
        let pass = || poll_fn(|cx| listener.poll_passed(&rules, cx)).now_or_never();
        let fits = limits::MAX_WAITING_INTERIM_BYTES - size(&hints(0));
        listener.hear(StatusCode::EARLY_HINTS, &hints(fits));
        listener.hear(StatusCode::EARLY_HINTS, &hints(1));
        assert_eq!(pass(), None);
        let passed = String::from_utf8(line.take().unwrap().to_vec()).unwrap();
        assert_eq!(passed.matches("HTTP/1.1 103").count(), 1);
        line.written();
        assert_eq!(pass(), Some(()));
        listener.hear(StatusCode::EARLY_HINTS, &hints(fits + 1));
        assert_eq!(pass(), Some(()));
        // What was dropped has been said all the same.
        for _ in 3..limits::MAX_INTERIM_ANSWERS {
            listener.hear(StatusCode::PROCESSING, &HeaderMap::new());
            assert_eq!(pass(), None);
            line.take().unwrap();
            line.written();
        }
        let answer = || PassingOn::new(Some(&*listener), &rules, async { Ok(1) });
        assert!(matches!(answer().now_or_never(), Some(Ok(1))));
        listener.hear(StatusCode::CONTINUE, &HeaderMap::new());
        let flood = answer().now_or_never();
        assert!(matches!(flood, Some(Err(SendError::Answer(BadAnswer::InterimFlood)))));
        assert_eq!(line.take(), None);
    }

    #[test]
    fn a_100_is_for_the_body_alone() {
        let line = Interim::default();
        let listener = Listener::new(Some(line.clone()), None, &HeaderMap::new()).unwrap();
        listener.hear(StatusCode::CONTINUE, &HeaderMap::new());
        let rules = HeaderRules::default();
        assert!(poll_fn(|cx| listener.poll_passed(&rules, cx)).now_or_never().is_some());
        assert_eq!(line.take(), None);
    }
}
