//! A histogram of durations that is counted in atomics.
//!
//! The one of `prometheus-client` takes a lock for each observation; these are observed
//! several times a request by every worker.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds in seconds: they tell the gateway's own 100 µs apart, and an upstream's minute.
pub(crate) const BOUNDS: [f64; 18] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0,
];

/// The same in nanoseconds: no division for each observation.
const BOUNDS_NANOS: [u64; BOUNDS.len()] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// A histogram of durations in seconds; clones share their counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Not cumulative; beside [`BOUNDS`].
    buckets: [AtomicU64; BOUNDS.len()],
    beyond: AtomicU64,
    /// In nanoseconds: overflows after 584 years of observed time.
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let first_that_holds = BOUNDS_NANOS.partition_point(|bound| *bound < nanos);
        let bucket = self.0.buckets.get(first_that_holds).unwrap_or(&self.0.beyond);
        bucket.fetch_add(1, Ordering::Relaxed);
        self.0.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was counted so far: the observations in each bucket (those beyond all bounds behind the
    /// others), and the sum of all.
    pub(crate) fn counts(&self) -> (Vec<u64>, Duration) {
        let counts = self.0.buckets.iter().chain([&self.0.beyond]);
        let counts = counts.map(|count| count.load(Ordering::Relaxed)).collect();
        (counts, Duration::from_nanos(self.0.sum.load(Ordering::Relaxed)))
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let (counts, sum) = self.counts();
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        // Summed from what was just read, so that a scrape never contradicts itself.
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_what_is_as_long_and_nothing_longer() {
        for (at, bound) in BOUNDS.iter().enumerate() {
            let histogram = Histogram::default();
            let bound = Duration::from_secs_f64(*bound);
            histogram.observe(bound);
            histogram.observe(bound + Duration::from_nanos(1));
            let (counts, sum) = histogram.counts();
            assert_eq!((counts[at], counts[at + 1]), (1, 1), "{bound:?}");
            assert_eq!(sum, bound * 2 + Duration::from_nanos(1));
        }
    }
}
