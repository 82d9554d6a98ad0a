//! Upstreams that are not there, break, or answer what is no answer; kept connections that
//! turn out to be dead.

use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{all, event, file, open, piece, pieces, up};
use crate::support::client::full;
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::raw_upstream::{RawUpstream, Then};
use crate::support::servers::Server;
use crate::support::upstream::{Answer, AnswerBody, Upstream};
use crate::support::within;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn an_upstream_that_is_not_there_is_502_until_it_comes_back() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let gateway = Gateway::start(&open(&upstream.url(), &format!("protocol: {protocol}"), ""));
        let mut client = gateway.client().await;
        assert_eq!(client.get("/before").await.status, 200);
        upstream.stop().await;
        for (request, body) in [(Request::get("/x"), ""), (Request::post("/x"), "body")] {
            let reply = client.send(request, body).await;
            assert_eq!(reply.outcome(), (502, "upstream_unreachable".into()), "{protocol}");
            let text = String::from_utf8(reply.body.to_vec()).unwrap();
            assert!(!text.contains("127.0.0.1"), "{text}");
        }
        let event = event(&gateway, "/x").await;
        let reason = event["reason"].as_str().unwrap();
        assert!(reason.contains("`up`") && reason.contains(&upstream.authority()), "{reason}");
        assert!(reason.contains("refused"), "{reason}");
        upstream.start_again();
        assert_eq!(client.get("/after").await.status, 200, "{protocol}");
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_502() {
    for bytes in [
        "",
        "garbage\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/9.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-len",
        "HTTP/1.1 200 OK\r\nx-a: b\0c\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\noks",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 0x2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ] {
        let upstream = RawUpstream::start();
        let gateway = Gateway::start(&open(&upstream.url(), "", ""));
        for mut client in [gateway.client().await, gateway.client_http2().await] {
            upstream.answer(bytes, Then::Close);
            let reply = client.get("/x").await;
            assert_eq!(
                reply.outcome(),
                (502, "upstream_unreachable".into()),
                "{}",
                bytes.escape_debug()
            );
            // What came with it is never taken for the answer to the next request.
            upstream.answer(OK, Then::KeepOpen);
            assert_eq!(client.get("/y").await.body, "ok");
            upstream.answer(OK, Then::Close);
            assert_eq!(client.get("/z").await.body, "ok");
        }
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_are_nobodys() {
    let upstream = RawUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let mut client = gateway.client().await;
    upstream
        .answer(format!("{OK}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"), Then::KeepOpen);
    assert_eq!(client.get("/x").await.body, "ok");
    for _ in 0..3 {
        upstream.answer(OK, Then::KeepOpen);
        assert_eq!(client.get("/x").await.body, "ok");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_a_whole_one() {
    for (bytes, sound) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\nzz\r\n", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\n\r\nhel", true),
        ("HTTP/1.0 200 OK\r\n\r\nhel", true),
    ] {
        let upstream = RawUpstream::start();
        let gateway = Gateway::start(&open(&upstream.url(), "", ""));
        for http2 in [false, true] {
            let mut client =
                if http2 { gateway.client_http2().await } else { gateway.client().await };
            upstream.answer(bytes, Then::Close);
            // The head may be lost with the rest.
            let reply = client.try_send(Request::get("/x"), "").await;
            assert_eq!(reply.is_ok(), sound, "{http2} {}", bytes.escape_debug());
        }
        let mut raw = Raw::connect(gateway.address()).await;
        upstream.answer(bytes, Then::Close);
        raw.send(b"GET /raw HTTP/1.1\r\nhost: a\r\n\r\n").await;
        if !sound {
            let rest = raw.rest().await;
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", rest.escape_ascii());
            let event = event(&gateway, "/raw").await;
            let reason = event["reason"].as_str().unwrap_or_default().to_owned();
            assert!(reason.contains("broke off"), "{event:?}");
        }
    }
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "protocol: http2", ""));
    upstream.answer(|_| Answer {
        body: AnswerBody::Abort { start: "hel".into(), length: 5 },
        ..Answer::ok("")
    });
    for mut client in [gateway.client().await, gateway.client_http2().await] {
        let reply = client.try_send(Request::get("/x"), "").await;
        assert!(reply.as_ref().map_or(true, |reply| reply.status == 502), "{reply:?}");
    }
}

#[tokio::test]
async fn what_is_lost_on_a_kept_connection_goes_again_only_if_it_may_happen_twice() {
    let upstream = RawUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let mut client = gateway.client().await;
    for (method, body, again) in [
        ("GET", "", true),
        ("HEAD", "", true),
        ("PUT", "", true),
        ("DELETE", "", true),
        ("OPTIONS", "", true),
        ("PUT", "body", false),
        ("POST", "", false),
        ("POST", "body", false),
        ("PATCH", "body", false),
    ] {
        // A connection is kept …
        upstream.answer(OK, Then::KeepOpen);
        assert_eq!(client.get("/warm").await.status, 200);
        let before = upstream.heads().len();
        // … and closes over the next request.
        upstream.answer("", Then::Close);
        let reply = client.send(Request::builder().method(method).uri("/x"), body).await;
        let heads = upstream.heads().len() - before;
        let outcome = (reply.status.as_u16(), heads);
        assert_eq!(outcome, if again { (204, 2) } else { (502, 1) }, "{method} {body}");
    }
}

#[tokio::test]
async fn what_is_lost_on_a_new_connection_is_lost() {
    let upstream = RawUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    upstream.answer("", Then::Close);
    assert_eq!(gateway.client().await.get("/x").await.status, 502);
    assert_eq!(upstream.heads().len(), 1);
    // Nor is it sent a third time.
    upstream.answer(OK, Then::KeepOpen);
    let mut client = gateway.client().await;
    assert_eq!(client.get("/x").await.status, 200);
    upstream.answer("", Then::Close);
    upstream.answer("", Then::Close);
    assert_eq!(client.get("/x").await.status, 502);
    assert_eq!(upstream.heads().len(), 4);
}

#[tokio::test]
async fn an_http2_connection_that_went_away_is_made_anew() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "protocol: http2", ""));
    let mut client = gateway.client_http2().await;
    for _ in 0..3 {
        assert_eq!(client.get("/x").await.status, 200);
        let (answer, down) = Answer::stream();
        let mut answer = Some(answer);
        upstream.answer(move |_| answer.take().unwrap());
        let request = Request::get("/stream").body(full("")).unwrap();
        let mut body = client.start(request).await.unwrap().into_body();
        down.send(Ok("begun".into())).await.unwrap();
        within("a piece", body.frame()).await.unwrap().unwrap();
        upstream.stop().await;
        assert!(within("the end", body.frame()).await.unwrap().is_err());
        upstream.start_again();
        upstream.answer(|_| Answer::ok("ok"));
    }
    assert_eq!(client.get("/x").await.status, 200);
}

#[tokio::test]
async fn an_http2_connection_is_let_go_when_nobody_uses_it() {
    let (ended, mut endings) = tokio::sync::mpsc::channel(8);
    let (down, events) = tokio::sync::watch::channel(());
    let upstream = Server::start(std::sync::Arc::new(move |stream| {
        let (ended, events) = (ended.clone(), events.clone());
        Box::pin(async move {
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let mut events = events.clone();
                async move {
                    let frames = futures_util::stream::once(async move {
                        if request.uri().path() == "/long" {
                            events.changed().await.unwrap();
                        }
                        Ok::<_, std::convert::Infallible>(Frame::data(bytes::Bytes::from("ok")))
                    });
                    let body = StreamBody::new(Box::pin(frames));
                    Ok::<_, std::convert::Infallible>(http::Response::new(body))
                }
            });
            let builder = http2::Builder::new(TokioExecutor::new());
            builder.serve_connection(TokioIo::new(stream), service).await.ok();
            ended.send(()).await.unwrap();
        })
    }));
    let url = format!("http://{}", upstream.address());
    let keys = "protocol: http2, timeouts: { idle: 100ms }";
    // Another would have a connection of its own while that one carries something.
    let gateway = Gateway::start(&file("workers: 1", &[&up(&url, keys)], &[&all("")]));
    let mut client = gateway.client().await;
    for _ in 0..2 {
        assert_eq!(client.get("/x").await.status, 200);
        within("the end", endings.recv()).await.unwrap();
    }
    // One that carries an answer is in use, and others share it meanwhile.
    let request = Request::get("/long").body(full("")).unwrap();
    let mut long = client.start(request).await.unwrap().into_body();
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        assert_eq!(gateway.client().await.get("/x").await.status, 200);
    }
    endings.try_recv().unwrap_err();
    down.send(()).unwrap();
    assert_eq!(within("the rest", long.frame()).await.unwrap().unwrap().into_data().unwrap(), "ok");
    within("the end", endings.recv()).await.unwrap();
    endings.try_recv().unwrap_err();
}

#[tokio::test]
async fn an_upstream_that_closes_over_an_upload_is_502() {
    let upstream = Upstream::start();
    for protocol in ["http1", "http2"] {
        let gateway = Gateway::start(&open(&upstream.url(), &format!("protocol: {protocol}"), ""));
        upstream.answer(|_| Answer {
            hang_up: true,
            reading: crate::support::upstream::Reading::Beside,
            ..Answer::ok("")
        });
        for mut client in [gateway.client().await, gateway.client_http2().await] {
            let (send, body) = pieces();
            send.send(piece("abc")).await.unwrap();
            let response = client.start(Request::post("/x").body(body).unwrap()).await.unwrap();
            assert_eq!(response.status(), 502, "{protocol}");
            drop(send);
        }
    }
}

#[tokio::test]
async fn a_connection_that_says_close_is_not_kept() {
    let upstream = RawUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    let mut client = gateway.client().await;
    for number in 1..=3 {
        let close = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
        upstream.answer(close, Then::KeepOpen);
        let reply = client.send(Request::post("/x"), "body").await;
        assert_eq!((reply.status.as_u16(), upstream.heads().len()), (200, number));
        assert_eq!(reply.header("connection"), None, "it is not the caller's connection");
    }
}
