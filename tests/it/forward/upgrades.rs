//! Connections that become something else: who may, how both sides are asked, and how it ends.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{event, file, open, up};
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::raw_http2::{More, Outcome, RawHttp2};
use crate::support::upstream::Upstream;
use crate::support::websocket::{ACCEPT, KEY, WebSocketUpstream, handshake, text};
use crate::support::within;

async fn raw(gateway: &Gateway) -> Raw {
    Raw::connect(gateway.address()).await
}

/// The fields of a WebSocket over HTTP/2 (RFC 8441 §5.1).
fn connect(path: &str) -> Vec<(&str, &str)> {
    vec![
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "api.example.com"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat"),
    ]
}

#[tokio::test]
async fn a_websocket_passes_over_http1() {
    let upstream = WebSocketUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let mut caller = raw(&gateway).await;
    let fields = "sec-websocket-protocol: chat\r\nsec-websocket-extensions: permessage-deflate\r\norigin: https://a\r\n";
    caller.send(handshake("/ws?a=b", fields).as_bytes()).await;
    let reply = caller.reply().await.unwrap();
    assert_eq!(reply.status, 101);
    for (name, value) in [
        ("sec-websocket-accept", ACCEPT),
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("x-up", "1"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    assert!(reply.header("x-request-id").is_some());
    let head = &upstream.heads()[0];
    assert!(head.starts_with("GET /ws?a=b HTTP/1.1\r\n"), "{head}");
    for line in [
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-version: 13",
        "sec-websocket-protocol: chat",
        "sec-websocket-extensions: permessage-deflate",
        "origin: https://a",
        "x-forwarded-for: 127.0.0.1",
    ] {
        assert!(head.lines().any(|found| found == line), "{line} in {head}");
    }
    assert!(!head.contains(KEY), "the gateway has a key of its own");
    gateway.metrics_when("obo_gateway_requests_in_flight 1").await;

    // What looks like a request that is framed wrongly is none.
    let hostile = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
    for said in [&text("hello")[..], hostile, &vec![7; 300_000]] {
        caller.send(said).await;
        assert_eq!(caller.exactly(said.len()).await, said);
    }
    caller.finish().await;
    assert!(caller.is_closed().await);
    upstream.ended(1).await;
    let event = event(&gateway, "/ws").await;
    let bytes = 11 + hostile.len() + 300_000;
    for (key, value) in [("status", 101), ("bytes_in", bytes), ("bytes_out", bytes)] {
        assert_eq!(event[key], value, "{key}");
    }
    assert_eq!(event["reason"], serde_json::Value::Null);
    gateway.metrics_when("obo_gateway_requests_in_flight 0").await;
    gateway.metrics_when("obo_gateway_connections_open 0").await;
}

#[tokio::test]
async fn a_websocket_passes_over_each_pair_of_protocols() {
    let http1 = WebSocketUpstream::start();
    let http2 = WebSocketUpstream::start_http2(true);
    for (upstream, protocol) in [(&http1, "http1"), (&http2, "http2")] {
        let gateway = Gateway::start(&open(&upstream.url(), &format!("protocol: {protocol}"), ""));
        let said = text("hello");

        let mut caller = raw(&gateway).await;
        caller.send(handshake("/one", "").as_bytes()).await;
        let reply = caller.reply().await.unwrap();
        assert_eq!((reply.status, reply.header("sec-websocket-accept")), (101, Some(ACCEPT)));
        caller.send(&said).await;
        assert_eq!(caller.exactly(said.len()).await, said);
        drop(caller);
        upstream.ended(1).await;

        let mut caller = RawHttp2::connect(gateway.address()).await;
        assert!(caller.settings.contains(&(8, 1)), "SETTINGS_ENABLE_CONNECT_PROTOCOL");
        caller.headers(1, &connect("/two"), More::Follows).await;
        assert_eq!(caller.outcome(1).await, Outcome::Answered(200), "{protocol}");
        caller.data(1, &said, More::Follows).await;
        assert_eq!(caller.body(1, said.len()).await, said);
        caller.data(1, b"", More::Ends).await;
        assert_eq!(caller.body(1, 1).await, b"");
        upstream.ended(2).await;
        let event = event(&gateway, "/two").await;
        assert_eq!((&event["status"], &event["method"]), (&200.into(), &"GET".into()));
        assert_eq!(event["bytes_in"], 11);
    }
    assert_eq!(http2.heads()[1], format!("connect {}/two some(\"websocket\")", http2.url()));
    assert!(http1.heads()[1].contains("sec-websocket-protocol: chat"));
    assert_ne!(http1.heads()[0], http1.heads()[1]);
}

#[tokio::test]
async fn an_upstream_of_http2_without_websocket_is_502_with_a_reason() {
    let upstream = WebSocketUpstream::start_http2(false);
    let gateway = Gateway::start(&open(&upstream.url(), "protocol: http2", ""));
    let mut caller = raw(&gateway).await;
    caller.send(handshake("/ws", "").as_bytes()).await;
    assert_eq!(caller.reply().await.unwrap().status, 502);
    let event = event(&gateway, "/ws").await;
    assert!(event["reason"].as_str().unwrap().contains("RFC 8441"), "{event:?}");
    assert_eq!(upstream.heads(), [""; 0]);
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_and_closes() {
    let upstream = WebSocketUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let good = handshake("/ws", "");
    for (from, to) in [
        ("GET", "POST"),
        ("version: 13", "version: 12"),
        ("sec-websocket-version: 13\r\n", ""),
        ("sec-websocket-version: 13", "sec-websocket-version: 13\r\nsec-websocket-version: 13"),
        (KEY, "short"),
        (KEY, "dGhlIHNhbXBsZSBub25jZSE="),
        ("host:", "content-length: 3\r\nhost:"),
        ("host:", "transfer-encoding: chunked\r\nhost:"),
        ("host:", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nhost:"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        let mut caller = raw(&gateway).await;
        caller.send(bad.as_bytes()).await;
        caller.send(b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let reply = caller.reply().await.unwrap();
        assert_eq!((reply.status, reply.header("connection")), (400, Some("close")), "{bad}");
        let version = to.contains("12") || from.contains("sec-websocket-version");
        assert_eq!(reply.header("sec-websocket-version"), version.then_some("13"), "{bad}");
        assert!(caller.is_closed().await, "{bad}");
    }
    assert_eq!(upstream.heads(), [""; 0]);
}

#[tokio::test]
async fn what_asks_for_no_upgrade_in_earnest_is_an_ordinary_request() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    for head in [
        "GET /x HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: tcp\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n\r\n",
    ] {
        let mut caller = raw(&gateway).await;
        for _ in 0..2 {
            caller.send(head.as_bytes()).await;
            assert_eq!(caller.reply().await.unwrap().status, 200, "{head}");
            // An unasked upgrade would be a violation that the upstream raises.
            assert_eq!(upstream.last().value("upgrade"), None);
            if head.contains("upgrade: websocket") {
                assert!(caller.is_closed().await);
                break;
            }
        }
    }
    // HTTP/1.0 has no upgrades.
    let mut caller = raw(&gateway).await;
    caller.send(handshake("/x", "").replace("HTTP/1.1", "HTTP/1.0").as_bytes()).await;
    assert_eq!(caller.reply().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_route_may_have_no_websocket_or_more_than_that() {
    let upstream = WebSocketUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", "upgrades: []"));
    let mut caller = raw(&gateway).await;
    caller.send(handshake("/ws", "").as_bytes()).await;
    assert_eq!(caller.reply().await.unwrap().status, 400);
    let mut caller = RawHttp2::connect(gateway.address()).await;
    caller.headers(1, &connect("/ws"), More::Follows).await;
    assert_eq!(caller.outcome(1).await, Outcome::Answered(400));
    assert_eq!(upstream.heads(), [""; 0]);

    let gateway = Gateway::start(&open(&upstream.url(), "", "upgrades: [spdy/3.1]"));
    upstream.answer("HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: SPDY/3.1\r\n\r\n");
    let mut caller = raw(&gateway).await;
    let ask = "POST /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x, SPDY/3.1\r\ncontent-length: 0\r\n\r\n";
    caller.send(ask.as_bytes()).await;
    let reply = caller.reply().await.unwrap();
    assert_eq!((reply.status, reply.header("upgrade")), (101, Some("SPDY/3.1")));
    caller.send(b"opaque").await;
    assert_eq!(caller.exactly(6).await, b"opaque");
    // Half-closed: what is still on its way arrives.
    caller.send(b"last").await;
    caller.finish().await;
    assert_eq!(caller.rest().await, b"last");
    // A body would hide where the protocol changes.
    let mut caller = raw(&gateway).await;
    caller.send(ask.replace("length: 0", "length: 1").as_bytes()).await;
    assert_eq!(caller.reply().await.unwrap().status, 400);
    assert!(caller.is_closed().await);
}

#[tokio::test]
async fn an_upstream_that_does_not_agree_is_believed_or_refused() {
    let upstream = WebSocketUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let switched = "HTTP/1.1 101 x\r\nconnection: upgrade\r\n";
    for (answer, http1, http2) in [
        (format!("{switched}upgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n"), 502, 502),
        (format!("{switched}upgrade: websocket\r\n\r\n"), 502, 502),
        (format!("{switched}upgrade: h2c\r\nsec-websocket-accept: {{accept}}\r\n\r\n"), 502, 502),
        (format!("{switched}sec-websocket-accept: {{accept}}\r\n\r\n"), 502, 502),
        // Nobody offers it.
        (
            format!(
                "{switched}upgrade: websocket\r\nsec-websocket-accept: {{accept}}\r\n\
                 sec-websocket-protocol: other\r\n\r\n"
            ),
            502,
            502,
        ),
        ("HTTP/1.1 404 x\r\ncontent-length: 2\r\n\r\nno".to_owned(), 404, 404),
        // Over HTTP/2 it would say that there is a WebSocket.
        ("HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\nok".to_owned(), 200, 502),
        (
            "HTTP/1.1 200 x\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
            502,
            502,
        ),
    ] {
        upstream.answer(&answer);
        let mut caller = raw(&gateway).await;
        caller.send(handshake("/ws", "").as_bytes()).await;
        caller.send(b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let reply = caller.reply().await.unwrap();
        assert_eq!((reply.status, reply.header("connection")), (http1, Some("close")), "{answer}");
        assert!(caller.is_closed().await);
        let mut client = RawHttp2::connect(gateway.address()).await;
        client.headers(1, &connect("/ws2"), More::Follows).await;
        let status = if http2 == 404 { 404 } else { 0 };
        assert_eq!(client.outcome(1).await, Outcome::Answered(status), "{answer}");
    }
    assert!(upstream.heads().iter().all(|head| !head.contains("smuggled")));
}

#[tokio::test]
async fn other_connects_stay_refused() {
    let upstream = WebSocketUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let mut caller = raw(&gateway).await;
    caller.send(b"CONNECT api.example.com:443 HTTP/1.1\r\nhost: api.example.com:443\r\n\r\n").await;
    assert_eq!(caller.reply().await.unwrap().status, 405);
    assert!(caller.is_closed().await);
    for protocol in ["connect-udp", "websocket2"] {
        let mut fields = connect("/ws");
        fields[1].1 = protocol;
        let mut caller = RawHttp2::connect(gateway.address()).await;
        caller.headers(1, &fields, More::Follows).await;
        assert_eq!(caller.outcome(1).await, Outcome::Answered(0), "{protocol}");
    }
    let refused = r#"obo_gateway_requests_total{route="",method="CONNECT",status="405"} 3"#;
    gateway.metrics_when(refused).await;
    let route = "{ match: { path: /r }, auth: none, respond: { status: 200 } }";
    let other = "{ match: { path: /o }, auth: none, upstream: up }";
    let gateway = Gateway::start(&file("", &[&up(&upstream.url(), "")], &[route, other]));
    let mut caller = RawHttp2::connect(gateway.address()).await;
    caller.headers(1, &connect("/r"), More::Follows).await;
    assert_eq!(caller.outcome(1).await, Outcome::Answered(400));
}

#[tokio::test]
async fn a_stream_ends_with_silence_only_where_the_file_says_so() {
    let upstream = WebSocketUpstream::start();
    for (keys, ends) in [("timeouts: { stream: 5m }", true), ("", false)] {
        let gateway = Gateway::start_in_virtual_time(&open(&upstream.url(), keys, ""));
        let mut caller = raw(&gateway).await;
        caller.send(handshake("/ws", "").as_bytes()).await;
        assert_eq!(caller.reply().await.unwrap().status, 101);
        caller.send(&text("a")).await;
        caller.exactly(7).await;
        gateway.pass(Duration::from_secs(299)).await;
        caller.send(&text("b")).await;
        caller.exactly(7).await;
        gateway.pass(Duration::from_secs(301)).await;
        if ends {
            assert_eq!(caller.exactly(8).await, b"\x88\x06\x03\xe9idle");
            drop(caller);
            let event = event(&gateway, "/ws").await;
            assert!(event["reason"].as_str().unwrap().contains("no byte either way for 300 s"));
        } else {
            gateway.pass(Duration::from_hours(24)).await;
            caller.send(&text("c")).await;
            assert_eq!(caller.exactly(7).await, text("c"));
        }
    }
}

#[tokio::test]
async fn a_side_that_goes_away_takes_the_other_with_it() {
    let upstream = WebSocketUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let mut caller = raw(&gateway).await;
    caller.send(handshake("/ws", "").as_bytes()).await;
    assert_eq!(caller.reply().await.unwrap().status, 101);
    drop(caller);
    upstream.ended(1).await;
    assert_eq!(event(&gateway, "/ws").await["status"], 101);

    let upstream = WebSocketUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let mut caller = raw(&gateway).await;
    caller.send(handshake("/ws", "").as_bytes()).await;
    assert_eq!(caller.reply().await.unwrap().status, 101);
    drop(upstream);
    assert!(caller.is_closed().await);
}

fn of_short_grace(upstream: &WebSocketUpstream) -> String {
    file(
        "shutdown_grace: 100ms",
        &[&up(&upstream.url(), "")],
        &["{ match: { path: /ws }, auth: none, upstream: up }"],
    )
}

#[tokio::test]
async fn the_end_of_the_gateway_is_told_and_counted() {
    let upstream = WebSocketUpstream::start();
    let gateway = Gateway::start(&of_short_grace(&upstream));
    let mut caller = raw(&gateway).await;
    caller.send(handshake("/ws", "").as_bytes()).await;
    assert_eq!(caller.reply().await.unwrap().status, 101);
    let told = tokio::spawn(async move { caller.rest().await });
    let cut_off = within("the drain", gateway.running().drain()).await;
    assert_eq!((cut_off.connections, cut_off.requests), (1, 1));
    assert_eq!(told.await.unwrap(), b"\x88\x0f\x03\xe9shutting down");
    // Masked, as a client's.
    let heard = upstream.heard();
    assert_eq!((heard.len(), &heard[..2]), (2 + 4 + 15, &[0x88, 0x8f][..]));
    assert!(event(&gateway, "/ws").await["reason"].as_str().unwrap().contains("shutdown_grace"));
}

#[tokio::test]
async fn the_end_of_the_gateway_is_told_over_http2_too() {
    let upstream = WebSocketUpstream::start();
    let gateway = Gateway::start(&of_short_grace(&upstream));
    let mut caller = RawHttp2::connect(gateway.address()).await;
    for stream in [1, 3] {
        caller.headers(stream, &connect("/ws"), More::Follows).await;
        assert_eq!(caller.outcome(stream).await, Outcome::Answered(200));
    }
    let told = tokio::spawn(async move {
        let goodbye = b"\x88\x0f\x03\xe9shutting down";
        // One answers, the other floods; neither is waited for.
        assert_eq!(caller.body(1, goodbye.len()).await, goodbye);
        caller.data(1, &[0x88, 0x80, 0, 0, 0, 0], More::Ends).await;
        while caller.answers_ping().await {
            caller.data(3, &text("more"), More::Follows).await;
        }
    });
    let cut_off = within("the drain", gateway.running().drain()).await;
    assert_eq!((cut_off.connections, cut_off.requests), (1, 2));
    within("the caller's end", told).await.unwrap();
    let event = event(&gateway, "/ws").await;
    assert_eq!(event["status"], 200);
    assert!(event["reason"].as_str().unwrap().contains("`shutdown_grace` was over"), "{event:?}");
    assert!(!gateway.log().text().contains("did not end when cut off"));
}

/// An upstream that agrees, and then reads nothing.
async fn deaf() -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let deaf = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let is_key = |line: &&str| line.to_ascii_lowercase().starts_with("sec-websocket-key:");
        let key = head.lines().find(is_key).unwrap().split_once(": ").unwrap().1;
        let accept = crate::support::websocket::accept(key);
        let answer = format!(
            "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    });
    (url, deaf)
}

#[tokio::test]
async fn an_upstream_that_takes_nothing_is_given_up() {
    let (url, deaf) = deaf().await;
    let route = "{ match: { path: /ws }, auth: none, upstream: up }";
    let yaml = file("body_idle_timeout: 300ms", &[&up(&url, "")], &[route]);
    let gateway = Gateway::start(&yaml);
    let mut caller = tokio::net::TcpStream::connect(gateway.address()).await.unwrap();
    caller.write_all(handshake("/ws", "").as_bytes()).await.unwrap();
    // More than all buffers on the way have room for.
    let most = vec![0; 64 << 20];
    assert!(within("the end", caller.write_all(&most)).await.is_err());
    let event = event(&gateway, "/ws").await;
    assert!(event["reason"].as_str().unwrap().contains("it took no byte for"), "{event:?}");
    deaf.abort();
}
