//! `/api/v1/cache`: the outbound tokens in numbers; of the tokens themselves nothing.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::Shown;
use crate::observe::stats::CacheTotals;
use crate::snapshot::Snapshot;

/// The answer of `/api/v1/cache`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Cache {
    /// Outbound tokens that are kept, expired ones that were not swept yet included.
    pub entries: usize,
    /// Most of them: `cache.max_entries`.
    pub max_entries: usize,
    /// What they cost, in bytes.
    pub bytes: usize,
    /// Most bytes.
    pub max_bytes: usize,
    /// How the cache answered for all upstreams of the file, since the start.
    pub totals: CacheTotals,
    /// The share of requests that found a ready token, from 0 to 1; `null` before the first.
    pub hit_rate: Option<f64>,
    /// The same by upstream, sorted by name: those that asked it.
    pub upstreams: Vec<UpstreamCache>,
}

/// How the cache answered for one upstream.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UpstreamCache {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// Since the start.
    pub totals: CacheTotals,
    /// The share of requests that found a ready token, from 0 to 1.
    pub hit_rate: Option<f64>,
}

impl Cache {
    pub(super) fn of(snapshot: &Snapshot, shown: &Shown) -> Self {
        let usage = shown.exchanger.cache_usage();
        let row = |name: &Arc<str>| {
            let totals = shown.metrics.upstream(name).totals().token_cache;
            UpstreamCache { upstream: Arc::clone(name), totals, hit_rate: totals.hit_rate() }
        };
        let rows = snapshot.upstreams.iter().map(|upstream| row(upstream.name()));
        let mut upstreams: Vec<_> = rows.filter(|row| row.hit_rate.is_some()).collect();
        upstreams.sort_by(|one, other| one.upstream.cmp(&other.upstream));
        let all = upstreams.iter().map(|row| row.totals);
        let totals = all.fold(CacheTotals::default(), CacheTotals::and);
        Self {
            entries: usage.entries,
            max_entries: usage.max_entries,
            bytes: usage.bytes,
            max_bytes: usage.max_bytes,
            totals,
            hit_rate: totals.hit_rate(),
            upstreams,
        }
    }
}
