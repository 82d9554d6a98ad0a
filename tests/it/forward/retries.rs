//! Which requests are sent to an upstream again, counted by what it saw.

use std::time::{Duration, Instant};

use http::Request;

use super::{event, open};
use crate::support::gateway::Gateway;
use crate::support::raw_upstream::{RawUpstream, Then};
use crate::support::scripted_http2::{Act, ScriptedHttp2};

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";

async fn retries(gateway: &Gateway) -> String {
    let metrics = gateway.metrics().await;
    let line = metrics.lines().find(|line| line.starts_with("obo_gateway_upstream_retries_total"));
    line.unwrap().rsplit_once(' ').unwrap().1.to_owned()
}

fn many(text: &str, times: usize) -> Vec<String> {
    vec![text.to_owned(); times]
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_whatever_the_method() {
    for act in [Act::Refuse, Act::GoAwayBefore] {
        for (method, body) in [("POST", "body"), ("POST", ""), ("GET", ""), ("PATCH", "body")] {
            let upstream = ScriptedHttp2::start(100);
            let gateway = Gateway::start(&open(&upstream.url(), "protocol: http2", ""));
            let mut client = gateway.client().await;
            upstream.act([act.clone()]);
            let request = Request::builder().method(method).uri("/x");
            assert_eq!(client.send(request, body).await.status, 200, "{act:?} {method}");
            let seen = upstream.seen();
            let bodies: Vec<_> = seen.iter().map(|seen| seen.body.as_slice()).collect();
            assert_eq!(bodies, [body.as_bytes(); 2], "{act:?} {method}");
            // Behind a GOAWAY nothing is sent over that connection any more.
            let connections = if matches!(act, Act::Refuse) { 1 } else { 2 };
            assert_eq!(upstream.connections(), connections, "{act:?}");
            assert_eq!(retries(&gateway).await, "1");
        }
    }
}

#[tokio::test]
async fn a_refused_stream_is_not_sent_again_where_the_file_says_no() {
    for keys in ["retry: { attempts: 1 }", "retry: { on: [connect_failure, 503] }"] {
        let upstream = ScriptedHttp2::start(100);
        let gateway =
            Gateway::start(&open(&upstream.url(), &format!("protocol: http2, {keys}"), ""));
        upstream.act([Act::Refuse]);
        let reply = gateway.client().await.send(Request::post("/x"), "body").await;
        assert_eq!(reply.outcome(), (502, "upstream_unreachable".into()));
        assert_eq!(upstream.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_refused_stream_on_a_kept_connection_is_no_stale_connection() {
    for (keys, expected) in [("", (200, 3, "1")), ("retry: { attempts: 1 }", (502, 2, "0"))] {
        let upstream = ScriptedHttp2::start(100);
        let keys = format!("protocol: http2, {keys}");
        let gateway = Gateway::start(&open(&upstream.url(), &keys, ""));
        let mut client = gateway.client().await;
        assert_eq!(client.get("/first").await.status, 200);
        upstream.act([Act::Refuse]);
        let status = client.get("/x").await.status.as_u16();
        let retries = retries(&gateway).await;
        assert_eq!((status, upstream.seen().len(), retries.as_str()), expected, "{keys}");
        // One that has enough to do is not given new connections on top.
        assert_eq!(upstream.connections(), 1);
    }
}

#[tokio::test]
async fn a_refused_stream_with_a_large_body_is_not_sent_again() {
    for (size, expected) in [(64 * 1024, (200, 2)), (64 * 1024 + 1, (502, 1))] {
        let upstream = ScriptedHttp2::start(100);
        let gateway = Gateway::start(&open(&upstream.url(), "protocol: http2", ""));
        upstream.act([Act::Refuse]);
        let reply = gateway.client().await.send(Request::post("/x"), vec![b'x'; size]).await;
        assert_eq!((reply.status.as_u16(), upstream.seen().len()), expected, "{size}");
        assert!(upstream.seen().iter().all(|seen| seen.body.len() == size));
    }
}

#[tokio::test]
async fn what_an_upstream_may_have_looked_at_is_not_sent_again() {
    for act in [Act::Fail, Act::GoAwayAndClose, Act::Close] {
        for (method, body) in [("POST", "body"), ("POST", ""), ("GET", "")] {
            let upstream = ScriptedHttp2::start(100);
            let keys = "protocol: http2, retry: { attempts: 5 }";
            let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
            upstream.act([act.clone()]);
            let request = Request::builder().method(method).uri("/x");
            let reply = gateway.client().await.send(request, body).await;
            assert_eq!(reply.status, 502, "{act:?} {method}");
            assert_eq!(upstream.seen().len(), 1, "{act:?} {method}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_says_goaway_takes_no_more_and_loses_nothing() {
    let upstream = ScriptedHttp2::start(100);
    let gateway =
        Gateway::start(&open(&upstream.url(), "protocol: http2, retry: { attempts: 1 }", ""));
    let mut client = gateway.client().await;
    upstream.act((0..8).map(|_| Act::GoAwayBehind));
    for number in 0..8 {
        let reply = client.send(Request::post("/x"), "body").await;
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"ok"[..]));
        assert_eq!(upstream.seen().len(), number + 1);
    }
    assert_eq!(upstream.connections(), 8);
    upstream.open_when(0).await;
}

#[tokio::test]
async fn statuses_are_tried_again_if_the_request_may_happen_twice() {
    let upstream = RawUpstream::start();
    let keys = "retry: { on: [503], budget: 100% }";
    let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
    let mut client = gateway.client().await;
    client.meets_configured_answers();
    let large = "x".repeat(64 * 1024 + 1);
    for (method, body, again) in [
        ("GET", "", true),
        ("HEAD", "", true),
        ("OPTIONS", "", true),
        ("DELETE", "", true),
        ("PUT", "", true),
        ("PUT", "body", true),
        ("PUT", &large[1..], true),
        ("PUT", &large, false),
        ("POST", "", false),
        ("POST", "body", false),
        ("PATCH", "body", false),
        // Of other methods nothing is known.
        ("PROPFIND", "", false),
        ("BREW", "", false),
    ] {
        let before = upstream.heads().len();
        upstream.answer(
            BUSY.trim_end_matches("busy").replace("length: 4", "length: 0"),
            Then::KeepOpen,
        );
        let reply = client.send(Request::builder().method(method).uri("/x"), body.to_owned()).await;
        let heads = upstream.heads().len() - before;
        // What has no answer of its own is answered 204.
        let expected = if again { (204, 2) } else { (503, 1) };
        assert_eq!((reply.status.as_u16(), heads), expected, "{method} {}", body.len());
    }
}

#[tokio::test]
async fn statuses_are_passed_on_by_default_and_when_tries_are_used_up() {
    for (keys, busy, expected) in [
        ("", 1, (503, 1)),
        ("retry: { on: [502, 504] }", 1, (503, 1)),
        ("retry: { attempts: 1, on: [503] }", 1, (503, 1)),
        ("retry: { attempts: 2, on: [503] }", 2, (503, 2)),
        ("retry: { attempts: 3, on: [503] }", 2, (204, 3)),
        ("retry: { attempts: 10, on: [503] }", 10, (503, 10)),
    ] {
        let upstream = RawUpstream::start();
        let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
        for answer in many(BUSY, busy) {
            upstream.answer(answer, Then::KeepOpen);
        }
        let mut client = gateway.client().await;
        client.meets_configured_answers();
        let reply = client.get("/x").await;
        assert_eq!((reply.status.as_u16(), upstream.heads().len()), expected, "{keys}");
        if reply.status == 503 {
            assert_eq!(reply.body, "busy", "it is the upstream's own answer");
        }
        assert_eq!(retries(&gateway).await, (expected.1 - 1).to_string());
    }
}

#[tokio::test]
async fn an_endpoint_that_asks_to_wait_is_not_asked_again() {
    let upstream = RawUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "retry: { on: [503] }", ""));
    let mut client = gateway.client().await;
    client.meets_configured_answers();
    for (after, heads) in [("1", 1), ("Fri, 31 Dec 2100 23:59:59 GMT", 1), ("0", 2)] {
        let before = upstream.heads().len();
        let busy = BUSY.replace("\r\n\r\n", &format!("\r\nretry-after: {after}\r\n\r\n"));
        upstream.answer(busy.clone(), Then::KeepOpen);
        upstream.answer(busy, Then::KeepOpen);
        assert_eq!(client.get("/x").await.header("retry-after"), Some(after));
        assert_eq!(upstream.heads().len() - before, heads, "{after}");
        if heads == 1 {
            client.get("/x").await;
        }
    }
}

#[tokio::test]
async fn a_storm_of_retries_ends_at_the_budget() {
    let upstream = RawUpstream::start();
    let keys = "retry: { attempts: 10, on: [503], budget: 0% }";
    let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
    let mut client = gateway.client().await;
    client.meets_configured_answers();
    for answer in many(BUSY, 100) {
        upstream.answer(answer, Then::KeepOpen);
    }
    for number in 0..20 {
        assert_eq!(client.get(&format!("/{number}")).await.status, 503);
    }
    // 3 a second, over 10 s, are always there; no more are.
    assert_eq!(upstream.heads().len(), 20 + 30);
    assert_eq!(retries(&gateway).await, "30");
    let event = event(&gateway, "/19").await;
    let reason = event["reason"].as_str().unwrap();
    assert!(reason.contains("not tried again: 30 retries among 20 requests"), "{reason}");
}

#[tokio::test]
async fn the_budget_holds_over_requests_that_come_together() {
    let upstream = RawUpstream::start();
    let keys = "retry: { attempts: 2, on: [503], budget: 0% }";
    let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
    for answer in many(BUSY, 300) {
        upstream.answer(answer, Then::KeepOpen);
    }
    let mut client = gateway.client_http2().await;
    client.meets_configured_answers();
    let calls = (0..100).map(|_| {
        let mut client = client.beside();
        async move { assert_eq!(client.get("/x").await.status, 503) }
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(upstream.heads().len(), 100 + 30);
}

#[tokio::test]
async fn an_upstream_that_is_down_is_tried_twice() {
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    for (keys, tries) in [("", "1"), ("retry: { attempts: 1 }", "0"), ("retry: { on: [503] }", "0")]
    {
        let gateway = Gateway::start(&open(&format!("http://{nobody}"), keys, ""));
        let reply = gateway.client().await.send(Request::post("/x"), "body").await;
        assert_eq!(reply.outcome(), (502, "upstream_unreachable".into()));
        assert_eq!(retries(&gateway).await, tries, "{keys}");
        assert_eq!(event(&gateway, "/x").await["endpoint"], nobody.to_string());
    }
}

#[tokio::test]
async fn all_tries_together_have_the_time_of_one_answer() {
    let upstream = RawUpstream::start();
    let keys = "timeouts: { response: 300ms }, retry: { attempts: 10, on: [503], budget: 100% }";
    let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
    for _ in 0..2 {
        upstream.answer(BUSY, Then::KeepOpen);
    }
    // Silence.
    upstream.answer("", Then::KeepOpen);
    let began = Instant::now();
    let reply = gateway.client().await.get("/x").await;
    assert_eq!(reply.outcome(), (504, "upstream_timeout".into()));
    assert!(began.elapsed() >= Duration::from_millis(300));
    // Kept waiting for too long, it is not sent again.
    assert_eq!(upstream.heads().len(), 3);
    let reason = event(&gateway, "/x").await["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("no answer within 300 ms"), "{reason}");
}

#[tokio::test]
async fn an_answer_that_has_begun_is_the_last_word() {
    let upstream = RawUpstream::start();
    let keys = "retry: { attempts: 10, on: [connect_failure, refused_stream, 502, 503, 504] }";
    let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
    upstream.answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhel", Then::Close);
    let reply = gateway.client().await.try_send(Request::get("/x"), "").await;
    assert!(reply.is_err());
    // Nor is one tried again that can't be read.
    upstream.answer("HTTP/1.1 503 Busy\r\ncontent-length: x\r\n\r\n", Then::Close);
    assert_eq!(gateway.client().await.get("/x").await.status, 502);
    assert_eq!(upstream.heads().len(), 2);
}
