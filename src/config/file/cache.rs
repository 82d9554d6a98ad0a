//! `cache`: outbound tokens, in memory and shared by replicas.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::spanned::{List, Spanned};
use super::super::value::{Count, KeyPrefix, Period};
use super::server;
use crate::secret::Secret;

/// `cache`: outbound tokens.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Cache {
    /// Most tokens kept in memory. Default: [`Cache::DEFAULT_MAX_ENTRIES`].
    pub max_entries: Count,
    /// A cache that replicas share. Default: none, each keeps its own.
    pub redis: Option<Spanned<Redis>>,
}

impl Cache {
    /// 100,000: about 300 MB of tokens, for a day's users of a large company.
    pub const DEFAULT_MAX_ENTRIES: Count = server::count(100_000);
}

impl Default for Cache {
    fn default() -> Self {
        Self { max_entries: Self::DEFAULT_MAX_ENTRIES, redis: None }
    }
}

/// `redis`: a Redis or Valkey that replicas share.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Redis {
    /// Where it is: `redis://`, or `rediss://` for TLS, then `user:password@host:port/database`, of which
    /// only the host is needed; `redis-cluster://host,host` and `rediss-cluster://` for a cluster;
    /// `redis-sentinel://host,host/service` and `rediss-sentinel://` for the master that sentinels tell. Required.
    pub url: Spanned<Secret>,
    /// What entries are sealed with: 32 bytes each, in base64. The first seals, all open. Required.
    pub encryption_keys: List<Spanned<Secret>>,
    /// What the names of all entries begin with. Default: [`Redis::DEFAULT_KEY_PREFIX`].
    #[serde(default)]
    pub key_prefix: KeyPrefix,
    /// All that it may add to one request; after that the request goes on without it.
    /// Default: [`Redis::DEFAULT_TIMEOUT`].
    #[serde(default = "Redis::default_timeout")]
    pub timeout: Spanned<Period>,
}

impl Redis {
    /// `obo-gateway:`: tells our entries from those of others in the same database.
    pub const DEFAULT_KEY_PREFIX: &'static str = "obo-gateway:";

    /// 50 ms: many times what a server nearby takes, and little beside an exchange.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(50);

    fn default_timeout() -> Spanned<Period> {
        Spanned::default_of(Period(Self::DEFAULT_TIMEOUT))
    }
}
