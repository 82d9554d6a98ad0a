//! How the cache that replicas share answers, and whether it is in use.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::observe::Metrics;
use crate::observe::labels::SharedCacheLabels;
use crate::observe::metrics::register;

/// What the shared cache is asked for: the label `operation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A token, or the right to be the one who asks the provider for it.
    Claim,
    /// To keep a token.
    Store,
    /// To keep that right, or to give it back.
    Lease,
    /// To drop a token.
    Delete,
    /// To count a request against a limit.
    Limit,
    /// To tell all replicas what is to be forgotten.
    Forget,
}

/// What came of it: the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedOutcome {
    /// It was done.
    Done,
    /// A token was there.
    Hit,
    /// None was, and nobody is asking for it.
    Miss,
    /// None was; another replica is asking for it.
    Busy,
    /// Something was there that can't be opened, or is of no use.
    Unreadable,
    /// No answer came in time.
    Late,
    /// An error came, or no answer to what was asked.
    Failed,
    /// It was not asked, as it is left out now.
    Away,
    /// It will not be asked any more: too much else is to be done once it is back.
    GivenUp,
}

/// The metrics of this file.
pub(super) struct SharedCache {
    requests: Family<SharedCacheLabels, Counter>,
    up: Presence,
}

/// 1, 0, or no line at all. A family without labels would be written with braces.
#[derive(Clone, Debug)]
struct Presence(Arc<AtomicI64>);

/// What stands for no line.
const ABSENT: i64 = -1;

impl Default for Presence {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(ABSENT)))
    }
}

impl EncodeMetric for Presence {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        match self.0.load(Ordering::Relaxed) {
            ABSENT => Ok(()),
            value => encoder.encode_gauge(&value),
        }
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl SharedCache {
    pub(super) fn new(r: &mut Registry) -> Self {
        Self {
            requests: register(
                r,
                "shared_cache_requests",
                "What the shared cache was asked for, and what came of it",
            ),
            up: register(
                r,
                "shared_cache_up",
                "Whether the shared cache is in use (1) or left out (0); absent without `cache.redis`",
            ),
        }
    }
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Store => "store",
            Self::Lease => "lease",
            Self::Delete => "delete",
            Self::Limit => "limit",
            Self::Forget => "forget",
        }
    }
}

impl SharedOutcome {
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Busy => "busy",
            Self::Unreadable => "unreadable",
            Self::Late => "timeout",
            Self::Failed => "error",
            Self::Away => "unavailable",
            Self::GivenUp => "given_up",
        }
    }
}

impl Metrics {
    /// Counts what the shared cache was asked for.
    pub fn shared_cache(&self, operation: Operation, outcome: SharedOutcome) {
        let labels = SharedCacheLabels { operation: operation.name(), outcome: outcome.name() };
        self.0.shared_cache.requests.get_or_create(&labels).inc();
    }

    /// Tells whether the shared cache is in use.
    pub fn shared_cache_up(&self, is_up: bool) {
        self.0.shared_cache.up.0.store(i64::from(is_up), Ordering::Relaxed);
    }

    /// There is no shared cache any more.
    pub fn shared_cache_gone(&self) {
        self.0.shared_cache.up.0.store(ABSENT, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_shared_cache_nothing_says_that_it_is_down() {
        let metrics = Metrics::default();
        let line =
            |text: &str| text.lines().any(|line| line.starts_with("obo_gateway_shared_cache_up"));
        assert!(!line(&metrics.encode()));
        metrics.shared_cache_up(true);
        metrics.shared_cache(Operation::Claim, SharedOutcome::Late);
        let text = metrics.encode();
        assert!(text.contains("\nobo_gateway_shared_cache_up 1\n"), "{text}");
        let counted =
            r#"obo_gateway_shared_cache_requests_total{operation="claim",outcome="timeout"} 1"#;
        assert!(text.contains(counted), "{text}");
        metrics.shared_cache_gone();
        assert!(!line(&metrics.encode()));
    }
}
