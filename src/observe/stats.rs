//! What was counted since the start, as numbers: for those who make rates and percentiles out of
//! the difference of two looks.
//!
//! The same counts as in `/metrics`, read from the handles of routes and upstreams. Nothing is
//! kept here, and a request never comes by.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::observe::histogram::{BOUNDS, Histogram};
use crate::observe::timestamp::Timestamp;

/// The upper bounds of the buckets of all histograms, in seconds.
pub fn bounds() -> &'static [f64] {
    &BOUNDS
}

/// Durations since the start.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct HistogramTotals {
    /// How many.
    pub count: u64,
    /// Their sum in seconds.
    pub sum_seconds: f64,
    /// How many in each bucket, not cumulative: beside `bounds_seconds`, and one more for those
    /// beyond the last bound. Empty if there were none at all.
    pub buckets: Vec<u64>,
}

impl HistogramTotals {
    pub(super) fn of(histogram: &Histogram) -> Self {
        let (buckets, sum) = histogram.counts();
        let count = buckets.iter().sum();
        let buckets = if count == 0 { Vec::new() } else { buckets };
        Self { count, sum_seconds: sum.as_secs_f64(), buckets }
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum_seconds += other.sum_seconds;
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
            return;
        }
        for (own, other) in self.buckets.iter_mut().zip(&other.buckets) {
            *own += other;
        }
    }
}

impl Default for HistogramTotals {
    fn default() -> Self {
        Self { count: 0, sum_seconds: 0.0, buckets: Vec::new() }
    }
}

/// Requests since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct RouteTotals {
    /// How many have ended.
    pub requests: u64,
    /// How many of them with which HTTP status.
    pub by_status: BTreeMap<u16, u64>,
    /// Those whose caller went away before there was an answer: they have no status.
    pub gone: u64,
    /// From a request's head to the end of the answer's body.
    pub duration: HistogramTotals,
    /// To the answer's head, less the time of upstream and provider.
    pub overhead: HistogramTotals,
}

impl RouteTotals {
    pub(super) fn count(&mut self, status: Option<u16>, requests: u64) {
        self.requests += requests;
        match status {
            Some(status) => *self.by_status.entry(status).or_default() += requests,
            None => self.gone += requests,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.gone += other.gone;
        for (status, requests) in &other.by_status {
            *self.by_status.entry(*status).or_default() += requests;
        }
        self.duration.add(&other.duration);
        self.overhead.add(&other.overhead);
    }
}

/// Requests to one upstream since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct UpstreamTotals {
    /// From sending a request to the head of the upstream's answer.
    pub duration: HistogramTotals,
    /// Requests that were sent again.
    pub retries: u64,
    /// How the cache of outbound tokens answered.
    pub token_cache: CacheTotals,
}

/// How the cache of outbound tokens answered, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CacheTotals {
    /// A ready token was there.
    pub hit: u64,
    /// The provider was asked.
    pub miss: u64,
    /// Another replica had asked; it was found in the shared cache.
    pub shared_hit: u64,
    /// Another request was already asking, and its outcome was shared.
    pub coalesced: u64,
    /// The provider could not be asked in time; a token at the very end of its life was used.
    pub stale: u64,
}

impl CacheTotals {
    /// The share of requests that found a ready token, from 0 to 1; `None` before the first.
    pub fn hit_rate(&self) -> Option<f64> {
        let all = self.hit + self.miss + self.shared_hit + self.coalesced + self.stale;
        #[allow(clippy::cast_precision_loss, reason = "a share for people to look at")]
        (all > 0).then(|| self.hit as f64 / all as f64)
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            hit: self.hit + other.hit,
            miss: self.miss + other.miss,
            shared_hit: self.shared_hit + other.shared_hit,
            coalesced: self.coalesced + other.coalesced,
            stale: self.stale + other.stale,
        }
    }
}

/// Calls to one provider since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ProviderTotals {
    /// Calls to its token endpoint, by outcome: `success`, or the code of the refusal that
    /// the call led to.
    pub exchanges: BTreeMap<&'static str, u64>,
    /// How long they took.
    pub exchange_duration: HistogramTotals,
    /// Fetches of its keys.
    pub key_fetches: FetchTotals,
}

/// How often something worked and how often it did not, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FetchTotals {
    /// It did.
    pub success: u64,
    /// It did not.
    pub failure: u64,
}

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Requests that are being answered.
    pub requests_in_flight: u64,
    /// Connections of callers.
    pub connections_open: u64,
    /// Lines of the log that found no room, since the start.
    pub log_lines_dropped: u64,
    /// Since when the configuration is in force.
    pub config_in_force_since: Timestamp,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Method, StatusCode};

    use super::*;
    use crate::observe::Metrics;
    use crate::observe::metrics::CacheResult;

    #[test]
    fn totals_say_what_was_counted_by_any_handle_of_a_route() {
        let metrics = Metrics::default();
        let took = Duration::from_micros(90);
        metrics.route("r").finished(&Method::GET, Some(StatusCode::OK), took);
        metrics.route("r").finished(&Method::POST, Some(StatusCode::OK), took);
        metrics.route("r").finished(&Method::GET, None, Duration::from_secs(61));
        metrics.unmatched().finished(&Method::GET, Some(StatusCode::NOT_FOUND), took);

        let totals = metrics.route("r").totals();
        assert_eq!((totals.requests, totals.gone), (3, 1));
        assert_eq!(totals.by_status, BTreeMap::from([(200, 2)]));
        assert_eq!(totals.duration.count, 3);
        assert_eq!(totals.duration.buckets.len(), bounds().len() + 1);
        assert_eq!((totals.duration.buckets[0], totals.duration.buckets[18]), (2, 1));
        assert_eq!(totals.overhead, HistogramTotals::default());

        let all = metrics.all_requests();
        assert_eq!((all.requests, all.gone, all.duration.count), (4, 1, 4));
        assert_eq!(all.by_status, BTreeMap::from([(200, 2), (404, 1)]));
        assert_eq!(all.duration.buckets[0], 3);
    }

    #[test]
    fn totals_of_providers_and_upstreams() {
        let metrics = Metrics::default();
        metrics.exchanged("entra", "graph", "success", Duration::from_millis(20));
        metrics.exchanged("entra", "arm", "success", Duration::from_millis(20));
        metrics.exchanged("entra", "arm", "exchange_failed", Duration::from_millis(20));
        metrics.jwks_refreshed("entra", "failure");
        let totals = metrics.provider_totals(&"entra".into());
        let exchanges = BTreeMap::from([("success", 2), ("exchange_failed", 1)]);
        assert_eq!(totals.exchanges, exchanges);
        assert_eq!(totals.exchange_duration.count, 3);
        assert_eq!(totals.key_fetches, FetchTotals { success: 0, failure: 1 });
        assert_eq!(metrics.provider_totals(&"other".into()), ProviderTotals::default());

        let upstream = metrics.upstream("graph");
        assert_eq!(upstream.totals().token_cache.hit_rate(), None);
        for result in [CacheResult::Hit, CacheResult::Hit, CacheResult::Hit, CacheResult::Miss] {
            upstream.token_cache(result);
        }
        assert_eq!(upstream.totals().token_cache.hit_rate(), Some(0.75));
    }
}
