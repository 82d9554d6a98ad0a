//! What a connection is doing, and since when: the two times that the parser can't tell apart.
//!
//! `header_timeout` runs from the first byte of a head (of the first one: from the connection's
//! start, TLS included) to its end; `idle_timeout` runs between requests. Nothing runs while a
//! request is being answered. HTTP/2 mixes heads with others' bytes: there the time of a head runs
//! while other requests are being answered too. A request costs two stores here and no timer: the
//! connection's one timer looks now and then ([`Activity::judge`]).

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::accept::Settings;
use crate::held_up::HeldUp;
use crate::limits;
use crate::observe::request_id::RequestId;

/// The first head is due, and nothing but bytes of it has come.
const FIRST_HEAD: u8 = 0;
/// Between requests, not a byte has come.
const IDLE: u8 = 1;
/// Between requests, some bytes of the next head have come.
const HEAD: u8 = 2;

/// Between two looks, however short the times are set.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Activity {
    accepted: Instant,
    phase: AtomicU8,
    /// When the phase began, in milliseconds after `accepted`.
    since: AtomicU64,
    requests: AtomicUsize,
    /// Bytes of an answer wait for the caller to take them: the parser may be done with the answer,
    /// the caller is not.
    writing: HeldUp,
    /// Bytes of a head don't show: HTTP/2 mixes them with others.
    multiplexed: AtomicBool,
    /// When a head of HTTP/2 began that has not ended: one more than the milliseconds after
    /// `accepted`; 0 for none.
    fields_since: AtomicU64,
    heard: AtomicBool,
    /// Over HTTP/1.1: the [`Place`] of the parser.
    place: AtomicU8,
    /// Our side has said that it writes no more.
    shut: AtomicBool,
    /// Each answer from now on is the last one.
    closing: AtomicBool,
    /// Requests that have become streams which outlive their answers.
    tunnels: AtomicUsize,
    /// Of the answer to a head that was given up.
    overdue: OnceLock<RequestId>,
    /// Why the caller is told to go away: it floods us.
    flood: OnceLock<&'static str>,
}

/// Where among the messages of HTTP/1.1 its parser is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a head, or in front of the first one.
    Head,
    /// In a body, or behind bytes of which it may not have used up all: it asks for no more while
    /// nobody takes the body.
    Body,
    /// Between two messages, and it holds no byte.
    Between,
}

/// What is to be done about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing; look again then.
    LookAgain(Instant),
    /// It was idle for too long.
    Idle,
    /// Its head took too long.
    Overdue,
}

impl Activity {
    pub(crate) fn new(accepted: Instant) -> Self {
        Self {
            accepted,
            phase: AtomicU8::new(FIRST_HEAD),
            since: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            writing: HeldUp::default(),
            multiplexed: AtomicBool::new(false),
            fields_since: AtomicU64::new(0),
            heard: AtomicBool::new(false),
            place: AtomicU8::new(Place::Head as u8),
            shut: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            tunnels: AtomicUsize::new(0),
            overdue: OnceLock::new(),
            flood: OnceLock::new(),
        }
    }

    /// It speaks HTTP/2, and the preface has come: from here on only idleness is watched.
    pub(crate) fn multiplexed(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
        self.enter(IDLE);
    }

    /// Bytes came.
    pub(crate) fn heard(&self) {
        if self.requests.load(Ordering::Acquire) > 0 {
            return;
        }
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Where the bytes of HTTP/1.1 end that came, or where the parser is that asks for more.
    pub(crate) fn reads(&self, place: Place) {
        // Only the connection's own task says so.
        let was_in_body = self.is_at(Place::Body);
        self.place.store(place as u8, Ordering::Relaxed);
        if self.requests() > 0 || self.phase.load(Ordering::Relaxed) != IDLE {
            return;
        }
        match place {
            Place::Head => self.enter(HEAD),
            // It is only now that a request is over whose answer was the first to end.
            Place::Between if was_in_body => self.enter(IDLE),
            Place::Between | Place::Body => {}
        }
    }

    /// The stream is being closed.
    pub(crate) fn shuts(&self) {
        self.shut.store(true, Ordering::Relaxed);
    }

    /// Bytes of HTTP/2 came; since when the fields of a request are to end, if they are.
    pub(crate) fn fields_are_due(&self, since: Option<Instant>) {
        let millis = since.map_or(0, |since| self.millis(since).saturating_add(1));
        self.fields_since.store(millis, Ordering::Relaxed);
    }

    /// The caller floods us.
    pub(crate) fn flooded(&self, why: &'static str) {
        self.flood.get_or_init(|| why);
    }

    /// Why the caller is told to go away, if it is.
    pub(crate) fn flood(&self) -> Option<&'static str> {
        self.flood.get().copied()
    }

    /// A write waits for the caller, or has gone through.
    pub(crate) fn writes(&self, waiting: bool) {
        let is_new = self.writing.wrote(waiting);
        if is_new && !waiting && self.requests() == 0 && self.phase.load(Ordering::Relaxed) == IDLE
        {
            // It is only now that the caller has its answer, and the time between requests begins.
            self.enter(IDLE);
        }
    }

    /// Whether a write waits for the caller.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.is_so()
    }

    /// Whether a request is being answered, or it or its answer is still on its way.
    pub(crate) fn is_busy(&self) -> bool {
        self.requests() > 0 || self.is_writing() || self.is_behind_answer()
    }

    /// Whether the body of a request goes on behind its answer. It is for those who take the body
    /// to see that it does not do so for ever.
    fn is_behind_answer(&self) -> bool {
        let idle = self.phase.load(Ordering::Relaxed) == IDLE;
        idle && self.is_at(Place::Body) && !self.shut.load(Ordering::Relaxed)
    }

    fn is_at(&self, place: Place) -> bool {
        self.place.load(Ordering::Relaxed) == place as u8
    }

    /// Whether a head has begun that nobody has read whole.
    pub(crate) fn head_has_begun(&self) -> bool {
        let idle = self.phase.load(Ordering::Relaxed) == IDLE;
        let fields = self.fields_since.load(Ordering::Relaxed) != 0;
        fields || !idle && self.heard.load(Ordering::Relaxed) && self.requests() == 0
    }

    /// A request's head has come whole; it is being answered until the guard is dropped.
    pub(crate) fn request(self: &Arc<Self>) -> Answering {
        self.requests.fetch_add(1, Ordering::AcqRel);
        Answering { activity: Arc::clone(self), is_tunnel: false }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }

    /// Of those, the ones that have become streams of their own.
    pub(crate) fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Acquire)
    }

    /// A request is over. The head of the next one may have begun together with it.
    fn between_requests(&self) {
        let has_begun = self.is_at(Place::Head) && !self.multiplexed.load(Ordering::Relaxed);
        self.enter(if has_begun { HEAD } else { IDLE });
    }

    /// The connection is to end: its next answer is the last one.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Whether nothing has ever come.
    pub(crate) fn is_silent(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == FIRST_HEAD
            && !self.heard.load(Ordering::Relaxed)
            && !self.is_busy()
    }

    /// The head is given up; the stream answers it ([`super::watched`]).
    pub(crate) fn give_up_head(&self) {
        self.overdue.get_or_init(RequestId::new);
    }

    /// The id of what was given up, if a head was.
    pub(crate) fn head_given_up(&self) -> Option<&RequestId> {
        self.overdue.get()
    }

    /// Whether it has been between requests for so long.
    pub(crate) fn rests(&self, now: Instant, long: Duration) -> bool {
        let idle = self.phase.load(Ordering::Relaxed) == IDLE;
        idle && !self.is_busy() && self.phase_began() + long <= now
    }

    /// Whether it is between two requests of HTTP/1.1, has been for some time, and nothing of either
    /// is anywhere but in what lasts as long as the connection.
    pub(crate) fn may_rest(&self, now: Instant) -> bool {
        let whole = self.is_at(Place::Between) && !self.shut.load(Ordering::Relaxed);
        whole && self.rests(now, limits::REST_AFTER)
    }

    /// When to look whether it may rest: the longer it is there, the less often while it is used.
    pub(crate) fn rest_look(&self, now: Instant) -> Instant {
        let rests_at = self.phase_began() + limits::REST_AFTER;
        let idle = self.phase.load(Ordering::Relaxed) == IDLE && !self.is_busy();
        if idle && rests_at > now {
            return rests_at;
        }
        now + now.saturating_duration_since(self.accepted).max(limits::REST_AFTER)
    }

    /// When the phase, which nothing interrupts, is over.
    pub(crate) fn due(&self, settings: &Settings) -> Instant {
        let idle = self.phase.load(Ordering::Relaxed) == IDLE;
        self.phase_began() + if idle { settings.idle_timeout } else { settings.header_timeout }
    }

    pub(crate) fn judge(&self, now: Instant, settings: &Settings) -> Verdict {
        // Whatever begins after this look can't be over before the next one.
        let shortest = settings.header_timeout.min(settings.idle_timeout);
        let pause = shortest.min(settings.body_idle_timeout).max(SHORTEST_PAUSE);
        let mut soon = now + pause;
        let fields_since = self.fields_since.load(Ordering::Relaxed);
        if let Some(since) = fields_since.checked_sub(1) {
            let due = self.accepted + Duration::from_millis(since) + settings.header_timeout;
            if due <= now {
                return Verdict::Overdue;
            }
            soon = soon.min(due);
        }
        if self.is_busy() {
            return Verdict::LookAgain(soon);
        }
        let idle = self.phase.load(Ordering::Relaxed) == IDLE;
        let end = self.due(settings);
        match (end <= now, idle) {
            (true, true) => Verdict::Idle,
            (true, false) => Verdict::Overdue,
            (false, _) => Verdict::LookAgain(end.min(soon)),
        }
    }

    fn phase_began(&self) -> Instant {
        self.accepted + Duration::from_millis(self.since.load(Ordering::Relaxed))
    }

    fn enter(&self, phase: u8) {
        self.since.store(self.millis(Instant::now()), Ordering::Relaxed);
        self.phase.store(phase, Ordering::Relaxed);
    }

    /// After it was accepted.
    fn millis(&self, at: Instant) -> u64 {
        let after = at.saturating_duration_since(self.accepted);
        u64::try_from(after.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A request that is being answered, until it is dropped.
#[derive(Debug)]
pub(crate) struct Answering {
    activity: Arc<Activity>,
    is_tunnel: bool,
}

impl Answering {
    /// Whether no further request of the connection is answered.
    pub(crate) fn is_last(&self) -> bool {
        self.activity.closing.load(Ordering::Relaxed)
    }

    /// Ready while no write waits for the caller.
    pub(crate) fn poll_keeps_up(&self, cx: &Context<'_>) -> Poll<()> {
        self.activity.writing.poll_over(cx)
    }

    /// So many bytes of its answer are written next.
    pub(crate) fn gives(&self, bytes: usize) {
        self.activity.writing.gives(bytes);
    }

    /// What is behind its answer is a stream of its own.
    pub(crate) fn tunnels(&mut self) {
        if !self.is_tunnel {
            self.is_tunnel = true;
            self.activity.tunnels.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if self.is_tunnel {
            self.activity.tunnels.fetch_sub(1, Ordering::AcqRel);
        }
        // Before the count falls, so that nobody sees an old phase without a request.
        self.activity.between_requests();
        self.activity.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
