//! A limit that replicas hold together (`rate_limit: { shared: true }`), in the store that they share.
//!
//! The store counts: one script, one round trip, and its own clock, so that replicas need not agree
//! on the time. What it answers is kept beside in this replica's own buckets. They tell two things:
//! whose limit is known to be used up, who is refused without asking again, so that a flood does not
//! reach the store; and where to go on when the store is away, slow or answers nonsense. Then each
//! replica holds the limit alone, from where it was known to be.
//!
//! A bucket's state is how much of it is used, as the time that it takes to come back. In the store it
//! has a name that says nothing of whose it is, and vanishes when the bucket is full again.

use std::sync::Arc;
use std::time::Duration;

use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use serde::Serialize;

use super::buckets::{Buckets, Key};
use super::{Allowance, Plain, SinceStart};
use crate::observe::shared_cache::Operation;
use crate::rejection::Rejection;
use crate::shared_store::{Script, ScriptTrial, SharedStore, Waited};

/// The kind of names of buckets.
const KIND: &str = "limit";

/// Takes one request (`ARGV[1]` nanoseconds) out of a bucket (`ARGV[2]` nanoseconds) unless it is used
/// up; says whether it did (1, else 0), and how much is used now.
///
/// The value is the time when the bucket is full again: seconds and nanoseconds, as one number of
/// nanoseconds since 1970 has more digits than a number of Lua. Differences within a bucket have not:
/// [`MAX_RATE_LIMIT_REFILL`](crate::limits::MAX_RATE_LIMIT_REFILL) is below 2^53 ns. What is no such
/// value is none; what is more than the whole bucket is one of a clock that went back since, and is cut
/// to it.
const TAKE: Script = Script::new(
    "local each, whole = tonumber(ARGV[1]), tonumber(ARGV[2])\n\
     local time = redis.call('TIME')\n\
     local now, now_ns = tonumber(time[1]), tonumber(time[2]) * 1000\n\
     local used = 0\n\
     local kept = redis.pcall('GET', KEYS[1])\n\
     if type(kept) == 'string' then\n\
       local full, full_ns = string.match(kept, '^(%d+) (%d+)$')\n\
       if full then used = (full - now) * 1000000000 + (full_ns - now_ns) end\n\
     end\n\
     used = math.min(math.max(used, 0), whole)\n\
     local taken = 0\n\
     if used + each <= whole then\n\
       used = used + each\n\
       taken = 1\n\
     end\n\
     local full_ns = now_ns + used\n\
     local full = now + math.floor(full_ns / 1000000000)\n\
     local value = string.format('%.0f %.0f', full, full_ns % 1000000000)\n\
     redis.call('SET', KEYS[1], value, 'PX', string.format('%.0f', math.ceil(used / 1000000)))\n\
     return {taken, used}",
);

/// Tries whether the store lets us count: one request of a bucket of one, which is full again after a
/// millisecond.
pub const TRIAL: ScriptTrial =
    ScriptTrial { kind: KIND, script: TAKE, arguments: &[b"1000000", b"1000000"] };

/// What the store says of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    passes: bool,
    /// Of the bucket, in nanoseconds.
    used: u64,
}

/// A bucket's size, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// What one request takes to come back.
    each: u64,
    /// What a whole burst takes.
    whole: u64,
}

/// A limit that replicas hold together.
pub(super) struct Together {
    /// Whose buckets these are, beside the caller: another route, or another allowance, has its own.
    limit: Box<[u8]>,
    size: Size,
    store: Arc<SharedStore>,
    /// What is known here.
    buckets: Arc<Buckets>,
    /// Counts in these buckets while the store does not.
    alone: RateLimiter<Key, Known, SinceStart, Plain>,
}

/// The buckets, for `governor`.
struct Known(Arc<Buckets>);

impl StateStore for Known {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, measure)
    }
}

impl Together {
    /// The limit of the route called `route`, of which each request takes `each` to come back.
    pub(super) fn new(
        allowance: Allowance,
        (each, quota): (Duration, Quota),
        (buckets, clock): (Buckets, SinceStart),
        (route, store): (&str, Arc<SharedStore>),
    ) -> Self {
        let Allowance { requests, per, burst, by, reach: _ } = allowance;
        let limit = format!("{requests} in {} ns, {burst}, {by}: {route}", per.as_nanos());
        let buckets = Arc::new(buckets);
        let alone = RateLimiter::new(quota, Known(Arc::clone(&buckets)), clock);
        let size = Size::new(each, burst.get());
        Self { limit: limit.into_bytes().into(), size, store, buckets, alone }
    }

    /// How long the one of `key` has to wait at least, as is known without asking.
    pub(super) fn known_wait(&self, key: Key, now: Duration) -> Option<Duration> {
        let full_at = Duration::from(self.buckets.full_at(key)?);
        let used = nanoseconds(full_at.saturating_sub(now));
        self.size.wait(used)
    }

    /// Counts a request of `caller`, whose bucket here is that of `key`; else how long it has to wait.
    /// Takes no longer than `cache.redis.timeout`, and says how much of that it took.
    ///
    /// # Cancel safety
    ///
    /// A request whose future is dropped may be counted, or not.
    pub(super) async fn count(
        &self,
        key: Key,
        caller: &[u8],
        now: Duration,
    ) -> Result<Waited, Duration> {
        let (counted, waited) = self.ask(caller).await;
        let Some(Counted { passes, used }) = counted else {
            let counted = self.alone.check_key(&key).map(|()| waited);
            return counted.map_err(|until| until.wait_time_from(self.alone.clock().0.elapsed()));
        };
        // As of before it was asked: so what is known here is never more than what is true there, and
        // nobody is refused here who would pass there.
        self.buckets.raise(key, now, Duration::from_nanos(used));
        if passes { Ok(waited) } else { Err(self.size.wait(used).unwrap_or_default()) }
    }

    /// What the store counts, `None` if it does not; and how long that took.
    async fn ask(&self, caller: &[u8]) -> (Option<Counted>, Waited) {
        let Some(mut session) = self.store.session() else { return (None, Waited::default()) };
        let Size { each, whole } = self.size;
        let (each, whole) = (each.to_string(), whole.to_string());
        let bucket = (KIND, [&*self.limit, caller]);
        let arguments = [each.as_bytes(), whole.as_bytes()];
        let read = |answer: &[i64]| self.size.read(answer);
        let counted =
            session.numbers(Operation::Limit, TAKE, (bucket.0, &bucket.1), &arguments, read).await;
        // A failure is counted, and told of where it happened.
        (counted.ok(), session.waited())
    }
}

/// What tells `caller` from all others, on all replicas.
pub(super) fn bytes_of(caller: &impl Serialize) -> Result<Vec<u8>, Rejection> {
    serde_json::to_vec(caller).map_err(|error| {
        Rejection::internal("a caller that can't be counted by replicas together").caused_by(error)
    })
}

impl Size {
    fn new(each: Duration, burst: u32) -> Self {
        let each = nanoseconds(each);
        Self { each, whole: each.saturating_mul(u64::from(burst)) }
    }

    /// How long until another request passes where so much is `used`; `None` if one passes now.
    fn wait(self, used: u64) -> Option<Duration> {
        let missing = used.saturating_add(self.each).saturating_sub(self.whole);
        (missing > 0).then(|| Duration::from_nanos(missing))
    }

    /// What [`TAKE`] answers, unless it can't be true.
    fn read(self, answer: &[i64]) -> Option<Counted> {
        let [taken, used] = *answer else { return None };
        let used = u64::try_from(used).ok().filter(|used| *used <= self.whole)?;
        match taken {
            1 if used >= self.each => Some(Counted { passes: true, used }),
            0 if self.wait(used).is_some() => Some(Counted { passes: false, used }),
            _ => None,
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { each: 10, whole: 30 };

    #[test]
    fn a_wait_is_until_one_more_fits() {
        for (used, wait) in [(0, None), (20, None), (21, Some(1)), (30, Some(10))] {
            assert_eq!(SIZE.wait(used), wait.map(Duration::from_nanos), "{used}");
        }
        assert_eq!(Size::new(Duration::from_micros(2), 3).whole, 6000);
    }

    #[test]
    fn an_answer_that_cannot_be_true_is_none() {
        let counted = |passes, used| Some(Counted { passes, used });
        for (answer, expected) in [
            (&[1, 10][..], counted(true, 10)),
            (&[1, 30], counted(true, 30)),
            (&[0, 21], counted(false, 21)),
            (&[0, 30], counted(false, 30)),
            // It took one, so one is used.
            (&[1, 9], None),
            (&[1, 31], None),
            // One more fits: it would have taken it.
            (&[0, 20], None),
            (&[0, 31], None),
            (&[0, -1], None),
            (&[2, 10], None),
            (&[1], None),
            (&[1, 10, 10], None),
            (&[], None),
        ] {
            assert_eq!(SIZE.read(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn no_two_callers_have_the_same_bytes() {
        let of = |tenant, name| bytes_of(&("p", tenant, true, name)).unwrap();
        assert_eq!(of(Some("a"), Some("b")), of(Some("a"), Some("b")));
        for other in [of(Some("ab"), Some("")), of(None, Some("b")), of(Some("a,b"), None)] {
            assert_ne!(of(Some("a"), Some("b")), other);
        }
        assert_ne!(of(Some(""), None), of(None, Some("")));
    }
}
