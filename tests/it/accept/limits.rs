//! The limits of `server:` with a whole gateway: who breaks one meets it, and nobody else does.

use std::collections::HashMap;
use std::time::Duration;

use http::Request;
use serde_json::{Map, Value};

use super::open_routes;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::raw_http2::{More, Outcome, RawHttp2, frame};
use crate::support::upstream::{Answer, AnswerBody, Reading, Upstream};
use crate::support::within;

/// An error code of HTTP/2 (RFC 9113 §7).
const CANCEL: u32 = 8;

const GET: &[u8] = b"GET /open/x HTTP/1.1\r\nhost: gateway\r\n\r\n";

fn started(server: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open_routes(&upstream, "", server));
    (upstream, gateway)
}

async fn served(raw: &mut Raw) {
    raw.send(GET).await;
    assert_eq!(raw.reply().await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_slow_head_is_408_and_others_are_served_meanwhile() {
    let (upstream, gateway) = started("header_timeout: 300ms");
    let mut kept = Raw::connect(gateway.address()).await;
    served(&mut kept).await;
    let mut slow = Raw::connect(gateway.address()).await;
    slow.send(b"GET /open/x HTTP/1.1\r\nhost: gate").await;
    served(&mut kept).await;
    let reply = slow.reply().await.expect("an answer");
    assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert!(reply.header("x-request-id").is_some());
    let problem: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(problem["code"], "request_timeout");
    assert!(slow.is_closed().await);
    // The time of a head is none between requests.
    served(&mut kept).await;
    assert_eq!(upstream.count(), 3);
}

#[tokio::test]
async fn what_is_refused_before_there_is_a_request_has_its_event_too() {
    let (upstream, gateway) = started("header_timeout: 300ms, max_header_bytes: 8KiB");
    let mut slow = Raw::connect(gateway.address()).await;
    slow.send(b"GET /open/x HTTP/1.1\r\nhost: gate").await;
    let answer = slow.reply().await.expect("an answer");
    for bytes in [
        "GET /open/x y HTTP/1.1\r\nhost: gateway\r\n\r\n".to_owned(),
        format!("GET /open/x HTTP/1.1\r\nx-a: {}\r\n\r\n", "b".repeat(9000)),
    ] {
        let mut raw = Raw::connect(gateway.address()).await;
        raw.send(bytes.as_bytes()).await;
        raw.rest().await;
    }
    let mut flooding = RawHttp2::connect(gateway.address()).await;
    flooding.send(&frame(4, 0, 0, &[]).repeat(60)).await;
    assert_eq!(flooding.farewell().await, Some(11));
    // Who says nothing, or leaves within a head, is refused nothing.
    let mut leaving = Raw::connect(gateway.address()).await;
    leaving.send(b"GET /open/x HTTP/1.1\r\n").await;
    leaving.finish().await;
    leaving.rest().await;
    Raw::connect(gateway.address()).await.is_closed().await;

    let events = gateway.log().access_events_when(4, |_| true).await;
    let told = |event: &Map<String, Value>| {
        assert_eq!((&event["path"], &event["client_ip"]), (&Value::Null, &"127.0.0.1".into()));
        (event["status"].as_u64().unwrap(), event["code"].as_str().unwrap().to_owned())
    };
    let expected = [
        (408, "request_timeout"),
        (400, "bad_request"),
        (431, "headers_too_large"),
        (400, "bad_request"),
    ];
    let events_told: Vec<_> = events.iter().map(told).collect();
    assert_eq!(events_told, expected.map(|(status, code)| (status, code.to_owned())));
    assert_eq!(events[0]["request_id"].as_str(), answer.header("x-request-id"));
    assert!(events[3]["reason"].as_str().unwrap().contains("SETTINGS"), "{:?}", events[3]);
    let counted = "obo_gateway_requests_total{route=\"\",method=\"other\",status=\"400\"} 2\n";
    assert!(gateway.metrics().await.contains(counted));
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_with_a_request_is_not() {
    let (upstream, gateway) = started("idle_timeout: 200ms");
    let gate = Gate::new();
    let held = gate.clone();
    upstream.answer(move |seen| match seen.target.as_str() {
        "/open/slow" => Answer::ok("slow").held_by(&held),
        _ => Answer::ok("ok"),
    });
    let mut busy = Raw::connect(gateway.address()).await;
    busy.send(b"GET /open/slow HTTP/1.1\r\nhost: gateway\r\n\r\n").await;
    gate.arrived(1).await;

    let mut idle = Raw::connect(gateway.address()).await;
    served(&mut idle).await;
    assert!(idle.is_closed().await);
    let mut idle2 = RawHttp2::connect(gateway.address()).await;
    idle2.closed().await;

    gate.open();
    assert_eq!(busy.reply().await.expect("an answer").status, 200);
}

#[tokio::test]
async fn too_many_fields_are_431() {
    let (upstream, gateway) = started("");
    // The gateway answers this itself: an upstream may count fields too.
    for (count, status) in [(100, 204), (101, 431)] {
        let mut raw = Raw::connect(gateway.address()).await;
        let fields = "x-a: b\r\n".repeat(count - 1);
        raw.send(format!("GET /here HTTP/1.1\r\nhost: g\r\n{fields}\r\n").as_bytes()).await;
        assert_eq!(raw.reply().await.expect("an answer").status, status, "{count} fields");

        let mut client = gateway.client_http2().await;
        let mut request = Request::get("/here");
        for _ in 0..count {
            request = request.header("x-a", "b");
        }
        let reply = client.send(request, "").await;
        let code = if status == 431 { "headers_too_large" } else { "" };
        assert_eq!(reply.outcome(), (status, code.to_owned()), "{count} fields of HTTP/2");
    }
    let refused = |event: &Map<String, Value>| event["code"] == "headers_too_large";
    // One for each version.
    assert_eq!(gateway.log().access_events_when(2, refused).await.len(), 2);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let (upstream, gateway) = started("max_header_bytes: 8KiB");
    for (size, status) in [(7_500, 200), (8_500, 431)] {
        let value = "b".repeat(size);
        let mut raw = Raw::connect(gateway.address()).await;
        raw.send(format!("GET /open/x HTTP/1.1\r\nhost: g\r\nx-a: {value}\r\n\r\n").as_bytes())
            .await;
        assert_eq!(raw.reply().await.expect("an answer").status, status, "{size} bytes");

        let mut client = gateway.client_http2().await;
        client.is_not_a_gateway(); // the 431 is the parser's
        let reply = client.send(Request::get("/open/x").header("x-a", &value), "").await;
        assert_eq!(reply.status, status, "{size} bytes of HTTP/2");
    }
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn callers_beyond_max_connections_wait_and_are_then_served() {
    let (upstream, gateway) = started("max_connections: 2");
    let (mut first, mut second) =
        (Raw::connect(gateway.address()).await, Raw::connect(gateway.address()).await);
    served(&mut first).await;
    served(&mut second).await;
    let mut third = Raw::connect(gateway.address()).await;
    third.send(GET).await;
    // Both are still served, and the third is not.
    served(&mut first).await;
    served(&mut second).await;
    assert_eq!(upstream.count(), 4);
    assert!(gateway.metrics().await.contains("\nobo_gateway_connections_open 2\n"));
    drop(first);
    assert_eq!(third.reply().await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_stream_beyond_max_concurrent_streams_is_refused_and_may_come_again() {
    const REFUSED_STREAM: u32 = 7;
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    let (upstream, gateway) = started("max_concurrent_streams: 2");
    let gate = Gate::new();
    let held = gate.clone();
    upstream.answer(move |_| Answer::ok("ok").held_by(&held));
    let fields =
        [(":method", "GET"), (":scheme", "http"), (":path", "/open/x"), (":authority", "gateway")];
    let mut raw = RawHttp2::connect(gateway.address()).await;
    assert!(raw.settings.contains(&(MAX_CONCURRENT_STREAMS, 2)), "{:?}", raw.settings);
    for stream in [1, 3, 5] {
        raw.headers(stream, &fields, More::Ends).await;
    }
    assert_eq!(raw.outcome(5).await, Outcome::Reset(REFUSED_STREAM));
    gate.arrived(2).await;
    assert_eq!(upstream.count(), 2);
    gate.open();
    assert_eq!(raw.outcome(3).await, Outcome::Answered(200));
    raw.headers(7, &fields, More::Ends).await;
    assert_eq!(raw.outcome(7).await, Outcome::Answered(200));
}

#[tokio::test]
async fn a_caller_who_takes_nothing_is_given_up_and_stops_nobody() {
    const SIZE: u64 = 256 * 1024 * 1024;
    let (upstream, gateway) = started("body_idle_timeout: 400ms");
    upstream.answer(|seen| match seen.target.as_str() {
        "/open/bulk" => Answer { body: AnswerBody::Bulk(SIZE), ..Answer::ok("") },
        _ => Answer::ok("ok"),
    });
    let mut lazy = Raw::connect(gateway.address()).await;
    lazy.send(b"GET /open/bulk HTTP/1.1\r\nhost: gateway\r\n\r\n").await;
    upstream.seen_when("the request for the bulk", |seen| !seen.is_empty()).await;
    let mut other = Raw::connect(gateway.address()).await;
    served(&mut other).await;

    let event = gateway.log().event_when("/open/bulk").await;
    let sent = event["bytes_out"].as_u64().unwrap();
    assert!(sent > 0 && sent < SIZE, "{event:?}");
    assert!(event["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{event:?}");
    // What was on its way comes, and then the end.
    assert!((lazy.rest().await.len() as u64) < SIZE);
    served(&mut other).await;
}

#[tokio::test]
async fn a_caller_of_http2_who_takes_nothing_is_given_up() {
    let (upstream, gateway) = started("body_idle_timeout: 300ms");
    upstream.answer(|_| Answer { body: AnswerBody::Bulk(1024 * 1024), ..Answer::ok("") });
    let mut lazy = RawHttp2::connect_without_window(gateway.address()).await;
    for stream in [1, 3] {
        let fields =
            [(":method", "GET"), (":scheme", "http"), (":authority", "g"), (":path", "/open/bulk")];
        lazy.headers(stream, &fields, More::Ends).await;
    }
    // It is told the heads, and never takes a byte. Which of the two ends first is nobody's to say.
    let mut resets = [lazy.next_reset().await, lazy.next_reset().await];
    resets.sort_unstable();
    assert_eq!(resets, [(1, CANCEL), (3, CANCEL)]);
    let event = gateway.log().event_when("/open/bulk").await;
    assert_eq!(event["status"], 499);
    // One frame was made ready for it.
    assert!(event["bytes_out"].as_u64().unwrap() < 1024 * 1024, "{event:?}");
    assert!(lazy.answers_ping().await, "its connection is none the worse for it");
}

#[tokio::test]
async fn a_stream_that_nobody_takes_is_reset_and_no_other() {
    const READ: u32 = 16 * 1024;
    let upstream = Upstream::start();
    let gateway =
        Gateway::start_in_virtual_time(&open_routes(&upstream, "", "body_idle_timeout: 30s"));
    let (stalled_answer, stalled) = Answer::stream();
    let (silent_answer, silent) = Answer::stream();
    let mut streams = HashMap::from([
        ("/open/stalled".to_owned(), stalled_answer),
        ("/open/silent".to_owned(), silent_answer),
    ]);
    upstream.answer(move |seen| match seen.target.as_str() {
        "/open/slow" => Answer { body: AnswerBody::Bulk(16 * 1024 * 1024), ..Answer::ok("") },
        target => streams.remove(target).unwrap_or_else(|| Answer::ok("ok")),
    });
    let mut caller = RawHttp2::connect_without_window(gateway.address()).await;
    for (stream, path) in [(1, "/open/stalled"), (3, "/open/slow"), (5, "/open/silent")] {
        get(&mut caller, stream, path).await;
    }
    stalled.send(Ok(vec![b'x'; 64 * 1024].into())).await.unwrap();

    let mut rounds = 0;
    while caller.resets.is_empty() && rounds < 12 {
        rounds += 1;
        gateway.pass(Duration::from_secs(10)).await;
        // One reads slowly, less than comes at a time, and others are answered meanwhile.
        caller.window(0, READ).await;
        caller.window(3, READ).await;
        assert_eq!(caller.body(3, READ as usize).await.len(), READ as usize);
        let another = 5 + 2 * rounds;
        get(&mut caller, another, "/open/x").await;
        caller.window(another, 2).await;
        assert_eq!(caller.body(another, 2).await, b"ok");
    }
    assert!((3..=6).contains(&rounds), "reset after {rounds} times 10 s");
    within("the upstream's answer to be let go", stalled.closed()).await;
    let event = gateway.log().event_when("/open/stalled").await;
    assert_eq!(event["status"], 499, "{event:?}");

    // Nothing came of this one: it was not for the caller to take anything.
    silent.send(Ok("late".into())).await.unwrap();
    caller.window(5, 4).await;
    assert_eq!(caller.body(5, 4).await, b"late");
    for _ in 0..4 {
        gateway.pass(Duration::from_secs(10)).await;
        caller.window(0, READ).await;
        caller.window(3, READ).await;
        assert_eq!(caller.body(3, READ as usize).await.len(), READ as usize);
    }
    assert_eq!(caller.resets, [(1, CANCEL)]);
}

/// Asks for `path`, and waits for the head of a 200.
async fn get(caller: &mut RawHttp2, stream: u32, path: &str) {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "g"), (":path", path)];
    caller.headers(stream, &fields, More::Ends).await;
    assert_eq!(caller.outcome(stream).await, Outcome::Answered(200), "{path}");
}

#[tokio::test]
async fn a_caller_who_sends_nothing_of_a_body_that_is_due_is_408() {
    let (upstream, gateway) = started("body_idle_timeout: 300ms");
    upstream.answer(|_| Answer { reading: Reading::Before, ..Answer::ok("ok") });
    let mut lazy = Raw::connect(gateway.address()).await;
    lazy.send(b"POST /open/x HTTP/1.1\r\nhost: g\r\ncontent-length: 10\r\n\r\nabc").await;
    let mut other = Raw::connect(gateway.address()).await;
    other.send(b"POST /open/y HTTP/1.1\r\nhost: g\r\ncontent-length: 3\r\n\r\nabc").await;
    assert_eq!(other.reply().await.expect("an answer").status, 200);
    assert_eq!(lazy.reply().await.expect("an answer").status, 408);
    assert!(lazy.is_closed().await);
    let whole: Vec<_> = upstream.seen().into_iter().filter(|seen| seen.body.complete).collect();
    assert_eq!(whole.len(), 1, "{whole:?}");
    assert_eq!(gateway.log().event_when("/open/x").await["code"], "request_timeout");
}

#[tokio::test]
async fn a_caller_of_http2_who_vanished_does_not_hold_up_the_end() {
    let (_upstream, gateway) = started("shutdown_grace: 60s");
    let mut vanished = RawHttp2::connect(gateway.address()).await;
    let fields =
        [(":method", "GET"), (":scheme", "http"), (":path", "/open/x"), (":authority", "g")];
    vanished.headers(1, &fields, More::Ends).await;
    assert_eq!(vanished.outcome(1).await, Outcome::Answered(200));
    // At rest for longer than a second: this is about callers who are idle, and the clock of
    // connections is the real one.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let cut_off = within("the end", gateway.running().drain()).await;
    assert_eq!((cut_off.connections, cut_off.requests), (0, 0));
    vanished.closed().await;
}
