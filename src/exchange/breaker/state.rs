//! When a breaker opens, and when it closes again.
//!
//! Pure: times and outcomes in, what changed out. Whose calls one breaker counts, and what is said
//! of it, `breaker.rs` decides. `benches/replicas` is built of this very file, so it names nothing
//! of its neighbours'.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits;
use crate::secret::TokenDigest;

/// Why a provider is not asked now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Open {
    /// Until it is tried again; at least a second where that is being done.
    pub(crate) left: Duration,
    /// What went wrong last.
    pub(crate) why: String,
}

/// What a call says about its provider.
#[derive(Debug)]
pub(crate) enum Health {
    /// It answered.
    Alive,
    /// It did not, or with a failure of its own; why.
    Failing(String),
    /// It was not reached by a fault that is not its own.
    Unknown,
}

/// What a breaker knows.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) state: State,
    /// Calls by the second in which they ended, the last [`limits::BREAKER_WINDOW`] of them.
    pub(crate) seconds: VecDeque<Second>,
}

/// Whether calls go.
#[derive(Default)]
pub(crate) enum State {
    /// They do.
    #[default]
    Closed,
    /// Nobody asks before `until`; `why` and `since` when, for the log.
    Open { since: Instant, until: Instant, why: String },
    /// One call asks.
    Probing { since: Instant, why: String },
}

/// The calls that ended in one second.
pub(crate) struct Second {
    began: Instant,
    calls: u32,
    failed: u32,
    /// Whose calls failed; none that is in another second.
    pub(crate) of: Vec<TokenDigest>,
}

/// What is worth a line in the log.
pub(crate) enum Change {
    None,
    Opened { calls: u32, failed: u32, why: String },
    Closed { after: Duration },
}

impl Ledger {
    /// Why no call may go at `now`; `None` if one may.
    pub(crate) fn refuses(&self, now: Instant) -> Option<Open> {
        match &self.state {
            State::Closed => None,
            State::Open { until, why, .. } => {
                let left = until.saturating_duration_since(now);
                (!left.is_zero()).then(|| Open { left, why: why.clone() })
            }
            State::Probing { why, .. } => {
                Some(Open { left: Duration::from_secs(1), why: why.clone() })
            }
        }
    }

    /// Whether it says no more than a new one: it is closed, or nobody came to probe, and no call
    /// ended in the last [`limits::BREAKER_WINDOW`].
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let over = |since: Instant| now.saturating_duration_since(since) >= limits::BREAKER_WINDOW;
        match &self.state {
            State::Closed => self.seconds.back().is_none_or(|second| over(second.began)),
            State::Open { until, .. } => over(*until),
            State::Probing { .. } => false,
        }
    }

    /// Whether the call that is let go is the one that probes.
    pub(crate) fn begin_probe(&mut self) -> bool {
        let State::Open { since, why, .. } = &mut self.state else { return false };
        self.state = State::Probing { since: *since, why: std::mem::take(why) };
        true
    }

    /// Takes the outcome of the call that probed.
    pub(crate) fn probed(&mut self, now: Instant, health: Health) -> Change {
        let State::Probing { since, why } = &mut self.state else { return Change::None };
        let (since, why) = (*since, std::mem::take(why));
        let until = now + limits::BREAKER_PAUSE;
        self.state = match health {
            Health::Alive => {
                self.state = State::Closed;
                self.seconds.clear();
                return Change::Closed { after: now.saturating_duration_since(since) };
            }
            Health::Failing(why) => State::Open { since, until, why },
            // The next one probes.
            Health::Unknown => State::Open { since, until: now, why },
        };
        Change::None
    }

    /// Takes the outcome of another call, which swapped the token `whose`.
    pub(crate) fn called(
        &mut self,
        now: Instant,
        whose: Option<TokenDigest>,
        health: Health,
    ) -> Change {
        let failed = match &health {
            Health::Alive => 0,
            Health::Failing(_) => 1,
            Health::Unknown => return Change::None,
        };
        // Calls that were let go before it opened say nothing new.
        if !matches!(self.state, State::Closed) {
            return Change::None;
        }
        let old =
            |second: &Second| now.saturating_duration_since(second.began) >= limits::BREAKER_WINDOW;
        while self.seconds.front().is_some_and(old) {
            self.seconds.pop_front();
        }
        let whose = whose.filter(|_| failed > 0);
        // Nor does a caller that failed already.
        if whose.is_some_and(|whose| self.seconds.iter().any(|it| it.of.contains(&whose))) {
            return Change::None;
        }
        let known = self.seconds.iter().map(|second| second.of.len()).sum::<usize>();
        let whose = whose.filter(|_| known < limits::MAX_BREAKER_TOKENS);
        let this_second = self
            .seconds
            .back_mut()
            .filter(|second| now.saturating_duration_since(second.began) < Duration::from_secs(1));
        if let Some(second) = this_second {
            second.calls = second.calls.saturating_add(1);
            second.failed = second.failed.saturating_add(failed);
            second.of.extend(whose);
        } else {
            let of = Vec::from_iter(whose);
            self.seconds.push_back(Second { began: now, calls: 1, failed, of });
        }
        let sum = |of: fn(&Second) -> u32| self.seconds.iter().map(of).fold(0, u32::saturating_add);
        let (calls, all_failed) = (sum(|second| second.calls), sum(|second| second.failed));
        match health {
            Health::Failing(why)
                if calls >= limits::BREAKER_MIN_CALLS && all_failed >= calls.div_ceil(2) =>
            {
                let until = now + limits::BREAKER_PAUSE;
                self.state = State::Open { since: now, until, why: why.clone() };
                Change::Opened { calls, failed: all_failed, why }
            }
            Health::Failing(_) | Health::Alive | Health::Unknown => Change::None,
        }
    }
}
