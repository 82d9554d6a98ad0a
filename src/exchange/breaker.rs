//! Which provider is left alone because it fails sustainedly.
//!
//! A provider that is down costs each request a connection attempt, a pause and another attempt,
//! and when it comes back it is met by all who waited. So where half of at least
//! [`limits::BREAKER_MIN_CALLS`] calls in [`limits::BREAKER_WINDOW`] failed, nobody asks it for
//! [`limits::BREAKER_PAUSE`]; then one call does, and its outcome decides for all. A failure is
//! a call without an answer, or a 5xx: a refusal and a 429 come from a provider that works.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use crate::limits;

/// The breakers of all providers, by their names in the routes file.
#[derive(Default)]
pub(super) struct Breakers {
    of: DashMap<Arc<str>, Arc<Breaker>>,
}

/// Why a provider is not asked now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// Until it is tried again; at least a second where that is being done.
    pub(super) left: Duration,
    /// What went wrong last.
    pub(super) why: String,
}

/// What a call says about its provider.
#[derive(Debug)]
pub(super) enum Health {
    /// It answered.
    Alive,
    /// It did not, or with a failure of its own; why.
    Failing(String),
    /// It was not reached by a fault that is not its own.
    Unknown,
}

/// The right to make one call, and the duty to say how it went; dropping it says
/// [`Health::Unknown`].
pub(super) struct Pass {
    breaker: Arc<Breaker>,
    probe: bool,
}

struct Breaker {
    provider: Arc<str>,
    inner: Mutex<Inner>,
}

struct Inner {
    state: State,
    /// Calls by the second in which they ended, the last [`limits::BREAKER_WINDOW`] of them.
    seconds: VecDeque<Second>,
}

enum State {
    Closed,
    /// Nobody asks before `until`; `why` and `since` when, for the log.
    Open {
        since: Instant,
        until: Instant,
        why: String,
    },
    /// One call asks.
    Probing {
        since: Instant,
        why: String,
    },
}

struct Second {
    began: Instant,
    calls: u32,
    failed: u32,
}

impl Breakers {
    /// Why `provider` can't be asked now; `None` if it can. Who asks later has to be admitted.
    pub(super) fn open(&self, provider: &str) -> Option<Open> {
        let breaker = Arc::clone(&*self.of.get(provider)?);
        let inner = breaker.lock();
        inner.refuses(Instant::now())
    }

    /// Lets one call to `provider` go.
    pub(super) fn admit(&self, provider: &Arc<str>) -> Result<Pass, Open> {
        let breaker = self.breaker(provider);
        let mut inner = breaker.lock();
        if let Some(open) = inner.refuses(Instant::now()) {
            return Err(open);
        }
        let probe = inner.begin_probe();
        drop(inner);
        Ok(Pass { breaker, probe })
    }

    fn breaker(&self, provider: &Arc<str>) -> Arc<Breaker> {
        if let Some(breaker) = self.of.get(provider) {
            return Arc::clone(&breaker);
        }
        let new = || {
            let inner = Inner { state: State::Closed, seconds: VecDeque::new() };
            Arc::new(Breaker { provider: Arc::clone(provider), inner: Mutex::new(inner) })
        };
        Arc::clone(&self.of.entry(Arc::clone(provider)).or_insert_with(new))
    }
}

impl Pass {
    /// Says how the call went.
    pub(super) fn report(mut self, health: Health) {
        let probe = std::mem::take(&mut self.probe);
        let breaker = Arc::clone(&self.breaker);
        drop(self);
        breaker.report(probe, health);
    }
}

impl Drop for Pass {
    // Here, so that a panic in the one call that probes does not end all calls for ever.
    fn drop(&mut self) {
        if self.probe {
            self.breaker.report(true, Health::Unknown);
        }
    }
}

impl Breaker {
    fn report(&self, probe: bool, health: Health) {
        let now = Instant::now();
        let provider = &self.provider;
        let mut inner = self.lock();
        let change = if probe { inner.probed(now, health) } else { inner.called(now, health) };
        drop(inner);
        match change {
            Change::None => {}
            Change::Opened { calls, failed, why } => tracing::warn!(
                %provider,
                "{failed} of {calls} calls to the token endpoint of provider `{provider}` failed within {} s; it is not asked for {} s, then by one call at a time until it answers; tokens at hand are served; the last failure: {why}",
                limits::BREAKER_WINDOW.as_secs(),
                limits::BREAKER_PAUSE.as_secs(),
            ),
            Change::Closed { after } => tracing::info!(
                %provider,
                "the token endpoint of provider `{provider}` answers again, after {} s",
                after.as_secs(),
            ),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is worth a line in the log.
enum Change {
    None,
    Opened { calls: u32, failed: u32, why: String },
    Closed { after: Duration },
}

impl Inner {
    fn refuses(&self, now: Instant) -> Option<Open> {
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

    /// Whether the call that is let go is the one that probes.
    fn begin_probe(&mut self) -> bool {
        let State::Open { since, why, .. } = &mut self.state else { return false };
        self.state = State::Probing { since: *since, why: std::mem::take(why) };
        true
    }

    fn probed(&mut self, now: Instant, health: Health) -> Change {
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

    fn called(&mut self, now: Instant, health: Health) -> Change {
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
        let this_second = self
            .seconds
            .back_mut()
            .filter(|second| now.saturating_duration_since(second.began) < Duration::from_secs(1));
        match this_second {
            Some(second) => {
                second.calls = second.calls.saturating_add(1);
                second.failed = second.failed.saturating_add(failed);
            }
            None => self.seconds.push_back(Second { began: now, calls: 1, failed }),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entra() -> Arc<str> {
        Arc::from("entra")
    }

    fn failing() -> Health {
        Health::Failing("reset".to_owned())
    }

    fn call(breakers: &Breakers, health: Health) {
        breakers.admit(&entra()).ok().unwrap().report(health);
    }

    fn opened() -> Breakers {
        let breakers = Breakers::default();
        for _ in 0..limits::BREAKER_MIN_CALLS {
            call(&breakers, failing());
        }
        breakers
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_when_half_of_enough_calls_fail() {
        // (answered, failed, opens)
        for (answered, failed, opens) in
            [(0, 19, false), (0, 20, true), (10, 10, true), (11, 10, false), (50, 50, true)]
        {
            let breakers = Breakers::default();
            (0..answered).for_each(|_| call(&breakers, Health::Alive));
            (0..failed).for_each(|_| call(&breakers, failing()));
            assert_eq!(breakers.open("entra").is_some(), opens, "{answered} and {failed}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_long_ago_and_what_is_unknown_does_not_count() {
        let breakers = Breakers::default();
        (0..19).for_each(|_| call(&breakers, failing()));
        (0..50).for_each(|_| call(&breakers, Health::Unknown));
        tokio::time::advance(limits::BREAKER_WINDOW).await;
        call(&breakers, failing());
        assert_eq!(breakers.open("entra"), None);
        (0..18).for_each(|_| call(&breakers, failing()));
        assert_eq!(breakers.open("entra"), None);
        call(&breakers, failing());
        assert!(breakers.open("entra").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_probes_and_closes_it() {
        let breakers = opened();
        let open = breakers.admit(&entra()).err().unwrap();
        assert_eq!(open, Open { left: limits::BREAKER_PAUSE, why: "reset".to_owned() });
        assert!(breakers.admit(&Arc::from("other")).is_ok(), "each provider has its own");
        let last = Duration::from_millis(1);
        tokio::time::advance(limits::BREAKER_PAUSE.saturating_sub(last)).await;
        assert_eq!(breakers.admit(&entra()).err().map(|open| open.left), Some(last));
        tokio::time::advance(last).await;

        assert_eq!(breakers.open("entra"), None);
        let probe = breakers.admit(&entra()).ok().unwrap();
        let second = breakers.admit(&entra()).err().unwrap();
        assert_eq!(second.left, Duration::from_secs(1));
        probe.report(failing());
        assert_eq!(breakers.open("entra").map(|open| open.left), Some(limits::BREAKER_PAUSE));

        tokio::time::advance(limits::BREAKER_PAUSE).await;
        breakers.admit(&entra()).ok().unwrap().report(Health::Alive);
        (0..19).for_each(|_| call(&breakers, failing()));
        assert_eq!(breakers.open("entra"), None, "it starts anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_lost_leaves_the_next_one_to_probe() {
        let breakers = opened();
        tokio::time::advance(limits::BREAKER_PAUSE).await;
        drop(breakers.admit(&entra()).ok().unwrap());
        breakers.admit(&entra()).ok().unwrap().report(Health::Alive);
        call(&breakers, Health::Alive);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_from_before_it_opened_changes_nothing() {
        let breakers = Breakers::default();
        let slow = breakers.admit(&entra()).ok().unwrap();
        (0..limits::BREAKER_MIN_CALLS).for_each(|_| call(&breakers, failing()));
        slow.report(Health::Alive);
        assert!(breakers.open("entra").is_some());
    }
}
