//! The provider: grants so many exchanges a second for each upstream's scopes, answers the rest
//! with 429, and is down at times.

use std::time::Duration;

use fastrand::Rng;

use crate::settings::Settings;
use crate::users::Key;

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A token that lives so long.
    Token(Duration),
    /// 429, and how long to wait.
    Throttled(Duration),
    /// 5xx, or nothing at all in time.
    Down,
    /// The user may not.
    Refused,
}

pub(crate) struct Provider {
    settings: Settings,
    /// What is left of each upstream's quota, and when that was so.
    quotas: Vec<(f64, Duration)>,
    /// From when to when it is down.
    outage: Option<(Duration, Duration)>,
}

impl Provider {
    /// How long a call takes at most (`timeout` of a provider).
    pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

    pub(crate) fn new(settings: &Settings) -> Self {
        let full = (settings.provider_rate, Duration::ZERO);
        let outage = settings.begin(settings.outage_at);
        Self {
            settings: settings.clone(),
            quotas: vec![full; settings.upstreams.into()],
            outage: outage.map(|from| (from, from + settings.outage_takes)),
        }
    }

    pub(crate) fn is_down(&self, now: Duration) -> bool {
        self.outage.is_some_and(|(from, to)| (from..to).contains(&now))
    }

    /// What it answers to a call that comes `now`, and how long that takes.
    pub(crate) fn ask(&mut self, key: Key, now: Duration, rng: &mut Rng) -> (Answer, Duration) {
        let least = self.settings.latency / 4;
        let took =
            least + self.settings.latency.saturating_sub(least).mul_f64(-(1.0 - rng.f64()).ln());
        let took = took.min(Self::TIMEOUT);
        if self.is_down(now) {
            return (Answer::Down, if self.settings.outage_hangs { Self::TIMEOUT } else { took });
        }
        if now >= self.settings.warm_up && !self.take(key.upstream, now) {
            return (Answer::Throttled(self.settings.retry_after), least);
        }
        if self.refuses(key.user) {
            return (Answer::Refused, took);
        }
        let by_chance = 1.0 + self.settings.life_spread / 100.0 * (2.0 * rng.f64() - 1.0);
        (
            Answer::Token(Duration::from_secs(
                self.settings.token_life.mul_f64(by_chance).as_secs(),
            )),
            took,
        )
    }

    /// The first users are as good as any: what they send is by chance.
    fn refuses(&self, user: u32) -> bool {
        f64::from(user) < f64::from(self.settings.users) * self.settings.refused / 100.0
    }

    /// Takes one of the quota, which holds a second of it at most.
    fn take(&mut self, upstream: u8, now: Duration) -> bool {
        let rate = self.settings.provider_rate;
        let (left, at) = &mut self.quotas[usize::from(upstream)];
        *left = (*left + now.saturating_sub(*at).as_secs_f64() * rate).min(rate.max(1.0));
        *at = now;
        let grants = *left >= 1.0;
        if grants {
            *left -= 1.0;
        }
        grants
    }
}
