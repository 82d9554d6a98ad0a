//! Time limits towards upstreams: to connect, to the head, between bytes.

use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use socket2::{Domain, Socket, Type};

use super::{event, open};
use crate::support::client::full;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::upstream::{Answer, Reading, Upstream};
use crate::support::within;

#[tokio::test]
async fn an_upstream_that_takes_no_connection_is_504() {
    // The system takes connections for a listener until its backlog is full; nobody accepts.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut full = Vec::new();
    for _ in 0..3 {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        // In progress, and so it stays once the backlog is full.
        filler.connect(&address.into()).unwrap_err();
        full.push(filler);
    }
    let keys = "timeouts: { connect: 100ms }";
    let gateway = Gateway::start(&open(&format!("http://{address}"), keys, ""));
    let reply = gateway.client().await.get("/x").await;
    assert_eq!(reply.outcome(), (504, "upstream_timeout".into()));
    let event = event(&gateway, "/x").await;
    assert!(event["reason"].as_str().unwrap().contains("no connection within 100 ms"), "{event:?}");
    assert!(event["upstream_ms"].as_f64().unwrap() >= 100.0);
}

#[tokio::test]
async fn a_handshake_that_hangs_is_504() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let gateway = Gateway::start(&open(&url, "timeouts: { connect: 100ms }", ""));
    for mut client in [gateway.client().await, gateway.client_http2().await] {
        assert_eq!(client.get("/x").await.outcome(), (504, "upstream_timeout".into()));
    }
}

#[tokio::test]
async fn those_who_wait_for_a_handshake_that_hangs_do_not_queue() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let gateway = Gateway::start(&open(&url, "timeouts: { connect: 500ms }", ""));
    let client = gateway.client_http2().await;
    let began = std::time::Instant::now();
    let calls = (0..8).map(|_| {
        let mut client = client.beside();
        async move { assert_eq!(client.get("/x").await.outcome().0, 504) }
    });
    futures_util::future::join_all(calls).await;
    // One after the other they would take 4 s.
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_504() {
    let upstream = Upstream::start();
    let gate = Gate::new();
    let hold = gate.clone();
    upstream.answer(move |_| Answer::ok("late").held_by(&hold));
    for protocol in ["http1", "http2"] {
        for (upstreams, route) in [
            ("timeouts: { response: 100ms }", ""),
            ("timeouts: { response: 60s }", "timeout: 100ms"),
            ("timeouts: { response: off }", "timeout: 100ms"),
        ] {
            let keys = format!("protocol: {protocol}, {upstreams}");
            let gateway = Gateway::start(&open(&upstream.url(), &keys, route));
            for mut client in [gateway.client().await, gateway.client_http2().await] {
                let reply = client.send(Request::get("/x"), "").await;
                assert_eq!(reply.outcome(), (504, "upstream_timeout".into()), "{keys} {route}");
                // Gone unanswered is not lost: it is not sent again.
                let reply = client.send(Request::post("/x"), "body").await;
                assert_eq!(reply.outcome(), (504, "upstream_timeout".into()));
            }
            let event = event(&gateway, "/x").await;
            let reason = event["reason"].as_str().unwrap();
            assert!(reason.contains("no answer within 100 ms"), "{reason}");
        }
    }
    assert_eq!(upstream.count(), 2 * 3 * 2 * 2);
}

#[tokio::test]
async fn a_route_may_wait_for_ever() {
    let upstream = Upstream::start();
    let gate = Gate::new();
    let hold = gate.clone();
    upstream.answer(move |_| Answer::ok("late").held_by(&hold));
    let keys = "timeouts: { response: 50ms }";
    let gateway = Gateway::start(&open(&upstream.url(), keys, "timeout: off"));
    let mut client = gateway.client().await;
    let call = tokio::spawn(async move { client.get("/x").await });
    gate.arrived(1).await;
    // Three times as long as the upstream's limit, which the route takes away.
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    gate.open();
    assert_eq!(call.await.unwrap().status, 200);
}

#[tokio::test]
async fn an_upstream_that_takes_no_body_is_504() {
    let upstream = Upstream::start();
    let (gate, never) = (Gate::new(), Gate::new());
    upstream.answer(move |_| Answer {
        reading: Reading::Held(gate.clone()),
        ..Answer::ok("").held_by(&never)
    });
    for (protocol, http2) in [("http1", false), ("http1", true), ("http2", false), ("http2", true)]
    {
        let keys = format!("protocol: {protocol}, timeouts: {{ response: 300ms }}");
        let gateway = Gateway::start(&open(&upstream.url(), &keys, ""));
        let mut client = if http2 { gateway.client_http2().await } else { gateway.client().await };
        let body = Bytes::from(vec![b'x'; 32 << 20]);
        let request = Request::post("/x").body(full(body)).unwrap();
        let response = client.start(request).await.unwrap();
        assert_eq!(response.status(), 504, "{protocol} {http2}");
        drop((response, client));
        // Nothing of it stays behind to hold up the end.
        let cut_off = within("the drain", gateway.running().drain()).await;
        assert_eq!(cut_off.requests, 0, "{protocol} {http2}");
    }
}

#[tokio::test]
async fn an_answer_that_stalls_is_broken_off() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let keys = format!("protocol: {protocol}, timeouts: {{ stream: 100ms }}");
        let gateway = Gateway::start(&open(&upstream.url(), &keys, ""));
        for http2 in [false, true] {
            // Event streams too, where the file sets a limit.
            for content_type in ["text/plain", "text/event-stream"] {
                let mut client =
                    if http2 { gateway.client_http2().await } else { gateway.client().await };
                let (answer, down) = Answer::stream();
                let mut answer = Some(answer.header("content-type", content_type));
                upstream.answer(move |_| answer.take().unwrap());
                let request = Request::get("/x").body(full("")).unwrap();
                let mut body = client.start(request).await.unwrap().into_body();
                down.send(Ok("begun".into())).await.unwrap();
                within("a piece", body.frame()).await.unwrap().unwrap();
                assert!(within("the end", body.frame()).await.unwrap().is_err());
                within("the upstream to see it", down.closed()).await;
            }
        }
        let event = event(&gateway, "/x").await;
        assert_eq!(event["status"], 200);
        let reason = event["reason"].as_str().unwrap();
        assert!(reason.contains("no byte of the answer"), "{reason}");
    }
}
