//! `telemetry`: which fields the access log has, and where traces go.
//!
//! What `telemetry.otlp` leaves out is taken from the `OTEL_*` variables, and a variable alone turns
//! traces on: an endpoint is enough. The file goes before the environment, key by key, and
//! `OTEL_SDK_DISABLED=true` or `OTEL_TRACES_EXPORTER=none` before the file. What is wrong in the file
//! refuses it; a variable that can't be used is passed over with a warning, as the specification of
//! OpenTelemetry has it: who injects them does not know this program, and it is not to stay down for that.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use url::Url;

use super::super::file::{self, AccessLogField, Otlp, OtlpProtocol};
use super::super::problem::{Problem, Severity};
use super::super::spanned::{Spanned, Table};
use super::super::value;
use super::Finding;
use super::providers::roots;
use crate::chain::with_sources;
use crate::limits;
use crate::observe::access_log::AccessLog;
use crate::observe::field::{Field, FieldSet};
use crate::observe::otlp::{CollectorSettings, Protocol};
use crate::observe::tracer::{FollowParent, Sample, TraceSettings, Tracer};
use crate::secret::SecretHeader;
use crate::trust::Roots;

/// What OTLP over HTTP adds to the address of a collector.
const HTTP_PATH: &str = "/v1/traces";

/// The port that collectors have for OTLP over HTTP.
const HTTP_PORT: u16 = 4318;

/// Fields of a call that are OTLP's own.
const OWN_HEADERS: [&str; 8] = [
    "content-type",
    "content-length",
    "transfer-encoding",
    "connection",
    "host",
    "te",
    "content-encoding",
    "grpc-timeout",
];

pub(super) fn access_log(file: &file::AccessLog) -> AccessLog {
    match file {
        file::AccessLog::On => AccessLog::On(FieldSet::ALL),
        file::AccessLog::Off => AccessLog::Off,
        file::AccessLog::Some(some) => {
            AccessLog::On(FieldSet::of(some.fields.0.iter().map(|name| field(name.value))))
        }
    }
}

fn field(name: AccessLogField) -> Field {
    match name {
        AccessLogField::Time => Field::Time,
        AccessLogField::RequestId => Field::RequestId,
        AccessLogField::TraceId => Field::TraceId,
        AccessLogField::ClientIp => Field::ClientIp,
        AccessLogField::Method => Field::Method,
        AccessLogField::Host => Field::Host,
        AccessLogField::Path => Field::Path,
        AccessLogField::Status => Field::Status,
        AccessLogField::Code => Field::Code,
        AccessLogField::Reason => Field::Reason,
        AccessLogField::Route => Field::Route,
        AccessLogField::Upstream => Field::Upstream,
        AccessLogField::Endpoint => Field::Endpoint,
        AccessLogField::User => Field::User,
        AccessLogField::ClientId => Field::ClientId,
        AccessLogField::Tenant => Field::Tenant,
        AccessLogField::TokenCache => Field::TokenCache,
        AccessLogField::DurationMs => Field::DurationMs,
        AccessLogField::UpstreamMs => Field::UpstreamMs,
        AccessLogField::ExchangeMs => Field::ExchangeMs,
        AccessLogField::BytesIn => Field::BytesIn,
        AccessLogField::BytesOut => Field::BytesOut,
    }
}

/// The tracer that the file and the environment ask for, if they do; that of the configuration before
/// if it is the same.
pub(super) fn tracer(file: &file::Telemetry, finding: &mut Finding<'_>) -> Option<Arc<Tracer>> {
    let otlp = file.otlp.as_ref();
    let settings = Resolving { otlp, finding: &mut *finding }.settings()?;
    let before = finding.previous.and_then(|previous| previous.tracer.as_ref());
    if let Some(same) = before.filter(|before| *before.settings() == settings) {
        return Some(Arc::clone(same));
    }
    let made = Tracer::new(settings, finding.lasting.metrics.clone());
    let place = otlp.map(|otlp| otlp.ca_file.as_ref().map_or(otlp.key_place(), |it| it.place));
    made.map(Arc::new)
        .map_err(|error| match place {
            Some(place) => {
                finding.error(
                    place,
                    with_sources(&error),
                    "name a file with the CA's certificate, PEM",
                );
            }
            None => finding.problems.push(Problem {
                severity: Severity::Warning,
                ..Problem::of_file(format!("no traces are sent: {}", with_sources(&error)))
            }),
        })
        .ok()
}

struct Resolving<'a, 'f> {
    otlp: Option<&'a Spanned<Otlp>>,
    finding: &'a mut Finding<'f>,
}

impl Resolving<'_, '_> {
    fn settings(&mut self) -> Option<TraceSettings> {
        if self.is_disabled() {
            return None;
        }
        let file = self.otlp.map(|otlp| &otlp.value);
        let written = file.and_then(|otlp| otlp.endpoint.as_ref());
        let (url, is_whole) = match written {
            Some(endpoint) => (endpoint.url.clone(), false),
            None => self.endpoint_of_environment()?,
        };
        if let (Some(endpoint), Some(_)) = (written, url.query()) {
            let message = "the address of a collector can't have a query";
            self.finding.error(
                endpoint.place,
                message,
                "what a collector wants beside it goes into `headers`",
            );
            return None;
        }
        let protocol = self.protocol(&url);
        let endpoint = endpoint(&url, is_whole, protocol)?;
        let headers = self.headers(&endpoint)?;
        let roots = self.roots(file.and_then(|otlp| otlp.ca_file.as_ref()))?;
        let timeout = file.and_then(|otlp| otlp.timeout).map(|period| period.0);
        let timeout = timeout.or_else(|| self.timeout()).unwrap_or(Otlp::DEFAULT_TIMEOUT);
        let (drawn, follows) = self.sampler();
        let sample = file.and_then(|otlp| otlp.sample).map_or(drawn, |sample| Sample(sample.0));
        let follow_parent = match file.and_then(|otlp| otlp.follow_parent) {
            Some(file::FollowParent::TrustedProxies) => FollowParent::TrustedProxies,
            Some(file::FollowParent::Always) => FollowParent::Always,
            Some(file::FollowParent::Never) => FollowParent::Never,
            None => follows,
        };
        let collector = CollectorSettings { endpoint, protocol, headers, roots, timeout };
        Some(TraceSettings { sample, follow_parent, collector, resource: self.resource() })
    }

    fn is_disabled(&mut self) -> bool {
        let disabled = self.variable("OTEL_SDK_DISABLED");
        let exporter = self.variable("OTEL_TRACES_EXPORTER");
        disabled.is_some_and(|it| it.eq_ignore_ascii_case("true"))
            || exporter.is_some_and(|it| it == "none")
    }

    /// The collector that the environment names, and whether it is the whole address.
    fn endpoint_of_environment(&mut self) -> Option<(Url, bool)> {
        let of_traces = self.variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let (name, text, is_whole) = match of_traces {
            Some(text) => ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", Some(text), true),
            None => {
                let name = "OTEL_EXPORTER_OTLP_ENDPOINT";
                (name, self.variable(name), false)
            }
        };
        let Some(text) = text else {
            if let Some(otlp) = self.otlp {
                self.finding.error(
                    otlp.key_place(),
                    "`otlp` has no `endpoint`",
                    "write where the collector is: `endpoint: http://127.0.0.1:4317`, or set `OTEL_EXPORTER_OTLP_ENDPOINT`",
                );
            }
            return None;
        };
        let url = Url::parse(&text).ok().filter(|url| {
            let is_http = matches!(url.scheme(), "http" | "https");
            let plain = url.username().is_empty() && url.password().is_none();
            is_http && plain && url.query().is_none() && url.fragment().is_none()
        });
        if url.is_none() {
            // It is not repeated: a password may be in it.
            self.warn(
                format!("the environment variable `{name}` is not the URL of a collector; no traces are sent"),
                "set it to `http://HOST:4317` (gRPC) or `http://HOST:4318` (HTTP), without a user name and a query",
            );
        }
        url.map(|url| (url, is_whole))
    }

    fn protocol(&mut self, url: &Url) -> Protocol {
        let written = self.otlp.and_then(|otlp| otlp.protocol.as_ref());
        match written.map(|protocol| protocol.value) {
            Some(OtlpProtocol::Grpc) => return Protocol::Grpc,
            Some(OtlpProtocol::HttpProtobuf) => return Protocol::Http,
            None => {}
        }
        let guessed = match (url.path(), url.port()) {
            ("/" | "", port) if port != Some(HTTP_PORT) => Protocol::Grpc,
            _ => Protocol::Http,
        };
        match self.of_traces_or_all("PROTOCOL") {
            Some((_, text)) if text == "grpc" => Protocol::Grpc,
            Some((_, text)) if text == "http/protobuf" => Protocol::Http,
            Some((name, text)) => {
                self.warn(
                    format!(
                        "the environment variable `{name}` is `{text}`, which is not spoken here"
                    ),
                    "set it to `grpc` or `http/protobuf`, or write `telemetry.otlp.protocol`",
                );
                guessed
            }
            None => guessed,
        }
    }

    fn headers(&mut self, endpoint: &Uri) -> Option<Vec<(HeaderName, SecretHeader)>> {
        let written = self.otlp.and_then(|otlp| otlp.headers.as_ref());
        let headers = match written {
            Some(table) => self.headers_of_file(table)?,
            None => self.headers_of_environment(),
        };
        let host = endpoint.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_loopback = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        let carries = headers.iter().any(|(name, _)| name == http::header::AUTHORIZATION);
        if carries && endpoint.scheme_str() == Some("http") && !is_loopback {
            let message = "`authorization` would go to the collector in clear text";
            let hint = "write `https://` in its `endpoint`";
            match self.otlp.and_then(|otlp| otlp.headers.as_ref().map(|_| otlp.key_place())) {
                Some(place) => self.finding.error(place, message, hint),
                None => self.warn(format!("{message}; no traces are sent"), hint),
            }
            return None;
        }
        Some(headers)
    }

    fn headers_of_file(
        &mut self,
        table: &Table<Spanned<crate::secret::Secret>>,
    ) -> Option<Vec<(HeaderName, SecretHeader)>> {
        let mut headers = Vec::new();
        let mut is_good = true;
        for (name, secret) in &table.0 {
            self.finding.warn_of_literal("a header for the collector", secret);
            match (header_name(&name.value), HeaderValue::from_str(secret.expose())) {
                (Some(name), Ok(value)) => headers.push((name, SecretHeader::new(value))),
                (None, _) => {
                    is_good = false;
                    let message = format!("`{}` can't be a header for the collector", name.value);
                    let hint = "write the name of a field of HTTP that is not the protocol's own: `authorization`, `x-api-key`";
                    self.finding.error(name.place, message, hint);
                }
                (Some(_), Err(_)) => {
                    is_good = false;
                    let message =
                        format!("the value of `{}` can't be sent in a header", name.value);
                    let hint = "use visible ASCII; is a line feed at the end of the file that it comes from?";
                    self.finding.error(secret.place, message, hint);
                }
            }
        }
        is_good.then_some(headers)
    }

    /// `name=value,name=value`, the values percent-encoded.
    fn headers_of_environment(&mut self) -> Vec<(HeaderName, SecretHeader)> {
        let Some((variable, text)) = self.of_traces_or_all("HEADERS") else { return Vec::new() };
        let mut headers = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let parts = pair.split_once('=').and_then(|(name, value)| {
                let value =
                    percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?;
                Some((header_name(name.trim())?, HeaderValue::from_str(&value).ok()?))
            });
            match parts {
                Some((name, value)) => headers.push((name, SecretHeader::new(value))),
                // It is not repeated: it is a secret, or a part of one.
                None => self.warn(
                    format!("an entry of the environment variable `{variable}` is no header, and is left out"),
                    "write `name=value,name=value`, with values percent-encoded",
                ),
            }
        }
        headers
    }

    fn roots(&mut self, file: Option<&Spanned<PathBuf>>) -> Option<Roots> {
        if let Some(file) = file {
            return roots(file, self.finding);
        }
        let Some((name, path)) = self.of_traces_or_all("CERTIFICATE") else {
            return Some(Roots::System);
        };
        let pem = self.finding.environment.read(&PathBuf::from(&path));
        let read = pem.map_err(|error| error.to_string());
        let read = read.and_then(|pem| Roots::from_pem(&pem).map_err(|error| with_sources(&error)));
        // Not the system's in its place: nobody asked for those.
        read.map_err(|why| {
            self.warn(
                format!("the file of the environment variable `{name}`, `{path}`, can't be used; no traces are sent: {why}"),
                "name a file with the CA's certificate, PEM",
            );
        })
        .ok()
    }

    /// In milliseconds.
    fn timeout(&mut self) -> Option<Duration> {
        let (name, text) = self.of_traces_or_all("TIMEOUT")?;
        let millis = text.parse::<u64>().ok().filter(|millis| (1..=600_000).contains(millis));
        if millis.is_none() {
            self.warn(
                format!("the environment variable `{name}` is `{text}`, which is no time in milliseconds"),
                "set it to 1 to 600000",
            );
        }
        millis.map(Duration::from_millis)
    }

    fn sampler(&mut self) -> (Sample, FollowParent) {
        let all = (Sample::ALL, FollowParent::default());
        let Some(text) = self.variable("OTEL_TRACES_SAMPLER") else { return all };
        let (kind, follows) = match text.strip_prefix("parentbased_") {
            Some(kind) => (kind, FollowParent::default()),
            None => (text.as_str(), FollowParent::Never),
        };
        let sample = match kind {
            "always_on" => Sample::ALL,
            "always_off" => Sample(0),
            "traceidratio" => self.ratio(),
            _ => {
                self.warn(
                    format!("the environment variable `OTEL_TRACES_SAMPLER` is `{text}`, which is not known here"),
                    "set it to `parentbased_traceidratio` or another of the usual six, or write `telemetry.otlp.sample`",
                );
                return all;
            }
        };
        (sample, follows)
    }

    fn ratio(&mut self) -> Sample {
        let name = "OTEL_TRACES_SAMPLER_ARG";
        let Some(text) = self.variable(name) else { return Sample::ALL };
        let Some(sample) = value::Sample::of_ratio(&text) else {
            self.warn(
                format!("the environment variable `{name}` is `{text}`, which is no ratio"),
                "set it to a number from 0 to 1, with six decimals at most: `0.1`",
            );
            return Sample::ALL;
        };
        Sample(sample.0)
    }

    /// What is said of the process. Nothing of the machine: the collector adds that.
    fn resource(&mut self) -> Vec<(String, String)> {
        let mut given: Vec<(String, String)> = Vec::new();
        let name = "OTEL_RESOURCE_ATTRIBUTES";
        let text = self.variable(name).unwrap_or_default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let parts = pair.split_once('=').and_then(|(key, value)| {
                let value =
                    percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?;
                (!key.trim().is_empty()).then(|| (key.trim().to_owned(), value.into_owned()))
            });
            match parts {
                Some(pair) if given.len() < limits::MAX_RESOURCE_ATTRIBUTES => given.push(pair),
                Some(_) | None => self.warn(
                    format!("an entry of the environment variable `{name}` is left out"),
                    "write `key=value,key=value`, with values percent-encoded, 64 at most",
                ),
            }
        }
        if let Some(service) = self.variable("OTEL_SERVICE_NAME") {
            given.retain(|(key, _)| key != "service.name");
            given.push(("service.name".to_owned(), service));
        }
        for (key, value) in [
            ("service.name", env!("CARGO_PKG_NAME")),
            ("service.version", env!("CARGO_PKG_VERSION")),
        ] {
            if !given.iter().any(|(other, _)| other == key) {
                given.push((key.to_owned(), value.to_owned()));
            }
        }
        given.sort();
        given.dedup_by(|later, earlier| later.0 == earlier.0);
        given
    }

    /// `OTEL_EXPORTER_OTLP_TRACES_…`, else `OTEL_EXPORTER_OTLP_…`, with its name.
    fn of_traces_or_all(&mut self, key: &str) -> Option<(String, String)> {
        let of_traces = format!("OTEL_EXPORTER_OTLP_TRACES_{key}");
        if let Some(value) = self.variable(&of_traces) {
            return Some((of_traces, value));
        }
        let of_all = format!("OTEL_EXPORTER_OTLP_{key}");
        self.variable(&of_all).map(|value| (of_all, value))
    }

    /// A variable; an empty one is none, and so is one that is no text.
    fn variable(&mut self, name: &str) -> Option<String> {
        let read = self.finding.environment.of_platform(name);
        let read = read.map_err(|wrong| self.warn(wrong.message, wrong.hint)).ok().flatten();
        read.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn warn(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        let warning = Problem { severity: Severity::Warning, ..Problem::of_file(message) };
        self.finding.problems.push(warning.hint(hint));
    }
}

/// The address that is called.
fn endpoint(url: &Url, is_whole: bool, protocol: Protocol) -> Option<Uri> {
    let mut url = url.clone();
    if protocol == Protocol::Http && !is_whole {
        let base = url.path().trim_end_matches('/');
        if !base.ends_with(HTTP_PATH) {
            let path = format!("{base}{HTTP_PATH}");
            url.set_path(&path);
        }
    }
    // A URL with a host is one.
    url.as_str().parse().ok()
}

fn header_name(name: &str) -> Option<HeaderName> {
    let name = HeaderName::try_from(name).ok()?;
    (!OWN_HEADERS.contains(&name.as_str())).then_some(name)
}

#[cfg(test)]
mod tests;
