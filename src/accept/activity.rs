//! What a connection is doing, and since when: the two times that the parser can't tell apart.
//!
//! `header_timeout` runs from the first byte of a head (of the first one: from the connection's
//! start, TLS included) to its end; `idle_timeout` runs between requests. Nothing runs while a
//! request is being answered. HTTP/2 mixes heads with others' bytes: there the time of a head runs
//! while other requests are being answered too. A request costs two stores here and no timer: the
//! connection's one timer looks now and then ([`Activity::judge`]).

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::accept::Settings;
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
    /// Bytes of an answer wait for the caller to take them: the parser is done with the answer,
    /// the caller is not.
    writing: AtomicBool,
    /// Bytes of a head don't show: HTTP/2 mixes them with others.
    multiplexed: AtomicBool,
    /// When a head of HTTP/2 began that has not ended: one more than the milliseconds after
    /// `accepted`; 0 for none.
    fields_since: AtomicU64,
    heard: AtomicBool,
    /// Each answer from now on is the last one.
    closing: AtomicBool,
    /// Requests that have become streams which outlive their answers.
    tunnels: AtomicUsize,
    /// Of the answer to a head that was given up.
    overdue: OnceLock<RequestId>,
    /// Why the caller is told to go away: it floods us.
    flood: OnceLock<&'static str>,
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
            writing: AtomicBool::new(false),
            multiplexed: AtomicBool::new(false),
            fields_since: AtomicU64::new(0),
            heard: AtomicBool::new(false),
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
        let idle = self.phase.load(Ordering::Relaxed) == IDLE;
        if idle && !self.multiplexed.load(Ordering::Relaxed) {
            self.enter(HEAD);
        }
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
        if self.writing.swap(waiting, Ordering::AcqRel)
            && !waiting
            && self.requests() == 0
            && self.phase.load(Ordering::Relaxed) == IDLE
        {
            // It is only now that the caller has its answer, and the time between requests begins.
            self.enter(IDLE);
        }
    }

    /// Whether a write waits for the caller.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.load(Ordering::Acquire)
    }

    /// Whether a request is being answered, or its answer is still on its way.
    pub(crate) fn is_busy(&self) -> bool {
        self.requests() > 0 || self.is_writing()
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
        let since = self.accepted + Duration::from_millis(self.since.load(Ordering::Relaxed));
        let idle = self.phase.load(Ordering::Relaxed) == IDLE;
        idle && !self.is_busy() && since + long <= now
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
        let since = self.accepted + Duration::from_millis(self.since.load(Ordering::Relaxed));
        let idle = self.phase.load(Ordering::Relaxed) == IDLE;
        let end = since + if idle { settings.idle_timeout } else { settings.header_timeout };
        match (end <= now, idle) {
            (true, true) => Verdict::Idle,
            (true, false) => Verdict::Overdue,
            (false, _) => Verdict::LookAgain(end.min(soon)),
        }
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
        self.activity.enter(IDLE);
        self.activity.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accept::tests::settings;

    const S: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_time() {
        // 10 s for a head, 75 s between requests.
        let settings = settings();
        let activity = Arc::new(Activity::new(Instant::now()));
        let judge = || activity.judge(Instant::now(), &settings);
        let after = |by: Duration| tokio::time::advance(by);

        after(9 * S).await;
        assert_eq!(judge(), Verdict::LookAgain(Instant::now() + S));
        after(S).await;
        assert_eq!(judge(), Verdict::Overdue);
        assert!(!activity.head_has_begun());

        assert!(!activity.rests(Instant::now(), S), "a head is due");
        let request = activity.request();
        after(1000 * S).await;
        assert_eq!(judge(), Verdict::LookAgain(Instant::now() + 10 * S));
        assert!(!activity.rests(Instant::now(), S), "a request is being answered");
        drop(request);
        after(74 * S).await;
        assert!(activity.rests(Instant::now(), 74 * S));
        assert!(!activity.rests(Instant::now(), 75 * S));
        assert_eq!(judge(), Verdict::LookAgain(Instant::now() + S));
        activity.heard();
        after(9 * S).await;
        assert_eq!(judge(), Verdict::LookAgain(Instant::now() + S));
        activity.heard();
        after(S).await;
        assert_eq!(judge(), Verdict::Overdue);
        assert!(activity.head_has_begun());

        drop(activity.request());
        after(75 * S).await;
        assert_eq!(judge(), Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_not_idle_while_its_last_bytes_wait_for_the_caller() {
        let settings = settings();
        let activity = Arc::new(Activity::new(Instant::now()));
        drop(activity.request());
        activity.writes(true);
        tokio::time::advance(1000 * S).await;
        assert!(matches!(activity.judge(Instant::now(), &settings), Verdict::LookAgain(_)));
        assert!(!activity.rests(Instant::now(), S));
        activity.writes(false);
        tokio::time::advance(74 * S).await;
        assert_eq!(
            activity.judge(Instant::now(), &settings),
            Verdict::LookAgain(Instant::now() + S)
        );
        tokio::time::advance(S).await;
        assert_eq!(activity.judge(Instant::now(), &settings), Verdict::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_of_http2_has_its_time_also_beside_other_requests() {
        let settings = settings();
        let activity = Arc::new(Activity::new(Instant::now()));
        activity.multiplexed();
        let judge = || activity.judge(Instant::now(), &settings);
        let _other = activity.request();
        activity.fields_are_due(Some(Instant::now()));
        tokio::time::advance(9 * S).await;
        assert_eq!(judge(), Verdict::LookAgain(Instant::now() + S));
        tokio::time::advance(S).await;
        assert_eq!(judge(), Verdict::Overdue);
        assert!(activity.head_has_begun());
        activity.fields_are_due(None);
        assert!(matches!(judge(), Verdict::LookAgain(_)));
        assert!(!activity.head_has_begun());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_http2_are_no_head() {
        let settings = settings();
        let activity = Arc::new(Activity::new(Instant::now()));
        activity.multiplexed();
        activity.heard();
        tokio::time::advance(74 * S).await;
        activity.heard();
        assert_eq!(
            activity.judge(Instant::now(), &settings),
            Verdict::LookAgain(Instant::now() + S)
        );
        tokio::time::advance(S).await;
        assert_eq!(activity.judge(Instant::now(), &settings), Verdict::Idle);
    }
}
