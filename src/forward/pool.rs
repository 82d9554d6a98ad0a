//! The connections to one endpoint that nobody uses, or that several requests share: which of them
//! a request gets, and when they are closed. How they are made is `client.rs`'s, how many there may
//! be `limit.rs`'s.
//!
//! HTTP/1.1 connections are lent to one request at a time and come back when its answer has
//! ended well; HTTP/2 connections are shared (`shared.rs`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
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
        loop {
            // The one used last is the one least likely to have been closed.
            let Idle { mut exclusive, alarm, since } = lock(&self.kept).idle.pop_back()?;
            if since.elapsed() < self.patience && exclusive.takes_request() {
                let connection = Connection::Http1 { exclusive, pool: Arc::downgrade(self) };
                return Some(Lease { connection, reused: true, alarm });
            }
        }
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
        let mut kept = lock(&self.kept);
        if kept.idle.len() >= limits::MAX_IDLE_UPSTREAM_CONNECTIONS {
            return;
        }
        kept.idle.push_back(Idle { exclusive, alarm: alarm.quiet(), since: Instant::now() });
        self.see_to_reaping(&mut kept);
        drop(kept);
        self.limit.given_back();
    }

    fn see_to_reaping(self: &Arc<Self>, kept: &mut Kept) {
        if !kept.reaped {
            kept.reaped = true;
            tokio::spawn(reap(Arc::downgrade(self), self.patience));
        }
    }
}

/// Closes connections that nobody used for `patience`, and those that the other side has closed; ends
/// when there are none.
async fn reap(pool: Weak<Pool>, patience: Duration) {
    let pause = patience.min(limits::IDLE_UPSTREAM_LOOK);
    loop {
        tokio::time::sleep(pause).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut kept = lock(&pool.kept);
        kept.idle.retain_mut(|idle| {
            let rested = idle.since.elapsed();
            // What just came back is lent again before long, and looked at then.
            rested < pause || rested < patience && idle.exclusive.takes_request()
        });
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
