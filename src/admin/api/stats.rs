//! `/api/v1/stats`: what is going on, and what was counted since the start.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::Shown;
use crate::admin::query::Query;
use crate::observe::stats::{self, ProviderTotals, RouteTotals, UpstreamTotals};
use crate::observe::timestamp::Timestamp;
use crate::snapshot::Snapshot;

/// The answer of `/api/v1/stats`. Numbers of two answers of one `started_at` may be compared; the
/// time between them is the difference of `uptime_seconds`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Stats {
    /// The version that runs.
    pub version: &'static str,
    /// The commit that it was built from, if that is known.
    pub commit: Option<&'static str>,
    /// When this answer was made.
    pub time: String,
    /// Since when it runs; another one means that all counts begin anew.
    pub started_at: String,
    /// For how long.
    pub uptime_seconds: f64,
    /// Since when the configuration is in force.
    pub config_loaded_at: String,
    /// Why the gateway is not ready; empty if it is.
    pub not_ready: Vec<String>,
    /// Requests that are being answered.
    pub requests_in_flight: u64,
    /// Connections of callers.
    pub connections_open: u64,
    /// Lines of the log that found no room.
    pub log_lines_dropped: u64,
    /// The upper bounds of the buckets of all histograms here, in seconds.
    pub bounds_seconds: Vec<f64>,
    /// All requests: of all routes, of those that are no more, and without a route.
    pub requests: RouteTotals,
    /// Those without a route.
    pub unmatched: RouteTotals,
    /// Refusals by code.
    pub refusals: BTreeMap<&'static str, u64>,
    /// By route, sorted by name.
    pub routes: Vec<RouteStats>,
    /// How many routes the file has.
    pub routes_total: usize,
    /// What to ask for `after` to get the routes that found no room here.
    pub next: Option<String>,
    /// By upstream, sorted by name: the first `limit`; `/api/v1/upstreams` has all in pages.
    pub upstreams: Vec<UpstreamStats>,
    /// How many upstreams the file has.
    pub upstreams_total: usize,
    /// By provider, in the order of the file.
    pub providers: Vec<ProviderStats>,
}

/// Requests of a route.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RouteStats {
    /// The route's name.
    pub route: Arc<str>,
    /// Since the start.
    #[serde(flatten)]
    pub totals: RouteTotals,
}

/// Requests to an upstream.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UpstreamStats {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// Since the start.
    #[serde(flatten)]
    pub totals: UpstreamTotals,
}

/// Calls to a provider.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ProviderStats {
    /// The provider's name.
    pub provider: Arc<str>,
    /// Since the start.
    #[serde(flatten)]
    pub totals: ProviderTotals,
}

impl Stats {
    pub(super) fn of(snapshot: &Snapshot, shown: &Shown, query: &Query) -> Self {
        let Shown { metrics, .. } = shown;
        let now = metrics.now();
        let of_file = snapshot.routes.iter().filter(|route| route.is_of_the_file());
        let routes = query.page(of_file.collect(), |route| route.metrics.name());
        let mut names: Vec<_> = snapshot.upstreams.iter().map(|it| it.name()).collect();
        names.sort_unstable();
        let upstreams_total = names.len();
        let upstream = |name: &Arc<str>| UpstreamStats {
            upstream: Arc::clone(name),
            totals: metrics.upstream(name).totals(),
        };
        let provider = |name: &Arc<str>| ProviderStats {
            provider: Arc::clone(name),
            totals: metrics.provider_totals(name),
        };
        let route = |route: &crate::snapshot::Route| RouteStats {
            route: Arc::clone(route.metrics.name()),
            totals: route.metrics.totals(),
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("OBO_GATEWAY_COMMIT"),
            time: Timestamp::now().to_string(),
            started_at: shown.started_at.to_string(),
            uptime_seconds: shown.started.elapsed().as_secs_f64(),
            config_loaded_at: now.config_in_force_since.to_string(),
            not_ready: shown.readiness.reasons(),
            requests_in_flight: now.requests_in_flight,
            connections_open: now.connections_open,
            log_lines_dropped: now.log_lines_dropped,
            bounds_seconds: stats::bounds().to_vec(),
            requests: metrics.all_requests(),
            unmatched: metrics.unmatched().totals(),
            refusals: shown.observer.refusals().by_code(),
            routes: routes.entries.into_iter().map(route).collect(),
            routes_total: routes.total,
            next: routes.next,
            upstreams: names.into_iter().take(query.limit).map(upstream).collect(),
            upstreams_total,
            providers: snapshot.providers.iter().map(|it| provider(it.name())).collect(),
        }
    }
}
