//! One event per request: what is gathered while the request goes, and what becomes of it.
//!
//! An [`AccessRecord`] is filled by the gateway and ends once, when the answer's body has ended
//! or when it is dropped because the caller went away. That is the one place where a request is
//! counted and logged. It does not know how an answer comes about.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use tokio::time::Instant;

use crate::identity::Identity;
use crate::observe::cut_off;
use crate::observe::event::Event;
use crate::observe::field::FieldSet;
use crate::observe::handles::{RouteMetrics, UpstreamMetrics};
use crate::observe::metrics::{CacheResult, Counted, Metrics};
use crate::observe::phases::{Phase, Phases, Told};
use crate::observe::recorded_body::RecordedBody;
use crate::observe::refusals::{Refusals, Refused};
use crate::observe::request_id::RequestId;
use crate::observe::sink::LogSink;
use crate::observe::timestamp::Timestamp;
use crate::observe::trace::{TraceId, TraceParent};
use crate::observe::tracer::RequestTrace;
use crate::peer::Peer;
use crate::rejection::{Code, Rejection};

/// The status of a caller who went away, in the log only (nginx's number).
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Whether events are written; metrics are counted in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// One line per request, with these fields.
    On(FieldSet),
    /// None.
    Off,
}

impl AccessLog {
    fn bits(self) -> u32 {
        match self {
            Self::On(fields) => fields.bits(),
            Self::Off => 0,
        }
    }
}

/// Where requests are counted and logged.
#[derive(Debug)]
pub struct Observer {
    metrics: Metrics,
    sink: LogSink,
    /// The fields of an event, as bits; 0 is none, and no events.
    fields: AtomicU32,
    refusals: Refusals,
}

impl Observer {
    /// Counts in `metrics` and logs to `sink`.
    pub fn new(metrics: Metrics, sink: LogSink, access_log: AccessLog) -> Self {
        let fields = AtomicU32::new(access_log.bits());
        Self { metrics, sink, fields, refusals: Refusals::default() }
    }

    /// The last refusals.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The way into the log.
    pub fn sink(&self) -> &LogSink {
        &self.sink
    }

    /// Changes which events there are, for requests that are not over yet too.
    pub fn set_access_log(&self, access_log: AccessLog) {
        self.fields.store(access_log.bits(), Ordering::Relaxed);
    }

    fn wanted(&self) -> Option<FieldSet> {
        let bits = self.fields.load(Ordering::Relaxed);
        (bits != 0).then(|| FieldSet::of_bits(bits))
    }

    /// Counts and logs a refusal of what was no whole request: nothing is known of it but who sent it.
    pub fn refused_unread(&self, peer: &Peer, request_id: &RequestId, rejection: &Rejection) {
        let answer = rejection.code().answer();
        let metrics = &self.metrics;
        metrics.unmatched().refused_unread(answer.status);
        metrics.refused(metrics.unmatched().name(), rejection.code());
        self.refusals.note(&Refused {
            request_id: request_id.as_str(),
            client_ip: peer.address.ip().to_canonical(),
            method: None,
            path: None,
            route: None,
            code: rejection.code(),
            reason: &rejection.reason(),
            identity: None,
        });
        let Some(wanted) = self.wanted() else { return };
        let reason = rejection.reason();
        let event = Event {
            time: Timestamp::now(),
            request_id: request_id.as_str(),
            trace_id: None,
            client_ip: peer.address.ip().to_canonical(),
            method: None,
            host: None,
            path: None,
            status: answer.status.as_u16(),
            code: Some(answer.name),
            reason: Some(&reason),
            route: None,
            upstream: None,
            endpoint: None,
            user: None,
            client_id: None,
            tenant: None,
            token_cache: None,
            duration: Duration::ZERO,
            upstream_took: None,
            exchange_took: None,
            bytes_in: 0,
            bytes_out: 0,
        };
        write_line(&event, wanted, &self.sink);
    }

    /// Ends the log: everything is written, or [`crate::limits::LOG_CLOSE_TIMEOUT`] is over.
    pub fn close(&self) {
        self.sink.close();
    }
}

/// Counts bytes that pass, and remembers why a stream of the request was ended before its time;
/// clones are of the same request.
#[derive(Clone, Debug, Default)]
pub struct ByteCounter(Arc<Tally>);

#[derive(Debug, Default)]
struct Tally {
    bytes: AtomicU64,
    cut_short: OnceLock<(Code, String)>,
}

impl ByteCounter {
    /// Adds `bytes`.
    pub fn add(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many have passed.
    pub fn total(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// A stream was ended by the gateway, behind an answer that had begun: the log says why.
    pub fn cut_short(&self, code: Code, reason: String) {
        self.0.cut_short.get_or_init(|| (code, reason));
    }
}

/// What is gathered of one request. Dropping it ends the request.
pub struct AccessRecord {
    observer: Arc<Observer>,
    time: Timestamp,
    started: Instant,
    request_id: RequestId,
    pub(super) trace_id: Option<TraceId>,
    /// Where traces are made.
    pub(super) trace: Option<Box<RequestTrace>>,
    /// Where somebody wants to know how long they took.
    pub(super) phases: Option<Box<Phases>>,
    pub(super) method: Method,
    pub(super) uri: Uri,
    host: Option<HeaderValue>,
    bytes_in: Option<ByteCounter>,
    pub(crate) bytes_out: u64,
    pub(super) refused: Option<Code>,
    answered: Option<Answered>,
    ending: Ending,
    _in_flight: Counted,
    /// The caller's address; the peer's until somebody who knows the trusted proxies says otherwise.
    pub client_ip: IpAddr,
    /// The route; `None` as long as none was found.
    pub route: Option<Arc<RouteMetrics>>,
    /// The upstream of the route.
    pub upstream: Option<Arc<UpstreamMetrics>>,
    /// Which of the upstream's endpoints, as `host:port`.
    pub endpoint: Option<Arc<str>>,
    /// Who is calling, once verified.
    pub identity: Option<Arc<Identity>>,
    /// How the cache of outbound tokens answered, if it was asked.
    pub token_cache: Option<CacheResult>,
    /// From sending the request to the head of the upstream's answer.
    pub upstream_took: Option<Duration>,
    /// How long the request waited for an exchange.
    pub exchange_took: Option<Duration>,
    /// Why, for operators; [`AccessRecord::refused`] sets it.
    pub reason: Option<Cow<'static, str>>,
}

/// The head of the answer.
#[derive(Clone, Copy, Debug)]
struct Answered {
    status: StatusCode,
    /// From the request's head on.
    after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Not yet; if it stays so, the caller went away.
    Open,
    /// The caller took the whole answer.
    Whole,
    /// The answer broke off on our side.
    Broken,
}

impl AccessRecord {
    /// Begins to gather: `request` as it came, before anything of it was changed.
    pub fn begin<B>(
        observer: &Arc<Observer>,
        request: &Request<B>,
        peer: &Peer,
        request_id: RequestId,
    ) -> Self {
        Self {
            time: Timestamp::now(),
            started: Instant::now(),
            request_id,
            trace_id: TraceParent::from_headers(request.headers()).map(|it| it.trace),
            trace: None,
            phases: None,
            client_ip: peer.address.ip().to_canonical(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: request.headers().get(header::HOST).cloned(),
            bytes_in: None,
            bytes_out: 0,
            refused: None,
            answered: None,
            ending: Ending::Open,
            _in_flight: observer.metrics.request_started(),
            observer: Arc::clone(observer),
            route: None,
            upstream: None,
            endpoint: None,
            identity: None,
            token_cache: None,
            upstream_took: None,
            exchange_took: None,
            reason: None,
        }
    }

    /// The request's id.
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// Since when the request is being answered.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Counts the bytes of the request's body; give it to whoever reads the body.
    pub fn bytes_in(&mut self) -> ByteCounter {
        self.bytes_in.get_or_insert_default().clone()
    }

    /// The caller is to be told how long the phases took: `server_timing` of the route.
    pub fn tell_phases(&mut self) {
        let phases = self.phases.get_or_insert_with(|| Box::new(Phases::new(Told::Caller)));
        phases.told = Told::Caller;
    }

    /// The request comes into `phase`, and out of the one before.
    pub fn enter(&mut self, phase: Phase) {
        if let Some(phases) = &mut self.phases {
            phases.enter(phase);
        }
    }

    /// The request comes out of the phase that it is in.
    pub fn leave(&mut self) {
        if let Some(phases) = &mut self.phases {
            phases.leave();
        }
    }

    /// The phase was none: nothing was done in it.
    pub fn forget(&mut self, phase: Phase) {
        if let Some(phases) = &mut self.phases {
            phases.forget(phase);
        }
    }

    /// Adds `Server-Timing` to the head of the answer, if the caller is to be told.
    pub fn tell_timing(&self, headers: &mut HeaderMap) {
        if let Some(phases) = &self.phases {
            phases.tell(headers);
        }
    }

    /// Takes code and reason of a refusal.
    pub fn refused(&mut self, rejection: &Rejection) {
        if let Some(phases) = &mut self.phases {
            phases.fail();
        }
        self.refused = Some(rejection.code());
        self.reason = Some(Cow::Owned(rejection.reason()));
    }

    /// The answer is ready: the record goes with its body, and ends with it. The status of a
    /// refusal is the refusal's, also where the caller is told another way (gRPC).
    pub fn complete<B: Body>(mut self, response: Response<B>) -> Response<RecordedBody<B>> {
        let status = self.refused.map_or(response.status(), |code| code.answer().status);
        self.answered = Some(Answered { status, after: self.started.elapsed() });
        let without_body = self.method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if without_body {
            // The server drops such a body unread.
            self.ending = Ending::Whole;
        }
        response.map(|body| RecordedBody::new(body, self))
    }

    /// The answer is the head of a stream beside HTTP: the record ends with that one, by
    /// [`AccessRecord::stream_ended`].
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.answered = Some(Answered { status, after: self.started.elapsed() });
    }

    /// The stream behind the answer has ended; so many bytes came from the caller and from the
    /// upstream.
    pub(crate) fn stream_ended(mut self, up: u64, down: u64, why: Option<String>) {
        self.ending = Ending::Whole;
        self.bytes_in().0.bytes.store(up, Ordering::Relaxed);
        self.bytes_out = down;
        if let Some(why) = why {
            self.reason.get_or_insert(Cow::Owned(why));
        }
    }

    /// The answer's body was taken whole.
    pub(crate) fn taken_whole(mut self) {
        self.ending = Ending::Whole;
    }

    /// The answer's body broke off, and not because of the caller.
    pub(crate) fn broke_off(mut self, why: String) {
        self.ending = Ending::Broken;
        self.reason.get_or_insert(Cow::Owned(why));
    }

    fn count(&self, took: Duration, status: Option<StatusCode>) {
        let metrics = &self.observer.metrics;
        let route = self.route.as_ref().unwrap_or(metrics.unmatched());
        route.finished(&self.method, status, took);
        if let Some(answered) = self.answered {
            let elsewhere =
                self.upstream_took.unwrap_or_default() + self.exchange_took.unwrap_or_default();
            route.overhead(answered.after.saturating_sub(elsewhere));
        }
        // Only where a head came: an upstream that is down would look fast.
        if let (Some(upstream), Some(took), None) =
            (&self.upstream, self.upstream_took, self.refused)
        {
            upstream.answered(took);
        }
        if let Some(code) = self.refused {
            metrics.refused(route.name(), code);
        }
        if let Some(code) = self.refused
            && matches!(code.answer().status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        {
            metrics.auth_failed(route.name(), code);
        }
    }

    /// Keeps the refusal for the admin port. What was not refused never comes here.
    fn remember(&self, code: Code) {
        self.observer.refusals.note(&Refused {
            request_id: self.request_id.as_str(),
            client_ip: self.client_ip,
            method: Some(self.method.as_str()),
            path: Some(self.uri.path()),
            route: self.route.as_ref().map(|route| route.name()),
            code,
            reason: self.reason.as_deref().unwrap_or_default(),
            identity: self.identity.as_deref(),
        });
    }

    fn log(&self, took: Duration, status: u16, wanted: FieldSet) {
        let host = self.host();
        let identity = self.identity.as_deref();
        let cut_short = self.bytes_in.as_ref().and_then(|tally| tally.0.cut_short.get());
        let code = self.refused.or(cut_short.map(|(code, _)| *code));
        let reason = cut_short.map(|(_, reason)| reason.as_str());
        let event = Event {
            time: self.time,
            request_id: self.request_id.as_str(),
            trace_id: self.trace_id.as_ref().map(TraceId::as_str),
            client_ip: self.client_ip,
            method: Some(self.method.as_str()),
            host: host.as_deref(),
            path: Some(self.uri.path()),
            status,
            code: code.map(|code| code.answer().name),
            reason: reason.or(self.reason.as_deref()),
            route: self.route.as_ref().map(|route| &**route.name()),
            upstream: self.upstream.as_ref().map(|upstream| &**upstream.name()),
            endpoint: self.endpoint.as_deref(),
            user: identity.and_then(|identity| identity.user.as_deref()),
            client_id: identity.and_then(|identity| identity.client_id.as_deref()),
            tenant: identity.and_then(|identity| identity.tenant.as_deref()),
            token_cache: self.token_cache.map(CacheResult::name),
            duration: took,
            upstream_took: self.upstream_took,
            exchange_took: self.exchange_took,
            bytes_in: self.bytes_in.as_ref().map_or(0, ByteCounter::total),
            bytes_out: self.bytes_out,
        };
        write_line(&event, wanted, &self.observer.sink);
    }

    /// The host that the caller asked for, without what might be a password before it.
    pub(super) fn host(&self) -> Option<Cow<'_, str>> {
        let host = match (self.uri.authority(), &self.host) {
            (Some(authority), _) => Cow::Borrowed(authority.as_str()),
            (None, Some(host)) => String::from_utf8_lossy(host.as_bytes()),
            (None, None) => return None,
        };
        Some(match host.rsplit_once('@') {
            Some((_userinfo, behind)) => Cow::Owned(behind.to_owned()),
            None => host,
        })
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let sent = self.answered.map(|answered| answered.status);
        let (counted, logged) = match (self.ending, sent) {
            (Ending::Whole | Ending::Broken, Some(status)) => (Some(status), status.as_u16()),
            (Ending::Open, None) if std::thread::panicking() => {
                self.refused = Some(Code::Internal);
                self.reason = Some(Cow::Borrowed("a panic while the request was answered"));
                (Some(StatusCode::INTERNAL_SERVER_ERROR), 500)
            }
            (Ending::Open, sent) if cut_off::is_cut() => {
                self.reason.get_or_insert(Cow::Borrowed(cut_off::REASON));
                // Where nobody was told any, the one that says whose end it is.
                let status = sent.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                (Some(status), status.as_u16())
            }
            (Ending::Whole | Ending::Broken | Ending::Open, sent) => {
                let why = match sent {
                    Some(_) => "the caller went away before the end of the answer",
                    None => "the caller went away before there was an answer",
                };
                self.reason.get_or_insert(Cow::Borrowed(why));
                (sent, CLIENT_CLOSED_REQUEST)
            }
        };
        // Whoever sees a refusal counted finds it among the last ones.
        if let Some(code) = self.refused {
            self.remember(code);
        }
        self.count(took, counted);
        self.leave_spans(took, counted);
        if let Some(wanted) = self.observer.wanted() {
            self.log(took, logged, wanted);
        }
    }
}

impl fmt::Debug for AccessRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessRecord")
            .field("request_id", &self.request_id)
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

fn write_line(event: &Event<'_>, wanted: FieldSet, sink: &LogSink) {
    thread_local! {
        /// Kept from line to line, so that a line allocates nothing.
        static LINE: RefCell<String> = const { RefCell::new(String::new()) };
    }
    LINE.with_borrow_mut(|line| {
        line.clear();
        event.write(sink.format(), wanted, line);
        sink.line(line.as_bytes());
    });
}
