//! Outbound tokens in memory, ready to be sent.
//!
//! A token is kept under the terms of its exchange, its upstream among them, and the digest of
//! the inbound token. It is handed out before its own expiry and before the inbound token's, both
//! looked at when it is put in and again when it is taken out, and comes with its age: fresh, due
//! for a renewal, or stale, which is for when no other can be had. Bounded in entries and
//! bytes: what has expired makes room first, then what was put in longest ago, so that a new
//! token of a short life is not pushed out by old ones of a long one. A hit locks one shard for
//! reading and allocates nothing; only those who change the cache meet at a lock. What is forgotten on
//! request is in `forget`.

mod forget;
mod granted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use foldhash::fast::RandomState;

use super::forgotten::{Forgotten, Moment, Tags};
use super::refused::Refused;
use super::terms::Key;
use crate::clock::UnixTime;
use crate::limits;
use crate::secret::SecretHeader;

use self::granted::Ages;

pub(super) use self::granted::{Granted, Held, Source};

/// What an entry costs beside its token, in bytes: two keys, six times, two tags, pointers, the slack of
/// maps.
const ENTRY_OVERHEAD: usize = 480;

/// An exchange, as the cache tells its token from others under the same key.
#[derive(Clone, Copy)]
pub(super) struct Departure {
    /// Its name: the key of its token, or where it asked for claims as well,
    /// [`Key::with_claims`] of that.
    pub(super) flight: Key,
    /// [`Order::next_serial`] when it began: tokens of this number and later ones came since.
    began_at: u64,
    /// What was known of forgettings when it began.
    moment: Moment,
    /// For which upstream and user it is.
    tags: Tags,
}

/// A token of the cache that may be used, and how old it is.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing is to be done.
    Fresh(SecretHeader),
    /// It is time to renew it, which nobody has to wait for.
    Due(SecretHeader),
    /// It may expire on its way: to be used only if no other can be had.
    Stale(SecretHeader),
}

struct Entry {
    header: SecretHeader,
    /// Seconds as of [`UnixTime`]; moved on by whoever takes it upon them to renew the token.
    renew_at: AtomicU64,
    asked_at: UnixTime,
    fresh_until: UnixTime,
    expires_at: UnixTime,
    /// The name of the exchange that gave it, where that is another than the token's.
    flight: Option<Box<Key>>,
    /// Its place in [`Order::by_age`].
    serial: u64,
    /// By which it is found when it is to be forgotten.
    tags: Tags,
}

/// How much of the cache of outbound tokens is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheUsage {
    /// Tokens that are kept, expired ones that were not swept yet included.
    pub entries: usize,
    /// What they cost, in bytes.
    pub bytes: usize,
    /// Most tokens.
    pub max_entries: usize,
    /// Most bytes.
    pub max_bytes: usize,
}

/// The cache.
pub(super) struct TokenCache {
    /// The hash is quick, keyed at random, and of digests: nobody can choose keys that meet in it.
    tokens: DashMap<Key, Entry, RandomState>,
    order: Mutex<Order>,
    max_entries: AtomicUsize,
    max_bytes: usize,
}

/// What is in the cache, in the two orders in which it leaves: whoever changes `tokens` holds
/// this.
#[derive(Default)]
struct Order {
    /// Numbers of tokens by their end.
    by_expiry: BTreeSet<(UnixTime, u64)>,
    /// Keys by the number of their token; later ones have higher numbers.
    by_age: BTreeMap<u64, Key>,
    next_serial: u64,
    refused: Refused,
    forgotten: Forgotten,
    bytes: usize,
}

impl TokenCache {
    /// A cache of at most `max_entries` tokens and `max_bytes` bytes of them.
    pub(super) fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            tokens: DashMap::default(),
            order: Mutex::default(),
            max_entries: AtomicUsize::new(max_entries),
            max_bytes,
        }
    }

    /// The token under `key`, if it may be used at `now` for an inbound token that expires at
    /// `inbound_expires_at`.
    pub(super) fn find(
        &self,
        key: &Key,
        inbound_expires_at: UnixTime,
        now: UnixTime,
    ) -> Option<Found> {
        self.find_by(key, key, inbound_expires_at, now)
    }

    /// The same, if the exchange called `flight` gave it; any did for the `key` itself, as a token
    /// with claims is one without them, too.
    pub(super) fn find_by(
        &self,
        flight: &Key,
        key: &Key,
        inbound_expires_at: UnixTime,
        now: UnixTime,
    ) -> Option<Found> {
        let entry = self.tokens.get(key)?;
        if flight != key && entry.flight.as_deref() != Some(flight) {
            return None;
        }
        // The second comparison is the invariant itself, not trusting what was put in.
        if now >= entry.expires_at || now >= inbound_expires_at {
            return None;
        }
        let header = entry.header.clone();
        Some(if now >= entry.fresh_until {
            Found::Stale(header)
        } else if now.0 >= entry.renew_at.load(Ordering::Relaxed) {
            Found::Due(header)
        } else {
            Found::Fresh(header)
        })
    }

    /// Whether the caller is the one to renew the token under `key`: it is due, and nobody else
    /// took that upon them. It is due again at `next`, if it is still there.
    pub(super) fn claim_renewal(&self, key: &Key, now: UnixTime, next: UnixTime) -> bool {
        let Some(entry) = self.tokens.get(key) else { return false };
        let due = entry.renew_at.load(Ordering::Relaxed);
        let claimed =
            || entry.renew_at.compare_exchange(due, next.0, Ordering::Relaxed, Ordering::Relaxed);
        due <= now.0 && claimed().is_ok()
    }

    /// The exchange called `flight` of a token with `tags`, which begins now.
    pub(super) fn departure(&self, flight: Key, tags: Tags) -> Departure {
        let order = self.lock();
        let (began_at, moment) = (order.next_serial, order.forgotten.moment());
        Departure { flight, began_at, moment, tags }
    }

    /// Keeps `granted` under `key` in place of what is there, if it is of any use after `now` and was
    /// not forgotten while it was on its way.
    ///
    /// Of a token with claims that came while the exchange without them was under way, it takes not
    /// the place: its upstream would ask for the claims again.
    pub(super) fn put(
        &self,
        key: Key,
        departure: Departure,
        granted: &Granted,
        inbound_expires_at: UnixTime,
        now: UnixTime,
    ) {
        let Some(ages) = granted.ages(inbound_expires_at) else { return };
        let Ages { renew_at, fresh_until, expires_at } = ages;
        if fresh_until <= now || expires_at > inbound_expires_at || granted.is_expired(now) {
            return;
        }
        let mut order = self.lock();
        self.sweep(&mut order, now);
        if order.forgotten.since(departure.moment, departure.tags) {
            return;
        }
        let entry = Entry {
            header: granted.header.clone(),
            renew_at: AtomicU64::new(renew_at.0),
            asked_at: granted.asked_at,
            fresh_until,
            expires_at,
            flight: (departure.flight != key).then(|| Box::new(departure.flight)),
            serial: order.next_serial,
            tags: departure.tags,
        };
        if let Some(old) = self.tokens.get(&key) {
            let is_worse = departure.flight == key && old.flight.is_some();
            if is_worse && old.serial >= departure.began_at && now < old.fresh_until {
                return;
            }
            order.remove(&old);
        }
        order.add(key, &entry);
        self.tokens.insert(key, entry);
        self.evict(&mut order, now);
    }

    /// Drops the token under `key`: the provider does not let its caller in any more.
    pub(super) fn drop_token(&self, key: &Key) {
        let mut order = self.lock();
        self.drop_one(&mut order, key);
    }

    /// The token under `key` whatever its age, if one is there.
    pub(super) fn held(&self, key: &Key) -> Option<Held> {
        let entry = self.tokens.get(key)?;
        let (asked_at, expires_at) = (entry.asked_at, entry.expires_at);
        Some(Held { header: entry.header.clone(), asked_at, expires_at })
    }

    /// Drops the token under `key` if it still is `header`: an upstream refused that one. Does
    /// so once in [`limits::REFUSED_TOKEN_FLOOR`] for each key, and says whether it might now.
    pub(super) fn forget(&self, key: &Key, header: &SecretHeader) -> bool {
        let mut order = self.lock();
        if !order.refused.may_drop(key) {
            return false;
        }
        let removed =
            self.tokens.remove_if(key, |_, entry| entry.header.expose() == header.expose());
        if let Some((key, entry)) = removed {
            order.remove(&entry);
            order.refused.dropped(key);
        }
        true
    }

    /// Drops the token under `key` if it still is `header`, because its upstream wants one with
    /// more claims, and calls `ask` before; `None` if another may not be asked for now: that, too, is
    /// once in [`limits::REFUSED_TOKEN_FLOOR`].
    ///
    /// One step to all others: who finds the token gone, or may not ask, finds what `ask` has begun.
    /// So `ask` runs under the lock of the order, and must not come back to this cache.
    pub(super) fn replace<T>(
        &self,
        key: &Key,
        header: &SecretHeader,
        ask: impl FnOnce() -> T,
    ) -> Option<T> {
        let mut order = self.lock();
        if !order.refused.may_drop(key) {
            return None;
        }
        let asked = ask();
        let removed =
            self.tokens.remove_if(key, |_, entry| entry.header.expose() == header.expose());
        if let Some((_, entry)) = removed {
            order.remove(&entry);
        }
        // One that was not kept counts, too: each costs an exchange.
        order.refused.dropped(*key);
        Some(asked)
    }

    /// Changes how many tokens are kept at most, and drops what is too many.
    pub(super) fn set_max_entries(&self, max_entries: usize, now: UnixTime) {
        self.max_entries.store(max_entries, Ordering::Relaxed);
        self.evict(&mut self.lock(), now);
    }

    /// How many tokens are kept, the expired ones that were not swept yet among them.
    pub(super) fn len(&self) -> usize {
        self.lock().by_age.len()
    }

    /// How much is kept, and how much may be.
    pub(super) fn usage(&self) -> CacheUsage {
        let order = self.lock();
        CacheUsage {
            entries: order.by_age.len(),
            bytes: order.bytes,
            max_entries: self.max_entries.load(Ordering::Relaxed),
            max_bytes: self.max_bytes,
        }
    }

    /// Drops some of what is of no more use.
    fn sweep(&self, order: &mut Order, now: UnixTime) {
        for _ in 0..limits::MAX_EXPIRED_SWEPT {
            let Some(key) = order.first_expired(now) else { return };
            self.drop_one(order, &key);
        }
    }

    /// Drops the expired, then the oldest, until the rest fits.
    fn evict(&self, order: &mut Order, now: UnixTime) {
        let max_entries = self.max_entries.load(Ordering::Relaxed);
        while order.by_age.len() > max_entries || order.bytes > self.max_bytes {
            let Some(key) = order.first_expired(now).or_else(|| order.oldest()) else { return };
            self.drop_one(order, &key);
        }
    }

    fn drop_one(&self, order: &mut Order, key: &Key) {
        if let Some((_, entry)) = self.tokens.remove(key) {
            order.remove(&entry);
        }
    }

    // Never taken while a shard of `tokens` is locked: `find` locks only a shard, all others
    // this first.
    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    fn add(&mut self, key: Key, entry: &Entry) {
        self.bytes += cost(entry);
        self.by_expiry.insert((entry.expires_at, entry.serial));
        self.by_age.insert(entry.serial, key);
        self.next_serial = entry.serial + 1;
    }

    fn remove(&mut self, entry: &Entry) {
        self.bytes -= cost(entry);
        self.by_expiry.remove(&(entry.expires_at, entry.serial));
        self.by_age.remove(&entry.serial);
    }

    fn first_expired(&self, now: UnixTime) -> Option<Key> {
        let (_, number) = self.by_expiry.first().filter(|(expires_at, _)| *expires_at <= now)?;
        self.by_age.get(number).copied()
    }

    fn oldest(&self) -> Option<Key> {
        self.by_age.first_key_value().map(|(_, key)| *key)
    }
}

fn cost(entry: &Entry) -> usize {
    entry.header.expose().len() + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests;
