//! Where a message ends, and what may stand behind it: answers without a body, lengths that are none,
//! trailers. What ends before it is whole is in `broken_off.rs`.

mod broken_off;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body::Frame;
use http_body_util::BodyExt as _;

use super::{open, piece, pieces};
use crate::support::client::{Client, full};
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::raw_http2_upstream::{DATA, END_STREAM, HEADERS, Http2Talking};
use crate::support::raw_upstream::{RawUpstream, Then};
use crate::support::talk::Talk;
use crate::support::upstream::{Answer, Reading, Upstream};
use crate::support::within;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn answers_end_where_they_say() {
    let upstream = RawUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let mut raw = Raw::connect(gateway.address()).await;
    let mut http2 = gateway.client_http2().await;
    http2.is_not_a_gateway();
    for (method, answer, status, length, body) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 200, Some("5"), ""),
        ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", 200, None, ""),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", 200, None, ""),
        ("HEAD", "HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", 404, Some("0"), ""),
        ("HEAD", "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", 200, Some("5"), ""),
        ("GET", "HTTP/1.1 204 No\r\n\r\n", 204, None, ""),
        ("GET", "HTTP/1.1 204 No\r\ncontent-length: 0\r\n\r\n", 204, None, ""),
        ("GET", "HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\nhello", 204, None, ""),
        ("GET", "HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 204, None, ""),
        ("GET", "HTTP/1.1 304 No\r\netag: \"x\"\r\n\r\n", 304, None, ""),
        ("GET", "HTTP/1.1 304 No\r\ncontent-length: 5\r\n\r\n", 304, Some("5"), ""),
        ("HEAD", "HTTP/1.1 304 No\r\ncontent-length: 5\r\n\r\n", 304, Some("5"), ""),
        ("GET", "HTTP/1.1 205 Reset\r\ncontent-length: 0\r\n\r\n", 205, Some("0"), ""),
        ("GET", "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, Some("5"), "hello"),
        ("GET", "HTTP/1.0 200 OK\r\n\r\nhello", 200, None, "hello"),
        ("GET", "HTTP/1.1 200 OK\r\n\r\nhello", 200, None, "hello"),
        ("GET", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", 200, None, ""),
        ("GET", "HTTP/1.1 500\r\ncontent-length: 5\r\n\r\nhello", 500, Some("5"), "hello"),
        ("GET", "HTTP/1.1 999 Odd\r\ncontent-length: 5\r\n\r\nhello", 999, Some("5"), "hello"),
        ("GET", "HTTP/1.1 099 Odd\r\ncontent-length: 5\r\n\r\nhello", 502, None, "problem"),
        ("GET", "HTTP/1.1 1000 Odd\r\ncontent-length: 5\r\n\r\nhello", 502, None, "problem"),
        ("GET", "HTTP/1.1 103 Odd\r\ncontent-length: 5\r\n\r\nhello", 502, None, "problem"),
        ("GET", "HTTP/1.1 199 Odd\r\n\r\n", 502, None, "problem"),
    ] {
        let shown = answer.escape_debug();
        upstream.answer(answer, Then::Close);
        raw.send(format!("{method} /x HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await;
        let mut reply = raw.reply_to(method).await.unwrap();
        while reply.status < 200 {
            reply = raw.reply_to(method).await.unwrap();
        }
        assert_eq!(reply.status, status, "{shown}");
        let text = String::from_utf8(reply.body.clone()).unwrap();
        if body == "problem" {
            assert!(text.contains("upstream_unreachable"), "{shown}: {text}");
        } else {
            // hyper leaves the length out of a 304, as it may (RFC 9110 §15.4.5).
            let length = length.filter(|_| status != 304 || method == "HEAD");
            assert_eq!((reply.header("content-length"), &*text), (length, body), "{shown}");
            let bodiless = method == "HEAD" || status == 204 || status == 304;
            let chunked = (length.is_none() && !bodiless).then_some("chunked");
            assert_eq!(reply.header("transfer-encoding"), chunked, "{shown}");
        }
        assert_eq!(reply.header("connection"), None, "{shown}: it is the upstream's that ended");

        upstream.answer(answer, Then::Close);
        let reply = http2.send(Request::builder().method(method).uri("/x"), "").await;
        assert_eq!(reply.status.as_u16(), status, "{shown}");
        if body != "problem" {
            assert_eq!(
                (reply.header("content-length"), &reply.body[..]),
                (length, body.as_bytes()),
                "{shown}"
            );
            assert_eq!(reply.header("transfer-encoding"), None);
        }
    }
    // Both connections are where they were.
    upstream.answer(OK, Then::KeepOpen);
    raw.send(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(raw.reply().await.unwrap().body, b"ok");
}

#[tokio::test]
async fn a_length_that_is_none_is_not_passed_on_where_no_body_is_due_either() {
    let upstream = RawUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let talk = Talk::start().await;
    let over_http2 = Gateway::start(&open(&talk.url(), "protocol: http2", ""));
    let mut http2_upstream = None;
    let mut http2_client = over_http2.client_http2().await;
    http2_client.is_not_a_gateway();
    for (length, good) in [
        ("5", true),
        // As many digits as a client of HTTP/2 made with hyper takes.
        ("9223372036854775807", true),
        ("18446744073709551616", false),
        ("-5", false),
        ("+5", false),
        ("5x", false),
        ("5, 5", false),
        ("", false),
    ] {
        for (method, status) in [("HEAD", 200), ("GET", 304), ("HEAD", 304)] {
            let expected = if good { status } else { 502 };
            let answer = format!("HTTP/1.1 {status} Odd\r\ncontent-length: {length}\r\n\r\n");
            for mut client in [gateway.client().await, gateway.client_http2().await] {
                upstream.answer(answer.clone(), Then::Close);
                client.is_not_a_gateway();
                let reply = client.send(Request::builder().method(method).uri("/x"), "").await;
                assert_eq!(reply.status.as_u16(), expected, "{answer} to {method}");
            }

            let request = Request::builder().method(method).uri("/x");
            let serving = async {
                if http2_upstream.is_none() {
                    http2_upstream = Some(Http2Talking::begin(talk.accept().await).await);
                }
                let upstream = http2_upstream.as_mut().unwrap();
                let stream = upstream.next(HEADERS).await.stream;
                let fields = [(":status", &*status.to_string()), ("content-length", length)];
                upstream.fields(END_STREAM, stream, &fields).await;
            };
            let (reply, ()) = tokio::join!(http2_client.send(request, ""), serving);
            assert_eq!(reply.status.as_u16(), expected, "HTTP/2 {status}: {length} to {method}");
        }
    }
}

#[tokio::test]
async fn http2_upstreams_may_say_what_is_passed_over() {
    let talk = Talk::start().await;
    let gateway = Gateway::start(&open(&talk.url(), "protocol: http2", ""));
    let (sender, mut calls) = tokio::sync::mpsc::channel::<&str>(1);
    let address = gateway.address();
    let client = tokio::spawn(async move {
        let mut raw = Raw::connect(address).await;
        let mut http2 = Client::http2(address).await;
        http2.is_not_a_gateway();
        let mut replies = Vec::new();
        while let Some(path) = calls.recv().await {
            if path == "/raw" {
                let head = "GET /raw HTTP/1.1\r\nhost: a\r\nte: trailers\r\n\r\n";
                raw.send(head.as_bytes()).await;
                let reply = raw.reply().await.unwrap();
                replies.push((
                    reply.status,
                    reply.header("content-length").map(str::to_owned),
                    reply.body,
                ));
            } else {
                let reply = http2.get(path).await;
                let length = reply.header("content-length").map(str::to_owned);
                replies.push((reply.status.as_u16(), length, reply.body.to_vec()));
            }
        }
        replies
    });
    let mut upstream = None;
    for path in ["/raw", "/http2"] {
        sender.send(path).await.unwrap();
        if upstream.is_none() {
            upstream = Some(Http2Talking::begin(talk.accept().await).await);
        }
        let upstream = upstream.as_mut().unwrap();
        // Informational answers: nobody is told, and the final one comes.
        let stream = upstream.next(HEADERS).await.stream;
        for status in ["103", "100", "199"] {
            upstream.fields(0, stream, &[(":status", status), ("link", "x")]).await;
        }
        upstream.fields(0, stream, &[(":status", "200")]).await;
        upstream.send(DATA, END_STREAM, stream, b"ok").await;
        // A body where none may be.
        for status in ["204", "304"] {
            sender.send(path).await.unwrap();
            let stream = upstream.next(HEADERS).await.stream;
            upstream.fields(0, stream, &[(":status", status)]).await;
            upstream.send(DATA, END_STREAM, stream, b"evil").await;
        }
    }
    drop(sender);
    let replies = within("all answers", client).await.unwrap();
    let expected = [(200, &b"ok"[..]), (204, b""), (304, b"")].repeat(2);
    let found: Vec<_> = replies.iter().map(|(status, _, body)| (*status, &body[..])).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn trailers_of_http2_reach_a_caller_of_http1_as_far_as_they_can() {
    let talk = Talk::start().await;
    let gateway = Gateway::start(&open(&talk.url(), "protocol: http2", ""));
    let mut upstream = None;
    for (head, trailers, passed) in [
        (
            &[("trailer", "x-sum"), ("content-length", "2")][..],
            &[("x-sum", "1")][..],
            "x-sum: 1\r\n",
        ),
        (&[("trailer", "x-sum")], &[("x-sum", "1"), ("x-other", "2")], "x-sum: 1\r\n"),
        (
            &[("content-type", "application/grpc")],
            &[("grpc-status", "5"), ("grpc-message", "no")],
            "grpc-status: 5\r\ngrpc-message: no\r\n",
        ),
        // Of a name that nobody could know beforehand.
        (&[("content-type", "text/plain")], &[("x-sum", "1")], ""),
    ] {
        for te in ["te: trailers\r\n", ""] {
            let mut raw = Raw::connect(gateway.address()).await;
            let request = format!("GET /x HTTP/1.1\r\nhost: a\r\n{te}connection: close\r\n\r\n");
            raw.send(request.as_bytes()).await;
            if upstream.is_none() {
                upstream = Some(Http2Talking::begin(talk.accept().await).await);
            }
            let upstream = upstream.as_mut().unwrap();
            let stream = upstream.next(HEADERS).await.stream;
            upstream.fields(0, stream, &[&[(":status", "200")], head].concat()).await;
            upstream.send(DATA, 0, stream, b"ok").await;
            upstream.fields(END_STREAM, stream, trailers).await;
            let all = String::from_utf8(raw.rest().await).unwrap();
            let body = all.split_once("\r\n\r\n").unwrap().1;
            let by_length = te.is_empty() && head.iter().any(|(name, _)| *name == "content-length");
            let passed = if te.is_empty() { "" } else { passed };
            let expected =
                if by_length { "ok".into() } else { format!("2\r\nok\r\n0\r\n{passed}\r\n") };
            assert_eq!(body, expected, "{head:?} {te}");
        }
    }
}

#[tokio::test]
async fn trailers_of_an_http2_request_of_known_length_reach_an_http1_upstream() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "protocol: http1", ""));
    let mut client = gateway.client_http2().await;
    let (send, body) = pieces();
    let request = Request::post("/x").header("content-length", "5").header("trailer", "x-sum");
    let request = request.body(body).unwrap();
    let sums =
        HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from_static("1"))]);
    let trailers = sums.clone();
    let sending = async {
        send.send(piece("hello")).await.unwrap();
        send.send(Ok(Frame::trailers(trailers))).await.unwrap();
        drop(send);
    };
    let (response, ()) = tokio::join!(client.start(request), sending);
    assert_eq!(response.unwrap().status(), 200);
    assert_eq!(upstream.last().body.trailers, Some(sums));
    assert_eq!(upstream.last().body.length, 5);
}

/// Whoever merges trailers into the head would else get what the route took out or set itself.
#[tokio::test]
async fn what_a_route_sets_or_removes_does_not_come_as_a_trailer() {
    let upstream = Upstream::start();
    let rules = "request_headers: { set: { x-set: ours }, remove: [x-gone] }, \
                 response_headers: { set: { x-set: ours }, remove: [x-gone] }";
    let gateway = Gateway::start(&open(&upstream.url(), "protocol: http1", rules));
    let field = |name| (HeaderName::from_static(name), HeaderValue::from_static("theirs"));
    let trailers = HeaderMap::from_iter(["x-set", "x-gone", "content-type", "x-sum"].map(field));
    let answered = trailers.clone();
    upstream.answer(move |_| Answer { trailers: Some(answered.clone()), ..Answer::ok("ok") });
    let mut client = gateway.client_http2().await;
    let (send, body) = pieces();
    let request = Request::post("/x").header("trailer", "x-set, x-gone, content-type, x-sum");
    let request = request.header("te", "trailers").body(body).unwrap();
    let sending = async {
        send.send(piece("hello")).await.unwrap();
        send.send(Ok(Frame::trailers(trailers))).await.unwrap();
        drop(send);
    };
    let (response, ()) = tokio::join!(client.start(request), sending);
    let response = response.unwrap();
    assert_eq!(response.headers()["x-set"], "ours");
    let passed = response.into_body().collect().await.unwrap().trailers().cloned();
    let sums = Some(HeaderMap::from_iter([field("x-sum")]));
    assert_eq!(passed, sums);
    assert_eq!(upstream.last().body.trailers, sums);
}

#[tokio::test]
async fn events_come_one_by_one_through_tls_and_http2() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str| files.path().join(name);
    std::fs::write(file("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(file("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let folder = files.path().display();
    let tls = format!("tls: {{ cert_file: \"{folder}/tls.crt\", key_file: \"{folder}/tls.key\" }}");
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let yaml = open(&upstream.url(), &format!("protocol: {protocol}"), "");
        let yaml = yaml.replacen("\"127.0.0.1:0\" }", &format!("\"127.0.0.1:0\", {tls} }}"), 1);
        let gateway = Gateway::start(&yaml);
        for alpn in ["http/1.1", "h2"] {
            let mut client = Client::tls(gateway.address(), &made.cert.pem(), Some(alpn)).await;
            let (answer, down) = Answer::stream();
            let answer = answer.header("content-type", "text/event-stream");
            let mut answer = Some(Answer { reading: Reading::Before, ..answer });
            upstream.answer(move |_| answer.take().unwrap());
            let request = Request::get("/events").body(full("")).unwrap();
            let mut body = client.start(request).await.unwrap().into_body();
            for number in 0..20 {
                let text = format!("data: {number}\n\n");
                down.send(Ok(Bytes::from(text.clone()))).await.unwrap();
                // The next is not sent before this one is here.
                let frame = within("the event", body.frame()).await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), text, "{protocol} {alpn}");
            }
            drop(down);
            assert_eq!(within("the end", body.collect()).await.unwrap().to_bytes(), "");
        }
    }
}
