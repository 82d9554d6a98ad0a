//! `upstream_endpoint_healthy`: asked for when the metrics are read, since an endpoint that was
//! left alone for a while comes back without anybody being told.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::observe::labels::EndpointLabels;

/// An upstream that can be asked how its endpoints are.
pub trait EndpointHealth: Send + Sync {
    /// Its name in the routes file.
    fn upstream(&self) -> Arc<str>;

    /// Each of its URLs as `host[:port]`, and whether any of its addresses takes requests.
    fn health(&self) -> Vec<(Arc<str>, bool)>;
}

/// The upstreams of the configuration in force.
#[derive(Clone, Default)]
pub(super) struct Watched(Arc<Mutex<Vec<Arc<dyn EndpointHealth>>>>);

impl Watched {
    pub(super) fn set(&self, upstreams: Vec<Arc<dyn EndpointHealth>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = upstreams;
    }
}

impl Collector for Watched {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let upstreams = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut family = encoder.encode_descriptor(
            "upstream_endpoint_healthy",
            "Whether requests are sent to the endpoint, on one of its addresses at least",
            None,
            MetricType::Gauge,
        )?;
        for upstream in upstreams {
            for (endpoint, healthy) in upstream.health() {
                let labels = EndpointLabels { upstream: upstream.upstream(), endpoint };
                let gauge = ConstGauge::new(i64::from(healthy));
                gauge.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched(..)")
    }
}
