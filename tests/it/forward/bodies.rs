//! Bodies: how they are framed on the way, limits, early answers, `Expect`, broken ones.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;

use super::{event, open, piece, pieces};
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::raw_upstream::RawUpstream;
use crate::support::servers::PeerError;
use crate::support::upstream::{Answer, AnswerBody, Reading, Upstream};
use crate::support::within;

#[tokio::test]
async fn a_body_keeps_its_framing() {
    let upstream = RawUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let mut raw = Raw::connect(gateway.address()).await;
    for (sent, framing) in [
        ("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody", Some("content-length: 4")),
        ("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", Some("content-length: 0")),
        ("GET /a HTTP/1.1\r\nhost: a\r\n\r\n", None),
        ("DELETE /a HTTP/1.1\r\nhost: a\r\n\r\n", None),
    ] {
        raw.send(sent.as_bytes()).await;
        assert_eq!(raw.reply().await.unwrap().status, 204);
        let head = String::from_utf8(upstream.heads().pop().unwrap()).unwrap();
        let found: Vec<&str> = head
            .lines()
            .filter(|line| line.starts_with("content-length") || line.starts_with("transfer-enc"))
            .collect();
        assert_eq!(found, framing.into_iter().collect::<Vec<_>>(), "{sent}");
    }
    let upstream = Upstream::start();
    upstream.answer(|_| Answer { body: AnswerBody::Echo, ..Answer::ok("") });
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(
        b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(raw.reply().await.unwrap().body, b"hello");
    assert_eq!(upstream.last().value("transfer-encoding").as_deref(), Some("chunked"));
    raw.send(b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert_eq!(raw.reply().await.unwrap().body, b"");
    assert!(upstream.last().body.complete);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_not_lost_whatever_the_method() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let gateway = Gateway::start(&open(&upstream.url(), &format!("protocol: {protocol}"), ""));
        for http2 in [false, true] {
            for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST"] {
                let mut client =
                    if http2 { gateway.client_http2().await } else { gateway.client().await };
                let (send, body) = pieces();
                let request = Request::builder().method(method).uri("/x");
                // The client's own hyper is told in the same way.
                let request =
                    if http2 { request } else { request.header("transfer-encoding", "chunked") };
                let sending = async {
                    send.send(piece("hel")).await.unwrap();
                    send.send(piece("lo")).await.unwrap();
                    drop(send);
                };
                let request = request.body(body).unwrap();
                let (response, ()) = tokio::join!(client.start(request), sending);
                assert_eq!(response.unwrap().status(), 200, "{method} {protocol} {http2}");
                let seen = upstream.last();
                assert_eq!(seen.method.as_str(), method);
                let body = (seen.body.complete, &seen.body.start[..]);
                assert_eq!(body, (true, &b"hello"[..]), "{method} {protocol} {http2}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_may_come_while_the_body_is_on_its_way() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let gateway = Gateway::start(&open(&upstream.url(), &format!("protocol: {protocol}"), ""));
        for mut client in [gateway.client().await, gateway.client_http2().await] {
            upstream.answer(|_| Answer { reading: Reading::Beside, ..Answer::ok("early") });
            let (send, body) = pieces();
            send.send(piece("first")).await.unwrap();
            let request = Request::post("/x").body(body).unwrap();
            let mut answer = client.start(request).await.unwrap().into_body();
            let first = within("the early answer", answer.frame()).await.unwrap().unwrap();
            assert_eq!(first.into_data().unwrap(), "early");
            send.send(piece("second")).await.unwrap();
            drop(send);
            let what = "all of the body";
            let seen = upstream.seen_when(what, |seen| seen.last().unwrap().body.complete).await;
            assert_eq!(seen.last().unwrap().body.start, b"firstsecond");
            assert_eq!(client.get("/next").await.status, 200, "{protocol}");
        }
    }
}

#[tokio::test]
async fn what_is_sent_goes_on_at_once_both_ways() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let gateway = Gateway::start(&open(&upstream.url(), &format!("protocol: {protocol}"), ""));
        for mut client in [gateway.client().await, gateway.client_http2().await] {
            let (answer, down) = Answer::stream();
            let mut answer = Some(answer.header("content-type", "text/event-stream"));
            upstream.answer(move |_| answer.take().unwrap());
            let (up, body) = pieces();
            let request = Request::post("/x").body(body).unwrap();
            let mut answer = client.start(request).await.unwrap().into_body();
            for number in 1..=3_u64 {
                up.send(piece("ping")).await.unwrap();
                let came = |seen: &[crate::support::seen::Seen]| {
                    seen.last().unwrap().body.length == 4 * number
                };
                upstream.seen_when("the piece", came).await;
                down.send(Ok(Bytes::from(format!("data: {number}\n\n")))).await.unwrap();
                let frame = within("the event", answer.frame()).await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), format!("data: {number}\n\n"));
            }
            drop((up, down));
            let rest = within("the end", answer.collect()).await.unwrap();
            assert_eq!(rest.to_bytes(), "");
        }
    }
}

#[tokio::test]
async fn expect_is_answered_when_the_body_is_wanted() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", "max_body_bytes: 10B"));
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(b"POST /a HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
        .await;
    assert_eq!(raw.reply().await.unwrap().status, 100);
    raw.send(b"body").await;
    assert_eq!(raw.reply().await.unwrap().status, 200);
    let expected = upstream.last().value("expect");
    assert_eq!((upstream.last().body.length, expected.as_deref()), (4, Some("100-continue")));
    // One that will not be taken is not asked for.
    raw.send(b"POST /a HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 11\r\n\r\n")
        .await;
    assert_eq!(raw.reply().await.unwrap().status, 413);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_body_may_be_as_large_as_the_route_takes_and_no_larger() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let keys = format!("protocol: {protocol}");
        let gateway = Gateway::start(&open(&upstream.url(), &keys, "max_body_bytes: 10B"));
        for http2 in [false, true] {
            let connect = async || {
                if http2 { gateway.client_http2().await } else { gateway.client().await }
            };
            let mut client = connect().await;
            assert_eq!(client.send(Request::post("/x"), "0123456789").await.status, 200);
            let before = upstream.count();
            let reply = client.send(Request::post("/x"), "0123456789a").await;
            assert_eq!(reply.outcome(), (413, "body_too_large".into()), "declared");
            assert_eq!(upstream.count(), before, "it did not get there");

            let mut client = connect().await;
            for (last, outcome) in [("9", (200, "")), ("9a", (413, "body_too_large"))] {
                let (send, body) = pieces();
                let request = Request::post("/chunked").body(body).unwrap();
                let sending = async {
                    send.send(piece("012345678")).await.unwrap();
                    send.send(piece(last)).await.unwrap();
                    drop(send);
                };
                let (response, ()) = tokio::join!(client.start(request), sending);
                let response = response.unwrap();
                assert_eq!(response.status(), outcome.0, "{protocol} {last}");
                let text = response.into_body().collect().await.unwrap().to_bytes();
                assert!(String::from_utf8_lossy(&text).contains(outcome.1));
            }
        }
    }
    assert!(!upstream.last().body.complete, "what is too large ends as an aborted request");
}

#[tokio::test]
async fn a_body_that_pauses_too_long_is_408() {
    let upstream = Upstream::start();
    let yaml = open(&upstream.url(), "", "")
        .replace("server: {  }", "server: { body_idle_timeout: 100ms }");
    let gateway = Gateway::start(&yaml);
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello").await;
    let reply = raw.reply().await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
    assert!(raw.is_closed().await);
    assert_eq!(event(&gateway, "/a").await["code"], "request_timeout");

    let mut client = gateway.client_http2().await;
    let (send, body) = pieces();
    send.send(piece("hello")).await.unwrap();
    let response = client.start(Request::post("/b").body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), 408);
    drop(send);
}

#[tokio::test]
async fn a_body_that_never_comes_is_408_also_where_the_upstreams_time_ends_first() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let keys = format!("protocol: {protocol}, timeouts: {{ response: 100ms }}");
        let gateway = Gateway::start(&open(&upstream.url(), &keys, ""));
        for (begin, status, code) in
            [("", 408, "request_timeout"), ("hello", 504, "upstream_timeout")]
        {
            let mut raw = Raw::connect(gateway.address()).await;
            let head = format!("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{begin}");
            raw.send(head.as_bytes()).await;
            let reply = raw.reply().await.unwrap();
            assert_eq!(reply.status, status, "{protocol} {begin}");
            assert!(String::from_utf8(reply.body).unwrap().contains(code));

            let mut client = gateway.client_http2().await;
            let (send, body) = pieces();
            if !begin.is_empty() {
                send.send(piece(begin)).await.unwrap();
            }
            let response = client.start(Request::post("/b").body(body).unwrap()).await.unwrap();
            assert_eq!(response.status(), status, "{protocol} {begin}");
            drop(send);
        }
    }
}

#[tokio::test]
async fn a_body_may_pause_while_its_answer_comes_and_in_a_grpc_call() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let yaml = open(&upstream.url(), &format!("protocol: {protocol}"), "")
            .replace("server: {  }", "server: { body_idle_timeout: 100ms }");
        let gateway = Gateway::start(&yaml);
        let pause = || tokio::time::sleep(Duration::from_millis(350));
        for (http2, grpc) in [(false, false), (true, false), (true, true)] {
            let mut client =
                if http2 { gateway.client_http2().await } else { gateway.client().await };
            let (answer, down) = Answer::stream();
            let gate = Gate::new();
            let mut answer = Some(if grpc { answer.held_by(&gate) } else { answer });
            upstream.answer(move |_| answer.take().unwrap());
            let (up, body) = pieces();
            let content_type = if grpc { "application/grpc+proto" } else { "text/plain" };
            let request = Request::post("/x").header("content-type", content_type).body(body);
            let call = tokio::spawn(async move { client.start(request.unwrap()).await });
            up.send(piece("one")).await.unwrap();
            if grpc {
                // The head is not there yet, and the other side just listens.
                gate.arrived(1).await;
                pause().await;
                gate.open();
            }
            let mut answer = call.await.unwrap().unwrap().into_body();
            pause().await;
            up.send(piece("two")).await.unwrap();
            let came = |seen: &[crate::support::seen::Seen]| seen.last().unwrap().body.length == 6;
            upstream.seen_when("the piece", came).await;
            down.send(Ok("heard".into())).await.unwrap();
            let frame = within("the answer", answer.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), "heard", "{protocol} {http2} {grpc}");
            drop((up, down));
            within("the end", answer.collect()).await.unwrap();
        }
        // Once the answer is over, what is left must come in time.
        upstream.answer(|_| Answer { reading: Reading::Beside, ..Answer::ok("early") });
        let mut raw = Raw::connect(gateway.address()).await;
        raw.send(b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello").await;
        assert_eq!(raw.reply().await.unwrap().status, 200);
        assert!(raw.is_closed().await);
    }
}

#[tokio::test]
async fn a_broken_body_is_the_callers_fault() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    for (path, rest) in [
        ("/size", "zz\r\n"),
        ("/end", "3\r\nabcd\r\n"),
        ("/huge", "fffffffffffffffff\r\n"),
        ("/trailer", "0\r\nno colon\r\n\r\n"),
    ] {
        let mut raw = Raw::connect(gateway.address()).await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        raw.send(head.as_bytes()).await;
        raw.send(b"3\r\nabc\r\n").await;
        raw.send(rest.as_bytes()).await;
        let Some(reply) = raw.reply().await else { panic!("{path}: it closes without a word") };
        assert_eq!((reply.status, reply.header("connection")), (400, Some("close")), "{path}");
        assert!(raw.is_closed().await, "{path}");
        let event = event(&gateway, path).await;
        assert_eq!((&event["status"], &event["code"]), (&400.into(), &"bad_request".into()));
    }
    assert!(upstream.seen().iter().all(|seen| !seen.body.complete), "no request ended well");
    assert_eq!(gateway.client().await.get("/good").await.status, 200);
}

#[tokio::test]
async fn a_body_that_breaks_under_an_answer_ends_both() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let (answer, down) = Answer::stream();
    let mut answer = Some(answer);
    upstream.answer(move |_| answer.take().unwrap());
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .await;
    down.send(Ok("begun".into())).await.unwrap();
    upstream.seen_when("the piece", |seen| seen.last().is_some_and(|s| s.body.length == 3)).await;
    raw.send(b"zz\r\n").await;
    let rest = raw.rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "no clean end: {}", rest.escape_ascii());
    // The upstream's own server notices when it writes.
    let noticed = async { while down.send(Ok("more".into())).await.is_ok() {} };
    within("the upstream to see it", noticed).await;
    assert!(!upstream.last().body.complete);
}

#[tokio::test]
async fn a_caller_who_goes_away_takes_the_upstreams_work_along() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let gateway = Gateway::start(&open(&upstream.url(), &format!("protocol: {protocol}"), ""));
        for (number, http2) in [false, true].into_iter().enumerate() {
            let connect = async || {
                if http2 { gateway.client_http2().await } else { gateway.client().await }
            };
            // While the answer is waited for.
            let gate = Gate::new();
            let hold = gate.clone();
            upstream.answer(move |_| Answer::ok("late").held_by(&hold));
            let mut client = connect().await;
            let path = format!("/waiting{number}");
            let target = path.clone();
            let call = tokio::spawn(async move { client.get(&target).await });
            gate.arrived(1).await;
            call.abort();
            call.await.unwrap_err();
            let logged = event(&gateway, &path).await;
            assert_eq!(logged["status"], 499, "{protocol} {http2}");
            gate.open();

            // While the answer comes.
            let (answer, down) = Answer::stream();
            let mut answer = Some(answer);
            upstream.answer(move |_| answer.take().unwrap());
            let mut client = connect().await;
            let path = format!("/streaming{number}");
            let request = Request::get(&path).body(crate::support::client::full("")).unwrap();
            let mut body = client.start(request).await.unwrap().into_body();
            down.send(Ok("begun".into())).await.unwrap();
            within("the first piece", body.frame()).await.unwrap().unwrap();
            drop((body, client));
            within("the upstream to see it", down.closed()).await;
            let logged = event(&gateway, &path).await;
            assert_eq!((&logged["status"], &logged["bytes_out"]), (&499.into(), &5.into()));
        }
        let metrics = gateway.metrics().await;
        let counted = r#"obo_gateway_requests_total{route="all",method="GET",status="200"} 2"#;
        assert!(metrics.contains(counted), "499 is in the log only:\n{metrics}");
        assert!(!metrics.contains("status=\"499\""));
    }
}

#[tokio::test]
async fn a_caller_who_breaks_off_its_body_is_no_whole_request() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let gateway = Gateway::start(&open(&upstream.url(), &format!("protocol: {protocol}"), ""));
        // HTTP/2: the stream is reset.
        let mut client = gateway.client_http2().await;
        let (send, body) = pieces();
        let request = Request::post("/reset").body(body).unwrap();
        let call = tokio::spawn(async move { client.start(request).await.map(drop) });
        send.send(piece("abc")).await.unwrap();
        let came = |seen: &[crate::support::seen::Seen]| {
            seen.last().is_some_and(|seen| seen.target == "/reset" && seen.body.length == 3)
        };
        upstream.seen_when("the piece", came).await;
        send.send(Err(PeerError::scripted())).await.unwrap();
        call.await.unwrap().unwrap_err();
        event(&gateway, "/reset").await;
        // HTTP/1.1: the connection ends short of the length.
        let mut raw = Raw::connect(gateway.address()).await;
        raw.send(b"POST /short HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc").await;
        upstream
            .seen_when("the piece", |seen| {
                seen.last().is_some_and(|seen| seen.target == "/short" && seen.body.length == 3)
            })
            .await;
        raw.finish().await;
        raw.rest().await;
        let status = event(&gateway, "/short").await["status"].as_u64().unwrap();
        assert!([400, 499].contains(&status), "{status}");
        assert!(upstream.seen().iter().all(|seen| !seen.body.complete), "{protocol}");
    }
}

#[tokio::test]
async fn a_caller_who_takes_nothing_is_given_up() {
    let upstream = Upstream::start();
    upstream.answer(|_| Answer { body: AnswerBody::Bulk(100 << 20), ..Answer::ok("") });
    let yaml = open(&upstream.url(), "", "")
        .replace("server: {  }", "server: { body_idle_timeout: 200ms }");
    let gateway = Gateway::start(&yaml);
    let mut raw = Raw::connect(gateway.address()).await;
    raw.send(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let event = event(&gateway, "/x").await;
    assert_eq!(event["status"], 499);
    assert!(event["duration_ms"].as_f64().unwrap() < Duration::from_secs(15).as_secs_f64() * 1e3);
}
