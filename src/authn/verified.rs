//! The verified tokens, so that a signature is checked once a token and not once a request.
//!
//! Only what passed whole verification is put in, under the digest of the whole token. An
//! entry counts only while the same provider verifies by keys of the same generation, and
//! before the token's `exp` (without leeway: within the leeway each request is judged anew).
//! A token that is refused is not remembered.

use std::sync::Arc;

use dashmap::DashMap;

use crate::clock::SharedClock;
use crate::identity::Identity;
use crate::secret::TokenDigest;

use super::provider::{Provider, ProviderId};

/// A bounded cache of verified tokens, shared by all routes and kept across reloads.
#[derive(Debug)]
pub struct VerifiedTokens {
    entries: DashMap<TokenDigest, Entry>,
    clock: SharedClock,
    max_entries: usize,
}

#[derive(Debug)]
struct Entry {
    identity: Arc<Identity>,
    provider: ProviderId,
    generation: u64,
}

/// When the cache is full, one in so many of its entries makes room, beside all expired ones:
/// the price of the scan is shared by the many insertions that follow.
const EVICTED_SHARE: usize = 16;

impl VerifiedTokens {
    /// A cache of at most `max_entries` tokens; 0 remembers nothing.
    pub fn new(clock: SharedClock, max_entries: usize) -> Self {
        Self { entries: DashMap::new(), clock, max_entries }
    }

    /// How many tokens are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.entries.clear();
    }

    /// The identity of a token that one of `providers` has verified and would verify again.
    pub(super) fn find(
        &self,
        digest: &TokenDigest,
        providers: &[Arc<Provider>],
    ) -> Option<Arc<Identity>> {
        let entry = self.entries.get(digest)?;
        let provider = providers.iter().find(|provider| provider.id() == entry.provider)?;
        let holds = provider.generation() == Some(entry.generation)
            && self.clock.now() < entry.identity.expires_at;
        holds.then(|| Arc::clone(&entry.identity))
    }

    /// Remembers a token that `provider` verified with a key of `generation`.
    pub(super) fn remember(
        &self,
        digest: TokenDigest,
        provider: &Provider,
        generation: u64,
        identity: &Arc<Identity>,
    ) {
        if self.max_entries == 0 || self.clock.now() >= identity.expires_at {
            return;
        }
        if self.entries.len() >= self.max_entries {
            self.make_room();
        }
        let identity = Arc::clone(identity);
        self.entries.insert(digest, Entry { identity, provider: provider.id(), generation });
    }

    fn make_room(&self) {
        let now = self.clock.now();
        self.entries.retain(|_, entry| {
            now < entry.identity.expires_at && fastrand::usize(..EVICTED_SHARE) != 0
        });
        // Chance may have spared all of a small cache.
        while self.entries.len() >= self.max_entries {
            let Some(any) = self.entries.iter().next().map(|entry| *entry.key()) else { return };
            self.entries.remove(&any);
        }
    }
}
