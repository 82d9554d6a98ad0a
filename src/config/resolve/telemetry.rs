//! `telemetry.otlp`: which requests leave spans, and where those go.
//!
//! What `telemetry.otlp` leaves out is taken from the `OTEL_*` variables, and a variable alone turns
//! traces on: an endpoint is enough. The file goes before the environment, key by key, and
//! `OTEL_SDK_DISABLED=true` or `OTEL_TRACES_EXPORTER=none` before the file. What is wrong in the file
//! refuses it; a variable that can't be used is passed over with a warning, as the specification of
//! OpenTelemetry has it: who injects them does not know this program, and it is not to stay down for that.

mod environment;

use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Uri};
use url::Url;

use super::super::file::{self, Otlp, OtlpProtocol};
use super::super::problem::{Problem, Severity};
use super::super::spanned::{Spanned, Table};
use super::Finding;
use super::providers::roots;
use crate::chain::with_sources;
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
