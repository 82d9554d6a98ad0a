//! How many connections are open, and who has to wait: `server.max_connections`.
//!
//! Nobody is turned away. While there is no room, listeners don't accept, and callers wait in
//! the system's backlog. Several listeners may exceed the limit by one connection each less one,
//! because each of them looks for room before it accepts.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::observe::Metrics;
use crate::observe::metrics::Counted;
use crate::workers::Seat;

#[derive(Debug, Default)]
pub(crate) struct Slots {
    open: AtomicUsize,
    changed: Notify,
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    _counted: Counted,
    _seat: Seat,
}

impl Slots {
    /// Waits until fewer than `limit` connections are open; asks for `limit` anew each time.
    ///
    /// # Cancel safety
    ///
    /// Holds nothing.
    pub(crate) async fn room(&self, limit: impl Fn() -> usize) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.open.load(Ordering::Acquire) < limit() {
                return;
            }
            changed.await;
        }
    }

    /// Takes room for a connection that is served at `seat`.
    pub(crate) fn take(self: &Arc<Self>, metrics: &Metrics, seat: Seat) -> Slot {
        self.open.fetch_add(1, Ordering::AcqRel);
        Slot { slots: Arc::clone(self), _counted: metrics.connection_opened(), _seat: seat }
    }

    /// The limit is another one now.
    pub(crate) fn limit_changed(&self) {
        self.changed.notify_waiters();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.open.fetch_sub(1, Ordering::AcqRel);
        // All of them: one that is woken may be about to stop.
        self.slots.changed.notify_waiters();
    }
}
