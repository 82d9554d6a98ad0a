//! The connections to one endpoint that nobody uses, or that several requests share: which of them
//! a request gets, and when they are closed. How they are made is `client.rs`'s, how many there may
//! be `limit.rs`'s.
//!
//! HTTP/1.1 connections are lent to one request at a time and come back when its answer has
//! ended well; HTTP/2 connections are shared (`shared.rs`).
//!
//! Each worker keeps those that it used on a shelf of its own, which the others have no business with as
//! long as each finds what it needs. One that finds none takes one that is idle on another's, which then
//! moves (`moving.rs`). Only a connection of HTTP/2 stays where it was made, as others are on it: it is
//! lent to other workers while it carries nothing, or where there is no room for one of their own.

use std::collections::VecDeque;
use std::iter;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::endpoint::Origin;
use super::exclusive::Exclusive;
use super::lease::{Connection, Lease, Wanted};
use super::limit::{Admission, Limit, LineFull, Slot};
use super::shared::{Connections, Made, Stream};
use super::upstream::Protocol;
use crate::limits;
use crate::workers;

/// The connections to one endpoint.
pub(super) struct Pool {
    /// Of who is no worker, or was not there when the others' were made.
    first: Shelf,
    /// By worker; made with the first request, when it is known how many there are.
    of_workers: OnceLock<Box<[Shelf]>>,
    /// The number of the newest connection of HTTP/2.
    newest: Arc<AtomicU64>,
    may_share: AtomicBool,
    patience: Duration,
    limit: Arc<Limit>,
}

/// The connections of one worker; no two share a line of the cache.
#[repr(align(128))]
struct Shelf {
    kept: Mutex<Kept>,
    /// Held while a connection is made that may turn out to be one that others share.
    making: Arc<tokio::sync::Mutex<()>>,
}

struct Kept {
    /// Oldest first.
    idle: VecDeque<Idle>,
    http2: Connections,
    /// Whether [`reap`] runs.
    reaped: bool,
}

struct Idle {
    exclusive: Exclusive,
    alarm: Alarm,
    since: Instant,
}

impl Idle {
    /// Whether it can be lent; it is looked at, which takes a while where it was closed.
    fn is_good(&mut self, patience: Duration) -> bool {
        self.since.elapsed() < patience && self.exclusive.takes_request()
    }

    /// The same of one that is not lent soon.
    fn rests(&mut self, patience: Duration) -> bool {
        self.since.elapsed() < patience && self.exclusive.rest()
    }
}

/// A connection that is there.
enum There {
    Http1(Idle),
    Http2(Stream),
}

/// What there is for a request.
pub(super) enum Room {
    /// A connection that is there.
    Lease(Lease),
    /// Room for a new one.
    Slot(Slot),
}

impl Pool {
    pub(super) fn new(origin: &Origin) -> Arc<Self> {
        let settings = &origin.settings;
        let may_share = match settings.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => settings.tls,
        };
        let pool = Self::with(may_share, settings.timeouts.idle, &origin.limit);
        origin.limit.join(&pool);
        pool
    }

    fn with(may_share: bool, patience: Duration, limit: &Arc<Limit>) -> Arc<Self> {
        let newest = Arc::default();
        Arc::new(Self {
            first: Shelf::new(&newest),
            of_workers: OnceLock::new(),
            newest,
            may_share: AtomicBool::new(may_share),
            patience,
            limit: Arc::clone(limit),
        })
    }

    /// How many connections there may be.
    pub(super) fn limit(&self) -> &Arc<Limit> {
        &self.limit
    }

    /// Whether a new connection may turn out to be one that others share.
    pub(super) fn may_share(&self) -> bool {
        self.may_share.load(Ordering::Relaxed)
    }

    /// The upstream speaks HTTP/1.1: from now on connections are made side by side.
    pub(super) fn shares_nothing(&self) {
        self.may_share.store(false, Ordering::Relaxed);
    }

    /// Waits until nobody else makes a connection that this worker may share.
    pub(super) async fn making(&self) -> OwnedMutexGuard<()> {
        let making = Arc::clone(&self.own().making);
        making.lock_owned().await
    }

    /// Takes up a connection that requests share, and lends it to who had it made.
    pub(super) fn share(self: &Arc<Self>, made: Made) -> Lease {
        let own = self.own();
        let mut kept = lock(&own.kept);
        let stream = kept.http2.share(made);
        self.see_to_reaping(&mut kept);
        Lease::new(Connection::Http2(stream))
    }

    /// A connection that is there, or room for a new one, in the order in which requests came.
    pub(super) async fn room(self: &Arc<Self>, wanted: Wanted) -> Result<Room, LineFull> {
        if !self.limit.is_awaited()
            && let Some(room) = self.room_now(wanted)
        {
            return Ok(room);
        }
        let admission = match wanted {
            Wanted::Any => Admission::New,
            Wanted::NewerThan(_) => Admission::Admitted,
        };
        let waiting = self.limit.queue(admission)?;
        let first = waiting.first().await;
        loop {
            if let Some(room) = self.room_now(wanted) {
                return Ok(room);
            }
            first.room((wanted == Wanted::Any).then_some(self)).await;
        }
    }

    fn room_now(self: &Arc<Self>, wanted: Wanted) -> Option<Room> {
        let there = match wanted {
            Wanted::Any => self.take(),
            Wanted::NewerThan(_) => self.shared(wanted),
        };
        if let Some(lease) = there {
            return Some(Room::Lease(lease));
        }
        if let Some(slot) = self.limit.slot() {
            return Some(Room::Slot(slot));
        }
        self.shared_elsewhere(wanted).map(Room::Lease)
    }

    /// A kept connection that is still good.
    pub(super) fn take(self: &Arc<Self>) -> Option<Lease> {
        let own = self.own();
        for _ in 0..limits::DEAD_CONNECTIONS_IN_A_ROW {
            let there = lock(&own.kept).there();
            match there {
                None => return self.take_elsewhere(),
                Some(There::Http2(stream)) => return Some(of_http2(stream)),
                Some(There::Http1(mut idle)) => {
                    if idle.is_good(self.patience) {
                        let Idle { exclusive, alarm, since: _ } = idle;
                        return Some(self.of_http1(exclusive, alarm));
                    }
                }
            }
        }
        // The upstream has closed them, and most likely the others, too. A good one comes back.
        let others = std::mem::take(&mut lock(&own.kept).idle);
        if !others.is_empty() {
            let pool = Arc::clone(self);
            tokio::spawn(async move { look_at(&pool, others).await });
        }
        None
    }

    /// The same of other workers, what they don't need now.
    fn take_elsewhere(self: &Arc<Self>) -> Option<Lease> {
        let spare = self.others().filter_map(|shelf| lock(&shelf.kept).spare());
        spare.take(limits::DEAD_CONNECTIONS_IN_A_ROW).find_map(|there| match there {
            There::Http2(stream) => Some(of_http2(stream)),
            // Its timer would wake the other worker.
            There::Http1(mut idle) => {
                idle.is_good(self.patience).then(|| self.of_http1(idle.exclusive, Alarm::default()))
            }
        })
    }

    fn of_http1(self: &Arc<Self>, exclusive: Exclusive, alarm: Alarm) -> Lease {
        let connection = Connection::Http1 { exclusive, pool: Arc::downgrade(self) };
        Lease { connection, reused: true, alarm }
    }

    /// An HTTP/2 connection of this worker that is open, has room and will do.
    pub(super) fn shared(&self, wanted: Wanted) -> Option<Lease> {
        let own = self.own();
        let stream = lock(&own.kept).http2.lend(wanted.than())?;
        Some(of_http2(stream))
    }

    /// The same of another worker, whatever it carries.
    fn shared_elsewhere(&self, wanted: Wanted) -> Option<Lease> {
        let stream = self.others().find_map(|shelf| lock(&shelf.kept).http2.lend(wanted.than()))?;
        Some(of_http2(stream))
    }

    /// Closes a connection that nobody uses, of those that one request has for itself, so that there
    /// is room for another; whether there was one.
    pub(super) fn close_one_exclusive(&self) -> bool {
        let oldest = |shelf: &Shelf| lock(&shelf.kept).idle.front().map(|idle| idle.since);
        let mut by_age: Vec<_> =
            self.shelves().filter_map(|shelf| Some((oldest(shelf)?, shelf))).collect();
        by_age.sort_by_key(|(since, _)| *since);
        // What was seen idle may be lent by now: then the next oldest.
        by_age.into_iter().any(|(_, shelf)| {
            let closed = lock(&shelf.kept).idle.pop_front();
            closed.is_some()
        })
    }

    /// The same of those that requests share.
    pub(super) fn close_one_shared(&self) -> bool {
        self.shelves().any(|shelf| lock(&shelf.kept).http2.close_one_idle())
    }

    /// Takes back a connection that one request had for itself, for the next.
    pub(super) fn keep(self: &Arc<Self>, exclusive: Exclusive, alarm: Alarm) {
        let alarm = alarm.quiet();
        let own = self.own();
        let Some(mut kept) = self.with_room(own) else { return };
        kept.idle.push_back(Idle { exclusive, alarm, since: Instant::now() });
        self.see_to_reaping(&mut kept);
        drop(kept);
        self.limit.given_back();
    }

    /// Takes back a connection that was only looked at.
    fn keep_on(self: &Arc<Self>, idle: Idle) {
        let own = self.own();
        let Some(mut kept) = self.with_room(own) else { return };
        let place = kept.idle.partition_point(|other| other.since <= idle.since);
        kept.idle.insert(place, idle);
        self.see_to_reaping(&mut kept);
        drop(kept);
        // Whoever came meanwhile may wait for one.
        self.limit.given_back();
    }

    /// What is on a shelf, if one more may be kept there.
    fn with_room<'s>(&self, own: &'s Shelf) -> Option<MutexGuard<'s, Kept>> {
        let kept = lock(&own.kept);
        (kept.idle.len() < self.most_idle()).then_some(kept)
    }

    /// How many idle ones each worker may keep: all workers together no more than the limit, unless there
    /// are so many that each would have next to none.
    fn most_idle(&self) -> usize {
        let share = limits::MAX_IDLE_UPSTREAM_CONNECTIONS / self.of_workers().len().max(1);
        share.max(limits::MIN_IDLE_OF_A_WORKER)
    }

    /// Takes out those that this worker has not used for `pause`.
    fn rested(&self, pause: Duration) -> VecDeque<Idle> {
        let own = self.own();
        let mut kept = lock(&own.kept);
        let count = kept.idle.partition_point(|idle| idle.since.elapsed() >= pause);
        kept.idle.drain(..count).collect()
    }

    fn see_to_reaping(self: &Arc<Self>, kept: &mut Kept) {
        if !kept.reaped {
            kept.reaped = true;
            tokio::spawn(reap(Reaping(Arc::downgrade(self)), self.patience));
        }
    }

    fn of_workers(&self) -> &[Shelf] {
        let make = || (0..workers::most()).map(|_place| Shelf::new(&self.newest)).collect();
        self.of_workers.get_or_init(make)
    }

    fn shelves(&self) -> impl Iterator<Item = &Shelf> {
        iter::once(&self.first).chain(self.of_workers())
    }

    /// The shelf of this worker.
    fn own(&self) -> &Shelf {
        let of_worker = workers::here().checked_sub(1);
        of_worker.and_then(|place| self.of_workers().get(place)).unwrap_or(&self.first)
    }

    /// Those of others.
    fn others(&self) -> impl Iterator<Item = &Shelf> {
        let own = self.own();
        self.shelves().filter(move |shelf| !ptr::eq(*shelf, own))
    }
}

impl Shelf {
    fn new(newest: &Arc<AtomicU64>) -> Self {
        let http2 = Connections::counted_by(newest);
        let kept = Kept { idle: VecDeque::new(), http2, reaped: false };
        Self { kept: Mutex::new(kept), making: Arc::default() }
    }
}

impl Kept {
    /// A connection that is there: of those for one request the one used last, which is the one
    /// least likely to have been closed.
    fn there(&mut self) -> Option<There> {
        let shared = self.http2.lend(None).map(There::Http2);
        shared.or_else(|| self.idle.pop_back().map(There::Http1))
    }

    /// One for another worker: which carries nothing, or was not used for the longest time.
    fn spare(&mut self) -> Option<There> {
        let shared = self.http2.lend_idle().map(There::Http2);
        shared.or_else(|| self.idle.pop_front().map(There::Http1))
    }
}

fn of_http2(stream: Stream) -> Lease {
    Lease { reused: true, ..Lease::new(Connection::Http2(stream)) }
}

/// Looks at connections that were taken off this worker's shelf. Those that are good go back, the one
/// used last first; the others are closed. No lock is held meanwhile: requests take and keep theirs.
async fn look_at(pool: &Arc<Pool>, idle: VecDeque<Idle>) {
    for (before, mut idle) in idle.into_iter().rev().enumerate() {
        if before > 0 && before.is_multiple_of(limits::IDLE_CONNECTIONS_PER_TURN) {
            yield_now().await;
        }
        if idle.rests(pool.patience) {
            pool.keep_on(idle);
        }
    }
}

/// The pool of a [`reap`], which says so there even if a look at a connection ends it in a panic.
struct Reaping(Weak<Pool>);

impl Drop for Reaping {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(pool) = self.0.upgrade()
        {
            lock(&pool.own().kept).reaped = false;
        }
    }
}

/// Closes connections of this worker that nobody used for `patience`, and those that the other side has
/// closed; ends when there are none.
async fn reap(reaping: Reaping, patience: Duration) {
    let pause = patience.min(limits::IDLE_UPSTREAM_LOOK);
    loop {
        tokio::time::sleep(pause).await;
        let Some(pool) = reaping.0.upgrade() else { return };
        // What just came back is lent again before long, and looked at then.
        look_at(&pool, pool.rested(pause)).await;
        let own = pool.own();
        let mut kept = lock(&own.kept);
        kept.http2.reap(patience);
        if kept.idle.is_empty() && kept.http2.is_empty() {
            kept.reaped = false;
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
