//! Which provider is left alone because it fails sustainedly, and for what.
//!
//! A provider that is down costs each request a connection attempt, a pause and another attempt,
//! and when it comes back it is met by all who waited. So where half of at least
//! [`limits::BREAKER_MIN_CALLS`] calls in [`limits::BREAKER_WINDOW`] failed, nobody asks it for
//! [`limits::BREAKER_PAUSE`]; then one call does, and its outcome decides for all. A failure is
//! a call without an answer, or a 5xx: a refusal and a 429 come from a provider that works.
//!
//! A 5xx may be what one caller, tenant or scope meets and nobody else. So calls are told apart as
//! for a `Retry-After`, by provider, tenant, client and scope set, and one caller's token fails
//! once in that time, however often it does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use super::terms::{Terms, ThrottleKey};
use crate::limits;
use crate::secret::TokenDigest;

/// The breakers, each for the calls that are alike.
#[derive(Default)]
pub(super) struct Breakers {
    of: DashMap<ThrottleKey, Arc<Breaker>>,
}

/// Why a provider is not asked now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// Until it is tried again; at least a second where that is being done.
    pub(super) left: Duration,
    /// What went wrong last.
    pub(super) why: String,
}

/// Calls that a provider is not asked for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerStatus {
    /// Which calls: for which client, scopes and tenant.
    pub which: String,
    /// Until one call asks again; `None` while one does.
    pub left: Option<Duration>,
    /// For how long this has been so.
    pub since: Duration,
    /// What went wrong last.
    pub why: String,
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
    /// The caller's token that is swapped, where one is.
    whose: Option<TokenDigest>,
    probe: bool,
}

struct Breaker {
    provider: Arc<str>,
    /// Which calls to it, for the log.
    which: String,
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
    /// Whose calls failed; none that is in another second.
    of: Vec<TokenDigest>,
}

impl Breakers {
    /// Why the provider can't be asked on `terms` now; `None` if it can. Who asks later has to be
    /// admitted.
    pub(super) fn open(&self, terms: &Terms) -> Option<Open> {
        let breaker = Arc::clone(&*self.of.get(&terms.throttle_key())?);
        let inner = breaker.lock();
        inner.refuses(Instant::now())
    }

    /// Those for calls to `provider` that are not closed: at most `most`, and how many there are.
    pub(super) fn not_closed(&self, provider: &str, most: usize) -> (Vec<BreakerStatus>, usize) {
        let now = Instant::now();
        let (mut some, mut count) = (Vec::new(), 0);
        for breaker in &self.of {
            if *breaker.provider != *provider {
                continue;
            }
            let Some(status) = breaker.status(now) else { continue };
            count += 1;
            if some.len() < most {
                some.push(status);
            }
        }
        (some, count)
    }

    /// Lets one call on `terms` go, which swaps the token `whose`.
    pub(super) fn admit(&self, terms: &Terms, whose: Option<TokenDigest>) -> Result<Pass, Open> {
        let breaker = self.breaker(terms);
        let mut inner = breaker.lock();
        if let Some(open) = inner.refuses(Instant::now()) {
            return Err(open);
        }
        let probe = inner.begin_probe();
        drop(inner);
        Ok(Pass { breaker, whose, probe })
    }

    fn breaker(&self, terms: &Terms) -> Arc<Breaker> {
        let key = terms.throttle_key();
        if let Some(breaker) = self.of.get(&key) {
            return Arc::clone(&breaker);
        }
        let new = Arc::new(Breaker::new(terms));
        if self.of.len() >= limits::MAX_BREAKERS {
            let now = Instant::now();
            // One that a call has is to hear of its outcome.
            self.of.retain(|_, it| Arc::strong_count(it) > 1 || !it.lock().is_idle(now));
            // Full of those in use: these calls go uncounted.
            if self.of.len() >= limits::MAX_BREAKERS {
                return new;
            }
        }
        Arc::clone(&self.of.entry(key).or_insert(new))
    }
}

impl Pass {
    /// Says how the call went.
    pub(super) fn report(mut self, health: Health) {
        let probe = std::mem::take(&mut self.probe);
        let (breaker, whose) = (Arc::clone(&self.breaker), self.whose);
        drop(self);
        breaker.report(probe, whose, health);
    }
}

impl Drop for Pass {
    // Here, so that a panic in the one call that probes does not end all calls for ever.
    fn drop(&mut self) {
        if self.probe {
            self.breaker.report(true, self.whose, Health::Unknown);
        }
    }
}

impl Breaker {
    fn new(terms: &Terms) -> Self {
        let tenant = terms.tenant.as_deref().map(|tenant| format!(" in tenant {tenant}"));
        let which = format!(
            "for client {} and scopes `{}`{}",
            terms.client_id,
            terms.wanted(),
            tenant.unwrap_or_default()
        );
        let inner = Inner { state: State::Closed, seconds: VecDeque::new() };
        Self { provider: Arc::clone(&terms.provider), which, inner: Mutex::new(inner) }
    }

    fn report(&self, probe: bool, whose: Option<TokenDigest>, health: Health) {
        let now = Instant::now();
        let Self { provider, which, .. } = self;
        let mut inner = self.lock();
        let change =
            if probe { inner.probed(now, health) } else { inner.called(now, whose, health) };
        drop(inner);
        match change {
            Change::None => {}
            Change::Opened { calls, failed, why } => tracing::warn!(
                %provider,
                "{failed} of {calls} calls to the token endpoint of provider `{provider}` {which} failed within {} s, those with the same caller's token counted once; it is not asked for the like for {} s, then by one call at a time until it answers; tokens at hand are served; the last failure: {why}",
                limits::BREAKER_WINDOW.as_secs(),
                limits::BREAKER_PAUSE.as_secs(),
            ),
            Change::Closed { after } => tracing::info!(
                %provider,
                "the token endpoint of provider `{provider}` answers again {which}, after {} s",
                after.as_secs(),
            ),
        }
    }

    /// `None` while it is closed.
    fn status(&self, now: Instant) -> Option<BreakerStatus> {
        let (since, left, why) = match &self.lock().state {
            State::Closed => return None,
            State::Open { since, until, why } => {
                (*since, Some(until.saturating_duration_since(now)), why.clone())
            }
            State::Probing { since, why } => (*since, None, why.clone()),
        };
        let since = now.saturating_duration_since(since);
        Some(BreakerStatus { which: self.which.clone(), left, since, why })
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

    /// Whether it says no more than a new one: it is closed, or nobody came to probe, and no call
    /// ended in the last [`limits::BREAKER_WINDOW`].
    fn is_idle(&self, now: Instant) -> bool {
        let over = |since: Instant| now.saturating_duration_since(since) >= limits::BREAKER_WINDOW;
        match &self.state {
            State::Closed => self.seconds.back().is_none_or(|second| over(second.began)),
            State::Open { until, .. } => over(*until),
            State::Probing { .. } => false,
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

    fn called(&mut self, now: Instant, whose: Option<TokenDigest>, health: Health) -> Change {
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

#[cfg(test)]
mod tests;
