//! The metrics of section 5 of the interface.

use std::time::Duration;

/// How the cache of outbound tokens answered: the label `result`, and `token_cache` in the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheResult {
    /// A ready token was there.
    Hit,
    /// The provider was asked.
    Miss,
    /// Another request was already asking; its outcome was shared.
    Coalesced,
}

/// All metrics; cheap to clone, shared by everything that counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// Counts one fetch of a provider's keys; `outcome` is `success` or `failure`.
    pub fn jwks_refreshed(&self, _provider: &str, _outcome: &'static str) {}

    /// Counts how the token cache answered a request for `upstream`.
    pub fn token_cache(&self, _upstream: &str, _result: CacheResult) {}

    /// Sets how many outbound tokens are cached.
    pub fn token_cache_entries(&self, _entries: usize) {}

    /// Counts one exchange; `outcome` is `success` or the `code` of the rejection it led to.
    pub fn exchanged(
        &self,
        _provider: &str,
        _upstream: &str,
        _outcome: &'static str,
        _took: Duration,
    ) {
    }
}
