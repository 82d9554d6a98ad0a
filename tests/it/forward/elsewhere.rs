//! Upstreams of two endpoints of which one is in trouble: where a request goes next.

use std::collections::BTreeSet;

use http::Request;

use super::endpoints::{balanced, counts};
use super::{all, file};
use crate::support::gateway::Gateway;
use crate::support::names::Names;
use crate::support::raw::Raw;
use crate::support::raw_upstream::{RawUpstream, Then};
use crate::support::scripted_http2::{Act, ScriptedHttp2};
use crate::support::upstream::Upstream;
use crate::support::websocket::{WebSocketUpstream, handshake};

fn two(one: &str, other: &str, keys: &str) -> String {
    file("", &[&format!("up: {{ urls: [\"{one}\", \"{other}\"], {keys} }}")], &[&all("")])
}

fn busy(upstream: &RawUpstream, fields: &str) {
    for _ in 0..100 {
        let answer = format!("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n{fields}\r\n");
        upstream.answer(answer, Then::KeepOpen);
    }
}

#[tokio::test]
async fn a_further_try_goes_to_another_endpoint_first() {
    for fields in ["", "retry-after: 5\r\n"] {
        let (bad, good) = (RawUpstream::start(), RawUpstream::start());
        busy(&bad, fields);
        // Three are kept waiting there, so that the other is asked first from now on.
        (0..3).for_each(|_| good.answer("", Then::KeepOpen));
        let keys = "retry: { attempts: 2, on: [503], budget: 100% }";
        let gateway = Gateway::start(&two(&bad.url(), &good.url(), keys));
        let mut waiting = Vec::new();
        for count in 1..=3 {
            let mut client = gateway.client().await;
            waiting
                .push(tokio::spawn(async move { client.try_send(Request::get("/x"), "").await }));
            good.heads_when(count).await;
        }
        let before = bad.heads().len();
        let mut client = gateway.client().await;
        for _ in 0..10 {
            assert_eq!(client.get("/x").await.status, 204);
        }
        assert_eq!((bad.heads().len() - before, good.heads().len()), (10, 13));
        let line = format!("obo_gateway_upstream_retries_total{{upstream=\"up\"}} {}", before + 10);
        assert!(gateway.metrics().await.contains(&line), "{line}");
        for call in waiting {
            call.abort();
            assert!(call.await.is_err());
        }
        gateway.metrics_when("obo_gateway_requests_in_flight 0\n").await;
    }
}

#[tokio::test]
async fn a_refused_stream_goes_to_another_endpoint_first() {
    let (bad, good) = (ScriptedHttp2::start(100), ScriptedHttp2::start(100));
    bad.act((0..100).map(|_| Act::Refuse));
    let keys = "protocol: http2, retry: { budget: 100% }";
    let gateway = Gateway::start(&two(&bad.url(), &good.url(), keys));
    let mut client = gateway.client().await;
    for _ in 0..20 {
        assert_eq!(client.send(Request::post("/x"), "body").await.status, 200);
    }
    assert!(!bad.seen().is_empty());
    assert_eq!((good.seen().len(), bad.connections()), (20, 1));
}

#[tokio::test]
async fn endpoints_that_all_ask_to_wait_are_asked_once_each() {
    let (one, other) = (RawUpstream::start(), RawUpstream::start());
    busy(&one, "retry-after: 7\r\n");
    busy(&other, "retry-after: 7\r\n");
    let keys = "retry: { attempts: 10, on: [503], budget: 100% }";
    let gateway = Gateway::start(&two(&one.url(), &other.url(), keys));
    let mut client = gateway.client().await;
    client.meets_configured_answers();
    for round in 1..=5 {
        let reply = client.get("/x").await;
        assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (503, Some("7")));
        assert_eq!((one.heads().len(), other.heads().len()), (round, round));
    }
}

#[tokio::test]
async fn an_idle_connection_of_another_endpoint_makes_room() {
    for protocol in ["http1", "http2"] {
        let upstreams = [(); 2].map(|()| Upstream::start());
        let [one, other] = &upstreams;
        let keys = format!("protocol: {protocol}, max_connections: 1, load_balancing: round_robin");
        let gateway = Gateway::start(&balanced(&[one, other], &keys));
        let mut client = gateway.client().await;
        for _ in 0..8 {
            assert_eq!(client.get("/x").await.status, 200, "{protocol}");
        }
        assert_eq!(counts(&upstreams), [4, 4]);
        for upstream in &upstreams {
            let seen = upstream.seen();
            let connections: BTreeSet<_> = seen.iter().map(|seen| seen.connection).collect();
            assert_eq!(connections.len(), 4, "none could be kept");
        }
    }
}

#[tokio::test]
async fn an_upgrade_goes_on_to_others_as_a_request_does() {
    let upstream = WebSocketUpstream::start();
    let port = upstream.url().rsplit_once(':').unwrap().1.to_owned();
    let names = Names::default();
    names.set("up.test", &["127.0.0.2", "127.0.0.3", "127.0.0.1"]);
    let (by_name, by_url) = (format!("http://up.test:{port}"), format!("http://127.0.0.2:{port}"));
    for (urls, keys, status, retries) in [
        // Nobody listens but at the last address.
        (vec![by_name], "retry: { attempts: 1 }", 101, 0),
        (vec![by_url.clone(), upstream.url()], "retry: { attempts: 1 }", 502, 0),
        (vec![by_url.clone(), upstream.url()], "retry: { on: [503] }", 502, 0),
        (vec![by_url, upstream.url()], "", 101, 1),
    ] {
        let up = format!("up: {{ urls: {urls:?}, load_balancing: round_robin, {keys} }}");
        let gateway = Gateway::start_with_names(&names, &file("", &[&up], &[&all("")]));
        let mut caller = Raw::connect(gateway.address()).await;
        caller.send(handshake("/ws", "").as_bytes()).await;
        assert_eq!(caller.reply().await.unwrap().status, status, "{up}");
        let line = format!("obo_gateway_upstream_retries_total{{upstream=\"up\"}} {retries}");
        assert!(gateway.metrics().await.contains(&line), "{up}: {line}");
    }
}
