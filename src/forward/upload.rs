//! The caller's body on its way to the upstream: passed on frame by frame as the upstream
//! takes it, within the route's size and the server's patience.
//!
//! When it breaks, the upstream's side only sees an aborted request; [`Progress`] remembers
//! whose fault it was, so that the answer says so.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::expect::Hold;
use super::headers::{self, Asserted, HeaderRules};
use super::replay::Replay;
use super::token_end::{Expiry, StreamEnd};
use crate::body::BoxError;
use crate::idle_timer::IdleTimer;
use crate::observe::access_log::ByteCounter;
use crate::rejection::{Code, Rejection};

/// What the end of a token ends.
const STILL_COMING: &str = "the request, whose body was still coming,";

/// Why a body could not be passed on. Always the caller's doing.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum UploadFault {
    #[error("the request body broke off or is framed wrongly: {0}")]
    Broken(String),
    #[error("the request body is larger than {0} bytes")]
    TooLarge(u64),
    #[error("no byte of the request body came for {} s", .0.as_secs())]
    Idle(Duration),
    #[error("{0}")]
    TokenExpired(String),
}

impl UploadFault {
    pub(super) fn rejection(&self) -> Rejection {
        let (code, detail) = match self {
            Self::Broken(_) => (Code::BadRequest, "The request body is broken."),
            Self::TooLarge(_) => {
                (Code::BodyTooLarge, "The request body is larger than this route takes.")
            }
            Self::Idle(_) => (Code::RequestTimeout, "The request body did not arrive in time."),
            Self::TokenExpired(_) => (Code::TokenExpired, "The bearer token has expired."),
        };
        Rejection::new(code, detail, self.to_string()).closing()
    }
}

/// How far an upload is, seen from the one who waits for the answer.
#[derive(Debug)]
pub(super) struct Progress {
    fault: OnceLock<UploadFault>,
    ended: AtomicBool,
    /// Whether the body may pause for as long as it likes.
    unhurried: AtomicBool,
    /// Whether its answer is going on, and ends with the token by itself: the body ends with it.
    ends_with_answer: AtomicBool,
    moved_at: Mutex<Instant>,
    /// Who holds the body back, where the caller waits to be asked for it.
    hold: OnceLock<Weak<Hold>>,
    /// Whether any of it has been passed on.
    begun: AtomicBool,
    /// Whether the upstream takes more than the caller has sent.
    awaited: AtomicBool,
    /// Where it is kept, if it may have to be sent again.
    replay: OnceLock<Replay>,
}

impl Progress {
    /// Keeps the body as it goes by, from its beginning.
    pub(super) fn keep(&self) {
        if !self.begun.load(Ordering::Acquire) {
            self.replay.get_or_init(Replay::new);
        }
    }

    /// Whether the body is kept.
    pub(super) fn is_kept(&self) -> bool {
        self.replay.get().is_some()
    }

    /// The whole body, if it was kept and all of it has gone by.
    pub(super) fn whole_now(&self) -> Option<Bytes> {
        self.replay.get()?.whole_now()
    }

    /// The whole body, if it was kept and the rest of it comes soon.
    pub(super) async fn whole(&self) -> Option<Bytes> {
        self.replay.get()?.whole().await
    }

    /// Lets go of what was kept: nobody will ask for it again.
    pub(super) fn let_go(&self) {
        if let Some(replay) = self.replay.get() {
            replay.lose();
        }
    }

    /// What broke the body, if anything did.
    pub(super) fn fault(&self) -> Option<&UploadFault> {
        self.fault.get()
    }

    /// Whether all of the body has been passed on.
    pub(super) fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The answer has begun: it and the body are a conversation, and whoever listens is silent.
    pub(super) fn answer_begun(&self) {
        self.unhurried.store(true, Ordering::Release);
    }

    /// The answer that has begun ends with the caller's token, each kind in its own way.
    pub(super) fn answer_ends_with_token(&self) {
        self.ends_with_answer.store(true, Ordering::Release);
    }

    /// The answer is over; what is left of the body must come in time.
    pub(super) fn answer_over(&self) {
        self.unhurried.store(false, Ordering::Release);
        self.ends_with_answer.store(false, Ordering::Release);
        if let Some(hold) = self.hold.get().and_then(Weak::upgrade) {
            hold.answer_over();
        }
    }

    /// The body is held back by `hold`.
    pub(super) fn held_by(&self, hold: &Arc<Hold>) {
        self.hold.get_or_init(|| Arc::downgrade(hold));
    }

    /// Nothing came of the request for `waited`. That is the caller's doing if the upstream waits for
    /// the body and has not got a byte of it.
    pub(super) fn blame_caller(&self, waited: Duration) {
        let is_owed = self.awaited.load(Ordering::Acquire)
            && !self.begun.load(Ordering::Acquire)
            && !self.ended()
            && !self.unhurried.load(Ordering::Acquire);
        if is_owed {
            self.fault.get_or_init(|| UploadFault::Idle(waited));
            self.let_go();
        }
    }

    /// When the last frame went through.
    pub(super) fn moved_at(&self) -> Instant {
        *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self) {
        *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Whether a body must keep coming before its answer has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// It must.
    Steady,
    /// gRPC: a stream that is silent for as long as it likes.
    Unhurried,
}

/// The body, limits and all.
pub(super) struct Upload {
    incoming: Incoming,
    most: Option<u64>,
    left: u64,
    idle: IdleTimer,
    counter: ByteCounter,
    asserted: Arc<Asserted>,
    rules: Arc<HeaderRules>,
    progress: Arc<Progress>,
    expiry: Option<Expiry>,
    /// HTTP/2 says that a body is whole.
    ends_expressly: bool,
}

impl Upload {
    /// Passes `incoming` on: at most `most` bytes, at most `patience` without a byte, unless `pace`
    /// or an answer that has begun allow longer pauses. Of its trailers, the fields in `asserted`
    /// and those that `rules` are about are left out.
    pub(super) fn new(
        incoming: Incoming,
        most: Option<u64>,
        patience: Duration,
        pace: Pace,
        counter: ByteCounter,
        asserted: Arc<Asserted>,
        rules: Arc<HeaderRules>,
    ) -> Self {
        let progress = Progress {
            fault: OnceLock::new(),
            ended: AtomicBool::new(false),
            unhurried: AtomicBool::new(pace == Pace::Unhurried),
            ends_with_answer: AtomicBool::new(false),
            moved_at: Mutex::new(Instant::now()),
            hold: OnceLock::new(),
            begun: AtomicBool::new(false),
            awaited: AtomicBool::new(false),
            replay: OnceLock::new(),
        };
        Self {
            incoming,
            most,
            left: most.unwrap_or(u64::MAX),
            idle: IdleTimer::new(Some(patience)),
            counter,
            asserted,
            rules,
            progress: Arc::new(progress),
            expiry: None,
            ends_expressly: false,
        }
    }

    /// It comes over `version`.
    pub(super) fn over(mut self, version: Version) -> Self {
        self.ends_expressly = version == Version::HTTP_2;
        self
    }

    /// Ends it with the caller's token, if it did not say how long it is and is still coming by then,
    /// unless there is an answer that ends so itself. One that said how long it is breaks off.
    pub(super) fn until(mut self, end: Option<&StreamEnd>) -> Self {
        let end = end.filter(|_| self.incoming.size_hint().exact().is_none());
        self.expiry = end.cloned().map(Expiry::new);
        self
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    fn fail(&self, fault: UploadFault) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let error = BoxError::from(fault.clone());
        if let (UploadFault::TokenExpired(_), Some(expiry), true) =
            (&fault, &self.expiry, self.progress.unhurried.load(Ordering::Acquire))
        {
            // There may be an answer already, and no refusal to say it.
            expiry.end.note(STILL_COMING);
        }
        // The first fault is the cause; what follows from it adds nothing.
        self.progress.fault.get_or_init(|| fault);
        self.progress.let_go();
        Poll::Ready(Some(Err(error)))
    }

    /// The fault of a body that comes without a pause and so never waits for the token's end.
    fn outlived_token(&self) -> Option<UploadFault> {
        let expiry = self.expiry.as_ref()?;
        let is_over = !self.progress.ends_with_answer.load(Ordering::Acquire) && expiry.is_over();
        is_over.then(|| token_expired(&expiry.end))
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.idle.moved();
        self.progress.moved();
        self.progress.begun.store(true, Ordering::Release);
        let frame = match frame.into_trailers() {
            Ok(mut trailers) => {
                headers::clean_request_trailers(&mut trailers, &self.asserted, &self.rules);
                // Not kept, and a body without them is another message.
                self.progress.let_go();
                Frame::trailers(trailers)
            }
            Err(data) => data,
        };
        if let Some(data) = frame.data_ref() {
            let size = data.len() as u64;
            self.counter.add(data.len());
            match self.left.checked_sub(size) {
                Some(left) => self.left = left,
                None => return self.fail(UploadFault::TooLarge(self.most.unwrap_or(u64::MAX))),
            }
            if let Some(replay) = self.progress.replay.get() {
                replay.keep(data);
            }
        }
        if self.incoming.is_end_stream() {
            self.end();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn end(&self) {
        self.progress.ended.store(true, Ordering::Release);
        if let Some(replay) = self.progress.replay.get() {
            replay.end();
        }
    }
}

fn token_expired(end: &StreamEnd) -> UploadFault {
    UploadFault::TokenExpired(end.reason(STILL_COMING))
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => match self.outlived_token() {
                Some(fault) => self.fail(fault),
                None => self.pass(frame),
            },
            Poll::Ready(Some(Err(error))) => {
                let text = std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), ToString::to_string);
                self.fail(UploadFault::Broken(text))
            }
            // hyper passes a stream that was reset without an error (`NO_ERROR`) for one that ended.
            Poll::Ready(None) if self.ends_expressly && !self.incoming.is_end_stream() => {
                self.fail(UploadFault::Broken("the stream was reset before its end".to_owned()))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Pending => loop {
                self.progress.awaited.store(true, Ordering::Release);
                if !self.progress.ends_with_answer.load(Ordering::Acquire)
                    && let Some(expiry) = &mut self.expiry
                    && expiry.poll_over(cx).is_ready()
                {
                    let fault = token_expired(&expiry.end);
                    return self.fail(fault);
                }
                let patience = ready!(self.idle.poll_expired(cx));
                if !self.progress.unhurried.load(Ordering::Acquire) {
                    return self.fail(UploadFault::Idle(patience));
                }
                // Asked again in a while: the answer may be over by then.
                self.idle.moved();
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
