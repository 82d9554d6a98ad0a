//! `telemetry`: the access log and traces.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::spanned::{List, Spanned, Table};
use super::super::value::{HttpUrl, Period, Sample};
use crate::observe::field::Field;
use crate::secret::Secret;

/// `telemetry`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Telemetry {
    /// Whether each request leaves a line in the log, and with which fields. Default: `true`.
    pub access_log: AccessLog,
    /// Where traces are sent. Default: nowhere, unless `OTEL_EXPORTER_OTLP_ENDPOINT` or
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set.
    pub otlp: Option<Spanned<Otlp>>,
}

/// `access_log`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "$word or mapping")]
#[schemars(rename = "WordOr_AccessLog")]
pub enum AccessLog {
    /// A line for each request, with all fields.
    #[default]
    #[serde(rename = "true")]
    On,
    /// None.
    #[serde(rename = "false")]
    Off,
    /// A line for each request, with some of the fields.
    #[serde(rename = "$mapping")]
    Some(AccessLogFields),
}

/// `access_log` as a mapping.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct AccessLogFields {
    /// The fields of a line; their order is always the same. Required.
    pub fields: List<Spanned<Field>>,
}

/// `otlp`: traces for a collector of OpenTelemetry. What is left out is taken from the `OTEL_*`
/// variables; what the file says goes before them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Otlp {
    /// The collector. Over HTTP `/v1/traces` is added to it, unless it ends so. Default: what
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` says, as it stands, else what `OTEL_EXPORTER_OTLP_ENDPOINT` says.
    pub endpoint: Option<Spanned<HttpUrl>>,
    /// Which share of the requests leaves spans where no parent decides, to a ten-thousandth of a
    /// percent. Default: what `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` say, else `100%`.
    pub sample: Option<Sample>,
    /// Whose `traceparent` decides whether a request leaves spans. Default: `trusted_proxies`, and
    /// `never` where `OTEL_TRACES_SAMPLER` does not begin with `parentbased_`.
    pub follow_parent: Option<FollowParent>,
    /// How the collector is spoken to. Default: what `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL` says, else what
    /// `OTEL_EXPORTER_OTLP_PROTOCOL` says, else `http/protobuf` for an endpoint with a path or of port
    /// 4318, and `grpc` for all others.
    pub protocol: Option<Spanned<OtlpProtocol>>,
    /// What each call to the collector carries, such as a key. Default: what
    /// `OTEL_EXPORTER_OTLP_TRACES_HEADERS` says, else what `OTEL_EXPORTER_OTLP_HEADERS` says.
    pub headers: Option<Table<Spanned<Secret>>>,
    /// Who issued its certificate, PEM. Default: what `OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE` says, else
    /// what `OTEL_EXPORTER_OTLP_CERTIFICATE` says, else the system's web roots.
    pub ca_file: Option<Spanned<PathBuf>>,
    /// For one call to it. Default: what `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT` says, else
    /// what `OTEL_EXPORTER_OTLP_TIMEOUT` says, else [`Otlp::DEFAULT_TIMEOUT`].
    pub timeout: Option<Period>,
}

impl Otlp {
    /// 10 s: what the protocol's exporters wait.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
}

/// `protocol` of `otlp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum OtlpProtocol {
    /// gRPC.
    #[serde(rename = "grpc")]
    Grpc,
    /// Protobuf over HTTP/1.1.
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

/// `follow_parent` of `otlp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FollowParent {
    /// That of `server.trusted_proxies`: others could have everything traced, or nothing.
    TrustedProxies,
    /// Everybody's: where all callers are one's own services.
    Always,
    /// Nobody's.
    Never,
}
