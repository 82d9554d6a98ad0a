//! What is going on now: gauges that are counted up and, whatever happens, down again.

use prometheus_client::metrics::gauge::Gauge;

/// A gauge that was counted up and is counted down when this is dropped.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    pub(super) fn up(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
