//! What came of something that is counted, as a label.

/// How the cache of outbound tokens answered: the label `result`, and `token_cache` in the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheResult {
    /// A ready token was there.
    Hit,
    /// The provider was asked.
    Miss,
    /// Another replica had asked; it was found in the shared cache.
    SharedHit,
    /// Another request was already asking; its outcome was shared.
    Coalesced,
    /// The provider could not be asked in time; a token at the very end of its life was used.
    Stale,
}

impl CacheResult {
    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::SharedHit => "shared_hit",
            Self::Coalesced => "coalesced",
            Self::Stale => "stale",
        }
    }
}

/// Whether something that is tried now and then worked: the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did.
    Success,
    /// It did not.
    Failure,
}
