//! Time that tests move by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use obo_gateway::clock::{Clock, UnixTime};

/// What the clocks of all tests say at first: 2026-01-01T00:00:00Z.
pub const START: UnixTime = UnixTime(1_767_225_600);

/// A clock that stands still until it is told to move; clones are the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock at [`START`].
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(START.0)))
    }

    /// Moves it into the future.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    /// Sets it, also back.
    pub fn set(&self, to: UnixTime) {
        self.0.store(to.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::SeqCst))
    }
}
