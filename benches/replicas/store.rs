//! Redis, as the replicas see it: tokens and leases that end by themselves, and times in which it
//! is not there.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use foldhash::fast::FixedState;

use crate::memory::Token;
use crate::settings::Settings;
use crate::users::Key;

/// A flight that holds a lease.
pub(crate) type Holder = u64;

pub(crate) struct Store {
    tokens: HashMap<Key, (Token, u64), FixedState>,
    by_expiry: BinaryHeap<Reverse<(u64, Key)>>,
    leases: HashMap<Key, (Holder, Duration), FixedState>,
    outage: Option<(Duration, Duration)>,
    /// The most tokens that were there at a time.
    pub(crate) most: usize,
}

impl Store {
    pub(crate) fn new(settings: &Settings) -> Self {
        let outage = settings.begin(settings.redis_down_at);
        Self {
            tokens: HashMap::default(),
            by_expiry: BinaryHeap::new(),
            leases: HashMap::default(),
            outage: outage.map(|from| (from, from + settings.redis_down_takes)),
            most: 0,
        }
    }

    pub(crate) fn is_down(&self, now: Duration) -> bool {
        self.outage.is_some_and(|(from, to)| (from..to).contains(&now))
    }

    /// Forgets everything: it is down, and keeps nothing on disk.
    pub(crate) fn forget(&mut self) {
        self.tokens.clear();
        self.by_expiry.clear();
        self.leases.clear();
    }

    /// The token under `key`.
    pub(crate) fn look(&self, key: Key, now: Duration) -> Option<Token> {
        let found = self.tokens.get(&key).filter(|(_, end)| now.as_secs() < *end);
        found.map(|(token, _)| *token)
    }

    /// Whether `holder` gets the lease: nobody has it.
    pub(crate) fn lease(
        &mut self,
        key: Key,
        holder: Holder,
        now: Duration,
        time: Duration,
    ) -> bool {
        if self.leases.get(&key).is_some_and(|(_, until)| now < *until) {
            return false;
        }
        self.leases.insert(key, (holder, now + time));
        true
    }

    /// Moves the end of the lease, if it still is `holder`'s.
    pub(crate) fn hold(&mut self, key: Key, holder: Holder, now: Duration, time: Duration) {
        let lease = self.leases.get_mut(&key);
        if let Some((_, until)) =
            lease.filter(|(held_by, until)| *held_by == holder && now < *until)
        {
            *until = now + time;
        }
    }

    /// Gives the lease back, if it still is `holder`'s.
    pub(crate) fn release(&mut self, key: Key, holder: Holder) {
        if self.leases.get(&key).is_some_and(|(held_by, _)| *held_by == holder) {
            self.leases.remove(&key);
        }
    }

    /// Keeps `token` until `end`.
    pub(crate) fn keep(&mut self, key: Key, token: Token, end: u64, now: Duration) {
        while let Some(&Reverse((end, old))) = self.by_expiry.peek()
            && end <= now.as_secs()
        {
            self.by_expiry.pop();
            if self.tokens.get(&old).is_some_and(|(_, real)| *real == end) {
                self.tokens.remove(&old);
            }
        }
        if end <= now.as_secs() {
            return;
        }
        self.tokens.insert(key, (token, end));
        self.by_expiry.push(Reverse((end, key)));
        self.most = self.most.max(self.tokens.len());
    }
}
