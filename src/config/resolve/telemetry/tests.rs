use std::sync::Arc;

use crate::clock::SystemClock;
use crate::config::resolve::{Lasting, resolve};
use crate::config::{Environment, read};
use crate::forward::SystemResolver;
use crate::observe::Metrics;
use crate::observe::otlp::Protocol;
use crate::observe::tracer::{FollowParent, Sample, TraceSettings};

const ROUTES: &str = "routes: [{ match: { path: / }, auth: none, respond: { status: 204 } }]\n";

/// What is resolved of `telemetry` with these variables, and the problems.
fn resolved(telemetry: &str, variables: &[(&str, &str)]) -> (Option<TraceSettings>, String) {
    let environment = Environment::of(variables.iter().copied(), std::env::temp_dir());
    let reading = read(&format!("{ROUTES}{telemetry}"), "routes.yaml", &environment);
    let lasting = Lasting::new(Arc::new(SystemClock), Metrics::default(), Arc::new(SystemResolver));
    match resolve(reading, &environment, &lasting, None) {
        Ok((resolved, problems)) => {
            let tracer = resolved.snapshot.tracer;
            (tracer.map(|tracer| tracer.settings().clone()), problems.to_string())
        }
        Err(problems) => (None, problems.to_string()),
    }
}

/// The settings of what is resolved without a word.
fn settings(telemetry: &str, variables: &[(&str, &str)]) -> TraceSettings {
    let (settings, problems) = resolved(telemetry, variables);
    assert_eq!(problems, "", "{telemetry} {variables:?}");
    settings.unwrap_or_else(|| panic!("no traces: {telemetry} {variables:?}"))
}

fn attribute<'a>(settings: &'a TraceSettings, key: &str) -> &'a str {
    let found = settings.resource.iter().find(|(name, _)| name == key);
    found.map_or("", |(_, value)| value)
}

#[test]
fn without_a_word_there_are_no_traces() {
    assert_eq!(resolved("", &[]), (None, String::new()));
    assert_eq!(resolved("", &[("OTEL_SERVICE_NAME", "x")]), (None, String::new()));
    let (none, problems) = resolved("telemetry: { otlp: {} }", &[]);
    assert!(none.is_none() && problems.contains("`otlp` has no `endpoint`"), "{problems}");
}

#[test]
fn the_line_of_the_contract_is_grpc() {
    let telemetry = "telemetry: { otlp: { endpoint: \"http://127.0.0.1:4317\", sample: 10% } }";
    let settings = settings(telemetry, &[]);
    assert_eq!(settings.collector.protocol, Protocol::Grpc);
    assert_eq!(settings.sample, Sample(100_000));
    assert_eq!(settings.follow_parent, FollowParent::TrustedProxies);
    assert_eq!(settings.collector.timeout.as_secs(), 10);
    assert_eq!(attribute(&settings, "service.name"), "obo-gateway");
    assert_eq!(attribute(&settings, "service.version"), env!("CARGO_PKG_VERSION"));
}

#[test]
fn an_endpoint_of_the_environment_turns_traces_on() {
    for (name, value, protocol, endpoint) in [
        ("ENDPOINT", "http://c:4318", Protocol::Http, "http://c:4318/v1/traces"),
        ("ENDPOINT", "http://c:4318/", Protocol::Http, "http://c:4318/v1/traces"),
        ("ENDPOINT", "https://c/otlp", Protocol::Http, "https://c/otlp/v1/traces"),
        ("ENDPOINT", "http://c:4317", Protocol::Grpc, "http://c:4317/"),
        ("TRACES_ENDPOINT", "http://c:4318/x", Protocol::Http, "http://c:4318/x"),
    ] {
        let name = format!("OTEL_EXPORTER_OTLP_{name}");
        let settings = settings("", &[(&name, value)]);
        assert_eq!(settings.collector.protocol, protocol, "{value}");
        assert_eq!(settings.collector.endpoint.to_string(), endpoint, "{value}");
        assert_eq!(settings.sample, Sample::ALL);
    }
    for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"), off];
        assert_eq!(resolved("", &variables), (None, String::new()));
        let telemetry = "telemetry: { otlp: { endpoint: \"http://c:4317\" } }";
        assert_eq!(resolved(telemetry, &variables), (None, String::new()));
    }
}

#[test]
fn the_usual_variables_are_heard() {
    let settings = settings(
        "",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=a%20b, x-scope-orgid = 7"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
            ("OTEL_SERVICE_NAME", "edge"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=test%2F1"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ],
    );
    assert_eq!(settings.collector.protocol, Protocol::Http);
    assert_eq!(settings.collector.timeout.as_millis(), 2500);
    let headers = settings.collector.headers.iter();
    let headers: Vec<_> = headers.map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(headers.len(), 2);
    assert!(headers[0].0 == "x-api-key" && headers[0].1 == "a b", "{headers:?}");
    assert_eq!(attribute(&settings, "service.name"), "edge");
    assert_eq!(attribute(&settings, "deployment.environment.name"), "test/1");
    assert_eq!((settings.sample, settings.follow_parent), (Sample(250_000), FollowParent::Never));
}

#[test]
fn the_file_goes_before_the_environment_key_by_key() {
    let settings = settings(
        "telemetry: { otlp: { endpoint: \"http://127.0.0.1:1\", sample: 1%, follow_parent: always, protocol: grpc, timeout: 1s } }",
        &[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://other:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "5"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=1"),
            ("OTEL_TRACES_SAMPLER", "always_off"),
        ],
    );
    assert_eq!(settings.collector.endpoint.to_string(), "http://127.0.0.1:1/");
    assert_eq!(settings.collector.protocol, Protocol::Grpc);
    assert_eq!(settings.collector.timeout.as_secs(), 1);
    assert_eq!((settings.sample, settings.follow_parent), (Sample(10_000), FollowParent::Always));
    assert_eq!(settings.collector.headers.len(), 1);
}

#[test]
fn a_variable_that_cannot_be_used_is_a_warning_and_no_more() {
    for (name, value, traced) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", true),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", true),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2", true),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", true),
        ("OTEL_RESOURCE_ATTRIBUTES", "a", true),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://u:hunter2@c", false),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere", false),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2", false),
    ] {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"), (name, value)];
        let (settings, problems) = resolved("", &variables);
        assert_eq!(settings.is_some(), traced, "{name}={value}");
        assert!(problems.contains("warning:") && !problems.contains("error:"), "{problems}");
        assert!(!problems.contains("hunter2"), "{problems}");
    }
}
