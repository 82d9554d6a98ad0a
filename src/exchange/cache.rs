//! Outbound tokens in memory, ready to be sent.
//!
//! A token is kept under the terms of its exchange, its upstream among them, and the digest of the inbound token, and
//! is handed out only before its own expiry less a margin and before the inbound token's
//! expiry; both are looked at when it is put in and again when it is taken out. Bounded in
//! entries and bytes: what has expired makes room first, then what was put in longest ago, so
//! that a new token of a short life is not pushed out by old ones of a long one. A hit locks one shard for reading and allocates nothing; only those who
//! change the cache meet at a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;

use super::refused::Refused;
use super::terms::Key;
use crate::clock::UnixTime;
use crate::limits;
use crate::secret::SecretHeader;

/// What an entry costs beside its token, in bytes: three keys, times, pointers, the slack of maps.
const ENTRY_OVERHEAD: usize = 416;

/// A token that an exchange gave, and how long it lives by itself.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    /// `Bearer …`.
    pub(super) header: SecretHeader,
    /// When it was asked for: it may have been made at once.
    pub(super) asked_at: UnixTime,
    /// How long it lives from then on; `None` if the provider did not say.
    pub(super) life: Option<Duration>,
}

impl Granted {
    /// Whether the token has expired. One of unknown life has not, as it is used at once.
    pub(super) fn is_expired(&self, now: UnixTime) -> bool {
        self.life.is_some_and(|life| now >= self.asked_at.plus(life))
    }

    /// Whether it may be used at `now`, for itself: it is bound to no other token's end.
    pub(super) fn is_usable(&self, now: UnixTime) -> bool {
        self.usable_until(UnixTime(u64::MAX)).is_some_and(|end| now < end)
    }

    /// The second from which on it is not handed out of the cache any more; `None` if it must
    /// not get there at all.
    fn usable_until(&self, inbound_expires_at: UnixTime) -> Option<UnixTime> {
        let life = self.life?.as_secs();
        let margin = limits::OUTBOUND_EXPIRY_MARGIN.as_secs().min(life.div_ceil(2));
        let own = self.asked_at.plus(Duration::from_secs(life - margin));
        Some(own.min(inbound_expires_at))
    }
}

#[derive(Clone)]
struct Entry {
    header: SecretHeader,
    usable_until: UnixTime,
    /// Its place in [`Order::by_age`].
    serial: u64,
}

/// The cache.
pub(super) struct TokenCache {
    tokens: DashMap<Key, Entry>,
    order: Mutex<Order>,
    max_entries: AtomicUsize,
    max_bytes: usize,
}

/// What is in the cache, in the two orders in which it leaves: whoever changes `tokens` holds
/// this.
#[derive(Default)]
struct Order {
    by_expiry: BTreeSet<(UnixTime, Key)>,
    /// Keys by the number of their token; later ones have higher numbers.
    by_age: BTreeMap<u64, Key>,
    next_serial: u64,
    refused: Refused,
    bytes: usize,
}

impl TokenCache {
    /// A cache of at most `max_entries` tokens and `max_bytes` bytes of them.
    pub(super) fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            tokens: DashMap::new(),
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
    ) -> Option<SecretHeader> {
        let entry = self.tokens.get(key)?;
        // The second comparison is the invariant itself, not trusting what was put in.
        (now < entry.usable_until && now < inbound_expires_at).then(|| entry.header.clone())
    }

    /// Keeps `granted` under `key`, if it is of any use after `now`.
    pub(super) fn put(
        &self,
        key: Key,
        granted: &Granted,
        inbound_expires_at: UnixTime,
        now: UnixTime,
    ) {
        let Some(usable_until) = granted.usable_until(inbound_expires_at) else { return };
        if usable_until <= now || usable_until > inbound_expires_at || granted.is_expired(now) {
            return;
        }
        let mut order = self.lock();
        self.sweep(&mut order, now);
        let entry =
            Entry { header: granted.header.clone(), usable_until, serial: order.next_serial };
        if let Some(old) = self.tokens.insert(key, entry.clone()) {
            order.remove(&key, &old);
        }
        order.add(key, &entry);
        self.evict(&mut order, now);
    }

    /// Drops the token under `key` if it still is `header`: an upstream refused that one. Does
    /// so once in [`limits::REFUSED_TOKEN_FLOOR`] for each key.
    pub(super) fn forget(&self, key: &Key, header: &SecretHeader) {
        let mut order = self.lock();
        if !order.refused.may_drop(key) {
            return;
        }
        let removed =
            self.tokens.remove_if(key, |_, entry| entry.header.expose() == header.expose());
        if let Some((key, entry)) = removed {
            order.remove(&key, &entry);
            order.refused.dropped(key);
        }
    }

    /// Drops the token under `key` if it still is `header`, because its upstream wants one with
    /// more claims; whether another may be asked for now: that, too, is once in
    /// [`limits::REFUSED_TOKEN_FLOOR`].
    pub(super) fn replace(&self, key: &Key, header: &SecretHeader) -> bool {
        let mut order = self.lock();
        if !order.refused.may_drop(key) {
            return false;
        }
        let removed =
            self.tokens.remove_if(key, |_, entry| entry.header.expose() == header.expose());
        if let Some((key, entry)) = removed {
            order.remove(&key, &entry);
        }
        // One that was not kept counts, too: each costs an exchange.
        order.refused.dropped(*key);
        true
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
        if let Some((key, entry)) = self.tokens.remove(key) {
            order.remove(&key, &entry);
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
        self.by_expiry.insert((entry.usable_until, key));
        self.by_age.insert(entry.serial, key);
        self.next_serial = entry.serial + 1;
    }

    fn remove(&mut self, key: &Key, entry: &Entry) {
        self.bytes -= cost(entry);
        self.by_expiry.remove(&(entry.usable_until, *key));
        self.by_age.remove(&entry.serial);
    }

    fn first_expired(&self, now: UnixTime) -> Option<Key> {
        self.by_expiry.first().filter(|(usable_until, _)| *usable_until <= now).map(|(_, key)| *key)
    }

    fn oldest(&self) -> Option<Key> {
        self.by_age.first_key_value().map(|(_, key)| *key)
    }
}

fn cost(entry: &Entry) -> usize {
    entry.header.expose().len() + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::terms::tests::terms;
    use super::*;
    use crate::secret::TokenDigest;

    const NOW: UnixTime = UnixTime(1_000_000);
    const FAR: UnixTime = UnixTime(9_000_000);

    fn key(name: &str) -> Key {
        terms("client", &["scope"]).key(Some(TokenDigest::of(name.as_bytes())))
    }

    fn granted(token: &str, life: Option<u64>) -> Granted {
        let header = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        let life = life.map(Duration::from_secs);
        Granted { header: SecretHeader::new(header), asked_at: NOW, life }
    }

    fn cache() -> TokenCache {
        TokenCache::new(100, limits::MAX_CACHED_TOKEN_BYTES)
    }

    fn at(offset: u64) -> UnixTime {
        UnixTime(NOW.0 + offset)
    }

    #[test]
    fn a_token_is_used_until_its_own_expiry_less_a_margin() {
        // (life, last second of use, first second of no use)
        for (life, last) in [(3600, 3569), (61, 30), (60, 29), (59, 28), (10, 4), (3, 0)] {
            let cache = cache();
            cache.put(key("a"), &granted("a", Some(life)), FAR, NOW);
            assert!(cache.find(&key("a"), FAR, at(last)).is_some(), "{life} at {last}");
            assert!(cache.find(&key("a"), FAR, at(last + 1)).is_none(), "{life}");
        }
    }

    #[test]
    fn a_token_is_not_used_past_the_inbound_tokens_expiry() {
        let cache = cache();
        cache.put(key("a"), &granted("a", Some(3600)), at(100), NOW);
        assert!(cache.find(&key("a"), at(100), at(99)).is_some());
        assert!(cache.find(&key("a"), at(100), at(100)).is_none());
        // Whoever asks with an earlier expiry is judged by that one.
        assert!(cache.find(&key("a"), at(50), at(49)).is_some());
        assert!(cache.find(&key("a"), at(50), at(50)).is_none());
        // And nobody gets more than was put in.
        assert!(cache.find(&key("a"), FAR, at(100)).is_none());
    }

    #[test]
    fn what_is_of_no_use_later_is_not_kept() {
        let cache = cache();
        cache.put(key("no life"), &granted("a", None), FAR, NOW);
        cache.put(key("a second"), &granted("a", Some(1)), FAR, NOW);
        cache.put(key("inbound over"), &granted("a", Some(3600)), NOW, NOW);
        cache.put(key("came late"), &granted("a", Some(3600)), FAR, at(3570));
        assert_eq!(cache.len(), 0);
        cache.put(key("inbound not over"), &granted("a", Some(3600)), at(1), NOW);
        cache.put(key("came in time"), &granted("a", Some(3600)), FAR, at(3569));
        assert!(cache.find(&key("came in time"), FAR, at(3569)).is_some());
    }

    #[test]
    fn a_key_is_found_by_itself_only() {
        let cache = cache();
        cache.put(key("alice"), &granted("a", Some(3600)), FAR, NOW);
        assert!(cache.find(&key("bob"), FAR, NOW).is_none());
        let found = cache.find(&key("alice"), FAR, NOW).unwrap();
        assert_eq!(found.expose(), "Bearer a");
        assert!(found.expose().is_sensitive());
    }

    #[test]
    fn entries_are_bounded_and_the_oldest_go_first() {
        let cache = TokenCache::new(2, limits::MAX_CACHED_TOKEN_BYTES);
        for (name, life) in [("first", 1000), ("second", 3600), ("third", 100)] {
            cache.put(key(name), &granted(name, Some(life)), FAR, NOW);
        }
        assert_eq!(cache.len(), 2);
        assert!(cache.find(&key("first"), FAR, NOW).is_none());
        assert!(cache.find(&key("second"), FAR, NOW).is_some());
        cache.set_max_entries(1, NOW);
        assert!(cache.find(&key("second"), FAR, NOW).is_none());
        assert!(cache.find(&key("third"), FAR, NOW).is_some());
        cache.set_max_entries(0, NOW);
        assert_eq!((cache.len(), cache.lock().bytes, cache.tokens.len()), (0, 0, 0));
    }

    #[test]
    fn a_new_token_is_kept_however_long_the_others_live() {
        let cache = TokenCache::new(3, limits::MAX_CACHED_TOKEN_BYTES);
        for name in ["a", "b", "c"] {
            cache.put(key(name), &granted(name, Some(86_400)), FAR, NOW);
        }
        // Put in again it is a new one, and `b` is the oldest.
        cache.put(key("a"), &granted("again", Some(86_400)), FAR, NOW);
        cache.put(key("new"), &granted("new", Some(3600)), FAR, NOW);
        assert!(cache.find(&key("new"), FAR, NOW).is_some());
        assert!(cache.find(&key("a"), FAR, NOW).is_some());
        assert!(cache.find(&key("b"), FAR, NOW).is_none());
        assert_eq!((cache.len(), cache.lock().by_expiry.len()), (3, 3));
    }

    #[test]
    fn fewer_entries_cost_the_expired_first() {
        let cache = cache();
        cache.put(key("old"), &granted("a", Some(1000)), FAR, NOW);
        cache.put(key("dead"), &granted("a", Some(100)), FAR, NOW);
        cache.set_max_entries(1, at(70));
        assert!(cache.find(&key("old"), FAR, at(70)).is_some());
    }

    #[test]
    fn the_expired_go_before_the_living() {
        let cache = TokenCache::new(2, limits::MAX_CACHED_TOKEN_BYTES);
        cache.put(key("dead"), &granted("a", Some(100)), FAR, NOW);
        cache.put(key("old"), &granted("a", Some(1000)), FAR, NOW);
        cache.put(key("new"), &granted("a", Some(500)), FAR, at(70));
        assert_eq!(cache.len(), 2);
        assert!(cache.find(&key("old"), FAR, at(70)).is_some());
        assert!(cache.find(&key("new"), FAR, at(70)).is_some());
    }

    #[test]
    fn bytes_are_bounded() {
        let token = "x".repeat(1000);
        let header = granted(&token, None).header;
        let one = cost(&Entry { header, usable_until: NOW, serial: 0 });
        for (room, kept) in [(3 * one, 3), (3 * one - 1, 2)] {
            let cache = TokenCache::new(100, room);
            for name in 1..=5 {
                let name = name.to_string();
                cache.put(key(&name), &granted(&token, Some(1000)), FAR, NOW);
            }
            assert_eq!(cache.len(), kept);
            assert_eq!(cache.lock().bytes, kept * one);
            assert!(cache.find(&key("5"), FAR, NOW).is_some());
        }
    }

    #[test]
    fn a_token_replaces_the_one_before_it_and_is_counted_once() {
        let cache = cache();
        for (token, life) in [("first", 3600), ("second", 3600), ("third", 1000)] {
            cache.put(key("a"), &granted(token, Some(life)), FAR, NOW);
        }
        assert_eq!(cache.find(&key("a"), FAR, NOW).unwrap().expose(), "Bearer third");
        assert_eq!((cache.len(), cache.tokens.len()), (1, 1));
        assert_eq!(cache.lock().bytes, "Bearer third".len() + ENTRY_OVERHEAD);
    }

    #[test]
    fn only_the_token_that_was_refused_is_forgotten() {
        let cache = cache();
        cache.put(key("a"), &granted("new", Some(3600)), FAR, NOW);
        cache.forget(&key("a"), &granted("old", None).header);
        assert_eq!(cache.len(), 1);
        cache.forget(&key("a"), &granted("new", None).header);
        assert_eq!((cache.len(), cache.tokens.len(), cache.lock().bytes), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_token_in_place_of_a_refused_one_stays_a_while() {
        let cache = cache();
        let (first, second) = (granted("first", Some(3600)), granted("second", Some(3600)));
        cache.put(key("a"), &first, FAR, NOW);
        cache.forget(&key("a"), &first.header);
        cache.put(key("a"), &second, FAR, NOW);
        cache.forget(&key("a"), &second.header);
        assert!(cache.find(&key("a"), FAR, NOW).is_some());
        tokio::time::advance(limits::REFUSED_TOKEN_FLOOR).await;
        cache.forget(&key("a"), &second.header);
        assert!(cache.find(&key("a"), FAR, NOW).is_none());
    }
}
