//! What the `OTEL_*` variables say. One that can't be used is passed over with a warning, and a
//! secret in it is not repeated.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use url::Url;

use super::super::super::problem::{Problem, Severity};
use super::super::super::value;
use super::{Resolving, header_name};
use crate::limits;
use crate::observe::tracer::{FollowParent, Sample};
use crate::secret::SecretHeader;

impl Resolving<'_, '_> {
    pub(super) fn is_disabled(&mut self) -> bool {
        let disabled = self.variable("OTEL_SDK_DISABLED");
        let exporter = self.variable("OTEL_TRACES_EXPORTER");
        disabled.is_some_and(|it| it.eq_ignore_ascii_case("true"))
            || exporter.is_some_and(|it| it == "none")
    }

    /// The collector that the environment names, and whether it is the whole address.
    pub(super) fn endpoint_of_environment(&mut self) -> Option<(Url, bool)> {
        let (of_traces, of_all) =
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
        let whole = self.variable(of_traces);
        let is_whole = whole.is_some();
        let name = if is_whole { of_traces } else { of_all };
        let text = whole.or_else(|| self.variable(of_all));
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

    /// `name=value,name=value`, the values percent-encoded.
    pub(super) fn headers_of_environment(&mut self) -> Vec<(HeaderName, SecretHeader)> {
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

    /// In milliseconds.
    pub(super) fn timeout(&mut self) -> Option<Duration> {
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

    pub(super) fn sampler(&mut self) -> (Sample, FollowParent) {
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

    pub(super) fn ratio(&mut self) -> Sample {
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
    pub(super) fn resource(&mut self) -> Vec<(String, String)> {
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
    pub(super) fn of_traces_or_all(&mut self, key: &str) -> Option<(String, String)> {
        let of_traces = format!("OTEL_EXPORTER_OTLP_TRACES_{key}");
        if let Some(value) = self.variable(&of_traces) {
            return Some((of_traces, value));
        }
        let of_all = format!("OTEL_EXPORTER_OTLP_{key}");
        self.variable(&of_all).map(|value| (of_all, value))
    }

    /// A variable; an empty one is none, and so is one that is no text.
    pub(super) fn variable(&mut self, name: &str) -> Option<String> {
        let read = self.finding.environment.of_platform(name);
        let read = read.map_err(|wrong| self.warn(wrong.message, wrong.hint)).ok().flatten();
        read.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    pub(super) fn warn(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        let warning = Problem { severity: Severity::Warning, ..Problem::of_file(message) };
        self.finding.problems.push(warning.hint(hint));
    }
}
