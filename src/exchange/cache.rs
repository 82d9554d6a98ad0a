//! Outbound tokens in memory, ready to be sent.
//!
//! A token is kept under the terms of its exchange, its upstream among them, and the digest of
//! the inbound token. It is handed out before its own expiry and before the inbound token's, both
//! looked at when it is put in and again when it is taken out, and comes with its age: fresh, due
//! for a renewal, or stale, which is for when no other can be had. Bounded in entries and
//! bytes: what has expired makes room first, then what was put in longest ago, so that a new
//! token of a short life is not pushed out by old ones of a long one. A hit locks one shard for
//! reading and allocates nothing; only those who change the cache meet at a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;

use super::refused::Refused;
use super::renewal;
use super::terms::Key;
use crate::clock::UnixTime;
use crate::limits;
use crate::secret::SecretHeader;

/// What an entry costs beside its token, in bytes: three keys, four times, pointers, the slack of maps.
const ENTRY_OVERHEAD: usize = 432;

/// A token that an exchange gave, and how long it lives by itself.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    /// `Bearer …`.
    pub(super) header: SecretHeader,
    /// When it was asked for: it may have been made at once.
    pub(super) asked_at: UnixTime,
    /// How long it lives from then on; `None` if the provider did not say.
    pub(super) life: Option<Duration>,
    /// When the provider would have it renewed, from `asked_at` on; `None` if it did not say.
    pub(super) refresh_in: Option<Duration>,
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

impl Granted {
    /// Whether the token has expired. One of unknown life has not, as it is used at once.
    pub(super) fn is_expired(&self, now: UnixTime) -> bool {
        self.life.is_some_and(|life| now >= self.asked_at.plus(life))
    }

    /// Whether it may be used at `now`, for itself: it is bound to no other token's end.
    pub(super) fn is_usable(&self, now: UnixTime) -> bool {
        self.ages(UnixTime(u64::MAX)).is_some_and(|ages| now < ages.fresh_until)
    }

    /// When it is how old, for an inbound token that expires at `inbound_expires_at`; `None` if
    /// its life is not known, and it must not be kept.
    fn ages(&self, inbound_expires_at: UnixTime) -> Option<Ages> {
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
struct Ages {
    renew_at: UnixTime,
    fresh_until: UnixTime,
    /// Its own expiry or the inbound token's.
    expires_at: UnixTime,
}

struct Entry {
    header: SecretHeader,
    /// Seconds as of [`UnixTime`]; moved on by whoever takes it upon them to renew the token.
    renew_at: AtomicU64,
    fresh_until: UnixTime,
    expires_at: UnixTime,
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
    ) -> Option<Found> {
        let entry = self.tokens.get(key)?;
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

    /// Keeps `granted` under `key` in place of what is there, if it is of any use after `now`.
    pub(super) fn put(
        &self,
        key: Key,
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
        let entry = Entry {
            header: granted.header.clone(),
            renew_at: AtomicU64::new(renew_at.0),
            fresh_until,
            expires_at,
            serial: order.next_serial,
        };
        if let Some(old) = self.tokens.get(&key) {
            order.remove(&key, &old);
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
        self.by_expiry.insert((entry.expires_at, key));
        self.by_age.insert(entry.serial, key);
        self.next_serial = entry.serial + 1;
    }

    fn remove(&mut self, key: &Key, entry: &Entry) {
        self.bytes -= cost(entry);
        self.by_expiry.remove(&(entry.expires_at, *key));
        self.by_age.remove(&entry.serial);
    }

    fn first_expired(&self, now: UnixTime) -> Option<Key> {
        self.by_expiry.first().filter(|(expires_at, _)| *expires_at <= now).map(|(_, key)| *key)
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
        Granted { header: SecretHeader::new(header), asked_at: NOW, life, refresh_in: None }
    }

    fn cache() -> TokenCache {
        TokenCache::new(100, limits::MAX_CACHED_TOKEN_BYTES)
    }

    fn at(offset: u64) -> UnixTime {
        UnixTime(NOW.0 + offset)
    }

    fn age(found: Option<&Found>) -> &'static str {
        match found {
            Some(Found::Fresh(_)) => "fresh",
            Some(Found::Due(_)) => "due",
            Some(Found::Stale(_)) => "stale",
            None => "gone",
        }
    }

    #[test]
    fn a_token_is_stale_in_its_last_seconds_and_never_used_after() {
        // (life, last second before it is stale)
        for (life, last) in [(3600, 3569), (61, 30), (60, 29), (59, 28), (10, 4), (3, 0)] {
            let cache = cache();
            cache.put(key("a"), &granted("a", Some(life)), FAR, NOW);
            let age = |offset| age(cache.find(&key("a"), FAR, at(offset)).as_ref());
            assert_ne!(age(last), "stale", "{life} at {last}");
            assert_eq!((age(last + 1), age(life - 1)), ("stale", "stale"), "{life}");
            assert_eq!((age(life), age(life + 1)), ("gone", "gone"), "{life}");
        }
    }

    #[test]
    fn a_token_is_due_in_its_last_quarter_once_for_whoever_claims_it() {
        let cache = cache();
        cache.put(key("a"), &granted("a", Some(3600)), FAR, NOW);
        let age_at = |offset| age(cache.find(&key("a"), FAR, at(offset)).as_ref());
        assert_eq!((age_at(2300), age_at(3000)), ("fresh", "due"));
        assert!(!cache.claim_renewal(&key("a"), at(2300), at(2330)), "it is not due");
        assert!(!cache.claim_renewal(&key("b"), at(3000), at(3030)), "it is not there");
        assert!(cache.claim_renewal(&key("a"), at(3000), at(3030)));
        assert!(!cache.claim_renewal(&key("a"), at(3000), at(3030)), "once");
        assert_eq!((age_at(3029), age_at(3030)), ("fresh", "due"));
        let renewed = Granted { asked_at: at(3031), ..granted("b", Some(3600)) };
        cache.put(key("a"), &renewed, FAR, at(3031));
        assert_eq!((age_at(3600), cache.len()), ("fresh", 1));
    }

    #[test]
    fn a_token_that_outlives_the_inbound_one_is_not_due() {
        for (inbound_life, due) in [(3570, "fresh"), (3571, "due")] {
            let (cache, inbound) = (cache(), at(inbound_life));
            cache.put(key("a"), &granted("a", Some(3600)), inbound, NOW);
            assert_eq!(age(cache.find(&key("a"), inbound, at(3569)).as_ref()), due);
            // Nor is it ever stale past the inbound token's end.
            assert_eq!(age(cache.find(&key("a"), inbound, inbound).as_ref()), "gone");
        }
    }

    #[test]
    fn what_the_provider_refuses_is_dropped() {
        let cache = cache();
        cache.put(key("a"), &granted("a", Some(3600)), FAR, NOW);
        cache.drop_token(&key("b"));
        assert_eq!(cache.len(), 1);
        cache.drop_token(&key("a"));
        assert_eq!((cache.len(), cache.tokens.len(), cache.lock().bytes), (0, 0, 0));
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
        let Some(Found::Fresh(found)) = cache.find(&key("alice"), FAR, NOW) else {
            panic!("it is there")
        };
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
        cache.set_max_entries(1, at(100));
        assert!(cache.find(&key("old"), FAR, at(100)).is_some());
    }

    #[test]
    fn the_expired_go_before_the_living() {
        let cache = TokenCache::new(2, limits::MAX_CACHED_TOKEN_BYTES);
        cache.put(key("dead"), &granted("a", Some(100)), FAR, NOW);
        cache.put(key("old"), &granted("a", Some(1000)), FAR, NOW);
        cache.put(key("new"), &granted("a", Some(500)), FAR, at(100));
        assert_eq!(cache.len(), 2);
        assert!(cache.find(&key("old"), FAR, at(100)).is_some());
        assert!(cache.find(&key("new"), FAR, at(100)).is_some());
    }

    #[test]
    fn bytes_are_bounded() {
        let token = "x".repeat(1000);
        let header = granted(&token, None).header;
        let one = header.expose().len() + ENTRY_OVERHEAD;
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
        let Some(Found::Fresh(found)) = cache.find(&key("a"), FAR, NOW) else {
            panic!("it is there")
        };
        assert_eq!(found.expose(), "Bearer third");
        assert_eq!(cache.lock().by_expiry.len(), 1);
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
