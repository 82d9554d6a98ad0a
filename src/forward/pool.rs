//! The connections to one endpoint that nobody uses, or that several requests share: which of them
//! a request gets, and when they are closed. How they are made is `client.rs`'s, how many there may
//! be `limit.rs`'s.
//!
//! HTTP/1.1 connections are lent to one request at a time and come back when its answer has
//! ended well; HTTP/2 connections are shared (`shared.rs`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
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
use super::shared::{Connections, Made};
use super::upstream::Protocol;
use crate::limits;

/// The connections to one endpoint.
pub(super) struct Pool {
    kept: Mutex<Kept>,
    http2: Mutex<Connections>,
    /// Held while a connection is made that may turn out to be one that others share.
    making: Arc<tokio::sync::Mutex<()>>,
    may_share: AtomicBool,
    patience: Duration,
    limit: Arc<Limit>,
}

#[derive(Default)]
struct Kept {
    /// Oldest first.
    idle: VecDeque<Idle>,
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
        let pool = Arc::new(Self {
            kept: Mutex::default(),
            http2: Mutex::default(),
            making: Arc::default(),
            may_share: AtomicBool::new(may_share),
            patience: settings.timeouts.idle,
            limit: Arc::clone(&origin.limit),
        });
        origin.limit.join(&pool);
        pool
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

    /// Waits until nobody else makes a connection that may be shared.
    pub(super) async fn making(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.making).lock_owned().await
    }

    /// Takes up a connection that requests share, and lends it to who had it made.
    pub(super) fn share(self: &Arc<Self>, made: Made) -> Lease {
        let stream = lock(&self.http2).share(made);
        self.see_to_reaping(&mut lock(&self.kept));
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
            first.room().await;
        }
    }

    fn room_now(self: &Arc<Self>, wanted: Wanted) -> Option<Room> {
        let there = match wanted {
            Wanted::Any => self.take(),
            Wanted::NewerThan(_) => self.shared(wanted),
        };
        match there {
            Some(lease) => Some(Room::Lease(lease)),
            None => self.limit.slot().map(Room::Slot),
        }
    }

    /// A kept connection that is still good.
    pub(super) fn take(self: &Arc<Self>) -> Option<Lease> {
        if let Some(lease) = self.shared(Wanted::Any) {
            return Some(lease);
        }
        for _ in 0..limits::DEAD_CONNECTIONS_IN_A_ROW {
            // The one used last is the one least likely to have been closed.
            let mut idle = lock(&self.kept).idle.pop_back()?;
            if idle.is_good(self.patience) {
                let Idle { exclusive, alarm, since: _ } = idle;
                let connection = Connection::Http1 { exclusive, pool: Arc::downgrade(self) };
                return Some(Lease { connection, reused: true, alarm });
            }
        }
        // The upstream has closed them, and most likely the others, too. A good one comes back.
        let others = std::mem::take(&mut lock(&self.kept).idle);
        if !others.is_empty() {
            let pool = Arc::clone(self);
            tokio::spawn(async move { look_at(&pool, others).await });
        }
        None
    }

    /// An HTTP/2 connection that is open, has room and will do.
    pub(super) fn shared(&self, wanted: Wanted) -> Option<Lease> {
        let than = match wanted {
            Wanted::Any => None,
            Wanted::NewerThan(failed) => Some(failed),
        };
        let stream = lock(&self.http2).lend(than)?;
        Some(Lease { reused: true, ..Lease::new(Connection::Http2(stream)) })
    }

    /// Closes a connection that nobody uses, so that there is room for another; whether there
    /// was one.
    pub(super) fn close_one_idle(&self) -> bool {
        let oldest = lock(&self.kept).idle.pop_front();
        oldest.is_some() || lock(&self.http2).close_one_idle()
    }

    /// Takes back a connection that one request had for itself, for the next.
    pub(super) fn keep(self: &Arc<Self>, exclusive: Exclusive, alarm: Alarm) {
        let alarm = alarm.quiet();
        let mut kept = lock(&self.kept);
        if kept.idle.len() >= limits::MAX_IDLE_UPSTREAM_CONNECTIONS {
            return;
        }
        kept.idle.push_back(Idle { exclusive, alarm, since: Instant::now() });
        self.see_to_reaping(&mut kept);
        drop(kept);
        self.limit.given_back();
    }

    /// Takes back a connection that was only looked at.
    fn keep_on(self: &Arc<Self>, idle: Idle) {
        let mut kept = lock(&self.kept);
        if kept.idle.len() >= limits::MAX_IDLE_UPSTREAM_CONNECTIONS {
            return;
        }
        let place = kept.idle.partition_point(|other| other.since <= idle.since);
        kept.idle.insert(place, idle);
        self.see_to_reaping(&mut kept);
        drop(kept);
        // Whoever came meanwhile may wait for one.
        self.limit.given_back();
    }

    /// Takes out those that nobody has used for `pause`.
    fn rested(&self, pause: Duration) -> VecDeque<Idle> {
        let mut kept = lock(&self.kept);
        let count = kept.idle.partition_point(|idle| idle.since.elapsed() >= pause);
        kept.idle.drain(..count).collect()
    }

    fn see_to_reaping(self: &Arc<Self>, kept: &mut Kept) {
        if !kept.reaped {
            kept.reaped = true;
            tokio::spawn(reap(Reaping(Arc::downgrade(self)), self.patience));
        }
    }
}

/// Looks at connections that were taken out of `pool`. Those that are good go back, the one used last
/// first; the others are closed. No lock is held meanwhile: requests take and keep theirs.
async fn look_at(pool: &Arc<Pool>, idle: VecDeque<Idle>) {
    for (before, mut idle) in idle.into_iter().rev().enumerate() {
        if before > 0 && before.is_multiple_of(limits::IDLE_CONNECTIONS_PER_TURN) {
            yield_now().await;
        }
        if idle.is_good(pool.patience) {
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
            lock(&pool.kept).reaped = false;
        }
    }
}

/// Closes connections that nobody used for `patience`, and those that the other side has closed; ends
/// when there are none.
async fn reap(reaping: Reaping, patience: Duration) {
    let pause = patience.min(limits::IDLE_UPSTREAM_LOOK);
    loop {
        tokio::time::sleep(pause).await;
        let Some(pool) = reaping.0.upgrade() else { return };
        // What just came back is lent again before long, and looked at then.
        look_at(&pool, pool.rested(pause)).await;
        let mut kept = lock(&pool.kept);
        let mut common = lock(&pool.http2);
        common.reap(patience);
        if kept.idle.is_empty() && common.is_empty() {
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
