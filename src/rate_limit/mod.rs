//! How often a route may be called: by each user, client or address, or by all together
//! (`rate_limit`).
//!
//! Each has a bucket with a burst of requests, which fills up again at a steady rate (GCRA, by
//! `governor`). Addresses and routes are counted before a token is looked at, so that a flood
//! costs no signature checks, and a request that is then refused counts too; users and clients
//! are counted once they are verified and allowed, so that nobody can use up what is another's.
//!
//! What is counted lasts over a reload that leaves the limit as it is. Each process counts for itself,
//! unless the file says that replicas count together: how they do is decided in `together.rs`. How
//! memory stays bounded under a flood of callers is decided in `buckets.rs`.

mod buckets;
mod together;

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};
use serde::Serialize;
use tokio::time::Instant;

use self::buckets::{Buckets, Key};
use self::together::Together;
use crate::identity::{CallerKind, Identity};
use crate::limits;
use crate::rejection::{Code, Extra, Rejection};
use crate::shared_store::{SharedStore, Waited};

pub use self::together::TRIAL;

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// So many requests,
    pub requests: NonZeroU32,
    /// in this time,
    pub per: Duration,
    /// and so many at once.
    pub burst: NonZeroU32,
    /// Who shares them.
    pub by: By,
    /// Who counts them.
    pub reach: Reach,
}

/// Who counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Each replica for itself.
    Replica,
    /// All replicas together, as long as the store that they share answers.
    Fleet,
}

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Those of one user, in whichever client; an application that calls by itself is one too.
    User,
    /// Those of one client application, for whichever user.
    Client,
    /// Those from one IPv4 address, or one IPv6 network of 64 bits: that is what one host has.
    Ip,
    /// All that the route takes.
    Route,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Client => "client",
            Self::Ip => "ip",
            Self::Route => "route",
        })
    }
}

/// Why there can be no such limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmeasurable {
    /// A request in less than a microsecond.
    #[error("that is more than a million requests a second")]
    TooFast,
    /// Longer than [`limits::MAX_RATE_LIMIT_REFILL`].
    #[error("the burst takes more than 31 days to come back")]
    TooSlow,
}

/// What is said of a request that is counted.
#[must_use = "a request that nobody asks about has not been let pass"]
pub enum Admission<'l> {
    /// It passes.
    Passes,
    /// Replicas count it together: who awaits this learns whether it passes, and how long it waited for
    /// the store that they share.
    Asks(BoxFuture<'l, Result<Waited, Rejection>>),
}

/// A route's limit, and what is used of it.
pub struct RateLimit {
    allowance: Allowance,
    meters: Meters,
    /// Names of callers are kept as keyed digests: nobody can choose one that meets another's.
    digests: [RandomState; 2],
    clock: SinceStart,
}

/// Nothing beside yes or no is asked of `governor`.
type Plain = NoOpMiddleware<Duration>;

enum Meters {
    One(RateLimiter<NotKeyed, InMemoryState, SinceStart, Plain>),
    Each(RateLimiter<Key, Buckets, SinceStart, Plain>),
    Together(Box<Together>),
}

impl RateLimit {
    /// The limit of the route called `route`. Nobody has used anything of it yet, unless replicas count
    /// together, in `store`.
    ///
    /// # Errors
    ///
    /// A limit that can't be measured.
    pub fn new(
        allowance: Allowance,
        route: &str,
        store: &Arc<SharedStore>,
    ) -> Result<Self, Unmeasurable> {
        Self::within(limits::MAX_RATE_LIMIT_KEYS, allowance, (route, store))
    }

    fn within(
        room: usize,
        allowance: Allowance,
        (route, store): (&str, &Arc<SharedStore>),
    ) -> Result<Self, Unmeasurable> {
        let Allowance { requests, per, burst, by, reach } = allowance;
        let each = per / requests.get();
        if each < Duration::from_micros(1) {
            return Err(Unmeasurable::TooFast);
        }
        let refill = each.checked_mul(burst.get());
        if refill.is_none_or(|refill| refill > limits::MAX_RATE_LIMIT_REFILL) {
            return Err(Unmeasurable::TooSlow);
        }
        let quota = Quota::with_period(each).ok_or(Unmeasurable::TooFast)?.allow_burst(burst);
        let clock = SinceStart(Instant::now());
        let meters = match (reach, by) {
            (Reach::Fleet, _) => {
                let buckets = Buckets::new(room, each);
                let named = (route, Arc::clone(store));
                let together = Together::new(allowance, (each, quota), (buckets, clock), named);
                Meters::Together(Box::new(together))
            }
            (Reach::Replica, By::Route) => {
                Meters::One(RateLimiter::new(quota, InMemoryState::default(), clock))
            }
            (Reach::Replica, By::User | By::Client | By::Ip) => {
                Meters::Each(RateLimiter::new(quota, Buckets::new(room, each), clock))
            }
        };
        let digests = [RandomState::new(), RandomState::new()];
        Ok(Self { allowance, meters, digests, clock })
    }

    /// What the file says.
    pub fn allowance(&self) -> Allowance {
        self.allowance
    }

    /// Counts a request before its caller is known: where addresses or all requests are counted.
    ///
    /// # Errors
    ///
    /// `rate_limited`.
    pub fn admit(&self, client_ip: IpAddr) -> Result<Admission<'_>, Rejection> {
        match self.allowance.by {
            By::Route => self.count(&()),
            By::Ip => self.count(&network(client_ip)),
            By::User | By::Client => Ok(Admission::Passes),
        }
    }

    /// Counts a request of a caller who is verified and allowed: where users or clients are
    /// counted.
    ///
    /// # Errors
    ///
    /// `rate_limited`; `internal` if nobody was verified, which no configuration gives.
    pub fn admit_caller(&self, caller: Option<&Identity>) -> Result<Admission<'_>, Rejection> {
        let by = self.allowance.by;
        match (by, caller) {
            (By::Ip | By::Route, _) => Ok(Admission::Passes),
            (By::User, Some(identity)) => self.count(&user(identity)),
            (By::Client, Some(identity)) => self.count(&client(identity)),
            // Fail closed: a limit that counts nobody must not be passed by.
            (By::User | By::Client, None) => {
                let reason = format!("the route counts by {by}, and its caller is not known");
                Err(Rejection::internal(reason))
            }
        }
    }

    fn count<C: Hash + Serialize>(&self, caller: &C) -> Result<Admission<'_>, Rejection> {
        let counted = match &self.meters {
            Meters::One(meter) => meter.check(),
            Meters::Each(meters) => meters.check_key(&self.key(caller)),
            Meters::Together(together) => return self.count_together(together, caller),
        };
        match counted {
            Ok(()) => Ok(Admission::Passes),
            Err(until) => Err(self.refusal_until(&until)),
        }
    }

    /// Out of line: what most routes do is not to be any longer for it.
    #[inline(never)]
    fn count_together<'l, C: Hash + Serialize>(
        &'l self,
        together: &'l Together,
        caller: &C,
    ) -> Result<Admission<'l>, Rejection> {
        let (key, now) = (self.key(caller), self.clock.now());
        if let Some(wait) = together.known_wait(key, now) {
            return Err(self.refusal(wait));
        }
        let caller = together::bytes_of(caller)?;
        Ok(Admission::Asks(Box::pin(async move {
            together.count(key, &caller, now).await.map_err(|wait| self.refusal(wait))
        })))
    }

    fn key(&self, of: &impl Hash) -> Key {
        let [high, low] = &self.digests;
        Key(u128::from(high.hash_one(of)) << 64 | u128::from(low.hash_one(of)))
    }

    fn refusal_until(&self, until: &NotUntil<Duration>) -> Rejection {
        self.refusal(until.wait_time_from(self.clock.now()))
    }

    fn refusal(&self, wait: Duration) -> Rejection {
        let Allowance { requests, per, burst, by, reach } = self.allowance;
        let together = match reach {
            Reach::Replica => "",
            Reach::Fleet => ", over all replicas",
        };
        let reason = format!(
            "`rate_limit` by {by} is used up: {requests} requests in {per:?}, {burst} at \
             once{together}; the next one passes in {} ms",
            wait.as_millis()
        );
        Rejection::new(Code::RateLimited, "Too many requests: wait, then try again.", reason)
            .with(Extra::RetryAfter(wait))
    }
}

/// What the file says, and nobody's name.
impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RateLimit").field(&self.allowance).finish()
    }
}

/// What one host has of addresses: 64 bits of IPv6 (RFC 4291 §2.5.1).
fn network(address: IpAddr) -> (bool, u64) {
    match address.to_canonical() {
        IpAddr::V4(address) => (false, u64::from(address.to_bits())),
        IpAddr::V6(address) => (true, u64::try_from(address.to_bits() >> 64).unwrap_or_default()),
    }
}

/// A user as one provider and tenant knows them: equal names of two providers are two users. An
/// application in its own name counts as the client that it is.
fn user(identity: &Identity) -> (&str, Option<&str>, bool, Option<&str>) {
    let Identity { provider, tenant, user, client_id, .. } = identity;
    let (user, client_id) = (user.as_deref(), client_id.as_deref());
    let (is_user, name) = match identity.kind {
        CallerKind::User if user.is_some() => (true, user),
        CallerKind::User | CallerKind::App if client_id.is_some() => (false, client_id),
        CallerKind::User | CallerKind::App => (true, user),
    };
    (provider, tenant.as_deref(), is_user, name)
}

/// A client as one provider knows it; callers without one are one together.
fn client(identity: &Identity) -> (&str, Option<&str>) {
    (&identity.provider, identity.client_id.as_deref())
}

/// Time since the limit was made; tests move it.
#[derive(Clone, Copy, Debug)]
struct SinceStart(Instant);

impl Clock for SinceStart {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests;
