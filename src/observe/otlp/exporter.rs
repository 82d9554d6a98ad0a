//! When spans are sent: in batches, again where that may help, and never at the cost of a request.

use bytes::Bytes;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::collector::{Collector, Failure};
use super::message::{KeyValue, Request, Resource, ResourceSpans, Scope, ScopeSpans, Span};
use crate::limits;
use crate::observe::Metrics;

/// Takes spans out of the queue until that is closed, or the process ends.
pub(in crate::observe) struct Exporter {
    pub(in crate::observe) queue: mpsc::Receiver<Vec<Span>>,
    /// `true`, or gone: what is in the queue is sent, once, and that is the end.
    pub(in crate::observe) ending: watch::Receiver<bool>,
    pub(in crate::observe) metrics: Metrics,
    /// What is said of the process.
    pub(in crate::observe) resource: Vec<(String, String)>,
}

impl Exporter {
    pub(in crate::observe) async fn run(
        mut self,
        settings: super::CollectorSettings,
        tls: rustls::ClientConfig,
    ) {
        let endpoint = settings.endpoint.clone();
        let mut collector = Collector::new(settings, &tls);
        let mut fails = false;
        while let Some(batch) = self.batch().await {
            let spans = batch.len() as u64;
            match self.send(&mut collector, batch).await {
                Ok(rejected) => {
                    let rejected = u64::try_from(rejected).unwrap_or(0).min(spans);
                    self.metrics.trace_spans_exported(spans - rejected);
                    self.metrics.trace_spans_dropped(rejected);
                    if std::mem::take(&mut fails) {
                        tracing::info!(%endpoint, "traces are sent again");
                    }
                }
                Err(failure) => {
                    self.metrics.trace_spans_dropped(spans);
                    // Once, until it is over: the metric goes on counting.
                    if !std::mem::replace(&mut fails, true) {
                        tracing::warn!(
                            %endpoint,
                            "traces can't be sent, and are dropped until they can: {failure}; see `telemetry.otlp`"
                        );
                    }
                }
            }
        }
    }

    /// The next spans to send, all that come within [`limits::TRACE_BATCH_DELAY`] of the first;
    /// `None` at the end.
    async fn batch(&mut self) -> Option<Vec<Span>> {
        let mut batch = if self.is_ending() {
            self.queue.try_recv().ok()?
        } else {
            tokio::select! {
                spans = self.queue.recv() => spans?,
                _end = self.ending.changed() => self.queue.try_recv().ok()?,
            }
        };
        let due = Instant::now() + limits::TRACE_BATCH_DELAY;
        while batch.len() < limits::TRACE_BATCH_SPANS {
            if self.is_ending() {
                match self.queue.try_recv() {
                    Ok(more) => batch.extend(more),
                    Err(_none) => break,
                }
                continue;
            }
            tokio::select! {
                more = timeout_at(due, self.queue.recv()) => match more {
                    Ok(Some(more)) => batch.extend(more),
                    Ok(None) | Err(_) => break,
                },
                _end = self.ending.changed() => {}
            }
        }
        Some(batch)
    }

    fn is_ending(&self) -> bool {
        // Gone: the configuration that it was of is no longer in force.
        *self.ending.borrow() || self.ending.has_changed().is_err()
    }

    async fn send(&mut self, collector: &mut Collector, spans: Vec<Span>) -> Result<i64, Failure> {
        let message = Bytes::from(self.request(spans).encode_to_vec());
        let mut pause = limits::TRACE_RETRY_PAUSE;
        let mut attempt = 1;
        loop {
            let (failure, after) = match collector.export(&message).await {
                Ok(rejected) => return Ok(rejected),
                Err(Failure::Passing { why, after }) => (why, after),
                Err(lasting @ Failure::Lasting { .. }) => return Err(lasting),
            };
            if attempt >= limits::TRACE_ATTEMPTS || self.is_ending() {
                return Err(Failure::Passing { why: failure, after });
            }
            let wait = after.unwrap_or(pause.mul_f64(0.5 + fastrand::f64() / 2.0));
            tokio::select! {
                () = sleep(wait.min(limits::MAX_TRACE_RETRY_PAUSE)) => {}
                _end = self.ending.changed() => {}
            }
            pause = (pause * 2).min(limits::MAX_TRACE_RETRY_PAUSE);
            attempt += 1;
        }
    }

    fn request(&self, spans: Vec<Span>) -> Request {
        let attributes = self.resource.iter();
        let attributes = attributes.map(|(key, value)| KeyValue::text(key, value)).collect();
        let scope = Scope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let resource_spans = vec![ResourceSpans {
            resource: Some(Resource { attributes }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
        }];
        Request { resource_spans }
    }
}
