//! Which endpoints are left alone for a while because requests to them fail one after the other
//! (`outlier_ejection`).
//!
//! Knows what came of requests, and nothing of health checks: those ask of themselves.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::moment::Moment;
use crate::limits;

/// When an endpoint is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierEjection {
    /// After so many failures without a success in between.
    pub consecutive_failures: u32,
    /// For so long the first time; for a multiple of it each further time.
    pub base: Duration,
    /// At most this share of an upstream's endpoints at a time, in percent. Only where it is 100
    /// the last one that takes requests may go, too.
    pub max_percent: u8,
}

/// What outlier ejection knows of one endpoint.
#[derive(Debug)]
pub(super) struct Ejection {
    /// In a row, while it takes requests.
    failures: AtomicU32,
    until: Moment,
    past: Mutex<Past>,
}

/// The last ejection.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    since: Option<Instant>,
    /// How many there were, less one for each `base` without.
    times: u32,
}

impl Ejection {
    pub(super) fn none() -> Self {
        Self { failures: AtomicU32::new(0), until: Moment::none(), past: Mutex::default() }
    }

    /// Since when and until when it is left alone, if it is now.
    pub(super) fn now(&self) -> Option<(Instant, Instant)> {
        if !self.is_on() {
            return None;
        }
        self.past().since.zip(self.until.time())
    }

    pub(super) fn is_on(&self) -> bool {
        self.until.is_ahead()
    }

    pub(super) fn succeeded(&self) {
        // Most requests succeed, and most times there is nothing to forget.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a failure, and says whether the endpoint is due to be left alone. What fails
    /// meanwhile was sent before, and is not counted.
    pub(super) fn failed(&self, settings: &OutlierEjection) -> bool {
        !self.is_on()
            && self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1)
                >= settings.consecutive_failures
    }

    /// Begins, and says for how long.
    pub(super) fn begin(&self, settings: &OutlierEjection) -> Duration {
        let now = Instant::now();
        let mut past = self.past();
        let quiet = self.until.time().map(|end| now.saturating_duration_since(end));
        let forgiven =
            quiet.map_or(0, |quiet| quiet.as_millis() / settings.base.as_millis().max(1));
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        let times = past.times.saturating_sub(forgiven).saturating_add(1);
        *past = Past { since: Some(now), times };
        let most = settings.base.max(limits::MAX_EJECTION);
        let time = settings.base.saturating_mul(times).min(most);
        self.until.set(now + time);
        self.failures.store(0, Ordering::Relaxed);
        time
    }

    fn past(&self) -> std::sync::MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of `endpoints` may be left alone at a time.
pub(super) fn most(endpoints: usize, max_percent: u8) -> usize {
    endpoints.saturating_mul(usize::from(max_percent)) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: OutlierEjection =
        OutlierEjection { consecutive_failures: 3, base: Duration::from_secs(30), max_percent: 50 };

    #[test]
    fn only_failures_in_a_row_count() {
        let ejection = Ejection::none();
        assert!(!ejection.failed(&SETTINGS) && !ejection.failed(&SETTINGS));
        ejection.succeeded();
        assert!(!ejection.failed(&SETTINGS) && !ejection.failed(&SETTINGS));
        assert!(ejection.failed(&SETTINGS));
    }

    #[tokio::test(start_paused = true)]
    async fn each_takes_longer_than_the_one_before_and_is_forgotten_in_time() {
        let ejection = Ejection::none();
        let mut took = Vec::new();
        for pause in [0, 0, 29, 30, 0, 300] {
            let time = ejection.begin(&SETTINGS);
            took.push(time.as_secs());
            assert!(ejection.is_on() && !ejection.failed(&SETTINGS));
            tokio::time::advance(time.saturating_sub(Duration::from_millis(1))).await;
            assert!(ejection.is_on());
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(!ejection.is_on());
            tokio::time::advance(Duration::from_secs(pause)).await;
        }
        took.push(ejection.begin(&SETTINGS).as_secs());
        assert_eq!(took, [30, 60, 90, 120, 120, 150, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn none_takes_longer_than_the_limit() {
        let ejection = Ejection::none();
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            longest = ejection.begin(&SETTINGS);
            tokio::time::advance(longest).await;
        }
        assert_eq!(longest, limits::MAX_EJECTION);
        let settings = OutlierEjection { base: Duration::from_hours(1), ..SETTINGS };
        assert_eq!(ejection.begin(&settings), Duration::from_hours(1));
    }

    #[test]
    fn a_share_is_rounded_down() {
        for (endpoints, percent, expected) in
            [(1, 50, 0), (2, 50, 1), (3, 50, 1), (4, 50, 2), (3, 33, 0), (3, 34, 1), (3, 100, 3)]
        {
            assert_eq!(most(endpoints, percent), expected, "{percent} % of {endpoints}");
        }
    }
}
