//! A token that an exchange gave: how old it is, how long it is of use, and whether it is better than
//! another.

use std::time::Duration;

use super::super::renewal;
use crate::clock::UnixTime;
use crate::limits;
use crate::secret::SecretHeader;

/// A token that an exchange gave, and how long it lives by itself.
#[derive(Clone, Debug)]
pub(in crate::exchange) struct Granted {
    /// `Bearer …`.
    pub(in crate::exchange) header: SecretHeader,
    /// When it was asked for: it may have been made at once.
    pub(in crate::exchange) asked_at: UnixTime,
    /// How long it lives from then on; `None` if the provider did not say.
    pub(in crate::exchange) life: Option<Duration>,
    /// When the provider would have it renewed, from `asked_at` on; `None` if it did not say.
    pub(in crate::exchange) refresh_in: Option<Duration>,
    /// Where it comes from.
    pub(in crate::exchange) source: Source,
}

/// Who gave a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::exchange) enum Source {
    /// A provider, for this exchange.
    Provider,
    /// Another replica, by the shared store.
    Replica,
}

/// A token of the cache, as it is compared with another that might take its place.
pub(in crate::exchange) struct Held {
    pub(super) header: SecretHeader,
    pub(super) asked_at: UnixTime,
    /// Its own expiry or the inbound token's.
    pub(super) expires_at: UnixTime,
}

impl Held {
    /// Its end, if it is `header`.
    pub(in crate::exchange) fn end_of(&self, header: &SecretHeader) -> Option<UnixTime> {
        (self.header == *header).then_some(self.expires_at)
    }
}

impl Granted {
    /// Whether the token has expired. One of unknown life has not, as it is used at once.
    pub(in crate::exchange) fn is_expired(&self, now: UnixTime) -> bool {
        self.life.is_some_and(|life| now >= self.asked_at.plus(life))
    }

    /// Whether it may be used at `now`, for itself: it is bound to no other token's end.
    pub(in crate::exchange) fn is_usable(&self, now: UnixTime) -> bool {
        self.ages(UnixTime(u64::MAX)).is_some_and(|ages| now < ages.fresh_until)
    }

    /// For how long it may be used, if at all, for an inbound token that expires at `inbound_expires_at`.
    pub(in crate::exchange) fn time_of_use(
        &self,
        inbound_expires_at: UnixTime,
        now: UnixTime,
    ) -> Option<Duration> {
        let ages = self.ages(inbound_expires_at)?;
        let left = ages.fresh_until.since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Whether it may be used, and is better than `held`: another token that ends later, or was asked
    /// for later, as both may end with the inbound token.
    pub(in crate::exchange) fn is_of_use(
        &self,
        inbound_expires_at: UnixTime,
        held: Option<&Held>,
        now: UnixTime,
    ) -> bool {
        let ages = self.ages(inbound_expires_at);
        ages.is_some_and(|ages| {
            let is_better = |held: &Held| {
                // The same one comes back with another time where it was left by a clock ahead of ours.
                self.header != held.header
                    && (ages.expires_at > held.expires_at || self.asked_at > held.asked_at)
            };
            now < ages.fresh_until && held.is_none_or(is_better)
        })
    }

    /// When it is how old, for an inbound token that expires at `inbound_expires_at`; `None` if
    /// its life is not known, and it must not be kept.
    pub(super) fn ages(&self, inbound_expires_at: UnixTime) -> Option<Ages> {
        let life = self.life?;
        let margin = limits::OUTBOUND_EXPIRY_MARGIN.as_secs().min(life.as_secs().div_ceil(2));
        let of_use = Duration::from_secs(life.as_secs() - margin);
        let own_end = self.asked_at.plus(of_use);
        // Of one that outlives the inbound token a new one would be of no more use.
        let renew_at = if own_end < inbound_expires_at {
            let after = renewal::after(of_use, self.refresh_in, fastrand::f64());
            self.asked_at.plus(after)
        } else {
            UnixTime(u64::MAX)
        };
        Some(Ages {
            renew_at,
            fresh_until: own_end.min(inbound_expires_at),
            expires_at: self.asked_at.plus(life).min(inbound_expires_at),
        })
    }
}

/// The points in the life of a token in the cache; of each the first second that is past it.
pub(super) struct Ages {
    pub(super) renew_at: UnixTime,
    pub(super) fresh_until: UnixTime,
    /// Its own expiry or the inbound token's.
    pub(super) expires_at: UnixTime,
}
