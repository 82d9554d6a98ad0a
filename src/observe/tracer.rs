//! Which requests leave spans, under which trace, and where the spans go.
//!
//! A request continues the trace of its `traceparent`, whoever sent it: the trace's id joins logs and
//! guards nothing. Whether it is sampled is another matter, for that costs the gateway work and the
//! collector money: a caller who sets the flag on everything would have it all, and one who never sets
//! it would be in no trace. So a stranger's flag counts for nothing, and the gateway draws lots;
//! [`FollowParent`] says whose flag decides. The lots are not drawn from the trace's id, which the caller
//! chose.
//!
//! One for each configuration that has `telemetry.otlp`; the next keeps it if it is the same.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderValue};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::limits;
use crate::observe::Metrics;
use crate::observe::otlp::message::Span;
use crate::observe::otlp::{CollectorSettings, Exporter};
use crate::observe::timestamp::unix_nanos;
use crate::observe::trace::{Sampled, SpanId, TRACEPARENT, TRACESTATE, TraceId, TraceParent};
use crate::trust::TrustError;

/// A share of requests, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample(pub u32);

impl Sample {
    /// All of them.
    pub const ALL: Self = Self(1_000_000);

    fn draws(self) -> Sampled {
        if fastrand::u32(..Self::ALL.0) < self.0 { Sampled::Yes } else { Sampled::No }
    }
}

/// Whose `traceparent` decides whether a request is sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FollowParent {
    /// That of the trusted proxies.
    #[default]
    TrustedProxies,
    /// Everybody's.
    Always,
    /// Nobody's.
    Never,
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// One of the trusted proxies.
    TrustedProxy,
    /// Anybody else.
    Stranger,
}

/// What `telemetry.otlp` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSettings {
    /// Which share of the requests is sampled where no parent decides.
    pub sample: Sample,
    /// Whose decision is taken over.
    pub follow_parent: FollowParent,
    /// Where spans go.
    pub collector: CollectorSettings,
    /// What is said of the process: `service.name` and so on.
    pub resource: Vec<(String, String)>,
}

/// Decides about requests, and holds the queue of their spans.
pub struct Tracer {
    settings: TraceSettings,
    metrics: Metrics,
    queue: mpsc::Sender<Vec<Span>>,
    ending: watch::Sender<bool>,
    sending: Mutex<Sending>,
}

/// What becomes of the queue.
enum Sending {
    /// Nothing yet.
    Idle(Box<(Exporter, rustls::ClientConfig)>),
    Running(JoinHandle<()>),
    Over,
}

impl Tracer {
    /// A tracer whose queue nobody empties before [`Tracer::start`].
    ///
    /// # Errors
    ///
    /// The collector's CA file can't be used.
    pub fn new(settings: TraceSettings, metrics: Metrics) -> Result<Self, TrustError> {
        let tls = settings.collector.roots.client_config()?;
        let (sender, queue) = mpsc::channel(limits::MAX_QUEUED_TRACES);
        let (ending, end) = watch::channel(false);
        let resource = settings.resource.clone();
        let exporter = Exporter { queue, ending: end, metrics: metrics.clone(), resource };
        let sending = Mutex::new(Sending::Idle(Box::new((exporter, tls))));
        Ok(Self { settings, metrics, queue: sender, ending, sending })
    }

    /// What it was made of.
    pub fn settings(&self) -> &TraceSettings {
        &self.settings
    }

    /// Begins to send what is in the queue; a second time changes nothing. Needs a runtime.
    pub fn start(&self) {
        let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *sending, Sending::Over);
        *sending = match before {
            Sending::Idle(idle) => {
                let (exporter, tls) = *idle;
                let settings = self.settings.collector.clone();
                Sending::Running(tokio::spawn(exporter.run(settings, tls)))
            }
            Sending::Running(_) | Sending::Over => before,
        };
    }

    /// Sends what is in the queue, once, and ends; waits no longer than
    /// [`limits::TRACE_FLUSH_TIMEOUT`].
    pub async fn finish(&self) {
        self.ending.send_replace(true);
        let sending = {
            let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *sending, Sending::Over)
        };
        let Sending::Running(mut task) = sending else { return };
        if timeout(limits::TRACE_FLUSH_TIMEOUT, &mut task).await.is_err() {
            task.abort();
            tracing::warn!("the last traces were not taken in time, and are lost");
        }
    }

    /// What a request has to do with traces.
    pub(super) fn begin(self: &Arc<Self>, headers: &HeaderMap, sender: Sender) -> RequestTrace {
        let parent = TraceParent::from_headers(headers);
        let followed = match (self.settings.follow_parent, sender) {
            (FollowParent::Always, _) | (FollowParent::TrustedProxies, Sender::TrustedProxy) => {
                parent.map(|parent| parent.sampled)
            }
            (FollowParent::TrustedProxies, Sender::Stranger) | (FollowParent::Never, _) => None,
        };
        let sampled = followed.unwrap_or_else(|| self.settings.sample.draws());
        let recording = (sampled == Sampled::Yes).then(|| Recording {
            tracer: Arc::clone(self),
            began: unix_nanos(),
            upstream: SpanId::random(),
            provider: None,
            version: None,
            scheme: "http",
        });
        let trace = parent.map_or_else(TraceId::random, |parent| parent.trace);
        RequestTrace { trace, parent: parent.map(|it| it.span), span: SpanId::random(), recording }
    }

    /// Takes the spans of a request, or drops them where the queue is full.
    pub(super) fn take(&self, spans: Vec<Span>) {
        if let Err(full) = self.queue.try_send(spans) {
            self.metrics.trace_spans_dropped(full.into_inner().len() as u64);
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A request's place in its trace.
pub(super) struct RequestTrace {
    pub(super) trace: TraceId,
    /// The span of whoever sent it.
    pub(super) parent: Option<SpanId>,
    /// The request's own.
    pub(super) span: SpanId,
    /// `None`: it is not sampled.
    pub(super) recording: Option<Recording>,
}

/// What the spans of a sampled request are made of, beside its record.
pub(super) struct Recording {
    pub(super) tracer: Arc<Tracer>,
    /// In nanoseconds since 1970.
    pub(super) began: u64,
    /// The id that the upstream has for its parent.
    pub(super) upstream: SpanId,
    /// Who is asked for the outbound token.
    pub(super) provider: Option<Arc<str>>,
    pub(super) version: Option<&'static str>,
    pub(super) scheme: &'static str,
}

impl RequestTrace {
    /// Makes the request that goes upstream a child of this one.
    pub(super) fn inject(&self, headers: &mut HeaderMap) {
        let (span, sampled) = match &self.recording {
            Some(recording) => (recording.upstream, Sampled::Yes),
            None => (self.span, Sampled::No),
        };
        let parent: HeaderValue = TraceParent { trace: self.trace, span, sampled }.header();
        headers.insert(TRACEPARENT, parent);
        if self.parent.is_none() {
            // It belongs to a trace that could not be continued (level 1, §4.3).
            headers.remove(TRACESTATE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Uri;

    use super::*;
    use crate::observe::otlp::Protocol;
    use crate::trust::Roots;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn tracer(millionths: u32, follow_parent: FollowParent) -> Arc<Tracer> {
        let collector = CollectorSettings {
            endpoint: Uri::from_static("http://127.0.0.1:4317"),
            protocol: Protocol::Grpc,
            headers: Vec::new(),
            roots: Roots::System,
            timeout: Duration::from_secs(1),
        };
        let (sample, resource) = (Sample(millionths), Vec::new());
        let settings = TraceSettings { sample, follow_parent, collector, resource };
        Arc::new(Tracer::new(settings, Metrics::default()).unwrap())
    }

    fn headers(parent: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
        if let Some(parent) = parent {
            headers.insert(TRACEPARENT, HeaderValue::from_static(parent));
        }
        headers
    }

    #[test]
    fn a_flag_decides_only_where_its_sender_is_followed() {
        use FollowParent::{Always, Never, TrustedProxies};
        use Sender::{Stranger, TrustedProxy};
        for (follow, sender, followed) in [
            (TrustedProxies, TrustedProxy, true),
            (TrustedProxies, Stranger, false),
            (Always, Stranger, true),
            (Never, TrustedProxy, false),
        ] {
            for (parent, flag) in [(SAMPLED, true), (NOT_SAMPLED, false)] {
                for (millionths, drawn) in [(0, false), (1_000_000, true)] {
                    let trace = tracer(millionths, follow).begin(&headers(Some(parent)), sender);
                    let expected = if followed { flag } else { drawn };
                    let sampled = trace.recording.is_some();
                    assert_eq!(sampled, expected, "{follow:?} {sender:?} {parent} {millionths}");
                    assert_eq!(trace.trace.as_str(), "4bf92f3577b34da6a3ce929d0e0e4736");
                }
            }
        }
    }

    #[test]
    fn a_share_is_a_share() {
        let tracer = tracer(100_000, FollowParent::default());
        // Whatever the caller says, and whichever trace it chose.
        let drawn = (0..10_000).filter(|_| {
            tracer.begin(&headers(Some(SAMPLED)), Sender::Stranger).recording.is_some()
        });
        let drawn = drawn.count();
        assert!((700..1300).contains(&drawn), "{drawn} of 10,000");
    }

    #[test]
    fn the_upstream_is_a_child_and_knows_the_decision() {
        for (millionths, sampled) in [(0, Sampled::No), (1_000_000, Sampled::Yes)] {
            let tracer = tracer(millionths, FollowParent::default());
            for parent in [None, Some(SAMPLED), Some("00-broken")] {
                let mut headers = headers(parent);
                let trace = tracer.begin(&headers, Sender::Stranger);
                trace.inject(&mut headers);
                let sent = TraceParent::from_headers(&headers).unwrap();
                assert_eq!((sent.trace, sent.sampled), (trace.trace, sampled));
                assert_ne!(Some(sent.span), trace.parent);
                let continued = parent == Some(SAMPLED);
                assert_eq!(trace.parent.is_some(), continued);
                assert_eq!(headers.contains_key(TRACESTATE), continued);
            }
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let tracer = tracer(0, FollowParent::default());
        for _ in 0..limits::MAX_QUEUED_TRACES + 3 {
            tracer.take(vec![Span::default(), Span::default()]);
        }
        let text = tracer.metrics.encode();
        assert!(text.contains("obo_gateway_trace_spans_dropped_total 6\n"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_a_dead_collector_only_so_long() {
        let tracer = tracer(0, FollowParent::default());
        tracer.take(vec![Span::default()]);
        tracer.start();
        tracer.start();
        let began = tokio::time::Instant::now();
        tracer.finish().await;
        assert!(began.elapsed() <= limits::TRACE_FLUSH_TIMEOUT);
        tracer.finish().await;
    }
}
