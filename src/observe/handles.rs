//! What the requests of one route, or to one upstream, count: resolved once and kept with the
//! route or upstream, so that a request looks nothing up by name and allocates nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Method, StatusCode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::observe::histogram::Histogram;
use crate::observe::labels::{
    CacheLabels, MethodLabel, RequestLabels, RouteLabel, StatusLabel, UpstreamLabel,
};
use crate::observe::metrics::CacheResult;
use crate::observe::stats::{CacheTotals, HistogramTotals, RouteTotals, UpstreamTotals};

/// What the requests of one route count.
pub struct RouteMetrics {
    route: Arc<str>,
    duration: Histogram,
    overhead: Histogram,
    /// Made as methods and statuses turn up: a handful per route.
    counters: ArcSwap<Vec<(MethodAndStatus, Counter)>>,
    requests: Family<RequestLabels, Counter>,
}

type MethodAndStatus = (MethodLabel, StatusLabel);

impl RouteMetrics {
    pub(crate) fn new(
        route: Arc<str>,
        requests: Family<RequestLabels, Counter>,
        duration: &Family<RouteLabel, Histogram>,
        overhead: &Family<RouteLabel, Histogram>,
    ) -> Self {
        let label = RouteLabel { route };
        Self {
            duration: duration.get_or_create_owned(&label),
            overhead: overhead.get_or_create_owned(&label),
            route: label.route,
            counters: ArcSwap::default(),
            requests,
        }
    }

    /// The route's name; empty for requests without a route.
    pub fn name(&self) -> &Arc<str> {
        &self.route
    }

    /// Counts a finished request; `status` is `None` if the caller went away before there was one.
    pub(crate) fn finished(&self, method: &Method, status: Option<StatusCode>, took: Duration) {
        self.duration.observe(took);
        self.count((MethodLabel::of(method), StatusLabel::of(status)));
    }

    /// Counts a refusal of what was no whole request.
    pub(crate) fn refused_unread(&self, status: StatusCode) {
        self.count((MethodLabel::Other, StatusLabel::of(Some(status))));
    }

    fn count(&self, key: MethodAndStatus) {
        if let Some((_, counter)) = self.counters.load().iter().find(|(known, _)| *known == key) {
            counter.inc();
            return;
        }
        self.make_counter(key).inc();
    }

    /// Adds the counter for `key` to those that are found without labels.
    fn make_counter(&self, key: MethodAndStatus) -> Counter {
        let labels =
            RequestLabels { route: Arc::clone(&self.route), method: key.0.name(), status: key.1 };
        let counter = self.requests.get_or_create_owned(&labels);
        self.counters.rcu(|known| {
            // Somebody else may have missed it at the same time: twice there, it would be summed twice.
            if known.iter().any(|(known, _)| *known == key) {
                return Arc::clone(known);
            }
            let mut more = Vec::clone(known);
            more.push((key, counter.clone()));
            Arc::new(more)
        });
        counter
    }

    /// Adds the time that the gateway itself took for a request.
    pub(crate) fn overhead(&self, took: Duration) {
        self.overhead.observe(took);
    }

    /// What was counted since the start.
    pub fn totals(&self) -> RouteTotals {
        let mut totals = RouteTotals {
            duration: HistogramTotals::of(&self.duration),
            overhead: HistogramTotals::of(&self.overhead),
            ..RouteTotals::default()
        };
        for ((_, status), counter) in self.counters.load().iter() {
            totals.count(status.number(), counter.get());
        }
        totals
    }
}

impl fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RouteMetrics({})", self.route)
    }
}

/// What the requests to one upstream count.
pub struct UpstreamMetrics {
    upstream: Arc<str>,
    duration: Histogram,
    hit: Counter,
    miss: Counter,
    shared_hit: Counter,
    coalesced: Counter,
    stale: Counter,
    retries: Counter,
}

impl UpstreamMetrics {
    pub(crate) fn new(
        upstream: Arc<str>,
        duration: &Family<UpstreamLabel, Histogram>,
        cache_requests: &Family<CacheLabels, Counter>,
        retries: &Family<UpstreamLabel, Counter>,
    ) -> Self {
        let cache = |result: CacheResult| {
            let labels = CacheLabels { upstream: Arc::clone(&upstream), result: result.name() };
            cache_requests.get_or_create_owned(&labels)
        };
        Self {
            duration: duration
                .get_or_create_owned(&UpstreamLabel { upstream: Arc::clone(&upstream) }),
            hit: cache(CacheResult::Hit),
            miss: cache(CacheResult::Miss),
            shared_hit: cache(CacheResult::SharedHit),
            coalesced: cache(CacheResult::Coalesced),
            stale: cache(CacheResult::Stale),
            retries: retries
                .get_or_create_owned(&UpstreamLabel { upstream: Arc::clone(&upstream) }),
            upstream,
        }
    }

    /// The upstream's name.
    pub fn name(&self) -> &Arc<str> {
        &self.upstream
    }

    /// Counts how the token cache answered.
    pub fn token_cache(&self, result: CacheResult) {
        match result {
            CacheResult::Hit => self.hit.inc(),
            CacheResult::Miss => self.miss.inc(),
            CacheResult::SharedHit => self.shared_hit.inc(),
            CacheResult::Coalesced => self.coalesced.inc(),
            CacheResult::Stale => self.stale.inc(),
        };
    }

    /// What was counted since the start.
    pub fn totals(&self) -> UpstreamTotals {
        UpstreamTotals {
            duration: HistogramTotals::of(&self.duration),
            retries: self.retries.get(),
            token_cache: CacheTotals {
                hit: self.hit.get(),
                miss: self.miss.get(),
                shared_hit: self.shared_hit.get(),
                coalesced: self.coalesced.get(),
                stale: self.stale.get(),
            },
        }
    }

    /// Counts a request that is tried once more.
    pub(crate) fn retried(&self) {
        self.retries.inc();
    }

    /// Adds the time from sending a request to the head of the answer.
    pub(crate) fn answered(&self, took: Duration) {
        self.duration.observe(took);
    }
}

impl fmt::Debug for UpstreamMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamMetrics({})", self.upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Metrics;

    #[test]
    fn two_that_miss_the_same_counter_make_one() {
        let metrics = Metrics::default();
        let route = metrics.route("graph");
        let key = |status| (MethodLabel::of(&Method::GET), StatusLabel::of(Some(status)));
        for _ in 0..2 {
            route.make_counter(key(StatusCode::OK)).inc();
        }
        assert_eq!(route.counters.load().len(), 1);
        route.make_counter(key(StatusCode::CREATED)).inc();
        assert_eq!(route.counters.load().len(), 2);
        assert_eq!(route.totals().by_status, [(200, 2), (201, 1)].into());
    }
}
