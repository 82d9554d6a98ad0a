//! `Expect: 100-continue` between the caller, who waits to be asked for the body, and the
//! upstream, which asks or refuses.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;

use super::{entra, event, open, piece, pieces};
use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::raw::Raw;
use crate::support::raw_upstream::{RawUpstream, Then};
use crate::support::talk::Talk;
use crate::support::token::Token;
use crate::support::upstream::Upstream;
use crate::support::within;

const POST: &[u8] =
    b"POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

#[tokio::test]
async fn the_body_is_asked_for_when_the_upstream_asks() {
    let talk = Talk::start().await;
    let gateway = Gateway::start_in_virtual_time(&open(&talk.url(), "", ""));
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(POST).await;
    let mut upstream = talk.accept().await;
    for _ in 0..2 {
        let head = upstream.head().await;
        assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
        upstream.say("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n").await;
        assert_eq!(raw.reply().await.unwrap().status, 103, "nothing was asked for");
        upstream.say(CONTINUE.repeat(3)).await;
        assert_eq!(raw.reply().await.unwrap().status, 100);
        raw.send(b"body").await;
        assert_eq!(upstream.exactly(4).await, b"body");
        upstream.say(OK).await;
        let reply = raw.reply().await.unwrap();
        assert_eq!((reply.status, reply.header("connection")), (200, None), "and 100 but once");
        // Both connections are good for the next.
        raw.send(POST).await;
    }
}

#[tokio::test]
async fn an_upstream_that_says_nothing_is_waited_for_as_long_as_curl_does() {
    let talk = Talk::start().await;
    let gateway = Gateway::start_in_virtual_time(&open(&talk.url(), "", ""));
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(POST).await;
    let mut upstream = talk.accept().await;
    upstream.head().await;
    gateway.pass(Duration::from_millis(900)).await;
    upstream.say("HTTP/1.1 103 Early Hints\r\n\r\n").await;
    assert_eq!(raw.reply().await.unwrap().status, 103);
    gateway.pass(Duration::from_millis(200)).await;
    assert_eq!(raw.reply().await.unwrap().status, 100);
    raw.send(b"body").await;
    assert_eq!(upstream.exactly(4).await, b"body");
    // One that comes too late is not passed on: the caller has had it.
    upstream.say(format!("{CONTINUE}{OK}")).await;
    assert_eq!(raw.reply().await.unwrap().status, 200);
}

#[tokio::test]
async fn an_answer_in_place_of_a_100_reaches_the_caller_and_the_body_stays_where_it_is() {
    let talk = Talk::start().await;
    let gateway = Gateway::start_in_virtual_time(&open(&talk.url(), "", ""));
    for (status, rest) in [
        (401, "content-length: 2\r\n\r\nno"),
        (413, "content-length: 0\r\n\r\n"),
        (417, "connection: close\r\ncontent-length: 2\r\n\r\nno"),
        (200, "transfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"),
        (204, "\r\n"),
    ] {
        let mut raw = Raw::connect(gateway.address()).await;
        raw.send(POST).await;
        let mut upstream = talk.accept().await;
        upstream.head().await;
        let (head, body) = rest.split_at(rest.find("\r\n\r\n").map_or(0, |at| at + 4));
        upstream.say(format!("HTTP/1.1 {status} X\r\n{head}")).await;
        if head.is_empty() {
            upstream.say(body).await;
        } else {
            let (first, last) = body.split_at(body.len() / 2);
            upstream.say(first).await;
            // Its time is over while the answer comes.
            gateway.pass(Duration::from_secs(2)).await;
            upstream.say(last).await;
        }
        let reply = raw.reply().await.unwrap();
        assert_eq!((reply.status, reply.header("connection")), (status, Some("close")));
        assert_eq!(reply.body, if rest.contains("no") { &b"no"[..] } else { b"" }, "{status}");
        // What the caller sends all the same is nobody's: neither a body nor a request.
        raw.send(b"bodyGET /evil HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(raw.is_closed().await, "{status}");
        assert_eq!(upstream.rest().await, b"", "{status}: the connection ends without the body");
    }
}

#[tokio::test]
async fn a_caller_who_does_not_wait_is_served_all_the_same() {
    let talk = Talk::start().await;
    let gateway = Gateway::start_in_virtual_time(&open(&talk.url(), "", ""));
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(&[POST, b"body"].concat()).await;
    let mut upstream = talk.accept().await;
    upstream.head().await;
    upstream.say(CONTINUE).await;
    assert_eq!(upstream.exactly(4).await, b"body");
    upstream.say(OK).await;
    let mut reply = raw.reply().await.unwrap();
    if reply.status == 100 {
        reply = raw.reply().await.unwrap();
    }
    assert_eq!(reply.status, 200);
    // Refused, with the body there already.
    raw.send(&[POST, b"body"].concat()).await;
    upstream.head().await;
    upstream.say("HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n").await;
    let reply = raw.reply().await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (401, Some("close")));
    assert!(raw.is_closed().await);
    assert_eq!(upstream.rest().await, b"");
}

#[tokio::test]
async fn http_1_0_and_empty_requests_expect_nothing() {
    let upstream = RawUpstream::start();
    let gateway = Gateway::start_in_virtual_time(&open(&upstream.url(), "", ""));
    for request in [
        "POST /x HTTP/1.0\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nbody",
        "GET /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        "POST /x HTTP/1.1\r\nhost: a\r\nexpect: 42\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody",
    ] {
        let mut raw = Raw::connect(gateway.address()).await;
        upstream.answer(OK, Then::KeepOpen);
        raw.send(request.as_bytes()).await;
        assert_eq!(raw.reply().await.unwrap().status, 200, "{request}");
        let head = String::from_utf8(upstream.heads().pop().unwrap()).unwrap();
        assert!(!head.contains("expect"), "{head}");
    }
}

#[tokio::test]
async fn what_the_gateway_refuses_is_not_asked_for() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let keys = super::file(
        "",
        &[&super::up(&upstream.url(), "")],
        &[
            "{ name: guarded, match: { path: /guarded }, auth: any, upstream: up, token: { passthrough: true } }",
            "{ name: small, match: { path: /small }, auth: none, upstream: up, max_body_bytes: 3B }",
            "{ name: own, match: { path: /own }, auth: none, respond: { status: 204 } }",
            "{ name: gone, match: { path: /gone }, auth: none, upstream: gone }",
        ],
    );
    let keys = keys.replace("routes:\n", "  gone: { url: \"http://127.0.0.1:1\" }\nroutes:\n");
    let gateway = Gateway::start(&format!("{}{keys}", entra(&provider)));
    gateway.ready().await;
    for (path, status) in
        [("/guarded", 401), ("/small", 413), ("/none", 404), ("/own", 204), ("/gone", 502)]
    {
        let mut raw = Raw::connect(gateway.address()).await;
        raw.send(String::from_utf8_lossy(POST).replacen("/x", path, 1).as_bytes()).await;
        let reply = raw.reply().await.unwrap();
        assert_eq!((reply.status, reply.header("connection")), (status, Some("close")), "{path}");
        assert!(raw.is_closed().await, "{path}");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_body_that_was_asked_for_is_within_the_routes_size() {
    let talk = Talk::start().await;
    let gateway = Gateway::start(&open(&talk.url(), "", "max_body_bytes: 4B"));
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(b"POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let mut upstream = talk.accept().await;
    upstream.head().await;
    upstream.say(CONTINUE).await;
    assert_eq!(raw.reply().await.unwrap().status, 100);
    raw.send(b"5\r\nhello\r\n0\r\n\r\n").await;
    assert_eq!(raw.reply().await.unwrap().status, 413);
    assert_eq!(upstream.rest().await, b"");
}

#[tokio::test]
async fn a_caller_who_goes_away_meanwhile_takes_the_request_along() {
    let talk = Talk::start().await;
    let gateway = Gateway::start(&open(&talk.url(), "", ""));
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(POST).await;
    let mut upstream = talk.accept().await;
    upstream.head().await;
    drop(raw);
    assert_eq!(upstream.rest().await, b"");
    let status = event(&gateway, "/x").await["status"].as_u64().unwrap();
    assert!([400, 499].contains(&status), "{status}");
}

#[tokio::test]
async fn over_http2_it_goes_on_too() {
    // To the caller: its 100 can't be sent, and it sends the body when its own patience ends.
    let talk = Talk::start().await;
    let gateway = Gateway::start_in_virtual_time(&open(&talk.url(), "", ""));
    let (send, body) = pieces();
    let mut client = gateway.client_http2().await;
    let request = Request::post("/x").header("expect", "100-continue").body(body).unwrap();
    let call = tokio::spawn(async move { client.start(request).await.unwrap() });
    let mut upstream = talk.accept().await;
    assert!(upstream.head().await.contains("\r\nexpect: 100-continue\r\n"));
    send.send(piece("body")).await.unwrap();
    upstream.say(CONTINUE).await;
    assert_eq!(upstream.exactly(9).await, b"4\r\nbody\r\n");
    drop(send);
    assert_eq!(upstream.exactly(5).await, b"0\r\n\r\n");
    upstream.say(OK).await;
    let answer = within("the answer", call).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");

    // The upstream answers at once: the caller's stream ends, its connection does not.
    let (send, body) = pieces();
    let mut client = gateway.client_http2().await;
    let mut beside = client.beside();
    let request = Request::post("/x").header("expect", "100-continue").body(body).unwrap();
    let call = tokio::spawn(async move { client.start(request).await.unwrap() });
    upstream.head().await;
    upstream.say("HTTP/1.1 413 No\r\nx-upstream-mark: 1\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(within("the answer", call).await.unwrap().status(), 413);
    assert_eq!(upstream.rest().await, b"");
    let next = tokio::spawn(async move { beside.get("/y").await.status });
    let mut upstream = talk.accept().await;
    upstream.head().await;
    upstream.say(OK).await;
    assert_eq!(next.await.unwrap(), 200);
    drop(send);

    // To the upstream: it is told, and not waited for.
    let upstream = Upstream::start();
    let gateway = Gateway::start_in_virtual_time(&open(&upstream.url(), "protocol: http2", ""));
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(POST).await;
    assert_eq!(raw.reply().await.unwrap().status, 100);
    raw.send(b"body").await;
    assert_eq!(raw.reply().await.unwrap().status, 200);
    assert_eq!(upstream.last().value("expect").as_deref(), Some("100-continue"));
    assert_eq!(upstream.last().body.length, 4);
}

/// What a claims challenge of an upstream looks like.
const CHALLENGE: &str = "Bearer realm=\"\", error=\"insufficient_claims\", claims=\"eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwgInZhbHVlIjoiMTcwMjY4MjE4MSJ9fX0=\"";

/// A file whose route exchanges tokens for the upstream.
fn exchanged(provider: &Provider, talk: &Talk) -> String {
    let route = "{ match: { path: /x }, auth: any, upstream: up, token: { on_behalf_of: { scopes: [\"api://x/.default\"] } } }";
    let file = super::file("", &[&super::up(&talk.url(), "")], &[route]);
    format!("{}{file}", entra(provider))
}

#[tokio::test]
async fn a_request_that_goes_again_after_a_claims_challenge_still_has_its_body() {
    let (provider, talk) = (Provider::start(), Talk::start().await);
    let gateway = Gateway::start_in_virtual_time(&exchanged(&provider, &talk));
    gateway.ready().await;
    let length = 100_000;
    for (user, satisfied) in [("alice", true), ("bob", false)] {
        let token = Token::entra_v2(&provider.entra_issuer()).user(user).build();
        let head = format!(
            "POST /x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\
             expect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        );
        let mut raw = Raw::connect(gateway.address()).await;
        raw.send(head.as_bytes()).await;
        let mut first = talk.accept().await;
        first.head().await;
        let challenge = format!(
            "HTTP/1.1 401 No\r\nwww-authenticate: {CHALLENGE}\r\ncontent-length: 0\r\n\r\n"
        );
        first.say(&challenge).await;
        let mut second = talk.accept().await;
        assert!(second.head().await.contains("\r\nexpect: 100-continue\r\n"));
        assert_eq!(first.rest().await, b"", "the first connection ends without the body");
        if satisfied {
            second.say(CONTINUE).await;
            assert_eq!(raw.reply().await.unwrap().status, 100);
            // Larger than what is kept of other bodies.
            raw.send(&vec![b'x'; length]).await;
            assert_eq!(second.exactly(length).await.len(), length);
            second.say(OK).await;
            assert_eq!(raw.reply().await.unwrap().status, 200);
            drop((raw, second));
        } else {
            second.say(&challenge).await;
            let reply = raw.reply().await.unwrap();
            assert_eq!((reply.status, reply.header("connection")), (401, Some("close")));
            assert!(reply.header("www-authenticate").unwrap().contains("insufficient_claims"));
            assert!(raw.is_closed().await);
            assert_eq!(second.rest().await, b"");
        }
    }
}

#[tokio::test]
async fn a_slow_answer_to_a_refused_body_is_not_cut() {
    let talk = Talk::start().await;
    let gateway = Gateway::start(&open(&talk.url(), "", ""));
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(POST).await;
    let mut upstream = talk.accept().await;
    upstream.head().await;
    upstream.say("HTTP/1.1 403 No\r\ncontent-length: 200000\r\n\r\n").await;
    for _ in 0..20 {
        upstream.say(vec![b'x'; 10_000]).await;
    }
    let reply = raw.reply().await.unwrap();
    assert_eq!((reply.status, reply.body.len()), (403, 200_000));
}

/// The answer that was challenged ends while the request goes again: that is not its end.
#[tokio::test]
async fn a_slow_answer_after_a_claims_challenge_with_a_body_is_not_cut() {
    let (provider, talk) = (Provider::start(), Talk::start().await);
    let gateway = Gateway::start_in_virtual_time(&exchanged(&provider, &talk));
    gateway.ready().await;
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let mut raw = Raw::connect(gateway.address()).await;
    let head = format!(
        "POST /x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\
         expect: 100-continue\r\ncontent-length: 4\r\n\r\n"
    );
    raw.send(head.as_bytes()).await;
    let mut first = talk.accept().await;
    first.head().await;
    let challenge =
        format!("HTTP/1.1 401 No\r\nwww-authenticate: {CHALLENGE}\r\ncontent-length: 3\r\n\r\nno!");
    first.say(&challenge).await;
    let mut second = talk.accept().await;
    second.head().await;
    second.say("HTTP/1.1 403 No\r\ncontent-length: 200000\r\n\r\n").await;
    // The head alone: the rest is still to come.
    assert_eq!(raw.reply_to("HEAD").await.unwrap().status, 403);
    for _ in 0..20 {
        second.say(vec![b'x'; 10_000]).await;
    }
    assert_eq!(raw.rest().await.len(), 200_000);
}
