//! What is counted, minute by minute.

use std::time::Duration;

use crate::settings::Settings;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its token was in memory.
    Memory,
    /// The one in memory was about to expire, and no other could be had.
    Stale,
    /// Its token was in Redis, or another replica put it there while it waited.
    Shared,
    /// It waited for an exchange, or a look into Redis, of another request.
    Coalesced,
    /// An exchange was made for it.
    Exchanged,
    /// The provider refuses the user.
    Refused,
    /// 503: no token could be had.
    Failed,
}

/// Operations on Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Claim,
    Hold,
    Store,
    Release,
    Ping,
}

/// A minute's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Minute {
    pub(crate) requests: u64,
    pub(crate) outcomes: [u64; 7],
    /// Calls to the provider, and what came of them.
    pub(crate) calls: u64,
    pub(crate) granted: u64,
    pub(crate) throttled: u64,
    pub(crate) down: u64,
    pub(crate) operations: [u64; 5],
    /// Longest that a request waited.
    pub(crate) longest: Duration,
}

/// All that is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    begin: Duration,
    pub(crate) minutes: Vec<Minute>,
    /// Calls by second, warm-up left out.
    pub(crate) calls_by_second: Vec<u32>,
    /// Calls for a token while another one for the same was under way.
    pub(crate) doubles: u64,
}

impl Minute {
    pub(crate) fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    pub(crate) fn all_outcomes(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    pub(crate) fn all_operations(&self) -> u64 {
        self.operations.iter().sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.calls += other.calls;
        self.granted += other.granted;
        self.throttled += other.throttled;
        self.down += other.down;
        self.longest = self.longest.max(other.longest);
        let sum = |into: &mut [u64], from: &[u64]| {
            into.iter_mut().zip(from).for_each(|(into, from)| *into += from);
        };
        sum(&mut self.outcomes, &other.outcomes);
        sum(&mut self.operations, &other.operations);
    }
}

impl Tally {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { begin: settings.warm_up, ..Self::default() }
    }

    /// A request came.
    pub(crate) fn request(&mut self, now: Duration) {
        self.at(now, |minute| minute.requests += 1);
    }

    /// What became of a request that came at `came`; it counts in the minute in which it came.
    pub(crate) fn ended(&mut self, outcome: Outcome, came: Duration, now: Duration) {
        self.at(came, |minute| {
            minute.outcomes[outcome as usize] += 1;
            minute.longest = minute.longest.max(now.saturating_sub(came));
        });
    }

    /// The provider is called.
    pub(crate) fn call(&mut self, now: Duration) {
        self.at(now, |minute| minute.calls += 1);
        if let Some(since) = now.checked_sub(self.begin) {
            let second = since.as_secs() as usize;
            if self.calls_by_second.len() <= second {
                self.calls_by_second.resize(second + 1, 0);
            }
            self.calls_by_second[second] += 1;
        }
    }

    pub(crate) fn granted(&mut self, now: Duration) {
        self.at(now, |minute| minute.granted += 1);
    }

    pub(crate) fn throttled(&mut self, now: Duration) {
        self.at(now, |minute| minute.throttled += 1);
    }

    pub(crate) fn down(&mut self, now: Duration) {
        self.at(now, |minute| minute.down += 1);
    }

    pub(crate) fn operation(&mut self, operation: Operation, now: Duration) {
        self.at(now, |minute| minute.operations[operation as usize] += 1);
    }

    /// Of the minutes `from..to`.
    pub(crate) fn sum(&self, from: usize, to: usize) -> Minute {
        let mut sum = Minute::default();
        self.minutes.iter().take(to).skip(from).for_each(|minute| sum.add(minute));
        sum
    }

    fn at(&mut self, now: Duration, count: impl FnOnce(&mut Minute)) {
        let Some(since) = now.checked_sub(self.begin) else { return };
        let nth = (since.as_secs() / 60) as usize;
        if self.minutes.len() <= nth {
            self.minutes.resize(nth + 1, Minute::default());
        }
        count(&mut self.minutes[nth]);
    }
}
