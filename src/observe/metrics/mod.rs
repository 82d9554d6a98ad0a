//! The metrics of section 5 of the interface.
//!
//! Labels are names from the routes file, methods of a known list and codes; nothing that a
//! caller can make up. What a request counts is resolved once a route ([`RouteMetrics`]) or
//! upstream ([`UpstreamMetrics`]), so that counting allocates nothing.

mod counted;
mod families;
mod outcome;
mod totals;

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::clock::UnixTime;
use crate::observe::endpoint_health::EndpointHealth;
use crate::observe::handles::{RouteMetrics, UpstreamMetrics};
use crate::observe::labels::{
    AuthLabels, ExchangeLabels, ListenerLabel, OutcomeLabel, ProviderLabel, RefreshLabels,
    UpstreamLabel,
};
use crate::rejection::Code;

pub use counted::Counted;
use families::Families;
pub(super) use families::register;
pub use outcome::{CacheResult, Outcome};

/// All metrics; cheap to clone, shared by everything that counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics(pub(super) Arc<Families>);

impl Metrics {
    /// What requests of `route` count; resolved once, when the route is made.
    pub fn route(&self, route: &str) -> Arc<RouteMetrics> {
        let inner = &self.0;
        if let Some(known) = inner.routes.get(route) {
            return Arc::clone(&known);
        }
        let name: Arc<str> = Arc::from(route);
        let made = Arc::new(RouteMetrics::new(
            Arc::clone(&name),
            inner.requests.clone(),
            &inner.request_duration,
            &inner.overhead,
        ));
        Arc::clone(&inner.routes.entry(name).or_insert(made))
    }

    /// What requests without a route count: the empty label.
    pub fn unmatched(&self) -> &Arc<RouteMetrics> {
        &self.0.unmatched
    }

    /// What requests to `upstream` count; resolved once, when the upstream is made.
    pub fn upstream(&self, upstream: &str) -> Arc<UpstreamMetrics> {
        if let Some(known) = self.0.upstreams.get(upstream) {
            return Arc::clone(&known);
        }
        let name: Arc<str> = Arc::from(upstream);
        let made = Arc::new(UpstreamMetrics::new(
            Arc::clone(&name),
            &self.0.upstream_duration,
            &self.0.cache_requests,
            &self.0.upstream_retries,
        ));
        Arc::clone(&self.0.upstreams.entry(name).or_insert(made))
    }

    /// Counts a request as in flight; its record counts it down when it ends.
    pub(super) fn request_started(&self) {
        self.0.in_flight.inc();
    }

    /// Counts it as in flight no more.
    pub(super) fn request_ended(&self) {
        self.0.in_flight.dec();
    }

    /// Counts a connection as open until the guard is dropped.
    #[must_use = "dropping it ends the connection"]
    pub fn connection_opened(&self) -> Counted {
        Counted::up(&self.0.connections)
    }

    /// Counts a request that was refused for its token or caller.
    pub fn auth_failed(&self, route: &Arc<str>, code: Code) {
        let labels = AuthLabels { route: Arc::clone(route), code: code.answer().name };
        self.0.auth_failures.get_or_create(&labels).inc();
    }

    /// Counts one fetch of a provider's keys; `outcome` is `success` or `failure`.
    pub fn jwks_refreshed(&self, provider: &str, outcome: &'static str) {
        let labels = RefreshLabels { provider: Arc::from(provider), outcome };
        self.0.refreshes.get_or_create(&labels).inc();
    }

    /// Sets how many outbound tokens are cached.
    pub fn token_cache_entries(&self, entries: usize) {
        self.0.cache_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// Counts one exchange; `outcome` is `success` or the `code` of the rejection it led to.
    pub fn exchanged(&self, provider: &str, upstream: &str, outcome: &'static str, took: Duration) {
        let provider: Arc<str> = Arc::from(provider);
        self.0
            .exchange_duration
            .get_or_create(&ProviderLabel { provider: Arc::clone(&provider) })
            .observe(took);
        let mut totals = self.0.exchange_totals.lock().unwrap_or_else(PoisonError::into_inner);
        *totals.entry(Arc::clone(&provider)).or_default().entry(outcome).or_default() += 1;
        drop(totals);
        let labels = ExchangeLabels { provider, upstream: Arc::from(upstream), outcome };
        self.0.exchanges.get_or_create(&labels).inc();
    }

    /// Counts one reload of the routes file.
    pub fn config_reloaded(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Success => "success",
            Outcome::Failure => "failure",
        };
        self.0.reloads.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Sets since when the routes file in force is in force.
    pub fn config_in_force_since(&self, time: UnixTime) {
        self.0.last_reload.set(seconds(time));
    }

    /// Sets when the certificate of `listener` expires.
    pub fn certificate_expires(&self, listener: &str, time: UnixTime) {
        let labels = ListenerLabel { listener: Arc::from(listener) };
        self.0.certificate_expiry.get_or_create(&labels).set(seconds(time));
    }

    /// `listener` has no certificate any more.
    pub fn certificate_gone(&self, listener: &str) {
        let labels = ListenerLabel { listener: Arc::from(listener) };
        self.0.certificate_expiry.remove(&labels);
    }

    /// Sets when the certificate of the credential of `provider` expires; `None` if it has none
    /// any more.
    pub fn credential_expires(&self, provider: &Arc<str>, time: Option<UnixTime>) {
        let labels = ProviderLabel { provider: Arc::clone(provider) };
        match time {
            Some(time) => {
                self.0.credential_expiry.get_or_create(&labels).set(seconds(time));
            }
            None => {
                self.0.credential_expiry.remove(&labels);
            }
        }
    }

    /// Sets the upstreams that are asked how their endpoints are, whenever metrics are read.
    pub fn watch_endpoints(&self, upstreams: Vec<Arc<dyn EndpointHealth>>) {
        self.0.endpoints.set(upstreams);
    }

    /// Sets when the certificate expires that is shown to `upstream`; `None` if there is none any
    /// more.
    pub fn client_certificate_expires(&self, upstream: &Arc<str>, time: Option<UnixTime>) {
        let labels = UpstreamLabel { upstream: Arc::clone(upstream) };
        match time {
            Some(time) => {
                self.0.client_certificate_expiry.get_or_create(&labels).set(seconds(time));
            }
            None => {
                self.0.client_certificate_expiry.remove(&labels);
            }
        }
    }

    /// Counts log lines that were dropped.
    pub(crate) fn log_lines_dropped(&self, lines: u64) {
        self.0.log_dropped.inc_by(lines);
    }

    /// All metrics in the `OpenMetrics` text format, version 1.0.0.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` does not fail; a partial text would lack its `# EOF`, which
        // a scraper refuses.
        match prometheus_client::encoding::text::encode(&mut text, &self.0.registry) {
            Ok(()) | Err(fmt::Error) => text,
        }
    }
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};

    use super::*;

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "`{line}` is not in\n{text}");
    }

    #[test]
    fn names_are_those_of_the_contract() {
        let metrics = Metrics::default();
        let graph = metrics.route("graph");
        graph.finished(&Method::GET, Some(StatusCode::OK), Duration::from_micros(90));
        graph.finished(&Method::GET, Some(StatusCode::OK), Duration::from_micros(90));
        let brew = Method::from_bytes(b"BREW").unwrap();
        graph.finished(&brew, Some(StatusCode::OK), Duration::from_secs(59));
        metrics.unmatched().finished(&Method::GET, None, Duration::from_secs(61));
        graph.overhead(Duration::from_micros(90));
        let upstream = metrics.upstream("graph");
        upstream.answered(Duration::from_millis(3));
        upstream.retried();
        metrics.request_started();
        metrics.request_started();
        metrics.request_ended();
        let _connection = metrics.connection_opened();
        metrics.auth_failed(graph.name(), Code::TokenMissing);
        metrics.upstream("graph").token_cache(CacheResult::Hit);
        metrics.upstream("arm").token_cache(CacheResult::Coalesced);
        metrics.token_cache_entries(7);
        metrics.exchanged("entra", "graph", "success", Duration::from_millis(20));
        metrics.jwks_refreshed("entra", "failure");
        metrics.config_reloaded(Outcome::Failure);
        metrics.config_in_force_since(UnixTime(1_767_225_600));
        metrics.certificate_expires("0.0.0.0:8443", UnixTime(1_800_000_000));
        metrics.credential_expires(&Arc::from("entra"), Some(UnixTime(1_800_000_001)));
        metrics.credential_expires(&Arc::from("gone"), Some(UnixTime(1_800_000_001)));
        metrics.credential_expires(&Arc::from("gone"), None);
        metrics.log_lines_dropped(2);

        let text = metrics.encode();
        for line in [
            r#"obo_gateway_requests_total{route="graph",method="GET",status="200"} 2"#,
            r#"obo_gateway_requests_total{route="graph",method="other",status="200"} 1"#,
            r#"obo_gateway_requests_total{route="",method="GET",status=""} 1"#,
            r#"obo_gateway_request_duration_seconds_bucket{le="0.0001",route="graph"} 2"#,
            r#"obo_gateway_request_duration_seconds_bucket{le="30.0",route="graph"} 2"#,
            r#"obo_gateway_request_duration_seconds_bucket{le="60.0",route="graph"} 3"#,
            r#"obo_gateway_request_duration_seconds_bucket{le="60.0",route=""} 0"#,
            r#"obo_gateway_request_duration_seconds_bucket{le="+Inf",route=""} 1"#,
            r#"obo_gateway_request_duration_seconds_sum{route=""} 61.0"#,
            r#"obo_gateway_overhead_seconds_count{route="graph"} 1"#,
            r#"obo_gateway_upstream_duration_seconds_count{upstream="graph"} 1"#,
            "obo_gateway_requests_in_flight 1",
            "obo_gateway_connections_open 1",
            r#"obo_gateway_auth_failures_total{route="graph",code="token_missing"} 1"#,
            r#"obo_gateway_upstream_retries_total{upstream="graph"} 1"#,
            r#"obo_gateway_token_cache_requests_total{upstream="graph",result="hit"} 1"#,
            r#"obo_gateway_token_cache_requests_total{upstream="arm",result="coalesced"} 1"#,
            r#"obo_gateway_token_cache_requests_total{upstream="arm",result="miss"} 0"#,
            "obo_gateway_token_cache_entries 7",
            r#"obo_gateway_exchanges_total{provider="entra",upstream="graph",outcome="success"} 1"#,
            r#"obo_gateway_exchange_duration_seconds_count{provider="entra"} 1"#,
            r#"obo_gateway_jwks_refreshes_total{provider="entra",outcome="failure"} 1"#,
            r#"obo_gateway_config_reloads_total{outcome="failure"} 1"#,
            "obo_gateway_config_last_reload_success_timestamp_seconds 1767225600",
            r#"obo_gateway_tls_certificate_expiry_timestamp_seconds{listener="0.0.0.0:8443"} 1800000000"#,
            r#"obo_gateway_credential_certificate_expiry_timestamp_seconds{provider="entra"} 1800000001"#,
            "obo_gateway_log_lines_dropped_total 2",
            concat!(r#"obo_gateway_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
            "# EOF",
        ] {
            has(&text, line);
        }
    }

    #[test]
    fn two_handles_of_a_route_count_together() {
        let metrics = Metrics::default();
        for handle in [metrics.route("r"), metrics.route("r")] {
            handle.finished(&Method::GET, Some(StatusCode::OK), Duration::ZERO);
        }
        has(
            &metrics.encode(),
            r#"obo_gateway_requests_total{route="r",method="GET",status="200"} 2"#,
        );
    }
}
