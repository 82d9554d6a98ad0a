//! The spans of requests, as a collector reads them, over both protocols.

use http::Request;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use super::{file, otlp};
use crate::support::collector::{Collector, attribute};
use crate::support::gateway::Gateway;
use crate::support::obo::Answer as ProviderAnswer;
use crate::support::provider::{Endpoint, Provider, Reply};
use crate::support::tls_upstream::{Authority, Purpose};
use crate::support::token::{ALICE, Token, bearer};
use crate::support::upstream::{Answer, Upstream, hex};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// What of a span is compared: name, kind, whether it is an error.
fn shape(span: &Span) -> (&str, SpanKind, bool) {
    let error = span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
    (&span.name, span.kind(), error)
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("no span `{name}` in {spans:#?}"))
}

fn text(span: &Span, key: &str) -> String {
    attribute(&span.attributes, key).unwrap_or_default()
}

#[tokio::test]
async fn a_request_is_a_tree_of_spans_and_its_upstream_a_part_of_it() {
    for protocol in ["grpc", "http/protobuf"] {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let collector = Collector::start();
        let telemetry = otlp(&collector.url(), &format!("protocol: {protocol}"));
        let gateway = Gateway::start(&file(&provider, &upstream, "", &telemetry));
        gateway.ready().await;
        let token = Token::entra_v2(&provider.entra_issuer()).build();
        let mut client = gateway.client().await;
        for cache in ["miss", "hit"] {
            let request = Request::get("/graph/me?query-never-traced=1")
                .header("host", "api.example.com:8080")
                .header("traceparent", format!("00-{TRACE}-{PARENT}-00"))
                .header("tracestate", "vendor=1")
                .header("authorization", bearer(&token));
            let before = collector.spans().len();
            let reply = client.send(request, "").await;
            assert_eq!(reply.status, 200);
            let spans = collector.spans_when(before + 4).await.split_off(before);
            let shapes: Vec<_> = spans.iter().map(shape).collect();
            let expected = [
                ("GET graph", SpanKind::Server, false),
                ("validate", SpanKind::Internal, false),
                ("exchange", SpanKind::Internal, false),
                ("GET", SpanKind::Client, false),
            ];
            assert_eq!(shapes, expected, "{protocol}");
            let [server, validation, exchange, client] = &spans[..] else { panic!() };
            for (key, value) in [
                ("http.request.method", "GET"),
                ("http.route", "graph"),
                ("http.response.status_code", "200"),
                ("url.scheme", "http"),
                ("url.path", "/graph/me"),
                ("server.address", "api.example.com"),
                ("server.port", "8080"),
                ("network.protocol.version", "1.1"),
                ("obo_gateway.request_id", reply.header("x-request-id").unwrap()),
                ("error.type", ""),
            ] {
                assert_eq!(text(server, key), value, "{key}");
            }
            assert_eq!(hex(&server.parent_span_id), PARENT);
            assert_eq!(server.flags, 0x301, "sampled, of a remote parent");
            assert_eq!(text(validation, "obo_gateway.provider"), "entra");
            for (key, value) in [
                ("obo_gateway.provider", "entra"),
                ("obo_gateway.outcome", "success"),
                ("obo_gateway.token_cache", cache),
                ("obo_gateway.upstream", "graph"),
            ] {
                assert_eq!(text(exchange, key), value, "{key}");
            }
            assert_eq!(text(client, "server.address"), "127.0.0.1");
            assert_eq!(text(client, "server.port"), upstream.port().to_string());
            assert_eq!(text(client, "http.response.status_code"), "200");
            for span in &spans {
                assert_eq!(hex(&span.trace_id), TRACE);
                assert_eq!(span.span_id.len(), 8);
                assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
                assert!(server.start_time_unix_nano <= span.start_time_unix_nano);
                assert!(span.end_time_unix_nano <= server.end_time_unix_nano);
            }
            for child in [validation, exchange, client] {
                assert_eq!(child.parent_span_id, server.span_id);
            }
            // The sender was a stranger, so its `00` decided nothing; the gateway's `01` goes on.
            let seen = upstream.last();
            let sent = format!("00-{TRACE}-{}-01", hex(&client.span_id));
            assert_eq!(seen.value("traceparent"), Some(sent));
            assert_eq!(seen.value("tracestate").as_deref(), Some("vendor=1"));
            let shown = format!("{spans:?}");
            for never in ["query-never-traced", ALICE, "vendor=1", "Bearer", "client_ip"] {
                assert!(!shown.contains(never), "{never} in {shown}");
            }
        }
        let calls = collector.calls();
        let path = if protocol == "grpc" {
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
        } else {
            "/v1/traces"
        };
        assert!(calls.iter().all(|call| call.path == path), "{protocol}");
        let resource = calls[0].request.resource_spans[0].resource.as_ref().unwrap();
        assert_eq!(attribute(&resource.attributes, "service.name").unwrap(), "obo-gateway");
        gateway.metrics_when("obo_gateway_trace_spans_exported_total 8\n").await;
    }
}

#[tokio::test]
async fn a_refusal_says_where_and_why() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let collector = Collector::start();
    let gateway = Gateway::start(&file(&provider, &upstream, "", &otlp(&collector.url(), "")));
    gateway.ready().await;
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let bare = Token::entra_v2(&provider.entra_issuer()).claim("scp", "other").build();
    let mut client = gateway.client().await;
    provider.script(
        Endpoint::Token,
        Reply::Answer(ProviderAnswer::aadsts(400, "invalid_grant", 65001)),
    );
    for (path, token, status, shapes, failed, code) in [
        ("/nowhere", None, 404, 1, "GET", "route_not_found"),
        ("/graph/x", None, 401, 2, "validate", "token_missing"),
        ("/graph/x", Some(&bare), 403, 2, "validate", "insufficient_scope"),
        ("/graph/x", Some(&token), 403, 3, "exchange", "consent_required"),
        ("/dead/x", None, 502, 3, "GET", "upstream_unreachable"),
    ] {
        let before = collector.spans().len();
        let reply = match token {
            Some(token) => client.get_with(path, token).await,
            None => client.get(path).await,
        };
        assert_eq!(reply.status, status, "{path}");
        let spans = collector.spans_when(before + shapes).await.split_off(before);
        assert_eq!(spans.len(), shapes, "{spans:#?}");
        assert_eq!(text(&spans[0], "error.type"), code);
        assert_eq!(shape(&spans[0]).2, status >= 500, "a caller's mistake is none of the server's");
        let failed = named(&spans[shapes.min(2) - 1..], failed);
        assert_eq!(text(failed, "error.type"), code);
        if failed.name == "exchange" || failed.name == "validate" {
            assert_eq!(text(failed, "obo_gateway.outcome"), code);
        }
    }
    upstream.answer(|_| Answer::status(503));
    let before = collector.spans().len();
    assert_eq!(client.get("/plain/x").await.status, 503);
    let spans = collector.spans_when(before + 3).await.split_off(before);
    let upstream_span = named(&spans, "GET");
    assert_eq!(text(upstream_span, "error.type"), "503");
    assert!(shape(upstream_span).2 && shape(named(&spans, "GET plain")).2);
}

#[tokio::test]
async fn the_end_sends_what_is_left() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let collector = Collector::start();
    let telemetry = otlp(&collector.url(), "");
    let gateway = Gateway::start_in_virtual_time(&file(&provider, &upstream, "", &telemetry));
    let mut client = gateway.client().await;
    assert_eq!(client.get("/plain/x").await.status, 200);
    // No second passes for the gateway: it would wait for more spans to send with these.
    drop(client);
    drop(gateway);
    assert_eq!(collector.spans().len(), 3);
}

#[tokio::test]
async fn a_collector_behind_tls_is_believed_by_its_ca_and_gets_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let file_of = |name: &str, authority: &Authority| {
        let path = folder.path().join(name);
        std::fs::write(&path, authority.pem()).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (file_of("ca.pem", &authority), file_of("other.pem", &other));
    let (provider, upstream) = (Provider::start(), Upstream::start());
    for protocol in ["grpc", "http/protobuf"] {
        let collector = Collector::start_tls(&authority.issue(Purpose::Server, "localhost"));
        let keys = |ca: &str| {
            format!(
                "protocol: {protocol}, ca_file: \"{ca}\", headers: {{ authorization: \"Bearer ${{CLIENT_SECRET}}\" }}"
            )
        };
        let yaml = |ca| file(&provider, &upstream, "", &otlp(&collector.url(), &keys(ca)));
        let gateway = Gateway::start_in_virtual_time(&yaml(&wrong));
        let mut client = gateway.client().await;
        assert_eq!(client.get("/plain/a").await.status, 200);
        drop(client);
        let log = gateway.log().clone();
        drop(gateway);
        assert!(log.text().contains("traces can't be sent"), "{}", log.text());
        assert!(collector.calls().is_empty());

        let gateway = Gateway::start(&yaml(&right));
        let mut client = gateway.client().await;
        assert_eq!(client.get("/plain/b").await.status, 200);
        collector.spans_when(3).await;
        let sent = collector.calls()[0].headers["authorization"].clone();
        assert!(sent.to_str().unwrap().starts_with("Bearer "));
    }
}

#[tokio::test]
async fn the_environment_alone_turns_traces_on() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let collector = Collector::start();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.url()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), "http/protobuf".to_owned()),
        ("OTEL_SERVICE_NAME".to_owned(), "edge".to_owned()),
    ];
    let gateway = Gateway::start_in(&variables, &file(&provider, &upstream, "", ""));
    let mut client = gateway.client().await;
    assert_eq!(client.get("/plain/x").await.status, 200);
    collector.spans_when(3).await;
    let resource = collector.calls()[0].request.resource_spans[0].resource.clone().unwrap();
    assert_eq!(attribute(&resource.attributes, "service.name").unwrap(), "edge");
}

#[tokio::test]
async fn a_reload_turns_traces_on_moves_them_and_turns_them_off() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let (first, second) = (Collector::start(), Collector::start());
    let yaml = |telemetry: &str| file(&provider, &upstream, "", telemetry);
    let gateway = Gateway::start(&yaml(""));
    let mut client = gateway.client().await;
    let mut traced = async |telemetry: &str, path: &str| {
        gateway.write_file(&yaml(telemetry));
        gateway.reload();
        assert_eq!(client.get(path).await.status, 200);
    };
    traced("", "/plain/none").await;
    traced(&otlp(&first.url(), ""), "/plain/first").await;
    first.spans_when(3).await;
    traced(&otlp(&second.url(), "sample: 100%"), "/plain/second").await;
    second.spans_when(3).await;
    // The same again keeps the connection to the collector.
    traced(&otlp(&second.url(), "sample: 100%"), "/plain/again").await;
    second.spans_when(6).await;
    traced("telemetry: { access_log: true }", "/plain/off").await;
    assert!(upstream.last().value("traceparent").is_none());
    drop(client);
    drop(gateway);
    let paths = |collector: &Collector| {
        let spans = collector.spans();
        let paths = spans.iter().filter_map(|span| attribute(&span.attributes, "url.path"));
        paths.collect::<Vec<_>>()
    };
    assert_eq!(paths(&first), ["/plain/first"]);
    assert_eq!(paths(&second), ["/plain/second", "/plain/again"]);
}
