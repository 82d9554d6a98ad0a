//! What was counted, read again as numbers: for the admin port.

use std::sync::{Arc, PoisonError};

use prometheus_client::metrics::gauge::Gauge;

use super::Metrics;
use crate::observe::labels::{OutcomeLabel, ProviderLabel, RefreshLabels};
use crate::observe::stats::{FetchTotals, HistogramTotals, Now, ProviderTotals, RouteTotals};
use crate::observe::timestamp::Timestamp;

impl Metrics {
    /// What was counted since the start for all requests, those of routes that are no more included.
    pub fn all_requests(&self) -> RouteTotals {
        let mut all = self.0.unmatched.totals();
        for route in &self.0.routes {
            all.add(&route.totals());
        }
        all
    }

    /// What was counted of calls to `provider` since the start.
    pub fn provider_totals(&self, provider: &Arc<str>) -> ProviderTotals {
        let inner = &self.0;
        let label = ProviderLabel { provider: Arc::clone(provider) };
        let totals = inner.exchange_totals.lock().unwrap_or_else(PoisonError::into_inner);
        let exchanges = totals.get(provider).cloned().unwrap_or_default();
        drop(totals);
        let refreshes = |outcome| {
            let labels = RefreshLabels { provider: Arc::clone(provider), outcome };
            inner.refreshes.get(&labels).map_or(0, |counter| counter.get())
        };
        ProviderTotals {
            exchanges,
            exchange_duration: inner
                .exchange_duration
                .get(&label)
                .map(|histogram| HistogramTotals::of(&histogram))
                .unwrap_or_default(),
            key_fetches: FetchTotals {
                success: refreshes("success"),
                failure: refreshes("failure"),
            },
        }
    }

    /// What is going on, and what the process lost.
    pub fn now(&self) -> Now {
        let gauge = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or_default();
        Now {
            requests_in_flight: gauge(&self.0.in_flight),
            connections_open: gauge(&self.0.connections),
            log_lines_dropped: self.0.log_dropped.get(),
            config_in_force_since: Timestamp(gauge(&self.0.last_reload).saturating_mul(1000)),
        }
    }

    /// How often the routes file was loaded behind the first time.
    pub fn reloads(&self) -> FetchTotals {
        let count = |outcome| {
            let counter = self.0.reloads.get(&OutcomeLabel { outcome });
            counter.map_or(0, |counter| counter.get())
        };
        FetchTotals { success: count("success"), failure: count("failure") }
    }
}
