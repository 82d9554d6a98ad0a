//! The spans of a sampled request, made of its record when it is over: the request itself, and
//! below it how long validation, the exchange and the upstream took.
//!
//! Names and attributes are those of OpenTelemetry's semantic conventions for HTTP, as far as they
//! have any; `http.route` is the route's name. What is not in the access log is not here, and neither
//! are the caller's address and who they are: spans often leave the house. No query either, and
//! therefore no `url.full`.

use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, Version};

use crate::limits::MAX_SPAN_TEXT_BYTES;
use crate::observe::access_log::AccessRecord;
use crate::observe::metrics::CacheResult;
use crate::observe::otlp::message::{KeyValue, Kind, Span, Status, StatusCode as Code};
use crate::observe::phases::{Passed, Phase, Phases, Told};
use crate::observe::trace::SpanId;
use crate::observe::tracer::{Recording, RequestTrace, Sender, Tracer};
use crate::peer::Peer;

/// The value of `error.type` where the caller went away, who has no code.
const GONE: &str = "client_closed_request";

/// `flags` of a span: sampled, and it is known where the parent is.
const OWN_PARENT: u32 = 0x101;
/// The same, and the parent is elsewhere.
const REMOTE_PARENT: u32 = 0x301;

impl AccessRecord {
    /// Finds the request's place in its trace, and whether it leaves spans.
    pub fn begin_trace<B>(
        &mut self,
        tracer: &std::sync::Arc<Tracer>,
        request: &Request<B>,
        peer: &Peer,
        sender: Sender,
    ) {
        let mut trace = tracer.begin(request.headers(), sender);
        self.trace_id = Some(trace.trace);
        if let Some(recording) = &mut trace.recording {
            recording.version = version(request.version());
            recording.scheme = if peer.tls { "https" } else { "http" };
            self.phases = Some(Box::new(Phases::new(Told::Nobody)));
        }
        self.trace = Some(Box::new(trace));
    }

    /// Makes the request that goes upstream a part of the trace, if there is one.
    pub fn continue_trace(&self, headers: &mut HeaderMap) {
        if let Some(trace) = &self.trace {
            trace.inject(headers);
        }
    }

    /// Whether somebody reads [`AccessRecord::exchange_with`].
    pub fn is_sampled(&self) -> bool {
        self.trace.as_ref().is_some_and(|trace| trace.recording.is_some())
    }

    /// Who is asked for the outbound token, for the span of the exchange.
    pub fn exchange_with(&mut self, provider: std::sync::Arc<str>) {
        if let Some(recording) = self.trace.as_mut().and_then(|trace| trace.recording.as_mut()) {
            recording.provider = Some(provider);
        }
    }

    /// Hands over the spans, at the end.
    pub(super) fn leave_spans(&self, took: Duration, status: Option<StatusCode>) {
        let Some(trace) = &self.trace else { return };
        let Some(recording) = &trace.recording else { return };
        let made = Making { record: self, trace, recording, took, status };
        recording.tracer.take(made.spans());
    }
}

/// What the spans are made of.
struct Making<'a> {
    record: &'a AccessRecord,
    trace: &'a RequestTrace,
    recording: &'a Recording,
    took: Duration,
    status: Option<StatusCode>,
}

impl Making<'_> {
    fn spans(&self) -> Vec<Span> {
        let passed = self.record.phases.as_ref().map(|phases| phases.passed.as_slice());
        let passed = passed.unwrap_or_default();
        let mut spans = Vec::with_capacity(passed.len() + 1);
        spans.push(self.request());
        spans.extend(passed.iter().map(|passed| match passed.phase {
            Phase::Auth => self.validation(passed),
            Phase::Exchange => self.exchange(passed),
            Phase::Upstream => self.upstream(passed),
        }));
        spans
    }

    fn request(&self) -> Span {
        let Self { record, trace, recording, took, status } = self;
        let (method, name) = method(&record.method);
        let route = record.route.as_ref().map(|route| &**route.name());
        let mut attributes = vec![
            KeyValue::text("http.request.method", method),
            KeyValue::text("url.scheme", recording.scheme),
            KeyValue::text("url.path", cut(record.uri.path())),
            KeyValue::text("obo_gateway.request_id", record.request_id().as_str()),
        ];
        if let Some(host) = record.host() {
            push_server(&mut attributes, &host);
        }
        let text = |key, value: Option<&str>| value.map(|value| KeyValue::text(key, value));
        attributes.extend(text("http.route", route));
        attributes.extend(text("network.protocol.version", recording.version));
        attributes.extend(status.map(|status| {
            KeyValue::number("http.response.status_code", i64::from(status.as_u16()))
        }));
        let code = record.refused.map(|code| code.answer().name);
        let code = code.or(status.is_none().then_some(GONE));
        let is_error = status.is_none_or(|status| status.is_server_error());
        attributes.extend(match (code, status) {
            (Some(code), _) => Some(KeyValue::text("error.type", code)),
            (None, Some(status)) if is_error => Some(KeyValue::text("error.type", status.as_str())),
            (None, _) => None,
        });
        let name = route.map_or_else(|| name.to_owned(), |route| format!("{name} {route}"));
        let parent = trace.parent.map(SpanId::to_bytes);
        let flags = if parent.is_some() { REMOTE_PARENT } else { OWN_PARENT };
        Span {
            trace_id: trace.trace.to_bytes(),
            span_id: trace.span.to_bytes(),
            parent_span_id: parent.unwrap_or_default(),
            name,
            kind: Kind::Server.into(),
            start_time_unix_nano: recording.began,
            end_time_unix_nano: recording.began.saturating_add(nanos(*took)),
            attributes,
            status: is_error.then(error),
            flags,
        }
    }

    fn validation(&self, passed: &Passed) -> Span {
        let provider = self.record.identity.as_ref().map(|identity| &*identity.provider);
        let mut span = self.child(passed, "validate", Kind::Internal, SpanId::random());
        let outcome = self.failure(passed).unwrap_or("success");
        span.attributes.push(KeyValue::text("obo_gateway.outcome", outcome));
        span.attributes.extend(provider.map(|it| KeyValue::text("obo_gateway.provider", it)));
        span
    }

    fn exchange(&self, passed: &Passed) -> Span {
        let mut span = self.child(passed, "exchange", Kind::Internal, SpanId::random());
        let outcome = self.failure(passed).unwrap_or("success");
        span.attributes.push(KeyValue::text("obo_gateway.outcome", outcome));
        let provider = self.recording.provider.as_deref();
        span.attributes.extend(provider.map(|it| KeyValue::text("obo_gateway.provider", it)));
        let cache = self.record.token_cache.map(CacheResult::name);
        span.attributes.extend(cache.map(|it| KeyValue::text("obo_gateway.token_cache", it)));
        let upstream = self.record.upstream.as_ref().map(|upstream| &**upstream.name());
        span.attributes.extend(upstream.map(|it| KeyValue::text("obo_gateway.upstream", it)));
        span
    }

    fn upstream(&self, passed: &Passed) -> Span {
        let (method, name) = method(&self.record.method);
        let mut span = self.child(passed, name, Kind::Client, self.recording.upstream);
        let attributes = &mut span.attributes;
        attributes.push(KeyValue::text("http.request.method", method));
        let upstream = self.record.upstream.as_ref().map(|upstream| &**upstream.name());
        attributes.extend(upstream.map(|it| KeyValue::text("obo_gateway.upstream", it)));
        if let Some(endpoint) = &self.record.endpoint {
            push_server(attributes, endpoint);
        }
        let answered = self.status.filter(|_| self.record.refused.is_none());
        if let (Some(status), None) = (answered, self.failure(passed)) {
            let number = i64::from(status.as_u16());
            attributes.push(KeyValue::number("http.response.status_code", number));
            if status.is_client_error() || status.is_server_error() {
                attributes.push(KeyValue::text("error.type", status.as_str()));
                span.status = Some(error());
            }
        }
        span
    }

    fn child(&self, passed: &Passed, name: &str, kind: Kind, id: SpanId) -> Span {
        let began = passed.began.saturating_duration_since(self.record.started());
        let ended = passed.ended.map(|end| end.saturating_duration_since(self.record.started()));
        let at = |after| self.recording.began.saturating_add(nanos(after));
        let failure = self.failure(passed);
        Span {
            trace_id: self.trace.trace.to_bytes(),
            span_id: id.to_bytes(),
            parent_span_id: self.trace.span.to_bytes(),
            name: name.to_owned(),
            kind: kind.into(),
            start_time_unix_nano: at(began),
            end_time_unix_nano: at(ended.unwrap_or(self.took)),
            attributes: failure.map(|it| KeyValue::text("error.type", it)).into_iter().collect(),
            status: failure.map(|_| error()),
            flags: OWN_PARENT,
        }
    }

    /// What a phase failed of: the last one that the request was in, if it was refused or left there.
    fn failure(&self, passed: &Passed) -> Option<&'static str> {
        let refused = self.record.refused.map(|code| code.answer().name);
        match passed.ended {
            None => Some(refused.unwrap_or(GONE)),
            Some(_) if passed.failed => refused,
            Some(_) => None,
        }
    }
}

fn error() -> Status {
    Status { code: Code::Error.into() }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The method for `http.request.method`, and for a span's name: a caller can make up any number.
fn method(method: &Method) -> (&str, &str) {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
        Method::CONNECT,
    ];
    if known.contains(method) { (method.as_str(), method.as_str()) } else { ("_OTHER", "HTTP") }
}

fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

/// `host[:port]` as two attributes.
fn push_server(attributes: &mut Vec<KeyValue>, host: &str) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port.parse::<u16>().ok()),
        Some(_) | None => (host, None),
    };
    attributes.push(KeyValue::text("server.address", cut(name)));
    attributes.extend(port.map(|port| KeyValue::number("server.port", i64::from(port))));
}

/// A caller's text, no longer than [`MAX_SPAN_TEXT_BYTES`].
fn cut(text: &str) -> &str {
    let end = text.floor_char_boundary(MAX_SPAN_TEXT_BYTES);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_methods_have_one_name() {
        assert_eq!(method(&Method::PATCH), ("PATCH", "PATCH"));
        assert_eq!(method(&Method::from_bytes(b"BREW").unwrap()), ("_OTHER", "HTTP"));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("/a"), "/a");
        let long = "ä".repeat(MAX_SPAN_TEXT_BYTES);
        assert_eq!(cut(&long).len(), MAX_SPAN_TEXT_BYTES);
        let long = format!("/{long}");
        assert_eq!(cut(&long).len(), MAX_SPAN_TEXT_BYTES - 1);
    }

    #[test]
    fn hosts_have_ports_or_not() {
        for (host, name, port) in [
            ("api.example.com", "api.example.com", None),
            ("api.example.com:8443", "api.example.com", Some(8443)),
            ("[::1]", "[::1]", None),
            ("[::1]:80", "[::1]", Some(80)),
            ("a:b", "a", None),
        ] {
            let mut attributes = Vec::new();
            push_server(&mut attributes, host);
            let mut expected = vec![KeyValue::text("server.address", name)];
            expected.extend(port.map(|port: i64| KeyValue::number("server.port", port)));
            assert_eq!(attributes, expected, "{host}");
        }
    }
}
