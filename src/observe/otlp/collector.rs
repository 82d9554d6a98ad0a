//! One call to a collector: the connection to it, OTLP over gRPC or over HTTP, and what its
//! answer means.
//!
//! The connection is kept from call to call and made anew when it is gone. Whether a call is tried
//! again, and what becomes of spans that nobody takes, is decided in `exporter.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::message::Answer;
use super::{CollectorSettings, Protocol};
use crate::chain::with_sources;
use crate::limits;

/// Where OTLP over gRPC is called.
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Who calls.
const AGENT: &str = concat!("obo-gateway/", env!("CARGO_PKG_VERSION"));

/// Why spans were not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Failure {
    /// Later they may be.
    #[error("{why}")]
    Passing {
        /// What went wrong.
        why: String,
        /// How long the collector asks to be left alone.
        after: Option<Duration>,
    },
    /// They never will.
    #[error("{why}")]
    Lasting {
        /// What went wrong.
        why: String,
    },
}

impl Failure {
    fn passing(why: impl Into<String>) -> Self {
        Self::Passing { why: why.into(), after: None }
    }
}

/// The collector, and the connection to it.
pub(super) struct Collector {
    settings: CollectorSettings,
    tls: Arc<ClientConfig>,
    connection: Option<Connection>,
}

enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// The head and the body of an answer, and what came behind it.
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    trailers: HeaderMap,
}

impl Collector {
    pub(super) fn new(settings: CollectorSettings, tls: &ClientConfig) -> Self {
        let mut tls = tls.clone();
        let protocol: &[u8] = match settings.protocol {
            Protocol::Grpc => b"h2",
            Protocol::Http => b"http/1.1",
        };
        tls.alpn_protocols = vec![protocol.to_vec()];
        Self { settings, tls: Arc::new(tls), connection: None }
    }

    /// Sends one encoded request; how many of its spans the collector rejected.
    pub(super) async fn export(&mut self, message: &Bytes) -> Result<i64, Failure> {
        let patience = self.settings.timeout;
        let outcome = tokio::time::timeout(patience, self.call(message)).await;
        let outcome = outcome.unwrap_or_else(|_elapsed| {
            Err(Failure::passing(format!("no answer within {} s", patience.as_secs_f32())))
        });
        if outcome.is_err() {
            // Nobody knows what is still on its way on it.
            self.connection = None;
        }
        outcome
    }

    async fn call(&mut self, message: &Bytes) -> Result<i64, Failure> {
        let request = self.request(message).map_err(|error| Failure::Lasting {
            why: format!("the request can't be made: {error}"),
        })?;
        let response = self.send(request).await?;
        let answered = read(response).await?;
        match self.settings.protocol {
            Protocol::Grpc => of_grpc(&answered),
            Protocol::Http => of_http(&answered),
        }
    }

    fn request(&self, message: &Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
        let CollectorSettings { endpoint, protocol, headers, timeout, .. } = &self.settings;
        let authority = endpoint.authority().map_or("", |authority| authority.as_str());
        let request = Request::post("/").header(USER_AGENT, AGENT);
        let mut request = match protocol {
            Protocol::Grpc => {
                let uri = Uri::builder()
                    .scheme(endpoint.scheme_str().unwrap_or("http"))
                    .authority(authority)
                    .path_and_query(GRPC_PATH)
                    .build()?;
                request
                    .uri(uri)
                    .version(Version::HTTP_2)
                    .header(CONTENT_TYPE, "application/grpc")
                    .header(TE, "trailers")
                    .header("grpc-timeout", format!("{}m", timeout.as_millis().min(99_999_999)))
                    .body(Full::new(frame(message)))?
            }
            Protocol::Http => {
                let path = endpoint.path_and_query().map_or("/", |path| path.as_str());
                request
                    .uri(path)
                    .header(HOST, authority)
                    .header(CONTENT_TYPE, "application/x-protobuf")
                    .body(Full::new(message.clone()))?
            }
        };
        for (name, value) in headers {
            request.headers_mut().insert(name, value.expose().clone());
        }
        Ok(request)
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) if connection.is_open() => connection,
            Some(_) | None => self.connect().await?,
        };
        let response = match &mut connection {
            Connection::Http1(sender) => {
                sender.ready().await.map_err(|error| lost(&error))?;
                sender.send_request(request).await
            }
            Connection::Http2(sender) => {
                sender.ready().await.map_err(|error| lost(&error))?;
                sender.send_request(request).await
            }
        };
        let response = response.map_err(|error| lost(&error))?;
        self.connection = Some(connection);
        Ok(response)
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let endpoint = &self.settings.endpoint;
        let tls = endpoint.scheme_str() == Some("https");
        let host = endpoint.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let (other, own) = match self.settings.protocol {
            Protocol::Grpc | Protocol::Http if tls => (443, "https"),
            Protocol::Grpc | Protocol::Http => (80, "http"),
        };
        let port = endpoint.port_u16().unwrap_or(other);
        let stream = TcpStream::connect((host, port)).await.map_err(|error| {
            Failure::passing(format!("can't connect to {own}://{host}:{port}: {error}"))
        })?;
        stream.set_nodelay(true).map_err(|error| Failure::passing(error.to_string()))?;
        if !tls {
            return self.shake_hands(TokioIo::new(stream)).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|error| Failure::Lasting {
            why: format!("`{host}` can't be the name of a TLS server: {error}"),
        })?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await;
        let stream = stream
            .map_err(|error| Failure::passing(format!("TLS with {host}:{port} fails: {error}")))?;
        self.shake_hands(TokioIo::new(stream)).await
    }

    async fn shake_hands<S>(&self, stream: S) -> Result<Connection, Failure>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        match self.settings.protocol {
            Protocol::Http => {
                let made = http1::handshake(stream).await.map_err(|error| lost(&error))?;
                let (sender, connection) = made;
                // It ends when its sender is dropped; what went wrong is met by the call.
                tokio::spawn(async move { connection.await.unwrap_or_default() });
                Ok(Connection::Http1(sender))
            }
            Protocol::Grpc => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.timer(TokioTimer::new());
                let made = builder.handshake(stream).await.map_err(|error| lost(&error))?;
                let (sender, connection) = made;
                tokio::spawn(async move { connection.await.unwrap_or_default() });
                Ok(Connection::Http2(sender))
            }
        }
    }
}

impl Connection {
    fn is_open(&self) -> bool {
        match self {
            Self::Http1(sender) => !sender.is_closed(),
            Self::Http2(sender) => !sender.is_closed(),
        }
    }
}

fn lost(error: &hyper::Error) -> Failure {
    Failure::passing(with_sources(error))
}

/// A message of gRPC: not compressed, its length, itself.
fn frame(message: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

async fn read(response: Response<Incoming>) -> Result<Answered, Failure> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, limits::MAX_COLLECTOR_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| {
        Failure::passing(format!("the answer broke off: {}", with_sources(error.as_ref())))
    })?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let (status, headers) = (head.status, head.headers);
    Ok(Answered { status, headers, body: body.to_bytes(), trailers })
}

/// What an answer of gRPC says: its status stands behind it, or, where there is no message, in its head.
fn of_grpc(answered: &Answered) -> Result<i64, Failure> {
    let Answered { status, headers, body, trailers } = answered;
    let code = trailers.get("grpc-status").or_else(|| headers.get("grpc-status"));
    let Some(code) = code else {
        let why = format!("{status} without a `grpc-status`: is this a port for OTLP over gRPC?");
        return Err(of_status(*status, why, None));
    };
    match code.to_str().ok().and_then(|code| code.parse::<u16>().ok()) {
        Some(0) => Ok(rejected(body.get(5..).unwrap_or_default())),
        // Those that the protocol calls retryable; 8 (resource exhausted) only where it says when,
        // and that detail is not read: the collector asks for less, and gets less.
        Some(code @ (1 | 4 | 10 | 11 | 14 | 15)) => {
            Err(Failure::passing(grpc_message(code, headers, trailers)))
        }
        Some(code) => Err(Failure::Lasting { why: grpc_message(code, headers, trailers) }),
        None => Err(Failure::passing("a `grpc-status` that is no number")),
    }
}

fn grpc_message(code: u16, headers: &HeaderMap, trailers: &HeaderMap) -> String {
    let message = trailers.get("grpc-message").or_else(|| headers.get("grpc-message"));
    let message = message.map(HeaderValue::as_bytes).unwrap_or_default();
    let message = percent_encoding::percent_decode(message).decode_utf8_lossy();
    let message: String = message.chars().take(limits::MAX_SHOWN_CHARS).collect();
    format!("gRPC status {code}: {message}")
}

fn of_http(answered: &Answered) -> Result<i64, Failure> {
    let Answered { status, headers, body, .. } = answered;
    if status.is_success() {
        return Ok(rejected(body));
    }
    let after = headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
    Err(of_status(*status, format!("it answers {status}"), after.map(Duration::from_secs)))
}

fn of_status(status: StatusCode, why: String, after: Option<Duration>) -> Failure {
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Failure::Passing { why, after },
        _ => Failure::Lasting { why },
    }
}

/// How many spans were rejected; an answer that can't be read rejects none.
fn rejected(body: &[u8]) -> i64 {
    let partial = Answer::decode(body).ok().and_then(|answer| answer.partial_success);
    partial.map_or(0, |partial| partial.rejected_spans.max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, headers: &[(&'static str, &'static str)]) -> Answered {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_static(value));
        }
        let status = StatusCode::from_u16(status).unwrap();
        Answered { status, headers: map, body: Bytes::new(), trailers: HeaderMap::new() }
    }

    #[test]
    fn what_may_pass_is_told_from_what_lasts() {
        for (status, passing) in
            [(400, false), (401, false), (404, false), (429, true), (500, false), (503, true)]
        {
            let failure = of_http(&answered(status, &[])).unwrap_err();
            assert_eq!(matches!(failure, Failure::Passing { .. }), passing, "{status}");
        }
        for (code, passing) in
            [("3", false), ("8", false), ("14", true), ("16", false), ("x", true)]
        {
            let failure = of_grpc(&answered(200, &[("grpc-status", code)])).unwrap_err();
            assert_eq!(matches!(failure, Failure::Passing { .. }), passing, "{code}");
        }
        let busy = of_http(&answered(503, &[("retry-after", "7")])).unwrap_err();
        assert!(
            matches!(busy, Failure::Passing { after: Some(after), .. } if after.as_secs() == 7)
        );
    }

    #[test]
    fn an_answer_of_http_to_grpc_says_so() {
        let failure = of_grpc(&answered(200, &[])).unwrap_err().to_string();
        assert!(failure.contains("is this a port for OTLP over gRPC?"), "{failure}");
    }

    #[test]
    fn a_message_is_decoded_and_kept_short() {
        let failure =
            of_grpc(&answered(200, &[("grpc-status", "16"), ("grpc-message", "no%20key")]));
        assert_eq!(failure.unwrap_err().to_string(), "gRPC status 16: no key");
    }

    #[test]
    fn rejected_spans_are_counted() {
        let answer = Answer {
            partial_success: Some(super::super::message::PartialSuccess {
                rejected_spans: 3,
                error_message: "too old".to_owned(),
            }),
        };
        assert_eq!(rejected(&answer.encode_to_vec()), 3);
        assert_eq!(rejected(b""), 0);
        assert_eq!(rejected(b"\xff\xff"), 0);
    }
}
