//! gRPC: the gateway's own refusals as statuses of gRPC, streams in both directions, and streams
//! that break.

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::BodyExt as _;

use super::{entra, event, file, open, piece, pieces, up};
use crate::support::client::{Reply, full};
use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::token::Token;
use crate::support::upstream::{Answer, AnswerBody, Upstream};
use crate::support::within;

fn call(path: &str) -> http::request::Builder {
    Request::post(path).header("te", "trailers").header("content-type", "application/grpc+proto")
}

fn status(reply: &Reply) -> &str {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/grpc"));
    assert_eq!((reply.body.len(), &reply.trailers), (0, &None), "the head is all there is");
    assert_eq!(reply.header("content-length"), None);
    assert!(reply.header("x-request-id").is_some());
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert!(!reply.header("grpc-message").unwrap().is_empty());
    reply.header("grpc-status").unwrap()
}

#[tokio::test]
async fn refusals_are_statuses_of_grpc() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gone = "  gone: { url: \"http://127.0.0.1:1\" }\nroutes:\n";
    let slow = "{ name: slow, match: { path: \"/slow/{*rest}\" }, auth: none, upstream: up, timeout: 50ms }";
    let text = file(
        "",
        &[&up(&upstream.url(), "protocol: http2")],
        &[
            "{ name: who, match: { path: \"/who/{*rest}\" }, auth: any, upstream: up, token: { passthrough: true } }",
            "{ name: scope, match: { path: \"/scope/{*rest}\" }, auth: { scopes: [other] }, upstream: up, token: { passthrough: true } }",
            "{ name: get, match: { path: /get, methods: [GET] }, auth: none, upstream: up }",
            "{ name: small, match: { path: \"/small/{*rest}\" }, auth: none, upstream: up, max_body_bytes: 3B }",
            "{ name: gone, match: { path: \"/gone/{*rest}\" }, auth: none, upstream: gone }",
            slow,
        ],
    );
    let gateway =
        Gateway::start(&format!("{}{}", entra(&provider), text.replace("routes:\n", gone)));
    gateway.ready().await;
    let (answer, _held) = Answer::stream();
    let gate = crate::support::gate::Gate::new();
    let mut answer = Some(answer.held_by(&gate));
    upstream.answer(move |_| answer.take().unwrap());
    let token = Token::entra_v2(&provider.entra_issuer()).user("alice").build();
    let mut client = gateway.client_http2().await;
    for (path, token, number, logged, code) in [
        ("/who/S/M", None, "16", 401, "token_missing"),
        ("/who/S/M", Some("x"), "16", 401, "token_invalid"),
        ("/scope/S/M", Some(&*token), "7", 403, "insufficient_scope"),
        ("/none/S/M", None, "12", 404, "route_not_found"),
        ("/get", None, "12", 405, "method_not_allowed"),
        ("/small/S/M", None, "8", 413, "body_too_large"),
        ("/gone/S/M", None, "14", 502, "upstream_unreachable"),
        ("/slow/S/M", None, "4", 504, "upstream_timeout"),
        ("/who/..%2Fx", None, "13", 400, "bad_request"),
    ] {
        let before = gateway.log().events().len();
        let mut request = call(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let reply = client.send(request, "\0\0\0\0\u{2}hi").await;
        assert_eq!(status(&reply), number, "{path}");
        assert_eq!(
            reply.header("www-authenticate").is_some(),
            number == "16" || code == "insufficient_scope"
        );
        // Operators see what it was.
        let found = gateway
            .log()
            .access_events_when(1, |event| event["code"] == code && event["status"] == logged)
            .await;
        assert!(!found.is_empty() && gateway.log().events().len() > before, "{path}");
    }
    let metrics = gateway.metrics().await;
    assert!(
        metrics.contains(r#"obo_gateway_requests_total{route="who",method="POST",status="401"} 2"#)
    );
    gate.open();
}

#[tokio::test]
async fn what_only_looks_like_grpc_gets_a_problem_document() {
    let upstream = Upstream::start();
    let yaml = open(&upstream.url(), "", "").replace("/{*rest}", "/there");
    let gateway = Gateway::start(&yaml);
    let mut http2 = gateway.client_http2().await;
    for content_type in ["application/grpc-web+proto", "application/grpcx", "application/json"] {
        let request = Request::post("/x").header("content-type", content_type);
        assert_eq!(http2.send(request, "x").await.outcome().0, 404, "{content_type}");
    }
    // gRPC is HTTP/2.
    let mut http1 = gateway.client().await;
    assert_eq!(http1.send(call("/x"), "x").await.outcome(), (404, "route_not_found".into()));
}

#[tokio::test]
async fn a_stream_in_both_directions_and_its_end() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "protocol: http2", ""));
    let trailers = HeaderMap::from_iter([
        (HeaderName::from_static("grpc-status"), HeaderValue::from_static("9")),
        (HeaderName::from_static("grpc-message"), HeaderValue::from_static("so it %25 is")),
    ]);
    for breaks in [false, true] {
        let (answer, down) = Answer::stream();
        let answer = answer.header("content-type", "application/grpc");
        let mut answer = Some(Answer { trailers: Some(trailers.clone()), ..answer });
        upstream.answer(move |_| answer.take().unwrap());
        let mut client = gateway.client_http2().await;
        let (send, body) = pieces();
        let path = format!("/S/{breaks}");
        let mut answer = client.start(call(&path).body(body).unwrap()).await.unwrap().into_body();
        for number in 1..=3_u64 {
            send.send(piece("\0\0\0\0\u{2}hi")).await.unwrap();
            let came = |seen: &[crate::support::seen::Seen]| {
                seen.last().unwrap().body.length == 7 * number
            };
            upstream.seen_when("the message", came).await;
            down.send(Ok("\0\0\0\0\u{2}ho".into())).await.unwrap();
            within("the answer", answer.frame()).await.unwrap().unwrap();
        }
        if breaks {
            down.send(Err(crate::support::servers::PeerError::scripted())).await.unwrap();
            // Reset: neither trailers nor a clean end.
            within("the reset", answer.frame()).await.unwrap().unwrap_err();
            let reason = event(&gateway, &path).await["reason"].as_str().unwrap().to_owned();
            assert!(reason.contains("broke off"), "{reason}");
        } else {
            drop((send, down));
            let end = within("the trailers", answer.frame()).await.unwrap().unwrap();
            assert_eq!(end.into_trailers().unwrap(), trailers);
        }
    }
}

#[tokio::test]
async fn an_upstreams_trailers_only_answer_passes_as_it_is() {
    let upstream = Upstream::start();
    upstream.answer(|_| {
        Answer::ok("").header("content-type", "application/grpc").header("grpc-status", "5")
    });
    let gateway = Gateway::start(&open(&upstream.url(), "protocol: http2", ""));
    let reply = gateway.client_http2().await.send(call("/S/M"), "\0\0\0\0\0").await;
    assert_eq!((reply.status.as_u16(), reply.header("grpc-status")), (200, Some("5")));
    assert!(reply.trailers.is_none());
    // One that ends short of what it said is reset, too.
    upstream.answer(|_| Answer {
        body: AnswerBody::Abort { start: "\0\0\0\0\u{5}he".into(), length: 10 },
        ..Answer::ok("").header("content-type", "application/grpc")
    });
    let mut client = gateway.client_http2().await;
    let response = client.start(call("/S/M").body(full("x")).unwrap()).await;
    if let Ok(response) = response {
        let refused = response.headers().contains_key("grpc-status");
        assert!(refused || response.into_body().collect().await.is_err());
    }
}
