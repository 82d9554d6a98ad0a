//! The stream that a connection has become: bytes both ways until one side ends it, the caller's
//! token ends, nobody speaks for longer than the file allows, or the gateway does.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Extensions, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};

use super::super::balance::Chosen;
use super::super::lease::Lease;
use super::super::token_end::{Expiry, StreamEnd};
use super::frames::Frames;
use super::pump::{Broken, Pump};
use super::websocket::Goodbye;
use crate::body::Body;
use crate::chain::with_sources;
use crate::idle_timer::IdleTimer;
use crate::limits;
use crate::observe::access_log::AccessRecord;
use crate::observe::cut_off;
use crate::observe::recorded_body::RecordedBody;

/// A stream that begins behind the answer whose extension it is. Dropped, it closes both sides.
#[derive(Clone)]
pub struct Tunnel(Arc<Mutex<Option<Box<Stream>>>>);

/// What it takes to carry it.
pub(super) struct Stream {
    pub(super) caller: OnUpgrade,
    pub(super) upstream: Upgraded,
    /// What keeps the upstream's connection.
    pub(super) lease: Lease,
    /// Where it counts as a request on its way.
    pub(super) endpoint: Chosen,
    pub(super) speaks: Speaks,
    pub(super) token: Option<StreamEnd>,
    /// Without a byte either way; `None` is for ever.
    pub(super) idle: Option<Duration>,
    /// For either side to take what is due to it.
    pub(super) stall: Duration,
    pub(super) record: Option<Box<AccessRecord>>,
}

/// What is spoken on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    WebSocket,
    Unknown,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By those who spoke, or by a limit of theirs.
    Itself,
    /// By the end of the gateway's patience.
    CutOff,
}

impl Tunnel {
    pub(super) fn new(stream: Stream) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(stream)))))
    }

    /// Ends what the request was: its record goes with the answer's body, or with the stream that
    /// begins behind the answer.
    pub fn complete(
        mut response: Response<Body>,
        mut record: Box<AccessRecord>,
    ) -> Response<RecordedBody<Body>> {
        let Some(tunnel) = response.extensions_mut().remove::<Self>() else {
            return record.complete(response);
        };
        record.answered(response.status());
        if let Some(stream) = &mut *tunnel.0.lock().unwrap_or_else(PoisonError::into_inner) {
            stream.record = Some(record);
        }
        response.extensions_mut().insert(tunnel);
        response.map(RecordedBody::elsewhere)
    }

    /// Takes the stream out of an answer that is about to be sent.
    pub fn take(extensions: &mut Extensions) -> Option<Running> {
        let tunnel = extensions.remove::<Self>()?;
        let stream = tunnel.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        stream.map(Running)
    }
}

/// A stream that is to be carried.
pub struct Running(Box<Stream>);

impl Running {
    /// Carries it to its end, or until `cut` is ready and those who speak were told.
    pub async fn run(self, cut: impl Future<Output = ()>) -> Ended {
        let Stream { caller, upstream, lease, endpoint, speaks, token, idle, stall, mut record } =
            *self.0;
        let Ok(caller) = caller.await else {
            // The caller went away before the answer reached it, and the record says so.
            return Ended::Itself;
        };
        let mut relay = Relay::new(caller, upstream, speaks, stall);
        let mut idle = IdleTimer::new(idle);
        let mut expiry = token.map(Expiry::new);
        let ended = tokio::select! {
            biased;
            why = poll_fn(|cx| relay.poll(cx, &mut idle, expiry.as_mut())) => why,
            () = cut => Why::CutOff,
        };
        if let Some(goodbye) = ended.goodbye() {
            relay.leave(goodbye);
            let leaving = poll_fn(|cx| relay.poll_leaving(cx));
            // Who does not end its frame, or does not listen, is not waited for.
            timeout(limits::UPGRADE_FAREWELL, leaving).await.unwrap_or_default();
        }
        if let Some(record) = record.take() {
            if let (Why::TokenExpired, Some(expiry)) = (&ended, &expiry) {
                expiry.end.note("the upgraded connection");
            }
            record.stream_ended(relay.up.passed(), relay.down.passed(), ended.reason());
        }
        drop((lease, endpoint));
        if matches!(ended, Why::CutOff) { Ended::CutOff } else { Ended::Itself }
    }
}

/// Why a stream is over.
#[derive(Debug)]
enum Why {
    /// Both sides ended.
    Over,
    CallerBroke(std::io::Error),
    UpstreamBroke(std::io::Error),
    /// One side ended, and the other did not.
    HalfOpen,
    Idle(Duration),
    TokenExpired,
    CutOff,
}

impl Why {
    /// What is said to both sides where there is somebody left to hear it.
    fn goodbye(&self) -> Option<Goodbye> {
        match self {
            Self::TokenExpired => Some(Goodbye::TOKEN_EXPIRED),
            Self::CutOff => Some(Goodbye::GOING_AWAY),
            Self::Idle(_) => Some(Goodbye::IDLE),
            Self::Over | Self::CallerBroke(_) | Self::UpstreamBroke(_) | Self::HalfOpen => None,
        }
    }

    fn reason(&self) -> Option<String> {
        match self {
            // The note of the token says it.
            Self::Over | Self::TokenExpired => None,
            Self::CallerBroke(error) => {
                Some(format!("the caller's side broke: {}", with_sources(error)))
            }
            Self::UpstreamBroke(error) => {
                Some(format!("the upstream's side broke: {}", with_sources(error)))
            }
            Self::HalfOpen => Some(format!(
                "one side had ended, and the other did not within {} s",
                limits::WEBSOCKET_HALF_OPEN.as_secs()
            )),
            Self::Idle(patience) => Some(format!(
                "no byte either way for {} s: `timeouts.stream` of the upstream",
                patience.as_secs()
            )),
            Self::CutOff => Some(cut_off::REASON.to_owned()),
        }
    }
}

/// Both directions.
struct Relay {
    caller: TokioIo<Upgraded>,
    upstream: TokioIo<Upgraded>,
    speaks: Speaks,
    up: Pump,
    down: Pump,
    /// Runs while one side of a WebSocket has ended.
    half_open: Option<Pin<Box<Sleep>>>,
    passed: u64,
}

impl Relay {
    fn new(caller: Upgraded, upstream: Upgraded, speaks: Speaks, stall: Duration) -> Self {
        let frames = (speaks == Speaks::WebSocket).then(Frames::default);
        Self {
            caller: TokioIo::new(caller),
            upstream: TokioIo::new(upstream),
            speaks,
            up: Pump::new(stall, frames),
            down: Pump::new(stall, frames),
            half_open: None,
            passed: 0,
        }
    }

    /// Carries bytes until there is a reason not to.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        idle: &mut IdleTimer,
        expiry: Option<&mut Expiry>,
    ) -> Poll<Why> {
        if let Some(why) = self.poll_both(cx) {
            return Poll::Ready(why);
        }
        let passed = self.up.passed() + self.down.passed();
        if passed != self.passed {
            self.passed = passed;
            idle.moved();
        }
        if let Some(expiry) = expiry
            && expiry.poll_over(cx).is_ready()
        {
            return Poll::Ready(Why::TokenExpired);
        }
        if self.speaks == Speaks::WebSocket && (self.up.is_done() || self.down.is_done()) {
            // Nobody speaks WebSocket in one direction only: the other side is gone, or is to go.
            let half_open =
                self.half_open.get_or_insert_with(|| Box::pin(sleep(limits::WEBSOCKET_HALF_OPEN)));
            if half_open.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Why::HalfOpen);
            }
        }
        idle.poll_expired(cx).map(Why::Idle)
    }

    fn poll_both(&mut self, cx: &mut Context<'_>) -> Option<Why> {
        let up = self.up.poll(cx, &mut self.caller, &mut self.upstream);
        let down = self.down.poll(cx, &mut self.upstream, &mut self.caller);
        match (up, down) {
            (Poll::Ready(Err(Broken::Reading(error))), _)
            | (_, Poll::Ready(Err(Broken::Writing(error)))) => Some(Why::CallerBroke(error)),
            (Poll::Ready(Err(Broken::Writing(error))), _)
            | (_, Poll::Ready(Err(Broken::Reading(error)))) => Some(Why::UpstreamBroke(error)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Some(Why::Over),
            (Poll::Pending, _) | (_, Poll::Pending) => None,
        }
    }

    /// Says goodbye on both sides, where what is spoken has a word for it.
    fn leave(&mut self, goodbye: Goodbye) {
        self.down.leave(goodbye.to_caller());
        self.up.leave(goodbye.to_upstream());
    }

    /// Both were told, and have closed.
    fn poll_leaving(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_both(cx).is_some_and(|why| !matches!(why, Why::Over)) {
            return Poll::Ready(());
        }
        // What they still say is passed over: a socket that is closed with bytes unread is reset, and
        // the goodbye with it.
        let caller = !self.up.is_done() || pass_over(cx, &mut self.caller).is_ready();
        let upstream = !self.down.is_done() || pass_over(cx, &mut self.upstream).is_ready();
        let told = self.up.is_done() && self.down.is_done();
        if told && caller && upstream { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Reads until the end.
fn pass_over(cx: &mut Context<'_>, from: &mut TokioIo<Upgraded>) -> Poll<()> {
    let mut space = [0; 1024];
    // Not for ever: others want their turn too.
    for _turn in 0..16 {
        let mut buffer = ReadBuf::new(&mut space);
        match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
            Poll::Ready(_) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tunnel(..)")
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Running(..)")
    }
}
