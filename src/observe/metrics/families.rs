//! All families of metrics, with the names and the help that a scraper sees.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};

use dashmap::DashMap;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use crate::observe::endpoint_health::Watched;
use crate::observe::handles::{RouteMetrics, UpstreamMetrics};
use crate::observe::histogram::Histogram;
use crate::observe::labels::{
    AuthLabels, CacheLabels, ExchangeLabels, ListenerLabel, OutcomeLabel, ProviderLabel,
    RefreshLabels, RequestLabels, RouteLabel, UpstreamLabel, VersionLabel,
};
use crate::observe::operators::Operators;
use crate::observe::process::Process;
use crate::observe::shared_cache::SharedCache;

/// How often which outcome came, by provider.
type ExchangeTotals = HashMap<Arc<str>, BTreeMap<&'static str, u64>>;

pub(in crate::observe) struct Families {
    pub(super) registry: Registry,
    pub(super) requests: Family<RequestLabels, Counter>,
    pub(super) request_duration: Family<RouteLabel, Histogram>,
    pub(super) overhead: Family<RouteLabel, Histogram>,
    pub(super) upstream_duration: Family<UpstreamLabel, Histogram>,
    pub(super) upstream_retries: Family<UpstreamLabel, Counter>,
    pub(super) in_flight: Gauge,
    pub(super) connections: Gauge,
    pub(super) auth_failures: Family<AuthLabels, Counter>,
    pub(super) cache_requests: Family<CacheLabels, Counter>,
    pub(super) cache_entries: Gauge,
    pub(super) exchanges: Family<ExchangeLabels, Counter>,
    pub(super) exchange_duration: Family<ProviderLabel, Histogram>,
    pub(super) refreshes: Family<RefreshLabels, Counter>,
    pub(super) reloads: Family<OutcomeLabel, Counter>,
    pub(super) last_reload: Gauge,
    pub(super) certificate_expiry: Family<ListenerLabel, Gauge>,
    pub(super) credential_expiry: Family<ProviderLabel, Gauge>,
    pub(super) client_certificate_expiry: Family<UpstreamLabel, Gauge>,
    pub(super) log_dropped: Counter,
    pub(in crate::observe) operators: Operators,
    pub(in crate::observe) shared_cache: SharedCache,
    pub(super) endpoints: Watched,
    /// By name, so that those who know only the name allocate nothing either.
    pub(super) upstreams: DashMap<Arc<str>, Arc<UpstreamMetrics>>,
    /// By name, so that what was counted before a reload is known behind it.
    pub(super) routes: DashMap<Arc<str>, Arc<RouteMetrics>>,
    /// The exchanges once more, as a family can't be read.
    pub(super) exchange_totals: Mutex<ExchangeTotals>,
    pub(super) unmatched: Arc<RouteMetrics>,
}

impl fmt::Debug for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Default for Families {
    fn default() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let r = registry.sub_registry_with_prefix("obo_gateway");
        // A counter's `_total` is added when it is printed.
        let requests: Family<RequestLabels, Counter> =
            register(r, "requests", "Requests by route, method and status");
        let request_duration = register(
            r,
            "request_duration_seconds",
            "From the request's head to the end of the answer's body",
        );
        let overhead = register(
            r,
            "overhead_seconds",
            "To the answer's head, less the time of upstream and provider",
        );
        let unmatched =
            RouteMetrics::new(Arc::from(""), requests.clone(), &request_duration, &overhead);
        let build: Family<VersionLabel, Gauge> =
            register(r, "build_info", "The version that runs; always 1");
        build.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        let endpoints = Watched::default();
        r.register_collector(Box::new(endpoints.clone()));
        Self {
            endpoints,
            operators: Operators::new(r),
            shared_cache: SharedCache::new(r),
            upstream_duration: register(
                r,
                "upstream_duration_seconds",
                "From sending a request to the head of the upstream's answer",
            ),
            upstream_retries: register(r, "upstream_retries", "Requests sent to an upstream again"),
            in_flight: register(r, "requests_in_flight", "Requests being answered"),
            connections: register(r, "connections_open", "Connections of callers"),
            auth_failures: register(
                r,
                "auth_failures",
                "Requests refused for their token or caller (401 and 403 of the gateway's own)",
            ),
            cache_requests: register(
                r,
                "token_cache_requests",
                "How the cache of outbound tokens answered",
            ),
            cache_entries: register(r, "token_cache_entries", "Outbound tokens held"),
            exchanges: register(r, "exchanges", "Calls to a token endpoint"),
            exchange_duration: register(
                r,
                "exchange_duration_seconds",
                "How long a call to a token endpoint took",
            ),
            refreshes: register(r, "jwks_refreshes", "Fetches of a provider's keys"),
            reloads: register(r, "config_reloads", "Loads of the routes file after the first"),
            last_reload: register(
                r,
                "config_last_reload_success_timestamp_seconds",
                "When the routes file in force was loaded",
            ),
            certificate_expiry: register(
                r,
                "tls_certificate_expiry_timestamp_seconds",
                "When a listener's certificate expires",
            ),
            credential_expiry: register(
                r,
                "credential_certificate_expiry_timestamp_seconds",
                "When the certificate expires by which the gateway proves who it is to a provider",
            ),
            client_certificate_expiry: register(
                r,
                "client_certificate_expiry_timestamp_seconds",
                "When the certificate expires that is shown to an upstream",
            ),
            log_dropped: register(
                r,
                "log_lines_dropped",
                "Log lines that found no room because standard error is not read fast enough",
            ),
            requests,
            request_duration,
            overhead,
            upstreams: DashMap::new(),
            routes: DashMap::new(),
            exchange_totals: Mutex::default(),
            unmatched: Arc::new(unmatched),
            registry,
        }
    }
}

pub(in crate::observe) fn register<M: Metric + Clone + Default>(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}
