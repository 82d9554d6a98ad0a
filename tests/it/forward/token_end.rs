//! Streams that meet the end of the token that they began with.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;

use super::{entra, event, file, piece, pieces, up};
use crate::support::client::full;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::raw::Raw;
use crate::support::raw_http2::{More, Outcome, RawHttp2};
use crate::support::token::{Token, bearer};
use crate::support::upstream::{Answer, Reading, Upstream};
use crate::support::websocket::{WebSocketUpstream, handshake, text};
use crate::support::within;

const S: Duration = Duration::from_secs(1);

async fn gateway(provider: &Provider, url: &str, upstream: &str, keys: &str) -> Gateway {
    let route = format!(
        "{{ match: {{ path: \"/{{*rest}}\" }}, auth: any, upstream: up, timeout: off, {keys} }}"
    );
    let server = "body_idle_timeout: 1h";
    let yaml = entra(provider) + &file(server, &[&up(url, upstream)], &[&route]);
    let gateway = Gateway::start_in_virtual_time(&yaml);
    gateway.ready().await;
    gateway
}

fn token(provider: &Provider, seconds: i64) -> String {
    Token::entra_v2(&provider.entra_issuer()).expires_in(seconds).build()
}

/// Lets little times pass until `future` is ready: what waits begins to do so when it is told to.
async fn meanwhile<T>(gateway: &Gateway, future: impl Future<Output = T>) -> T {
    let passing = async {
        for _ in 0..10 {
            gateway.pass(S).await;
            // Nothing tells when the gateway has begun to wait.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (done, ()) = tokio::join!(future, passing);
    done
}

async fn websocket(gateway: &Gateway, token: &str) -> Raw {
    let mut caller = Raw::connect(gateway.address()).await;
    let fields = format!("authorization: {}\r\n", bearer(token));
    caller.send(handshake("/ws", &fields).as_bytes()).await;
    assert_eq!(caller.reply().await.unwrap().status, 101);
    caller
}

#[tokio::test]
async fn a_websocket_is_closed_between_two_frames() {
    let (provider, upstream) = (Provider::start(), WebSocketUpstream::start());
    let gateway = gateway(&provider, &upstream.url(), "", "").await;
    let mut caller = websocket(&gateway, &token(&provider, 100)).await;
    gateway.pass(99 * S).await;
    caller.send(&text("hello")[..7]).await;
    caller.exactly(7).await;
    gateway.pass(S).await;
    // In the middle of a frame, in both directions: it is finished first.
    caller.send(&text("hello")[7..]).await;
    let mut rest = text("hello")[7..].to_vec();
    rest.extend_from_slice(b"\x88\x0f\x03\xf0token expired");
    assert_eq!(caller.exactly(rest.len()).await, rest);
    drop(caller);
    upstream.ended(1).await;
    let heard = upstream.heard();
    assert_eq!(heard[..11], text("hello"));
    assert_eq!((heard.len(), &heard[11..13]), (11 + 2 + 4 + 15, &[0x88, 0x8f][..]));
    let event = event(&gateway, "/ws").await;
    assert_eq!((&event["status"], &event["code"]), (&101.into(), &"token_expired".into()));
    assert!(event["reason"].as_str().unwrap().contains("outlive_token"), "{event:?}");
}

#[tokio::test]
async fn who_does_not_end_a_frame_is_cut() {
    let (provider, upstream) = (Provider::start(), WebSocketUpstream::start());
    let gateway = gateway(&provider, &upstream.url(), "", "").await;
    let mut caller = websocket(&gateway, &token(&provider, 100)).await;
    caller.send(&text("hello")[..7]).await;
    caller.exactly(7).await;
    gateway.pass(100 * S).await;
    assert!(meanwhile(&gateway, caller.is_closed()).await);
    upstream.ended(1).await;
}

#[tokio::test]
async fn a_websocket_over_http2_is_closed_too() {
    let provider = Provider::start();
    for (upstream, protocol) in
        [(WebSocketUpstream::start(), "http1"), (WebSocketUpstream::start_http2(true), "http2")]
    {
        let keys = format!("protocol: {protocol}");
        let gateway = gateway(&provider, &upstream.url(), &keys, "").await;
        let token = bearer(&token(&provider, 20));
        let mut caller = RawHttp2::connect(gateway.address()).await;
        let fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/ws"),
            (":authority", "api.example.com"),
            ("sec-websocket-version", "13"),
            ("authorization", &token),
        ];
        caller.headers(1, &fields, More::Follows).await;
        assert_eq!(caller.outcome(1).await, Outcome::Answered(200), "{protocol}");
        caller.data(1, &text("a"), More::Follows).await;
        assert_eq!(caller.body(1, 7).await, text("a"));
        gateway.pass(20 * S).await;
        // With the end of the stream behind it.
        let goodbye = b"\x88\x0f\x03\xf0token expired";
        assert_eq!(caller.body(1, goodbye.len() + 1).await, goodbye);
        // The caller does not close; it is not waited for.
        let event = meanwhile(&gateway, event(&gateway, "/ws")).await;
        assert_eq!(event["code"], "token_expired");
    }
}

#[tokio::test]
async fn a_token_that_passed_for_the_skew_ends_with_it() {
    let (provider, upstream) = (Provider::start(), WebSocketUpstream::start());
    let gateway = gateway(&provider, &upstream.url(), "", "").await;
    let mut caller = websocket(&gateway, &token(&provider, -20)).await;
    gateway.pass(39 * S).await;
    caller.send(&text("a")).await;
    assert_eq!(caller.exactly(7).await, text("a"));
    gateway.pass(S).await;
    assert_eq!(caller.exactly(17).await, b"\x88\x0f\x03\xf0token expired");
}

#[tokio::test]
async fn a_route_may_let_streams_go_on() {
    let (provider, upstream) = (Provider::start(), WebSocketUpstream::start());
    let gateway = gateway(&provider, &upstream.url(), "", "outlive_token: true").await;
    let mut caller = websocket(&gateway, &token(&provider, 100)).await;
    gateway.pass(1000 * S).await;
    caller.send(&text("a")).await;
    assert_eq!(caller.exactly(7).await, text("a"));
}

#[tokio::test]
async fn an_answer_without_a_length_ends_as_its_kind_can() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = gateway(&provider, &upstream.url(), "timeouts: { stream: off }", "").await;
    for http2 in [false, true] {
        for (path, content_type) in [
            ("/events", "text/event-stream"),
            ("/grpc", "application/grpc"),
            ("/other", "application/json"),
        ] {
            let token = token(&provider, 100);
            let mut client =
                if http2 { gateway.client_http2().await } else { gateway.client().await };
            let (answer, down) = Answer::stream();
            let mut answer = Some(answer.header("content-type", content_type));
            upstream.answer(move |_| answer.take().unwrap());
            let request =
                Request::get(path).header("te", "trailers").header("authorization", bearer(&token));
            let mut body = client.start(request.body(full("")).unwrap()).await.unwrap().into_body();
            gateway.clock().set(crate::support::clock::START);
            down.send(Ok("data: 1\n\n".into())).await.unwrap();
            within("a piece", body.frame()).await.unwrap().unwrap();
            gateway.pass(100 * S).await;
            let mut last = within("the end", body.frame()).await;
            // An end without a last piece is an empty one over HTTP/2.
            if let Some(Ok(frame)) = &last
                && frame.data_ref().is_some_and(bytes::Bytes::is_empty)
            {
                last = within("the end", body.frame()).await;
            }
            match (path, last) {
                ("/events", None) | ("/other", Some(Err(_))) => {}
                ("/grpc", Some(Ok(frame))) if http2 => {
                    assert_eq!(frame.trailers_ref().unwrap()["grpc-status"], "16");
                    assert!(within("the end", body.frame()).await.is_none());
                }
                // There are no trailers over HTTP/1.1 that were not announced.
                ("/grpc", None | Some(Ok(_))) if !http2 => {}
                (path, last) => panic!("{path} over HTTP/2 {http2}: {last:?}"),
            }
            within("the upstream to see it", down.closed()).await;
            gateway.clock().set(crate::support::clock::START);
        }
    }
    for path in ["/events", "/grpc", "/other"] {
        let event = event(&gateway, path).await;
        assert_eq!((&event["status"], &event["code"]), (&200.into(), &"token_expired".into()));
    }
}

#[tokio::test]
async fn an_answer_that_is_always_ahead_of_its_caller_ends_too() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let keys = "protocol: http2, timeouts: { stream: off }";
    let gateway = gateway(&provider, &upstream.url(), keys, "").await;
    let (answer, down) = Answer::stream();
    let mut answer = Some(answer.header("content-type", "text/event-stream"));
    upstream.answer(move |_| answer.take().unwrap());
    tokio::spawn(async move { while down.send(Ok(vec![b'x'; 64 << 10].into())).await.is_ok() {} });
    let token = bearer(&token(&provider, 100));
    let mut caller = RawHttp2::connect(gateway.address()).await;
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/x"),
        (":authority", "api.example.com"),
        ("authorization", &token),
    ];
    caller.headers(1, &fields, More::Ends).await;
    assert_eq!(caller.outcome(1).await, Outcome::Answered(200));
    // The window that a connection begins with.
    caller.body(1, 65_535).await;
    gateway.pass(100 * S).await;
    let (step, mut got) = (16_384_u32, 0);
    loop {
        for stream in [0, 1] {
            caller.frame(8, 0, stream, &step.to_be_bytes()).await;
        }
        let piece = caller.body(1, step as usize).await.len();
        got += piece;
        if piece < step as usize {
            break;
        }
        // What the gateway has passed on already is still to be read, and no more.
        assert!(got < 1 << 20, "it goes on for ever");
    }
    assert_eq!(event(&gateway, "/x").await["code"], "token_expired");
}

#[tokio::test]
async fn an_answer_with_a_length_is_finished() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = gateway(&provider, &upstream.url(), "timeouts: { stream: off }", "").await;
    let (answer, down) = Answer::stream();
    let mut answer = Some(answer.header("content-length", "6"));
    upstream.answer(move |_| answer.take().unwrap());
    let mut client = gateway.client().await;
    let request = Request::get("/x").header("authorization", bearer(&token(&provider, 100)));
    let mut body = client.start(request.body(full("")).unwrap()).await.unwrap().into_body();
    down.send(Ok("abc".into())).await.unwrap();
    within("a piece", body.frame()).await.unwrap().unwrap();
    gateway.pass(1000 * S).await;
    down.send(Ok("def".into())).await.unwrap();
    assert_eq!(within("the rest", body.collect()).await.unwrap().to_bytes(), "def");
}

#[tokio::test]
async fn a_request_that_is_still_coming_is_401() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = gateway(&provider, &upstream.url(), "", "").await;
    let never = Gate::new();
    upstream.answer(move |_| Answer { reading: Reading::Before, ..Answer::ok("").held_by(&never) });
    for http2 in [false, true] {
        let mut client = if http2 { gateway.client_http2().await } else { gateway.client().await };
        let (send, body) = pieces();
        let token = token(&provider, 100);
        let request =
            Request::post("/x").header("authorization", bearer(&token)).body(body).unwrap();
        let count = upstream.count();
        let answer =
            tokio::spawn(async move { client.start(request).await.map(|it| (it, client)) });
        send.send(piece("abc")).await.unwrap();
        upstream.seen_when("the request", |seen| seen.len() > count).await;
        gateway.pass(100 * S).await;
        let (response, _client) = within("an answer", answer).await.unwrap().unwrap();
        assert_eq!(response.status(), 401, "{http2}");
        let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
        assert!(challenge.contains("invalid_token"), "{challenge}");
        drop(send);
        gateway.clock().set(crate::support::clock::START);
    }
    assert_eq!(event(&gateway, "/x").await["code"], "token_expired");
}

#[tokio::test]
async fn a_request_that_is_still_coming_ends_behind_an_answer_with_a_length_too() {
    let (provider, upstream) = (Provider::start(), WebSocketUpstream::start());
    // It answers at once, and says a part of what it announced.
    upstream.answer("HTTP/1.1 200 x\r\ncontent-length: 1000\r\n\r\nabc");
    let gateway = gateway(&provider, &upstream.url(), "protocol: http1", "").await;
    let mut client = gateway.client_http2().await;
    let (send, body) = pieces();
    let token = token(&provider, 100);
    let request = Request::post("/x").header("authorization", bearer(&token)).body(body).unwrap();
    send.send(piece("abc")).await.unwrap();
    let response = within("an answer", client.start(request)).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    within("a piece", body.frame()).await.unwrap().unwrap();
    gateway.pass(99 * S).await;
    send.send(piece("abc")).await.unwrap();
    // The upstream says back what it hears, and may have done so before.
    let end = async {
        loop {
            let frame = within("the end", body.frame()).await;
            if !matches!(frame, Some(Ok(_))) {
                return frame;
            }
        }
    };
    let end = meanwhile(&gateway, end).await;
    assert!(matches!(end, Some(Err(_))), "{end:?}");
    assert_eq!(event(&gateway, "/x").await["code"], "token_expired");
}
