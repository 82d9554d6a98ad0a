//! Callers who go away, uploads and answers that end before they are whole.

use std::sync::Arc;

use http::Request;
use http_body_util::BodyExt as _;
use obo_gateway::dev::DevTls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::super::{event, open, piece, pieces};
use crate::support::client::full;
use crate::support::gateway::Gateway;
use crate::support::raw_http2::{More, RawHttp2};
use crate::support::raw_http2_upstream::{
    CANCEL, DATA, END_STREAM, GOAWAY, HEADERS, Http2Talking, RST_STREAM,
};
use crate::support::servers::Server;
use crate::support::talk::Talk;
use crate::support::upstream::{Answer, Reading, Upstream};
use crate::support::within;

#[tokio::test]
async fn a_connection_without_end_of_tls_is_no_end_of_a_body() {
    let tls = DevTls::generate().unwrap();
    let ca = tempfile::NamedTempFile::new().unwrap();
    tls.write_ca_file(ca.path()).await.unwrap();
    for (close_notify, sound) in [(true, true), (false, false)] {
        let mut config = (*tls.server_config()).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let upstream = Server::start(Arc::new(move |stream| {
            let acceptor = acceptor.clone();
            Box::pin(async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                let mut head = [0; 4096];
                assert!(stream.read(&mut head).await.unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await.unwrap();
                stream.flush().await.unwrap();
                if close_notify {
                    stream.shutdown().await.unwrap();
                } else {
                    stream.get_mut().0.shutdown().await.unwrap();
                }
            })
        }));
        let url = format!("https://localhost:{}", upstream.address().port());
        let keys = format!("tls: {{ ca_file: \"{}\" }}", ca.path().display());
        let gateway = Gateway::start(&open(&url, &keys, ""));
        for mut client in [gateway.client().await, gateway.client_http2().await] {
            let reply = client.try_send(Request::get("/x"), "").await;
            assert_eq!(reply.is_ok_and(|reply| reply.body == "hello"), sound, "{close_notify}");
        }
    }
}

#[tokio::test]
async fn an_http2_answer_that_breaks_off_is_never_a_whole_one() {
    let talk = Talk::start().await;
    let gateway = Gateway::start(&open(&talk.url(), "protocol: http2", ""));
    for end in ["reset", "no error", "goaway", "gone", "length"] {
        for http2 in [false, true] {
            let mut client =
                if http2 { gateway.client_http2().await } else { gateway.client().await };
            let call = tokio::spawn(async move {
                let reply = client.try_send(Request::get("/x"), "").await;
                reply.map_err(|error| error.to_string())
            });
            let mut upstream = Http2Talking::begin(talk.accept().await).await;
            let stream = upstream.next(HEADERS).await.stream;
            let head = [(":status", "200"), ("content-length", "10")];
            let head = if end == "length" { &head[..] } else { &head[..1] };
            upstream.fields(0, stream, head).await;
            upstream.send(DATA, 0, stream, b"hello").await;
            match end {
                "reset" => upstream.send(RST_STREAM, 0, stream, &[0, 0, 0, 2]).await,
                // Nothing went wrong, it says, and yet it is not whole.
                "no error" => upstream.send(RST_STREAM, 0, stream, &[0, 0, 0, 0]).await,
                // It has not seen our request.
                "goaway" => upstream.send(GOAWAY, 0, 0, &[0; 8]).await,
                "gone" => upstream.finish().await,
                _ => upstream.send(DATA, END_STREAM, stream, b"").await,
            }
            let reply = within("the end", call).await.unwrap();
            assert!(reply.is_err(), "{end} {http2}: {reply:?}");
            upstream.finish().await;
        }
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_resets_the_stream_and_no_more() {
    let talk = Talk::start().await;
    let gateway = Gateway::start(&open(&talk.url(), "protocol: http2", ""));
    let mut upstream = None;
    let mut number = 0;
    for http2 in [false, true] {
        for phase in ["before the head", "in the answer", "in the upload"] {
            number += 1;
            let path = format!("/{number}");
            let (send, upload) = pieces();
            let (said, mut hears) = tokio::sync::mpsc::channel(1);
            let mut client =
                if http2 { gateway.client_http2().await } else { gateway.client().await };
            let body = if phase == "in the upload" { upload } else { full("") };
            let request = Request::post(&path).body(body).unwrap();
            let call = tokio::spawn(async move {
                let mut body = client.start(request).await.unwrap().into_body();
                while let Some(Ok(frame)) = body.frame().await {
                    said.send(frame.into_data().unwrap()).await.unwrap();
                }
            });
            if upstream.is_none() {
                upstream = Some(Http2Talking::begin(talk.accept().await).await);
            }
            let upstream = upstream.as_mut().unwrap();
            let stream = upstream.next(HEADERS).await.stream;
            if phase == "in the upload" {
                send.send(piece("up")).await.unwrap();
                assert_eq!(upstream.next(DATA).await.payload, b"up");
            }
            if phase == "in the answer" {
                upstream.fields(0, stream, &[(":status", "200")]).await;
                upstream.send(DATA, 0, stream, b"down").await;
                assert_eq!(hears.recv().await.unwrap(), "down");
            }
            call.abort();
            call.await.unwrap_err();
            let reset = upstream.next(RST_STREAM).await;
            assert_eq!(reset.stream, stream, "{http2} {phase}");
            let reason = u32::from_be_bytes(reset.payload.try_into().unwrap());
            assert!(reason == CANCEL || phase == "in the upload", "{http2} {phase}: {reason}");
            assert_ne!(reason, 0, "{http2} {phase}");
            let status = event(&gateway, &path).await["status"].as_u64().unwrap();
            // Over HTTP/1.1 an upload that ends short is a broken body, if that is seen first.
            let broken = !http2 && phase == "in the upload" && status == 400;
            assert!(status == 499 || broken, "{http2} {phase}: {status}");
            drop(send);
        }
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_closes_a_connection_of_http1() {
    let talk = Talk::start().await;
    let gateway = Gateway::start(&open(&talk.url(), "", ""));
    for (http2, phase) in [
        (false, "head"),
        (true, "head"),
        (false, "upload"),
        (true, "upload"),
        (false, "body"),
        (true, "body"),
    ] {
        let (send, upload) = pieces();
        let mut client = if http2 { gateway.client_http2().await } else { gateway.client().await };
        let body = if phase == "upload" { upload } else { full("") };
        let request = Request::post("/x").body(body).unwrap();
        let (said, mut hears) = tokio::sync::mpsc::channel(1);
        let call = tokio::spawn(async move {
            let mut body = client.start(request).await.unwrap().into_body();
            while let Some(Ok(frame)) = body.frame().await {
                said.send(frame.into_data().unwrap()).await.unwrap();
            }
        });
        let mut upstream = talk.accept().await;
        upstream.head().await;
        if phase == "upload" {
            send.send(piece("up")).await.unwrap();
            assert_eq!(upstream.exactly(7).await, b"2\r\nup\r\n");
        }
        if phase == "body" {
            upstream.say("HTTP/1.1 200 OK\r\n\r\ndown").await;
            assert_eq!(hears.recv().await.unwrap(), "down");
        }
        call.abort();
        call.await.unwrap_err();
        assert_eq!(upstream.rest().await, b"", "{http2} {phase}: no end of a chunked body");
        drop(send);
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_an_upload_is_not_waited_for_and_its_connection_not_used() {
    let talk = Talk::start().await;
    let gateway = Gateway::start(&open(&talk.url(), "", ""));
    for http2 in [false, true] {
        let mut client = if http2 { gateway.client_http2().await } else { gateway.client().await };
        client.is_not_a_gateway();
        let (send, body) = pieces();
        let request = Request::post("/x").body(body).unwrap();
        let sending = tokio::spawn(async move {
            // Until nobody takes it.
            while send.send(piece(vec![b'x'; 64 * 1024])).await.is_ok() {}
        });
        let call = tokio::spawn(async move {
            let answer = client.start(request).await.unwrap();
            let status = answer.status();
            (status, answer.into_body().collect().await.unwrap().to_bytes())
        });
        let mut upstream = talk.accept().await;
        upstream.head().await;
        upstream.say("HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno").await;
        let (status, text) = within("the answer", call).await.unwrap();
        assert_eq!((status.as_u16(), &text[..]), (413, &b"no"[..]), "{http2}");
        // Whatever is left of the upload, the next request has another connection.
        let mut other = gateway.client().await;
        let next = tokio::spawn(async move { other.get("/y").await.status });
        let mut second = talk.accept().await;
        assert!(second.head().await.starts_with("get /y "));
        second.say("HTTP/1.1 204 No\r\n\r\n").await;
        assert_eq!(next.await.unwrap(), 204);
        drop((second, upstream));
        sending.abort();
    }
}

#[tokio::test]
async fn an_upload_that_is_reset_without_an_error_is_no_whole_one() {
    let upstream = Upstream::start();
    upstream.answer(|_| Answer { reading: Reading::Before, ..Answer::ok("") });
    for protocol in ["http1", "http2"] {
        let gateway = Gateway::start(&open(&upstream.url(), &format!("protocol: {protocol}"), ""));
        let mut caller = RawHttp2::connect(gateway.address()).await;
        let head = [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "a")];
        caller.headers(1, &head, More::Follows).await;
        caller.data(1, b"abc", More::Follows).await;
        let count = upstream.count();
        upstream
            .seen_when("the piece", |seen| {
                seen.len() >= count && seen.last().is_some_and(|seen| seen.body.length == 3)
            })
            .await;
        caller.reset(1, 0).await;
        let status = event(&gateway, "/x").await["status"].as_u64().unwrap();
        assert!([400, 499].contains(&status), "{protocol}: {status}");
        // It has seen the end, whatever that is.
        assert_eq!(gateway.client().await.get("/next").await.status, 200);
        let uploads = upstream.seen();
        assert!(
            uploads.iter().all(|seen| seen.target != "/x" || !seen.body.complete),
            "{protocol}"
        );
    }
}
