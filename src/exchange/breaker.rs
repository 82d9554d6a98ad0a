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

mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use self::state::{Change, Ledger, State};
use super::terms::{Terms, ThrottleKey};
use crate::limits;
use crate::secret::TokenDigest;

pub(super) use self::state::{Health, Open};

/// The breakers, each for the calls that are alike.
#[derive(Default)]
pub(super) struct Breakers {
    of: DashMap<ThrottleKey, Arc<Breaker>>,
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
    ledger: Mutex<Ledger>,
}

impl Breakers {
    /// Why the provider can't be asked on `terms` now; `None` if it can. Who asks later has to be
    /// admitted.
    pub(super) fn open(&self, terms: &Terms) -> Option<Open> {
        let breaker = Arc::clone(&*self.of.get(&terms.throttle_key())?);
        let ledger = breaker.lock();
        ledger.refuses(Instant::now())
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
        let mut ledger = breaker.lock();
        if let Some(open) = ledger.refuses(Instant::now()) {
            return Err(open);
        }
        let probe = ledger.begin_probe();
        drop(ledger);
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
        Self { provider: Arc::clone(&terms.provider), which, ledger: Mutex::default() }
    }

    fn report(&self, probe: bool, whose: Option<TokenDigest>, health: Health) {
        let now = Instant::now();
        let Self { provider, which, .. } = self;
        let mut ledger = self.lock();
        let change =
            if probe { ledger.probed(now, health) } else { ledger.called(now, whose, health) };
        drop(ledger);
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

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
