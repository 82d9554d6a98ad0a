//! What is gathered of one request while it goes.
//!
//! An [`AccessRecord`] is filled by the gateway and ends once, when the answer's body has ended
//! or when it is dropped because the caller went away (`ending.rs`). It does not know how an
//! answer comes about.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use tokio::time::Instant;

use super::byte_counter::ByteCounter;
use super::observer::Observer;
use crate::identity::Identity;
use crate::observe::handles::{RouteMetrics, UpstreamMetrics};
use crate::observe::metrics::CacheResult;
use crate::observe::phases::{Phase, Phases, Told};
use crate::observe::recorded_body::RecordedBody;
use crate::observe::request_id::RequestId;
use crate::observe::timestamp::Timestamp;
use crate::observe::trace::{TraceId, TraceParent};
use crate::observe::tracer::RequestTrace;
use crate::peer::Peer;
use crate::rejection::{Code, Rejection};

/// What is gathered of one request. Dropping it ends the request.
///
/// It is large and goes from hand to hand, so there is none outside a box.
pub struct AccessRecord {
    pub(super) observer: Arc<Observer>,
    pub(super) time: Timestamp,
    pub(super) started: Instant,
    request_id: RequestId,
    pub(in crate::observe) trace_id: Option<TraceId>,
    /// Where traces are made.
    pub(in crate::observe) trace: Option<Box<RequestTrace>>,
    /// Where somebody wants to know how long they took.
    pub(in crate::observe) phases: Option<Box<Phases>>,
    pub(in crate::observe) method: Method,
    pub(in crate::observe) uri: Uri,
    pub(super) host: Option<HeaderValue>,
    pub(crate) bytes_out: u64,
    pub(in crate::observe) refused: Option<Code>,
    pub(super) answered: Option<Answered>,
    pub(super) ending: Ending,
    /// What counts the request's body, once anything does.
    pub bytes_in: Option<ByteCounter>,
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
pub(super) struct Answered {
    pub(super) status: StatusCode,
    /// From the request's head on.
    pub(super) after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
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
    ) -> Box<Self> {
        let record = Box::new(Self {
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
            observer: Arc::clone(observer),
            route: None,
            upstream: None,
            endpoint: None,
            identity: None,
            token_cache: None,
            upstream_took: None,
            exchange_took: None,
            reason: None,
        });
        // Last: from here on it is sure to end.
        record.observer.metrics().request_started();
        record
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
    pub fn complete<B: Body>(
        mut self: Box<Self>,
        response: Response<B>,
    ) -> Response<RecordedBody<B>> {
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
    pub(crate) fn stream_ended(mut self: Box<Self>, up: u64, down: u64, why: Option<String>) {
        self.ending = Ending::Whole;
        self.bytes_in().set(up);
        self.bytes_out = down;
        if let Some(why) = why {
            self.reason.get_or_insert(Cow::Owned(why));
        }
    }

    /// The answer's body was taken whole.
    pub(crate) fn taken_whole(mut self: Box<Self>) {
        self.ending = Ending::Whole;
    }

    /// The answer's body broke off, and not because of the caller.
    pub(crate) fn broke_off(mut self: Box<Self>, why: String) {
        self.ending = Ending::Broken;
        self.reason.get_or_insert(Cow::Owned(why));
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
