//! How many connections an upstream has, and what becomes of those who wait for one.

use std::time::{Duration, Instant};

use http::Request;
use http_body_util::BodyExt as _;

use super::{all, event, file, open, up};
use crate::support::client::full;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::raw_upstream::{RawUpstream, Then};
use crate::support::scripted_http2::{Act, ScriptedHttp2};
use crate::support::upstream::{Answer, Upstream};
use crate::support::websocket::{WebSocketUpstream, handshake};
use crate::support::within;

/// An upstream whose answers are held, and the gate.
fn held() -> (Upstream, Gate) {
    let (upstream, gate) = (Upstream::start(), Gate::new());
    let hold = gate.clone();
    upstream.answer(move |_| Answer::ok("ok").held_by(&hold));
    (upstream, gate)
}

/// One GET on a connection of its own, under way.
fn call(gateway: &Gateway, path: &'static str) -> tokio::task::JoinHandle<(u16, String)> {
    let address = gateway.address();
    tokio::spawn(async move {
        let mut client = crate::support::client::Client::http1(address).await;
        client.get(path).await.outcome()
    })
}

/// Waits until so many requests are in the gateway.
async fn in_flight(gateway: &Gateway, count: usize) {
    gateway.metrics_when(&format!("obo_gateway_requests_in_flight {count}\n")).await;
}

#[tokio::test]
async fn more_requests_than_connections_wait_and_are_served() {
    let (upstream, gate) = held();
    let gateway = Gateway::start(&open(&upstream.url(), "max_connections: 2", ""));
    let calls: Vec<_> = (0..8).map(|_| call(&gateway, "/x")).collect();
    gate.arrived(2).await;
    in_flight(&gateway, 8).await;
    assert_eq!(upstream.count(), 2);
    gate.open();
    for call in calls {
        assert_eq!(within("an answer", call).await.unwrap().0, 200);
    }
    let lines: std::collections::BTreeSet<_> =
        upstream.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!((upstream.count(), lines.len()), (8, 2));
}

#[tokio::test]
async fn more_than_may_wait_are_refused_at_once() {
    for (pending, waiting) in [(0, 0), (3, 3)] {
        let (upstream, gate) = held();
        let keys = format!("max_connections: 1, max_pending: {pending}");
        let gateway = Gateway::start(&open(&upstream.url(), &keys, ""));
        let mut calls = vec![call(&gateway, "/x")];
        gate.arrived(1).await;
        calls.extend((0..waiting).map(|_| call(&gateway, "/x")));
        in_flight(&gateway, 1 + waiting).await;
        let began = Instant::now();
        let reply = gateway.client().await.get("/more").await;
        assert_eq!(reply.outcome(), (503, "upstream_overloaded".into()));
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert!(began.elapsed() < Duration::from_secs(2));
        let reason = event(&gateway, "/more").await["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("(`max_pending`)"), "{reason}");
        gate.open();
        for call in calls {
            assert_eq!(within("an answer", call).await.unwrap().0, 200);
        }
    }
}

#[tokio::test]
async fn an_upstream_that_never_answers_keeps_others_waiting_for_so_long_and_no_longer() {
    let (upstream, gate) = held();
    let keys = "max_connections: 1, timeouts: { connect: 100ms }";
    let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
    let first = call(&gateway, "/x");
    gate.arrived(1).await;
    let calls: Vec<_> = (0..5).map(|_| call(&gateway, "/late")).collect();
    for call in calls {
        let outcome = within("an answer", call).await.unwrap();
        assert_eq!(outcome, (503, "upstream_overloaded".into()));
    }
    let reason = event(&gateway, "/late").await["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("no connection became free within 100 ms"), "{reason}");
    gate.open();
    assert_eq!(within("an answer", first).await.unwrap().0, 200);
    assert_eq!(gateway.client().await.get("/x").await.status, 200);
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn who_goes_away_while_waiting_leaves_no_gap() {
    let (upstream, gate) = held();
    let keys = "max_connections: 1, max_pending: 4";
    let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
    let first = call(&gateway, "/x");
    gate.arrived(1).await;
    for _ in 0..5 {
        let calls: Vec<_> = (0..4).map(|_| call(&gateway, "/gone")).collect();
        in_flight(&gateway, 5).await;
        calls.iter().for_each(tokio::task::JoinHandle::abort);
        in_flight(&gateway, 1).await;
    }
    // There is room for as many as before.
    let calls: Vec<_> = (0..4).map(|_| call(&gateway, "/x")).collect();
    in_flight(&gateway, 5).await;
    gate.open();
    assert_eq!(within("an answer", first).await.unwrap().0, 200);
    for call in calls {
        assert_eq!(within("an answer", call).await.unwrap().0, 200);
    }
    assert_eq!(upstream.count(), 5, "those who went away were not sent");
}

#[tokio::test]
async fn no_end_of_a_request_keeps_its_connection() {
    let upstream = RawUpstream::start();
    let keys = "max_connections: 1, max_pending: 4, timeouts: { response: 100ms, stream: 100ms }";
    let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
    for (answer, then) in [
        // Whole, and closed behind it; said, and not.
        ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", Then::Close),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Then::Close),
        // Broken off, malformed, silent, stalled, switched.
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", Then::Close),
        ("nonsense\r\n\r\n", Then::KeepOpen),
        ("", Then::Close),
        ("", Then::KeepOpen),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", Then::KeepOpen),
        (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            Then::KeepOpen,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            Then::KeepOpen,
        ),
    ] {
        for _ in 0..3 {
            upstream.answer(answer, then);
            let mut client = gateway.client().await;
            client.try_send(Request::post("/x"), "body").await.ok();
            // The one connection can be had again.
            assert_eq!(gateway.client().await.get("/x").await.status, 204, "{answer} {then:?}");
        }
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_gives_the_connection_back() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let keys = format!("protocol: {protocol}, max_connections: 1");
        let gateway = Gateway::start(&open(&upstream.url(), &keys, ""));
        for _ in 0..3 {
            let (answer, down) = Answer::stream();
            let mut answer = Some(answer);
            upstream.answer(move |_| answer.take().unwrap());
            let mut client = gateway.client().await;
            let request = Request::get("/stream").body(full("")).unwrap();
            let mut body = client.start(request).await.unwrap().into_body();
            down.send(Ok("begun".into())).await.unwrap();
            within("a piece", body.frame()).await.unwrap().unwrap();
            drop((body, client));
            within("the upstream to see it", down.closed()).await;
            upstream.answer(|_| Answer::ok("ok"));
            assert_eq!(gateway.client().await.get("/x").await.status, 200, "{protocol}");
        }
    }
}

/// A gateway with so many workers.
fn served_by(workers: usize, url: &str, keys: &str) -> Gateway {
    Gateway::start(&file(&format!("workers: {workers}"), &[&up(url, keys)], &[&all("")]))
}

#[tokio::test]
async fn http2_connections_are_as_many_as_their_streams_need() {
    for (most, streams, connections) in [(1, 4, 4), (2, 6, 3), (100, 50, 1)] {
        let upstream = ScriptedHttp2::start(most);
        // Two that are busy have connections of their own.
        let gateway = served_by(1, &upstream.url(), "protocol: http2");
        let gate = Gate::new();
        upstream.act((0..streams).map(|_| Act::Held(gate.clone())));
        // All come at once, while nobody knows yet how many a connection takes.
        let calls: Vec<_> = (0..streams).map(|_| call(&gateway, "/x")).collect();
        gate.arrived(streams).await;
        assert_eq!(upstream.connections(), connections, "{most}");
        gate.open();
        for call in calls {
            assert_eq!(within("an answer", call).await.unwrap().0, 200);
        }
        // They are used again.
        for _ in 0..streams {
            assert_eq!(gateway.client().await.get("/x").await.status, 200);
        }
        assert_eq!(upstream.connections(), connections);
    }
}

#[tokio::test]
async fn an_http2_connection_serves_all_workers_where_there_is_no_room_for_another() {
    let upstream = ScriptedHttp2::start(100);
    let gateway = served_by(4, &upstream.url(), "protocol: http2, max_connections: 1");
    let gate = Gate::new();
    upstream.act((0..8).map(|_| Act::Held(gate.clone())));
    let calls: Vec<_> = (0..8).map(|_| call(&gateway, "/x")).collect();
    gate.arrived(8).await;
    assert_eq!(upstream.connections(), 1);
    gate.open();
    for call in calls {
        assert_eq!(within("an answer", call).await.unwrap().0, 200);
    }
}

#[tokio::test]
async fn an_http2_connection_that_carries_nothing_serves_all_workers() {
    let upstream = ScriptedHttp2::start(100);
    let gateway = served_by(4, &upstream.url(), "protocol: http2");
    for _ in 0..8 {
        assert_eq!(gateway.client().await.get("/x").await.status, 200);
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn http2_requests_beyond_all_streams_wait_for_one() {
    let upstream = ScriptedHttp2::start(2);
    let keys = "protocol: http2, max_connections: 2, max_pending: 3";
    let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
    let gate = Gate::new();
    upstream.act((0..4).map(|_| Act::Held(gate.clone())));
    let mut calls = Vec::new();
    for streams in 1..=4 {
        calls.push(call(&gateway, "/x"));
        gate.arrived(streams).await;
    }
    calls.extend((0..3).map(|_| call(&gateway, "/x")));
    in_flight(&gateway, 7).await;
    let reply = gateway.client().await.get("/more").await;
    assert_eq!(reply.outcome(), (503, "upstream_overloaded".into()));
    assert_eq!(upstream.seen().len(), 4);
    gate.open();
    for call in calls {
        assert_eq!(within("an answer", call).await.unwrap().0, 200);
    }
    assert_eq!((upstream.seen().len(), upstream.connections()), (7, 2));
}

/// A handshake, and the status of what it is answered.
async fn handshaken(gateway: &Gateway) -> (Raw, u16) {
    let mut caller = Raw::connect(gateway.address()).await;
    caller.send(handshake("/ws", "").as_bytes()).await;
    let status = caller.reply().await.unwrap().status;
    (caller, status)
}

#[tokio::test]
async fn an_upgraded_connection_counts_until_it_ends() {
    for (upstream, protocol) in
        [(WebSocketUpstream::start(), "http1"), (WebSocketUpstream::start_http2(true), "http2")]
    {
        let keys = format!("protocol: {protocol}, max_connections: 1");
        let gateway = Gateway::start(&open(&upstream.url(), &keys, ""));
        for round in 1..=3 {
            let (caller, status) = handshaken(&gateway).await;
            assert_eq!(status, 101, "{protocol}");
            let mut client = gateway.client().await;
            client.meets_configured_answers();
            let next = tokio::spawn(async move { client.get("/x").await.status });
            in_flight(&gateway, 2).await;
            assert_eq!(upstream.heads().len(), 2 * round - 1, "there is no room for it");
            if protocol == "http1" {
                upstream.answer("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
            }
            drop(caller);
            assert_eq!(within("an answer", next).await.unwrap(), 404, "{protocol}");
            // The one that was kept makes room for the next.
            upstream.answer_handshakes();
        }
    }
}

#[tokio::test]
async fn an_upgrade_that_comes_to_nothing_gives_its_room_back() {
    let upstream = WebSocketUpstream::start();
    let keys = "max_connections: 1, max_pending: 1, timeouts: { response: 100ms }";
    let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
    for (answer, status) in [
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", 404),
        ("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", 502),
        ("nonsense\r\n\r\n", 502),
        ("", 504),
    ] {
        upstream.answer(answer);
        for _ in 0..3 {
            assert_eq!(handshaken(&gateway).await.1, status, "{answer}");
        }
    }
    upstream.answer_handshakes();
    assert_eq!(handshaken(&gateway).await.1, 101);
}

#[tokio::test]
async fn an_upgrade_that_waits_holds_up_nobody_who_shares() {
    let (upstream, gate) = held();
    let gateway = Gateway::start(&open(&upstream.url(), "protocol: http2, max_connections: 1", ""));
    let first = call(&gateway, "/x");
    gate.arrived(1).await;
    // A second one at once: that the connection takes several is known once it has said so.
    let second = call(&gateway, "/x");
    gate.arrived(2).await;
    let mut caller = Raw::connect(gateway.address()).await;
    caller.send(handshake("/ws", "").as_bytes()).await;
    in_flight(&gateway, 3).await;
    let began = Instant::now();
    let third = call(&gateway, "/x");
    gate.arrived(3).await;
    assert!(began.elapsed() < Duration::from_secs(4), "`timeouts.connect` is 5 s");
    gate.open();
    for call in [first, second, third] {
        assert_eq!(within("an answer", call).await.unwrap().0, 200);
    }
}

#[tokio::test]
async fn an_http2_connection_that_fell_silent_takes_no_more_requests() {
    let upstream = ScriptedHttp2::start(100);
    let keys = "protocol: http2, timeouts: { response: 300ms }";
    let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
    upstream.act([Act::Answer, Act::Freeze]);
    assert_eq!(gateway.client().await.get("/x").await.status, 200);
    let reply = gateway.client().await.get("/frozen").await;
    assert_eq!(reply.outcome(), (504, "upstream_timeout".into()));
    for _ in 0..2 {
        assert_eq!(gateway.client().await.get("/x").await.status, 200);
    }
    let connections: Vec<_> = upstream.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 0, 1, 1]);
}

#[tokio::test]
async fn an_http2_connection_is_kept_if_only_a_request_was_not_answered() {
    let upstream = ScriptedHttp2::start(100);
    let keys = "protocol: http2, timeouts: { response: 500ms }";
    let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
    let gate = Gate::new();
    upstream.act([Act::Answer, Act::Held(gate.clone())]);
    assert_eq!(gateway.client().await.get("/x").await.status, 200);
    let slow = call(&gateway, "/slow");
    gate.arrived(1).await;
    // The other side is heard after the slow request was sent.
    assert_eq!(gateway.client().await.get("/x").await.status, 200);
    assert_eq!(within("an answer", slow).await.unwrap().0, 504);
    assert_eq!(gateway.client().await.get("/x").await.status, 200);
    assert_eq!(upstream.connections(), 1);
}
