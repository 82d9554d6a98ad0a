//! Who asks, how often, and with which token.
//!
//! Users differ: their rates are log-normal, so that a few send a great part of all requests and
//! many send hardly any. Each has one token at a time, and a new one five minutes before its end,
//! as MSAL does.

use std::time::Duration;

use fastrand::Rng;

use crate::settings::Settings;

/// How long before a token's end a client has the next one.
const CLIENT_MARGIN: Duration = Duration::from_mins(5);

/// A token that is wanted: of a user's nth token for an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) user: u32,
    pub(crate) nth: u32,
    pub(crate) upstream: u8,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) key: Key,
    /// When the caller's token expires, in whole seconds.
    pub(crate) inbound_end: u64,
    /// Chooses among the replicas in service, in `0..1`.
    pub(crate) replica: f64,
}

/// All users, and the chance that their requests come from: the same requests whatever the world
/// does with them.
pub(crate) struct Users {
    rng: Rng,
    rate: f64,
    upstreams: u8,
    all: Vec<User>,
}

struct User {
    /// Below it the user is drawn, else `instead` (Walker's alias method).
    keep: f64,
    instead: u32,
    inbound_life: Duration,
    /// How long before time 0 the first token was had.
    phase: Duration,
}

impl Users {
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut rng = Rng::with_seed(settings.seed);
        let weights: Vec<f64> =
            (0..settings.users).map(|_| (settings.heavy * normal(&mut rng)).exp()).collect();
        let spread = settings.life_spread / 100.0;
        let all = aliases(&weights)
            .map(|(keep, instead)| {
                let by_chance = 1.0 + spread * (2.0 * rng.f64() - 1.0);
                let inbound_life = settings.inbound_life.mul_f64(by_chance);
                let phase = in_use(inbound_life).mul_f64(rng.f64());
                User { keep, instead, inbound_life, phase }
            })
            .collect();
        Self { rng, rate: settings.rate, upstreams: settings.upstreams, all }
    }

    /// How long after one request the next one comes.
    pub(crate) fn pause(&mut self) -> Duration {
        Duration::from_secs_f64(-(1.0 - self.rng.f64()).ln() / self.rate)
    }

    /// The request that comes `now`.
    pub(crate) fn request(&mut self, now: Duration) -> Request {
        let count = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let mut user = self.rng.u32(0..count);
        if self.rng.f64() >= self.at(user).keep {
            user = self.at(user).instead;
        }
        let upstream = self.rng.u8(0..self.upstreams);
        let replica = self.rng.f64();
        let User { inbound_life, phase, .. } = *self.at(user);
        let each = in_use(inbound_life);
        let nth = ((now + phase).as_nanos() / each.as_nanos().max(1)) as u32;
        let begin = (each * nth).saturating_sub(phase);
        let inbound_end = (begin + inbound_life).as_secs();
        Request { key: Key { user, nth, upstream }, inbound_end, replica }
    }

    fn at(&self, user: u32) -> &User {
        &self.all[user as usize]
    }
}

/// How long a client uses a token that lives for `life`.
fn in_use(life: Duration) -> Duration {
    life.saturating_sub(CLIENT_MARGIN).max(life / 2)
}

/// From a normal distribution (Box and Muller).
fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

/// For each of `weights` how likely it is kept when it is drawn, and which is taken in its place:
/// then one drawn evenly comes as often as its weight says.
fn aliases(weights: &[f64]) -> impl Iterator<Item = (f64, u32)> + use<> {
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    let mut keep: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
    let mut instead: Vec<u32> = (0..).take(weights.len()).collect();
    let (mut small, mut large): (Vec<u32>, Vec<u32>) =
        instead.iter().partition(|nth| keep[**nth as usize] < 1.0);
    while let (Some(less), Some(&more)) = (small.pop(), large.last()) {
        instead[less as usize] = more;
        keep[more as usize] -= 1.0 - keep[less as usize];
        if keep[more as usize] < 1.0 {
            large.pop();
            small.push(more);
        }
    }
    keep.into_iter().zip(instead)
}
