//! A point in time that all requests read and few write, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A point in time, or none; exact to the millisecond.
#[derive(Debug)]
pub(super) struct Moment {
    epoch: Instant,
    /// Since `epoch`; 0 is none.
    millis: AtomicU64,
}

impl Moment {
    pub(super) fn none() -> Self {
        Self { epoch: Instant::now(), millis: AtomicU64::new(0) }
    }

    pub(super) fn set(&self, time: Instant) {
        let since = time.saturating_duration_since(self.epoch).as_millis();
        let millis = u64::try_from(since).unwrap_or(u64::MAX).max(1);
        self.millis.store(millis, Ordering::Relaxed);
    }

    /// Writes only where there is one: what all requests read stays in their caches.
    pub(super) fn clear(&self) {
        if self.millis.load(Ordering::Relaxed) != 0 {
            self.millis.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn time(&self) -> Option<Instant> {
        match self.millis.load(Ordering::Relaxed) {
            0 => None,
            millis => self.epoch.checked_add(Duration::from_millis(millis)),
        }
    }

    /// Whether there is one, and it is still to come. Asks what time it is only if there is one.
    pub(super) fn is_ahead(&self) -> bool {
        self.time().is_some_and(|time| Instant::now() < time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_ahead_until_it_is_there() {
        let moment = Moment::none();
        assert_eq!((moment.time(), moment.is_ahead()), (None, false));
        let soon = Instant::now() + Duration::from_millis(5);
        moment.set(soon);
        assert_eq!((moment.time(), moment.is_ahead()), (Some(soon), true));
        tokio::time::advance(Duration::from_millis(4)).await;
        assert!(moment.is_ahead());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!moment.is_ahead());
        moment.clear();
        assert_eq!(moment.time(), None);
    }
}
