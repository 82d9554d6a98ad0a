//! What each of many callers has used, in bounded memory.
//!
//! A bucket is one number: when it will be full again. Whose is full already may be forgotten, as
//! nobody can tell it from one that was never used; a few are whenever a new one comes.
//! Beyond the room there is, the one that is full again soonest is forgotten: it is the one that
//! used least. So a flood of callers, from however many addresses, never frees one who has used up
//! what he had, and the newcomer, who has used nothing, is always served.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::nanos::Nanos;
use governor::state::StateStore;

/// Who is counted: a keyed digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(pub(super) u128);

/// Each has a lock of its own.
const SHARDS: usize = 16;

/// How many full buckets are forgotten when a new one comes: more than come in.
const SWEPT: usize = 2;

/// The buckets of one limit.
pub(super) struct Buckets {
    shards: Box<[Mutex<Shard>; SHARDS]>,
    room: usize,
    /// What one request takes to come back, in nanoseconds.
    each: u64,
}

#[derive(Default)]
struct Shard {
    full_at: HashMap<Key, Nanos>,
    soonest: BTreeSet<(Nanos, Key)>,
}

impl Buckets {
    /// No more than `room` of them, in each of which a request takes `each` to come back.
    pub(super) fn new(room: usize, each: Duration) -> Self {
        let each = u64::try_from(each.as_nanos()).unwrap_or(u64::MAX);
        Self { shards: Box::default(), room: (room / SHARDS).max(1), each }
    }

    /// When the bucket of `key` is full again; `None` if it is full, or forgotten.
    pub(super) fn full_at(&self, key: Key) -> Option<Nanos> {
        let shard = self.shard(key)?.lock().unwrap_or_else(PoisonError::into_inner);
        shard.full_at.get(&key).copied()
    }

    /// At least as much of the bucket of `key` is used as took `used` to come back at the time `now`.
    pub(super) fn raise(&self, key: Key, now: Duration, used: Duration) {
        let Some(shard) = self.shard(key) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = Nanos::from(now.saturating_add(used));
        if shard.full_at.get(&key).is_none_or(|known| *known < full_at) {
            shard.set(key, full_at, Nanos::from(now), self.room);
        }
    }

    fn shard(&self, key: Key) -> Option<&Mutex<Shard>> {
        let number = usize::try_from(key.0 % SHARDS as u128).unwrap_or_default();
        self.shards.get(number)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().full_at.len()).sum()
    }
}

impl StateStore for Buckets {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let Some(shard) = self.shard(*key) else {
            return measure(None).map(|(outcome, _)| outcome);
        };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shard.full_at.get(key).copied();
        let (outcome, full_at) = measure(before)?;
        // A newcomer's bucket lacks this one request: that tells what time it is.
        let now = Nanos::from(u64::from(full_at).saturating_sub(self.each));
        shard.set(*key, full_at, now, self.room);
        Ok(outcome)
    }
}

impl Shard {
    /// Has the bucket of `key` full at that time; `now` counts for newcomers only.
    fn set(&mut self, key: Key, full_at: Nanos, now: Nanos, room: usize) {
        if let Some(before) = self.full_at.insert(key, full_at) {
            self.soonest.remove(&(before, key));
        } else {
            self.forget_full(now);
        }
        self.soonest.insert((full_at, key));
        // That may be the newcomer.
        if self.full_at.len() > room {
            self.forget_fullest();
        }
    }

    fn forget_full(&mut self, now: Nanos) {
        for _ in 0..SWEPT {
            match self.soonest.first() {
                Some((full_at, _)) if *full_at <= now => self.forget_fullest(),
                Some(_) | None => return,
            }
        }
    }

    fn forget_fullest(&mut self) {
        if let Some((_, key)) = self.soonest.pop_first() {
            self.full_at.remove(&key);
        }
    }
}
