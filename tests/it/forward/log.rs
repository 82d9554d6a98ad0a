//! What metrics and the access event say of a forwarded request.

use http::Request;
use serde_json::Value;

use super::{entra, event, file, up};
use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::token::{ALICE, CALLER_CLIENT, TENANT, Token, bearer};
use crate::support::upstream::{Answer, Upstream};

#[tokio::test]
async fn one_event_has_all_there_is_to_know() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let obo = "token: { on_behalf_of: { scopes: [\"https://graph.microsoft.com/.default\"] } }";
    let route = "{ name: graph, match: { path: \"/graph/{*rest}\" }, auth: any, upstream: up }";
    let yaml = entra(&provider) + &file("", &[&up(&upstream.url(), obo)], &[route]);
    let gateway = Gateway::start(&yaml);
    gateway.ready().await;
    upstream.answer(|_| Answer { status: http::StatusCode::CREATED, ..Answer::ok("hello world") });
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut client = gateway.client().await;
    for (path, cached) in [("/graph/a", "miss"), ("/graph/b", "hit")] {
        let request = Request::post(format!("{path}?secret=1"))
            .header("host", "api.example.com")
            .header("traceparent", trace)
            .header("authorization", bearer(&token));
        let reply = client.send(request, "body").await;
        let event = event(&gateway, path).await;
        for (key, value) in [
            ("request_id", Value::from(reply.header("x-request-id").unwrap())),
            ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736".into()),
            ("client_ip", "127.0.0.1".into()),
            ("method", "POST".into()),
            ("host", "api.example.com".into()),
            ("path", path.into()),
            ("status", 201.into()),
            ("code", Value::Null),
            ("reason", Value::Null),
            ("route", "graph".into()),
            ("upstream", "up".into()),
            ("endpoint", upstream.authority().into()),
            ("user", ALICE.into()),
            ("client_id", CALLER_CLIENT.into()),
            ("tenant", TENANT.into()),
            ("token_cache", cached.into()),
            ("bytes_in", 4.into()),
            ("bytes_out", 11.into()),
        ] {
            assert_eq!(event[key], value, "{key} of {path}");
        }
        let millis = |key: &str| event[key].as_f64();
        assert!(millis("upstream_ms").unwrap() > 0.0);
        assert!(millis("upstream_ms").unwrap() <= millis("duration_ms").unwrap());
        assert_eq!(millis("exchange_ms").is_some(), cached == "miss");
        let count = gateway
            .log()
            .events()
            .iter()
            .filter(|event| event.get("path") == Some(&path.into()))
            .count();
        assert_eq!(count, 1, "one event a request");
        assert!(upstream.last().value("traceparent").is_some());
    }
    let metrics = gateway.metrics().await;
    for line in [
        r#"obo_gateway_requests_total{route="graph",method="POST",status="201"} 2"#,
        r#"obo_gateway_request_duration_seconds_count{route="graph"} 2"#,
        r#"obo_gateway_upstream_duration_seconds_count{upstream="up"} 2"#,
        r#"obo_gateway_overhead_seconds_count{route="graph"} 2"#,
        r#"obo_gateway_token_cache_requests_total{upstream="up",result="hit"} 1"#,
        r#"obo_gateway_token_cache_requests_total{upstream="up",result="miss"} 1"#,
        "obo_gateway_requests_in_flight 0",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    assert!(!metrics.contains("/graph"), "labels are names, never paths");
}

#[tokio::test]
async fn what_is_refused_is_counted_where_it_was() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let route = "{ name: guarded, match: { path: /a, methods: [GET] }, auth: { scopes: [other] }, upstream: up }";
    let yaml = entra(&provider) + &file("", &[&up(&upstream.url(), "")], &[route]);
    let gateway = Gateway::start(&yaml);
    gateway.ready().await;
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let mut client = gateway.client().await;
    client.get("/a").await;
    client.get_with("/a", &token).await;
    client.get("/nowhere").await;
    client.send(Request::put("/a"), "").await;
    event(&gateway, "/nowhere").await;
    let metrics = gateway.metrics().await;
    for line in [
        r#"obo_gateway_requests_total{route="guarded",method="GET",status="401"} 1"#,
        r#"obo_gateway_requests_total{route="guarded",method="GET",status="403"} 1"#,
        r#"obo_gateway_requests_total{route="",method="GET",status="404"} 1"#,
        r#"obo_gateway_requests_total{route="",method="PUT",status="405"} 1"#,
        r#"obo_gateway_auth_failures_total{route="guarded",code="token_missing"} 1"#,
        r#"obo_gateway_auth_failures_total{route="guarded",code="insufficient_scope"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    assert_eq!(upstream.count(), 0);
}
