//! A collector of traces on a real socket: OTLP over gRPC and over HTTP, read with the messages that
//! the OpenTelemetry project generates.
//!
//! It judges each call by the protocol, keeps the spans, and raises what was wrong when it is
//! dropped, as well as every token and secret that it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::sync::watch;

use super::client::full;
use super::registry;
use super::servers::{Handled, PeerBody, PeerError, Server};
use super::tls_upstream::{self, Issued};

/// What a collector does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Takes it.
    Takes,
    /// Is busy: 503 over HTTP, `UNAVAILABLE` over gRPC.
    Busy,
    /// Wants none of it, now or later: 401, or `UNAUTHENTICATED`.
    Refuses,
    /// Never answers.
    Silent,
}

/// The collector; see the module.
pub struct Collector {
    server: Server,
    tls: bool,
    shared: Arc<Shared>,
}

struct Shared {
    mood: Mutex<Mood>,
    calls: watch::Sender<Vec<Call>>,
    mistakes: Mutex<Vec<String>>,
}

/// A call that was taken or not.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub headers: HeaderMap,
    pub mood: Mood,
    pub request: ExportTraceServiceRequest,
}

impl Collector {
    /// One that takes everything, over gRPC and over HTTP.
    pub fn start() -> Self {
        let shared = Shared::new();
        let handling = Arc::clone(&shared);
        let server = Server::http(Arc::new(move |request, _| -> Handled {
            Box::pin(handle(Arc::clone(&handling), request))
        }));
        Self { server, tls: false, shared }
    }

    /// The same behind TLS.
    pub fn start_tls(issued: &Issued) -> Self {
        let shared = Shared::new();
        let handling = Arc::clone(&shared);
        let server = tls_upstream::start_with(
            issued,
            &tls_upstream::Settings::default(),
            Arc::new(move |request| -> Handled {
                Box::pin(handle(Arc::clone(&handling), request))
            }),
        );
        Self { server, tls: true, shared }
    }

    /// Where it is, without a path.
    pub fn url(&self) -> String {
        if self.tls {
            format!("https://localhost:{}", self.address().port())
        } else {
            format!("http://{}", self.address())
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// From now on it is in this mood.
    pub fn is(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.borrow().clone()
    }

    /// Waits until the calls are `wanted`.
    pub async fn calls_when(&self, wanted: impl Fn(&[Call]) -> bool) -> Vec<Call> {
        let mut calls = self.shared.calls.subscribe();
        let calls = async {
            let calls = calls.wait_for(|calls| wanted(calls)).await;
            calls.expect("the collector lives").clone()
        };
        super::within("calls of the collector", calls).await
    }

    /// The spans that were taken so far.
    pub fn spans(&self) -> Vec<Span> {
        spans(&self.calls())
    }

    /// Waits until `count` spans were taken.
    pub async fn spans_when(&self, count: usize) -> Vec<Span> {
        spans(&self.calls_when(|calls| spans(calls).len() >= count).await)
    }

    /// Refuses connections from now on.
    pub async fn stop(&self) {
        self.server.stop().await;
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mistakes = self.shared.mistakes.lock().unwrap();
        assert!(mistakes.is_empty(), "calls that break the protocol:\n{}", mistakes.join("\n"));
        for call in self.calls() {
            registry::assert_clean("spans", &call.request.encode_to_vec());
        }
    }
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            mood: Mutex::new(Mood::Takes),
            calls: watch::Sender::new(Vec::new()),
            mistakes: Mutex::default(),
        })
    }
}

/// The spans of the calls that were taken.
fn spans(calls: &[Call]) -> Vec<Span> {
    let taken = calls.iter().filter(|call| call.mood == Mood::Takes);
    let resources = taken.flat_map(|call| &call.request.resource_spans);
    let scopes = resources.flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| scope.spans.clone()).collect()
}

/// The attributes as text, by name.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()? {
        AnyValue { value: Some(Value::StringValue(text)) } => Some(text.clone()),
        AnyValue { value: Some(Value::IntValue(number)) } => Some(number.to_string()),
        other => panic!("`{key}` is {other:?}"),
    }
}

async fn handle(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<PeerBody>, PeerError> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let grpc = head.version == Version::HTTP_2;
    let mistake = |what: &str| {
        shared.mistakes.lock().unwrap().push(format!("{} {}: {what}", head.method, head.uri));
    };
    let field = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    if head.method != "POST" {
        mistake("not a POST");
    }
    let message = if grpc {
        if head.uri.path() != "/opentelemetry.proto.collector.trace.v1.TraceService/Export" {
            mistake("another path than that of the service");
        }
        if field("content-type") != Some("application/grpc") || field("te") != Some("trailers") {
            mistake("not a call of gRPC");
        }
        let framed = body.first_chunk::<5>().is_some_and(|[compressed, length @ ..]| {
            *compressed == 0 && u32::from_be_bytes(*length) as usize + 5 == body.len()
        });
        if !framed {
            mistake("not one message of gRPC");
        }
        body.slice(5.min(body.len())..)
    } else {
        if field("content-type") != Some("application/x-protobuf") {
            mistake("not protobuf");
        }
        body
    };
    let request = ExportTraceServiceRequest::decode(message).unwrap_or_else(|error| {
        mistake(&error.to_string());
        ExportTraceServiceRequest::default()
    });
    let mood = *shared.mood.lock().unwrap();
    let call = Call { path: head.uri.path().to_owned(), headers: head.headers, mood, request };
    shared.calls.send_modify(|calls| calls.push(call));
    if mood == Mood::Silent {
        std::future::pending::<()>().await;
    }
    Ok(if grpc { grpc_answer(mood) } else { http_answer(mood) })
}

fn http_answer(mood: Mood) -> Response<PeerBody> {
    let status = match mood {
        Mood::Takes | Mood::Silent => 200,
        Mood::Busy => 503,
        Mood::Refuses => 401,
    };
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    let response = Response::builder().status(status);
    response.header("content-type", "application/x-protobuf").body(full(answer)).unwrap()
}

fn grpc_answer(mood: Mood) -> Response<PeerBody> {
    let response = Response::builder().header("content-type", "application/grpc");
    let status = match mood {
        Mood::Takes | Mood::Silent => "0",
        Mood::Busy => "14",
        Mood::Refuses => "16",
    };
    if mood != Mood::Takes {
        // Without a message the status stands in the head.
        return response.header("grpc-status", status).body(full("")).unwrap();
    }
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::try_from(answer.len()).unwrap());
    message.put_slice(&answer);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let frames: [Result<Frame<Bytes>, PeerError>; 2] =
        [Ok(Frame::data(message.freeze())), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    response.body(body).unwrap()
}
