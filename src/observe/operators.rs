//! What an operator wants to know at night, beyond section 5 of the interface: refusals by code,
//! how providers are, and what becomes of traces.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::observe::Metrics;
use crate::observe::labels::{AuthLabels, ProviderLabel};
use crate::observe::metrics::register;
use crate::rejection::Code;

/// A provider that can be asked how it is.
pub trait ProviderHealth: Send + Sync {
    /// Its name in the routes file.
    fn provider(&self) -> Arc<str>;

    /// Whether it has had its keys once, so that its tokens can be judged.
    fn is_ready(&self) -> bool;

    /// Since its keys were fetched; `None` if they were not, or are read from a file.
    fn keys_age(&self) -> Option<Duration>;

    /// For how many tenants, clients and scope sets it is left alone now, since it fails.
    fn breakers_open(&self) -> usize;
}

/// The metrics of this file.
pub(super) struct Operators {
    refusals: Family<AuthLabels, Counter>,
    spans_exported: Counter,
    spans_dropped: Counter,
    providers: Providers,
}

impl Operators {
    pub(super) fn new(r: &mut Registry) -> Self {
        let providers = Providers::default();
        r.register_collector(Box::new(providers.clone()));
        Self {
            refusals: register(r, "refusals", "Requests that the gateway refused, by code"),
            spans_exported: register(r, "trace_spans_exported", "Spans that the collector took"),
            spans_dropped: register(
                r,
                "trace_spans_dropped",
                "Spans that found no room, or that the collector did not take",
            ),
            providers,
        }
    }
}

impl Metrics {
    /// Counts a refusal, whatever its status.
    pub(super) fn refused(&self, route: &Arc<str>, code: Code) {
        let labels = AuthLabels { route: Arc::clone(route), code: code.answer().name };
        self.0.operators.refusals.get_or_create(&labels).inc();
    }

    /// Counts spans that a collector took.
    pub(super) fn trace_spans_exported(&self, spans: u64) {
        self.0.operators.spans_exported.inc_by(spans);
    }

    /// Counts spans that are lost.
    pub(super) fn trace_spans_dropped(&self, spans: u64) {
        self.0.operators.spans_dropped.inc_by(spans);
    }

    /// Sets the providers that are asked how they are, whenever metrics are read.
    pub fn watch_providers(&self, providers: Vec<Arc<dyn ProviderHealth>>) {
        let watched = &self.0.operators.providers.0;
        *watched.lock().unwrap_or_else(PoisonError::into_inner) = providers;
    }
}

/// The providers of the configuration in force.
#[derive(Clone, Default)]
struct Providers(Arc<Mutex<Vec<Arc<dyn ProviderHealth>>>>);

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Providers(..)")
    }
}

impl Collector for Providers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let providers = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let label = |provider: &dyn ProviderHealth| ProviderLabel { provider: provider.provider() };
        let mut keys = encoder.encode_descriptor(
            "provider_keys_age_seconds",
            "Since the provider's keys were fetched; absent if they were not, or are read from a file",
            None,
            MetricType::Gauge,
        )?;
        for provider in &providers {
            let Some(age) = provider.keys_age() else { continue };
            let gauge = ConstGauge::new(age.as_secs_f64());
            gauge.encode(keys.encode_family(&label(provider.as_ref()))?)?;
        }
        let mut ready = encoder.encode_descriptor(
            "provider_ready",
            "Whether tokens of the provider can be judged: its keys have been loaded",
            None,
            MetricType::Gauge,
        )?;
        for provider in &providers {
            let gauge = ConstGauge::new(i64::from(provider.is_ready()));
            gauge.encode(ready.encode_family(&label(provider.as_ref()))?)?;
        }
        let mut breakers = encoder.encode_descriptor(
            "provider_breakers_open",
            "For how many tenants, clients and scope sets the provider is not asked now, since it fails",
            None,
            MetricType::Gauge,
        )?;
        for provider in &providers {
            let open = i64::try_from(provider.breakers_open()).unwrap_or(i64::MAX);
            let gauge = ConstGauge::new(open);
            gauge.encode(breakers.encode_family(&label(provider.as_ref()))?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Told(&'static str, Option<u64>, usize);

    impl ProviderHealth for Told {
        fn provider(&self) -> Arc<str> {
            Arc::from(self.0)
        }

        fn is_ready(&self) -> bool {
            self.1.is_some()
        }

        fn keys_age(&self) -> Option<Duration> {
            self.1.map(Duration::from_secs)
        }

        fn breakers_open(&self) -> usize {
            self.2
        }
    }

    #[test]
    fn providers_are_asked_when_the_metrics_are_read() {
        let metrics = Metrics::default();
        metrics.watch_providers(vec![
            Arc::new(Told("entra", Some(90), 2)),
            Arc::new(Told("sso", None, 0)),
        ]);
        metrics.refused(&Arc::from("graph"), Code::RateLimited);
        let text = metrics.encode();
        for line in [
            r#"obo_gateway_provider_keys_age_seconds{provider="entra"} 90.0"#,
            r#"obo_gateway_provider_ready{provider="entra"} 1"#,
            r#"obo_gateway_provider_ready{provider="sso"} 0"#,
            r#"obo_gateway_provider_breakers_open{provider="entra"} 2"#,
            r#"obo_gateway_provider_breakers_open{provider="sso"} 0"#,
            r#"obo_gateway_refusals_total{route="graph",code="rate_limited"} 1"#,
            "obo_gateway_trace_spans_dropped_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "`{line}` is not in\n{text}");
        }
        assert!(!text.contains(r#"provider_keys_age_seconds{provider="sso"}"#));
    }
}
