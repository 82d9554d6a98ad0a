//! The verified tokens, so that a signature is checked once a token and not once a request.
//!
//! Only what passed whole verification is put in, under the provider that verified it and the
//! digest of the whole token. An entry counts only while that provider would be chosen to
//! verify the token again (an earlier one of the route's list may want it), by keys of the same
//! generation, and before the token's `exp` (without leeway: within the leeway each request is
//! judged anew). So a route's verdict never depends on the routes a token was seen on before.
//! A token that is refused is not remembered.

use std::sync::Arc;

use dashmap::DashMap;
use serde_json::{Map, Value};

use crate::clock::SharedClock;
use crate::identity::Identity;
use crate::secret::TokenDigest;

use super::claims;
use super::provider::{Provider, ProviderId};
use super::settings::ProviderSettings;

/// A bounded cache of verified tokens, shared by all routes and kept across reloads.
#[derive(Debug)]
pub struct VerifiedTokens {
    entries: DashMap<Key, Entry>,
    clock: SharedClock,
    max_entries: usize,
}

/// A token as one provider reads it: two providers may take other claims for roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    provider: ProviderId,
    token: TokenDigest,
}

#[derive(Debug)]
struct Entry {
    identity: Arc<Identity>,
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

    /// The identity of a token that the one of `providers` which is to judge it has verified,
    /// and would verify again.
    pub(super) fn find(
        &self,
        token: &TokenDigest,
        providers: &[Arc<Provider>],
    ) -> Option<Arc<Identity>> {
        let (place, provider, entry) = providers.iter().enumerate().find_map(|(place, own)| {
            let entry = self.entries.get(&Key { provider: own.id(), token: *token })?;
            Some((place, own, entry))
        })?;
        // One before it in the list that takes the token, and has not judged it yet, goes first.
        let is_chosen =
            !providers.iter().take(place).any(|own| takes(own.settings(), &entry.identity.claims));
        let holds = is_chosen
            && provider.generation() == Some(entry.generation)
            && self.clock.now() < entry.identity.expires_at;
        holds.then(|| Arc::clone(&entry.identity))
    }

    /// Remembers a token that `provider` verified with a key of `generation`.
    pub(super) fn remember(
        &self,
        token: TokenDigest,
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
        self.entries.insert(Key { provider: provider.id(), token }, Entry { identity, generation });
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

/// Whether a provider with these settings would be chosen for these claims, were it the first.
/// When in doubt it would, and the token is verified anew.
fn takes(settings: &ProviderSettings, claims: &Map<String, Value>) -> bool {
    claims::issuer(claims).map_or(true, |issuer| settings.kind.issues(issuer))
        && claims::meets_audience(claims, settings).unwrap_or(true)
}
