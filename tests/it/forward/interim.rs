//! Informational answers (1xx) of an upstream on their way to the caller.

use http::Request;

use super::{open, up};
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::raw_upstream::{RawUpstream, Then};
use crate::support::talk::Talk;
use crate::support::upstream::Upstream;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &[u8] = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn they_reach_the_caller_before_the_answer_and_when_they_come() {
    let talk = Talk::start().await;
    let gateway = Gateway::start(&open(&talk.url(), "", ""));
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(GET).await;
    let mut upstream = talk.accept().await;
    for round in 0..3 {
        upstream.head().await;
        upstream.say("HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n").await;
        let hints = raw.reply().await.unwrap();
        assert_eq!((hints.status, hints.header("link")), (103, Some("</a.css>; rel=preload")));
        upstream.say("HTTP/1.1 102 Processing\r\n\r\n").await;
        assert_eq!(raw.reply().await.unwrap().status, 102);
        upstream.say("HTTP/1.1 103 Early Hints\r\nlink: 2\r\n\r\n").await;
        assert_eq!(raw.reply().await.unwrap().header("link"), Some("2"));
        upstream.say(OK).await;
        let reply = raw.reply().await.unwrap();
        assert_eq!((reply.status, &reply.body[..]), (200, &b"ok"[..]), "round {round}");
        raw.send(GET).await;
    }
}

#[tokio::test]
async fn those_that_come_together_with_the_answer_are_not_lost() {
    let upstream = RawUpstream::start();
    let rules =
        "response_headers: { remove: [x-secret], set: { server: ours }, add: { x-b: \"2\" } }";
    let gateway = Gateway::start(&open(&upstream.url(), "", rules));
    let mut raw = Raw::connect(gateway.address()).await;
    for _ in 0..10 {
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: a\r\nlink: b\r\nx-secret: 1\r\nserver: theirs\r\n\
                     x-request-id: theirs\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\n\r\n";
        upstream.answer(
            format!("HTTP/1.1 100 Continue\r\n\r\n{hints}HTTP/1.1 199 Odd\r\n\r\n{OK}"),
            Then::KeepOpen,
        );
        raw.send(GET).await;
        let seen = raw.reply().await.unwrap();
        let fields: Vec<_> =
            seen.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!((seen.status, &fields[..]), (103, &[("link", "a"), ("link", "b")][..]));
        assert_eq!(raw.reply().await.unwrap().status, 199, "100 is not passed on unasked");
        let reply = raw.reply().await.unwrap();
        assert_eq!((reply.status, reply.header("server")), (200, Some("ours")));
    }
    // In answers without a body, and those of requests with one.
    for (request, status, answer) in [
        (
            "HEAD /x HTTP/1.1\r\nhost: a\r\n\r\n",
            200,
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n",
        ),
        ("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 304, "HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx", 200, OK),
    ] {
        upstream.answer(format!("HTTP/1.1 103 Early Hints\r\n\r\n{answer}"), Then::KeepOpen);
        raw.send(request.as_bytes()).await;
        assert_eq!(raw.reply().await.unwrap().status, 103);
        let method = request.split(' ').next().unwrap();
        assert_eq!(raw.reply_to(method).await.unwrap().status, status, "{request}");
    }
    // The upstream dies behind its hints.
    upstream.answer("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n", Then::Close);
    raw.send(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx").await;
    assert_eq!(raw.reply().await.unwrap().status, 103);
    assert_eq!(raw.reply().await.unwrap().status, 502);
}

#[tokio::test]
async fn pipelined_requests_get_theirs_in_turn() {
    let upstream = RawUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let mut raw = Raw::connect(gateway.address()).await;
    let count = 20;
    // Bodies so large that they are still being written when the next request's hints come.
    let length = 300_000;
    for number in 0..count {
        let mut answer = format!(
            "HTTP/1.1 103 Early Hints\r\nlink: {number}\r\n\r\n\
             HTTP/1.1 200 OK\r\nx-number: {number}\r\ncontent-length: {length}\r\n\r\n"
        )
        .into_bytes();
        answer.extend(vec![b'0' + number; length]);
        upstream.answer(answer, Then::KeepOpen);
    }
    raw.send(&GET.repeat(usize::from(count))).await;
    for number in 0..count {
        let hints = raw.reply().await.unwrap();
        assert_eq!((hints.status, hints.header("link")), (103, Some(&*number.to_string())));
        let reply = raw.reply().await.unwrap();
        assert_eq!((reply.status, reply.header("x-number")), (200, Some(&*number.to_string())));
        assert_eq!(reply.body, vec![b'0' + number; length]);
    }
}

#[tokio::test]
async fn a_flood_of_them_is_no_answer() {
    let upstream = RawUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let processing = "HTTP/1.1 102 Processing\r\n\r\n".to_owned();
    let hint = |bytes| format!("HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n", "x".repeat(bytes));
    for (hints, number, most, status) in [
        (processing.clone(), 256, 256, 200),
        (processing, 257, 256, 502),
        (hint(10_000), 2000, 256, 502),
        // Too large to wait for the caller: left out one by one, and counted.
        (hint(20_000), 256, 0, 200),
        (hint(20_000), 257, 0, 502),
        ("HTTP/1.1 100 Continue\r\n\r\n".to_owned(), 257, 0, 502),
    ] {
        let mut raw = Raw::connect(gateway.address()).await;
        upstream.answer(format!("{}{OK}", hints.repeat(number)), Then::KeepOpen);
        raw.send(GET).await;
        let mut passed = 0;
        let reply = loop {
            let reply = raw.reply().await.unwrap();
            if reply.status >= 200 {
                break reply;
            }
            passed += 1;
        };
        assert_eq!(reply.status, status, "{number} of {hints:.30}");
        assert!(passed <= most, "{passed}");
        // The flood is not read on: the connection goes, the caller's stays.
        upstream.answer(OK, Then::KeepOpen);
        raw.send(GET).await;
        assert_eq!(raw.reply().await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn callers_that_can_not_have_them_get_the_answer_alone() {
    let upstream = RawUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let answer = format!("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n{OK}");
    upstream.answer(answer.clone(), Then::KeepOpen);
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(b"GET /x HTTP/1.0\r\nhost: a\r\n\r\n").await;
    let all = raw.rest().await;
    assert!(
        all.starts_with(b"HTTP/1.0 200 OK\r\n") && all.ends_with(b"ok"),
        "{}",
        all.escape_ascii()
    );

    upstream.answer(answer, Then::KeepOpen);
    let reply = gateway.client_http2().await.send(Request::get("/x"), "").await;
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"ok"[..]));
}

#[tokio::test]
async fn what_the_gateway_answers_itself_has_none() {
    let (hinting, other) = (Talk::start().await, Upstream::start());
    // The route's time ends while hints come; nothing of them follows the answer.
    let timeouts = "timeouts: { response: 200ms }";
    let yaml = super::file(
        "",
        &[&up(&hinting.url(), timeouts), &up(&other.url(), "").replacen("up", "other", 1)],
        &[&super::all(""), "{ name: other, match: { path: /other }, auth: none, upstream: other }"],
    );
    let gateway = Gateway::start(&yaml);
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(GET).await;
    let mut upstream = hinting.accept().await;
    upstream.head().await;
    upstream.say("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n").await;
    assert_eq!(raw.reply().await.unwrap().status, 103);
    assert_eq!(raw.reply().await.unwrap().status, 504);
    raw.send(b"GET /other HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(raw.reply().await.unwrap().body, b"ok");
}

#[tokio::test]
async fn they_stand_between_whole_messages_also_through_tls() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(files.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let folder = files.path().display();
    let tls = format!("tls: {{ cert_file: \"{folder}/tls.crt\", key_file: \"{folder}/tls.key\" }}");
    let upstream = RawUpstream::start();
    let yaml = open(&upstream.url(), "", "");
    let yaml = yaml.replacen("\"127.0.0.1:0\" }", &format!("\"127.0.0.1:0\", {tls} }}"), 1);
    let gateway = Gateway::start(&yaml);
    let roots = obo_gateway::trust::Roots::from_pem(made.cert.pem().as_bytes()).unwrap();
    let config = std::sync::Arc::new(roots.client_config().unwrap());
    let stream = tokio::net::TcpStream::connect(gateway.address()).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
    let requests = 5;
    for _ in 0..requests {
        upstream.answer(format!("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n{OK}"), Then::KeepOpen);
    }
    stream.write_all(&GET.repeat(requests)).await.unwrap();
    let mut all = Vec::new();
    let mut text = String::new();
    while text.matches("\r\n\r\nok").count() < requests {
        let read = crate::support::within("bytes", stream.read_buf(&mut all)).await.unwrap();
        assert!(read > 0, "{}", all.escape_ascii());
        text = String::from_utf8(all.clone()).unwrap();
    }
    for answer in text.split_inclusive("\r\n\r\nok") {
        let start = "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\n";
        assert!(answer.starts_with(start), "{answer}");
    }
}
