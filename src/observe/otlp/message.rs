//! The messages of OTLP that carry spans, and nothing of OTLP that the gateway does not send.
//!
//! Their numbers are those of `opentelemetry/proto/trace/v1/trace.proto` and its neighbours, which
//! are declared stable: a number never changes its meaning. The collector of the tests reads what
//! is sent with the messages that the OpenTelemetry project generates itself.

use prost::Message;

/// `ExportTraceServiceRequest`: one call.
#[derive(Clone, PartialEq, Message)]
pub(in crate::observe) struct Request {
    #[prost(message, repeated, tag = "1")]
    pub(in crate::observe) resource_spans: Vec<ResourceSpans>,
}

/// Spans of one process.
#[derive(Clone, PartialEq, Message)]
pub(in crate::observe) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(in crate::observe) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(in crate::observe) scope_spans: Vec<ScopeSpans>,
}

/// The process.
#[derive(Clone, PartialEq, Message)]
pub(in crate::observe) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(in crate::observe) attributes: Vec<KeyValue>,
}

/// Spans of one part of a program.
#[derive(Clone, PartialEq, Message)]
pub(in crate::observe) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub(in crate::observe) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(in crate::observe) spans: Vec<Span>,
}

/// `InstrumentationScope`: that part.
#[derive(Clone, PartialEq, Message)]
pub(in crate::observe) struct Scope {
    #[prost(string, tag = "1")]
    pub(in crate::observe) name: String,
    #[prost(string, tag = "2")]
    pub(in crate::observe) version: String,
}

/// Something that took time.
#[allow(clippy::struct_field_names, reason = "the names of the protocol")]
#[derive(Clone, PartialEq, Message)]
pub(in crate::observe) struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub(in crate::observe) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(in crate::observe) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(in crate::observe) parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(in crate::observe) name: String,
    #[prost(enumeration = "Kind", tag = "6")]
    pub(in crate::observe) kind: i32,
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "7")]
    pub(in crate::observe) start_time_unix_nano: u64,
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "8")]
    pub(in crate::observe) end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub(in crate::observe) attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    pub(in crate::observe) status: Option<Status>,
    /// The flags of `traceparent`, and in bits 8 and 9 whether the parent is elsewhere.
    #[prost(fixed32, tag = "16")]
    pub(in crate::observe) flags: u32,
}

/// `SpanKind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(in crate::observe) enum Kind {
    Unspecified = 0,
    Internal = 1,
    Server = 2,
    Client = 3,
}

/// How it ended.
#[derive(Clone, PartialEq, Message)]
pub(in crate::observe) struct Status {
    #[prost(enumeration = "StatusCode", tag = "3")]
    pub(in crate::observe) code: i32,
}

/// The code of a [`Status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(in crate::observe) enum StatusCode {
    Unset = 0,
    Error = 2,
}

/// An attribute.
#[derive(Clone, PartialEq, Message)]
pub(in crate::observe) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(in crate::observe) key: String,
    #[prost(message, optional, tag = "2")]
    pub(in crate::observe) value: Option<AnyValue>,
}

/// The value of an attribute.
#[derive(Clone, PartialEq, Message)]
pub(in crate::observe) struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    pub(in crate::observe) value: Option<Value>,
}

/// The kinds of values that the gateway has.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(in crate::observe) enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// `ExportTraceServiceResponse`: the answer.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Answer {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

/// What of a call was not taken.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}

impl KeyValue {
    pub(in crate::observe) fn text(key: &str, value: impl Into<String>) -> Self {
        Self::of(key, Value::Text(value.into()))
    }

    pub(in crate::observe) fn number(key: &str, value: impl Into<i64>) -> Self {
        Self::of(key, Value::Number(value.into()))
    }

    fn of(key: &str, value: Value) -> Self {
        Self { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
    }
}
