//! Whether a request that failed is tried again: what the file says of it, and the budget that
//! keeps retries from being the load that an upstream in trouble dies of.
//!
//! Nothing here knows a connection. Whether a request may happen twice is judged by what is known
//! of its failure; that is `attempt.rs`'s.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use tokio::time::Instant;

use crate::limits;

/// When a request is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all; 1 is none but the first.
    pub attempts: u32,
    /// After what.
    pub on: RetryOn,
    /// Most retries of the last [`limits::RETRY_WINDOW`], in percent of the requests in it.
    pub budget_percent: u32,
}

/// After what a request is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "a set of words of the file, each on its own")]
pub struct RetryOn {
    /// No connection could be made, so that nothing was sent.
    pub connect_failure: bool,
    /// The upstream says that it did not look at the request.
    pub refused_stream: bool,
    /// 502.
    pub bad_gateway: bool,
    /// 503.
    pub unavailable: bool,
    /// 504.
    pub gateway_timeout: bool,
}

impl RetryOn {
    /// Whether an answer with this status is among them.
    pub(super) fn takes(self, status: StatusCode) -> bool {
        match status {
            StatusCode::BAD_GATEWAY => self.bad_gateway,
            StatusCode::SERVICE_UNAVAILABLE => self.unavailable,
            StatusCode::GATEWAY_TIMEOUT => self.gateway_timeout,
            _ => false,
        }
    }

    /// Whether any answer is: then requests that may happen twice are kept.
    pub(super) fn takes_a_status(self) -> bool {
        self.bad_gateway || self.unavailable || self.gateway_timeout
    }
}

impl RetryPolicy {
    /// What there is a further try after, once there were `tries`.
    pub(super) fn after(self, tries: u32) -> RetryOn {
        if tries < self.attempts { self.on } else { RetryOn::default() }
    }
}

/// Whether an answer asks its caller to come back later: then the endpoint that gave it is not
/// asked again at once.
pub(super) fn asks_to_wait(headers: &HeaderMap) -> bool {
    // `Retry-After: 0` is no wait; what can't be read, or is a date, is taken for one.
    headers.get(header::RETRY_AFTER).is_some_and(|after| after.as_bytes() != b"0")
}

/// How long it is waited before a try that meets an endpoint again, or follows an answer: by
/// chance between nothing and a time that doubles from try to try, so that the requests that
/// failed together don't come back together.
pub(super) fn pause(retries: u32) -> Duration {
    let most = limits::RETRY_PAUSE.saturating_mul(1 << retries.min(16));
    most.min(limits::MAX_RETRY_PAUSE).mul_f64(fastrand::f64())
}

/// What one second saw: the second in the upper half, a count in the lower. Two are compared and
/// changed as one, without a lock.
#[derive(Default)]
struct Second(AtomicU64);

impl Second {
    fn pack(second: u32, count: u32) -> u64 {
        u64::from(second) << 32 | u64::from(count)
    }

    fn unpack(packed: u64) -> (u32, u32) {
        let low = packed & u64::from(u32::MAX);
        (u32::try_from(packed >> 32).unwrap_or(u32::MAX), u32::try_from(low).unwrap_or(u32::MAX))
    }

    fn count_one(&self, second: u32) {
        let counted = |packed| {
            let (of, count) = Self::unpack(packed);
            if of == second {
                Some(Self::pack(of, count.saturating_add(1)))
            } else {
                // A thread that was held up does not bring back a second that is over.
                (of < second || packed == 0).then(|| Self::pack(second, 1))
            }
        };
        // Refused only where there is nothing to count any more.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted).ok();
    }

    /// What it saw, if that was not before `oldest`.
    fn since(&self, oldest: u32) -> u64 {
        let (second, count) = Self::unpack(self.0.load(Ordering::Relaxed));
        if second >= oldest { u64::from(count) } else { 0 }
    }
}

/// [`limits::RETRY_WINDOW`] in seconds.
const SECONDS: u32 = 10;
const _: () = assert!(SECONDS as u64 == limits::RETRY_WINDOW.as_secs());

/// Counts of the last [`limits::RETRY_WINDOW`], by seconds.
#[derive(Default)]
struct Recent([Second; SECONDS as usize]);

impl Recent {
    fn count_one(&self, second: u32) {
        if let Some(counted) = self.0.get((second % SECONDS) as usize) {
            counted.count_one(second);
        }
    }

    fn total(&self, now: u32) -> u64 {
        let oldest = now.saturating_sub(SECONDS - 1);
        self.0.iter().map(|second| second.since(oldest)).sum()
    }
}

/// The budget of one upstream. A request counts by one atomic; retries are rare and take turns.
pub(super) struct Budget {
    percent: u32,
    began: Instant,
    requests: Recent,
    retries: Mutex<Recent>,
}

/// The budget is used up.
#[derive(Debug, thiserror::Error)]
#[error("not tried again: {retries} retries among {requests} requests in {} s are the budget",
    limits::RETRY_WINDOW.as_secs())]
pub(super) struct OverBudget {
    retries: u64,
    requests: u64,
}

impl Budget {
    pub(super) fn new(percent: u32) -> Self {
        let (requests, retries) = (Recent::default(), Mutex::default());
        Self { percent, began: Instant::now(), requests, retries }
    }

    /// Counts a request, whatever becomes of it.
    pub(super) fn request(&self, now: Instant) {
        self.requests.count_one(self.second(now));
    }

    /// Takes one retry out of the budget.
    pub(super) fn retry(&self, now: Instant) -> Result<(), OverBudget> {
        let now = self.second(now);
        let requests = self.requests.total(now);
        let most = (requests * u64::from(self.percent) / 100).max(limits::MIN_RETRIES);
        // Nothing that holds this lock can panic.
        let recent = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let retries = recent.total(now);
        if retries >= most {
            return Err(OverBudget { retries, requests });
        }
        recent.count_one(now);
        Ok(())
    }

    /// Counted from 1, so that 0 is a second that never was; 136 years are enough.
    fn second(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.began).as_secs() + 1;
        u32::try_from(since).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: RetryOn = RetryOn {
        connect_failure: true,
        refused_stream: true,
        bad_gateway: true,
        unavailable: true,
        gateway_timeout: true,
    };

    #[test]
    fn attempts_are_tries_in_all() {
        for attempts in 1..4 {
            let policy = RetryPolicy { attempts, on: ALL, budget_percent: 20 };
            for tries in 1..5 {
                let expected = if tries < attempts { ALL } else { RetryOn::default() };
                assert_eq!(policy.after(tries), expected, "{attempts} {tries}");
            }
        }
        assert!(!RetryOn::default().takes_a_status() && ALL.takes_a_status());
    }

    #[test]
    fn only_the_statuses_of_the_list_are_tried_again() {
        for status in 100..600 {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(ALL.takes(status), matches!(status.as_u16(), 502..=504), "{status}");
            let on = RetryOn { unavailable: true, ..RetryOn::default() };
            assert_eq!(on.takes(status), status == 503, "{status}");
            assert!(!RetryOn::default().takes(status));
        }
    }

    #[test]
    fn retry_after_is_a_wait_unless_it_is_none() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, http::HeaderValue::from_static(value));
            asks_to_wait(&headers)
        };
        assert!(!asks_to_wait(&HeaderMap::new()) && !with("0"));
        assert!(with("1") && with("Fri, 31 Dec 1999 23:59:59 GMT") && with("soon"));
    }

    #[test]
    fn pauses_are_bounded() {
        for retries in [0, 1, 5, 40, u32::MAX] {
            for _ in 0..100 {
                assert!(pause(retries) <= limits::MAX_RETRY_PAUSE);
            }
        }
        assert!((0..100).all(|_| pause(0) <= limits::RETRY_PAUSE));
    }

    fn taken(budget: &Budget, now: Instant) -> u64 {
        (0..10_000).take_while(|_| budget.retry(now).is_ok()).count() as u64
    }

    #[test]
    fn three_a_second_may_always_be() {
        for percent in [0, 20, 100] {
            let budget = Budget::new(percent);
            let now = budget.began;
            assert_eq!(taken(&budget, now), limits::MIN_RETRIES, "{percent}");
            // They are over when the window has passed, and not a second before.
            let second = Duration::from_secs(1);
            assert_eq!(taken(&budget, now + limits::RETRY_WINDOW - second), 0);
            assert_eq!(taken(&budget, now + limits::RETRY_WINDOW), limits::MIN_RETRIES);
        }
    }

    #[test]
    fn more_is_a_share_of_the_requests() {
        for (percent, expected) in [(0, 30), (20, 200), (100, 1000)] {
            let budget = Budget::new(percent);
            let now = budget.began + Duration::from_secs(3);
            (0..1000).for_each(|_| budget.request(now));
            assert_eq!(taken(&budget, now), expected, "{percent}");
            // Requests of the past are no budget of today.
            assert_eq!(taken(&budget, now + limits::RETRY_WINDOW), limits::MIN_RETRIES);
        }
    }

    proptest! {
        /// Whatever comes when, the retries of any ten seconds are no more than the budget of the
        /// requests in them, at the time of each.
        #[test]
        fn no_window_has_more_retries_than_its_budget(
            steps in prop::collection::vec((0u64..4, 0u32..200, 0u32..100), 1..60),
            percent in 0u32..=100,
        ) {
            let budget = Budget::new(percent);
            let (mut second, mut seen) = (0u64, Vec::new());
            for (later, requests, retries) in steps {
                second += later;
                let now = budget.began + Duration::from_secs(second);
                (0..requests).for_each(|_| budget.request(now));
                let granted = (0..retries).filter(|_| budget.retry(now).is_ok()).count() as u64;
                seen.push((second, u64::from(requests), granted));
                let recent = || seen.iter().filter(|(at, ..)| at + 10 > second);
                let requests: u64 = recent().map(|(_, requests, _)| requests).sum();
                let granted_lately: u64 = recent().map(|(.., granted)| granted).sum();
                let most = (requests * u64::from(percent) / 100).max(30);
                // What was granted while more requests were in the window stays granted.
                prop_assert!(granted == 0 || granted_lately <= most, "{seen:?}");
            }
        }
    }
}
