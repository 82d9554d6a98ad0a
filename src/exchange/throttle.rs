//! `Retry-After` of a provider: who is held back, and until when.
//!
//! What a provider says to one caller holds for all of the same provider, tenant, client and
//! scope set: it would throttle the next one, too, and for longer. Only those who have nothing
//! cached come here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;
use http::header::RETRY_AFTER;
use tokio::time::Instant;

use super::terms::ThrottleKey;
use crate::clock::UnixTime;
use crate::limits;

/// The waits that are in force.
#[derive(Debug, Default)]
pub(super) struct Throttles {
    until: Mutex<HashMap<ThrottleKey, Instant>>,
}

impl Throttles {
    /// How long `key` is still held back; `None` if it is not.
    pub(super) fn wait(&self, key: ThrottleKey) -> Option<Duration> {
        let until = self.lock().get(&key).copied()?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Holds `key` back for `wait`, or longer where it was told so before: calls that were under
    /// way together are answered in any order.
    pub(super) fn hold_back(&self, key: ThrottleKey, wait: Duration) {
        let now = Instant::now();
        let mut until = self.lock();
        until.retain(|_, until| *until > now);
        // Full of waits in force: a new one is let through, and is told again to wait.
        if until.len() < limits::MAX_THROTTLES || until.contains_key(&key) {
            let until = until.entry(key).or_insert(now);
            *until = (now + wait).max(*until);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ThrottleKey, Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date, which is compared with `now`; at most
/// [`limits::MAX_RETRY_AFTER`]. `None` if there is none, or none that can be read.
pub(super) fn retry_after(headers: &HeaderMap, now: UnixTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a `u64` has is a long time all the same.
        text.parse().map_or(Duration::MAX, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        let date = UnixTime(date.duration_since(UNIX_EPOCH).ok()?.as_secs());
        date.since(now)
    };
    Some(wait.min(limits::MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::super::terms::tests::terms;
    use super::*;

    #[test]
    fn seconds_and_dates_are_read() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, UnixTime(784_111_777)).map(|wait| wait.as_secs())
        };
        assert_eq!(read("0"), Some(0));
        assert_eq!(read(" 17 "), Some(17));
        assert_eq!(read("3600"), Some(3600));
        assert_eq!(read("3601"), Some(3600));
        assert_eq!(read("99999999999999999999999"), Some(3600));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(0));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:27 GMT"), Some(0));
        assert_eq!(read("Sat, 06 Nov 2094 08:49:27 GMT"), Some(3600));
        assert_eq!(read("-1"), None);
        assert_eq!(read("1.5"), None);
        assert_eq!(read("soon"), None);
        assert_eq!(read(""), None);
        assert_eq!(retry_after(&HeaderMap::new(), UnixTime(0)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_scope_set_is_held_back_and_not_the_other() {
        let throttles = Throttles::default();
        let (a, b) = (terms("c", &["a"]).throttle_key(), terms("c", &["b"]).throttle_key());
        assert_eq!(throttles.wait(a), None);
        throttles.hold_back(a, Duration::from_secs(10));
        assert_eq!(throttles.wait(a), Some(Duration::from_secs(10)));
        assert_eq!(throttles.wait(b), None);
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert_eq!(throttles.wait(a), Some(Duration::from_millis(1)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(throttles.wait(a), None);
        throttles.hold_back(b, Duration::from_secs(1));
        assert_eq!(throttles.lock().len(), 1, "what is over is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_wait_does_not_end_a_longer_one() {
        let (throttles, key) = (Throttles::default(), terms("c", &["a"]).throttle_key());
        for (told, held) in [(10, 10), (1, 10), (20, 20)] {
            throttles.hold_back(key, Duration::from_secs(told));
            assert_eq!(throttles.wait(key), Some(Duration::from_secs(held)));
        }
    }
}
