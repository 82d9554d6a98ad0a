//! The verified tokens, so that a signature is checked once a token and not once a request.
//!
//! Only what passed whole verification is put in, under the provider that verified it and the
//! digest of the whole token. An entry counts only while that provider would be chosen to
//! verify the token again (an earlier one of the route's list may want it), by keys of the same
//! generation, and before the token's `exp` (without leeway: within the leeway each request is
//! judged anew). So a route's verdict never depends on the routes a token was seen on before.
//! A token that is refused is not remembered. What a token is bound to (`cnf`) is remembered
//! with it, and never that somebody proved to hold it.
//!
//! Bounded in entries and bytes. A hit locks a shard for reading; only those who change the
//! cache meet at a lock, and each of them does a small, bounded part of the cleaning.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use serde_json::Map;

use crate::clock::{SharedClock, UnixTime};
use crate::identity::Identity;
use crate::limits;
use crate::secret::{InboundToken, TokenDigest};

use super::binding::Vouched;
use super::claims;
use super::json::Object;
use super::provider::{Provider, ProviderId};

/// What an entry costs beside its claims, in bytes: the key twice, the identity, a map's slack.
const ENTRY_OVERHEAD: usize = 512;

/// A bounded cache of verified tokens, shared by all routes and kept across reloads.
#[derive(Debug)]
pub struct VerifiedTokens {
    /// The hash is quick, keyed at random, and of digests: nobody can make tokens, and have them
    /// signed, that meet in it.
    entries: DashMap<Key, Entry, RandomState>,
    order: Mutex<Order>,
    clock: SharedClock,
    max_entries: usize,
    max_bytes: usize,
}

/// What is in the cache, by expiry: whoever changes `entries` holds this.
#[derive(Debug, Default)]
struct Order {
    /// Those that end in a second together, the first that came at the front; none is empty. A
    /// token that is put in again has its place already, as its end is its own.
    by_expiry: BTreeMap<UnixTime, VecDeque<Key>>,
    tokens: usize,
    bytes: usize,
}

/// A token as one provider reads it: two providers may take other claims for roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    provider: ProviderId,
    token: TokenDigest,
}

#[derive(Debug)]
struct Entry {
    vouched: Vouched,
    generation: u64,
    cost: usize,
}

impl VerifiedTokens {
    /// A cache of at most `max_entries` tokens and [`limits::MAX_VERIFIED_BYTES`]; 0 tokens
    /// remembers nothing.
    pub fn new(clock: SharedClock, max_entries: usize) -> Self {
        Self::within(clock, max_entries, limits::MAX_VERIFIED_BYTES)
    }

    /// A cache of at most `max_entries` tokens that are charged at most `max_bytes` bytes.
    pub(super) fn within(clock: SharedClock, max_entries: usize, max_bytes: usize) -> Self {
        let (entries, order) = (DashMap::default(), Mutex::default());
        Self { entries, order, clock, max_entries, max_bytes }
    }

    /// How many tokens are remembered, the expired ones that were not swept yet among them.
    pub fn len(&self) -> usize {
        self.lock().tokens
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A token that the one of `providers` which is to judge it has verified,
    /// and would verify again.
    pub(super) fn find(&self, token: &TokenDigest, providers: &[Arc<Provider>]) -> Option<Vouched> {
        let (place, provider, entry) = providers.iter().enumerate().find_map(|(place, own)| {
            let entry = self.entries.get(&Key { provider: own.id(), token: *token })?;
            Some((place, own, entry))
        })?;
        // One before it in the list that takes the token, and has not judged it yet, goes first.
        let is_chosen =
            !providers.iter().take(place).any(|own| takes(own, entry.vouched.unproved()));
        let holds = is_chosen
            && provider.generation() == Some(entry.generation)
            && self.clock.now() < entry.vouched.unproved().expires_at;
        holds.then(|| entry.vouched.clone())
    }

    /// Remembers a token that `provider` verified with a key of `generation`.
    pub(super) fn remember(
        &self,
        token: &InboundToken,
        provider: &Provider,
        generation: u64,
        vouched: &Vouched,
    ) {
        let now = self.clock.now();
        let cost = Self::cost(token);
        let expires_at = vouched.unproved().expires_at;
        if self.max_entries == 0 || cost > self.max_bytes || now >= expires_at {
            return;
        }
        let key = Key { provider: provider.id(), token: token.digest() };
        let mut order = self.lock();
        self.sweep(&mut order, now);
        let entry = Entry { vouched: vouched.clone(), generation, cost };
        if let Some(mut place) = self.entries.get_mut(&key) {
            *place = entry;
            return;
        }
        // Before it is put in: the newest is the one that will be asked for, however soon it ends.
        while order.tokens >= self.max_entries || order.bytes + cost > self.max_bytes {
            let Some(soonest) = order.pop_soonest() else { break };
            self.remove(&mut order, &soonest);
        }
        order.bytes += cost;
        order.tokens += 1;
        order.by_expiry.entry(expires_at).or_default().push_back(key);
        self.entries.insert(key, entry);
    }

    /// What remembering `token` is charged, in bytes.
    pub(super) fn cost(token: &InboundToken) -> usize {
        token.expose().len() * limits::VERIFIED_BYTES_PER_TOKEN_BYTE + ENTRY_OVERHEAD
    }

    /// Drops some of what has expired.
    fn sweep(&self, order: &mut Order, now: UnixTime) {
        for _ in 0..limits::MAX_EXPIRED_SWEPT {
            if order.by_expiry.first_key_value().is_none_or(|(end, _)| *end > now) {
                return;
            }
            let Some(soonest) = order.pop_soonest() else { return };
            self.remove(order, &soonest);
        }
    }

    /// Drops what has no place in the order any more.
    fn remove(&self, order: &mut Order, key: &Key) {
        if let Some((_, entry)) = self.entries.remove(key) {
            order.bytes -= entry.cost;
            order.tokens -= 1;
        }
    }

    // Never taken while a shard of `entries` is locked: `find` locks only shards, all others
    // this first.
    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    /// Takes the first of those that end soonest out.
    fn pop_soonest(&mut self) -> Option<Key> {
        let mut soonest = self.by_expiry.first_entry()?;
        let key = soonest.get_mut().pop_front();
        if soonest.get().is_empty() {
            soonest.remove();
        }
        key
    }
}

#[cfg(test)]
impl VerifiedTokens {
    /// What all that is remembered is charged.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

/// Whether this provider would be chosen for such a token, were it the first. When in doubt it
/// would, and the token is verified anew.
fn takes(provider: &Provider, identity: &Identity) -> bool {
    let meets = || {
        let audience = identity.claims.get("aud").map(|value| ("aud".to_owned(), value));
        let claims = Map::from_iter(audience);
        claims::meets_audience(&Object::from(&claims), provider.settings()).unwrap_or(true)
    };
    provider.issues(&identity.issuer) && meets()
}
