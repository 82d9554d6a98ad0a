//! HTTP/1.1 and HTTP/2 on both sides, with and without TLS, trailers included.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use obo_gateway::dev::DevTls;
use tokio_rustls::TlsAcceptor;

use super::{open, piece, pieces};
use crate::support::gateway::Gateway;
use crate::support::raw_upstream::{RawUpstream, Then};
use crate::support::servers::Server;
use crate::support::upstream::{Answer, AnswerBody, Upstream};

fn trailers(name: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("1"))])
}

#[tokio::test]
async fn bodies_and_trailers_pass_in_all_four_combinations() {
    let upstream = Upstream::start();
    upstream.answer(|_| Answer {
        trailers: Some(trailers("x-sum")),
        body: AnswerBody::Echo,
        ..Answer::ok("")
    });
    for (protocol, version) in
        [("auto", Version::HTTP_11), ("http1", Version::HTTP_11), ("http2", Version::HTTP_2)]
    {
        let gateway = Gateway::start(&open(&upstream.url(), &format!("protocol: {protocol}"), ""));
        for mut client in [gateway.client().await, gateway.client_http2().await] {
            let (send, body) = pieces();
            let request = Request::post("/a?b=c")
                .header("te", "trailers")
                .header("trailer", "x-checksum, x-forwarded-for, authorization")
                .body(body)
                .unwrap();
            let sending = async {
                send.send(piece("hel")).await.unwrap();
                send.send(piece("lo")).await.unwrap();
                let mut last = trailers("x-checksum");
                last.insert("x-forwarded-for", HeaderValue::from_static("6.6.6.6"));
                last.insert("authorization", HeaderValue::from_static("Bearer x"));
                last.insert("x_checksum", HeaderValue::from_static("2"));
                send.send(Ok(Frame::trailers(last))).await.unwrap();
                drop(send);
            };
            let (response, ()) = tokio::join!(client.start(request), sending);
            let response = response.unwrap();
            assert_eq!(response.status(), 200);
            let answer = crate::support::within("the answer", response.into_body().collect());
            let answer = answer.await.unwrap();
            assert_eq!(answer.trailers(), Some(&trailers("x-sum")), "{protocol}");
            assert_eq!(answer.to_bytes(), "hello");
            let seen = upstream.last();
            assert_eq!((seen.version, seen.target.as_str()), (version, "/a?b=c"));
            assert_eq!((seen.body.complete, seen.body.length), (true, 5));
            assert_eq!(seen.body.trailers, Some(trailers("x-checksum")), "{protocol}");
        }
    }
}

#[tokio::test]
async fn what_a_route_removes_or_sets_does_not_come_in_by_a_trailer() {
    let names = ["x-gone", "x-set", "x-kept", "x-added", "access-control-allow-origin", "location"];
    let of = |names: &[&'static str]| {
        let one = HeaderValue::from_static("1");
        names.iter().map(|name| (HeaderName::from_static(name), one.clone())).collect()
    };
    let (all, passed): (HeaderMap, HeaderMap) = (of(&names), of(&["x-kept", "x-added"]));
    let upstream = Upstream::start();
    let said = all.clone();
    upstream.answer(move |_| Answer { trailers: Some(said.clone()), ..Answer::ok("ok") });
    let rules = "{ remove: [x-gone], set: { x-set: ours }, add: { x-added: ours } }";
    let rules = format!("request_headers: {rules}, response_headers: {rules}");
    for protocol in ["http1", "http2"] {
        let protocol = format!("protocol: {protocol}");
        let gateway = Gateway::start(&open(&upstream.url(), &protocol, &rules));
        for mut client in [gateway.client().await, gateway.client_http2().await] {
            let (send, body) = pieces();
            let request = Request::post("/x").header("te", "trailers");
            let request = request.header("trailer", names.join(", ")).body(body).unwrap();
            let mut last = all.clone();
            last.remove("location").unwrap();
            let sending = async {
                send.send(piece("hello")).await.unwrap();
                send.send(Ok(Frame::trailers(last))).await.unwrap();
                drop(send);
            };
            let (response, ()) = tokio::join!(client.start(request), sending);
            let response = response.unwrap();
            assert_eq!(response.headers()["x-set"], "ours");
            let answer = crate::support::within("the answer", response.into_body().collect());
            assert_eq!(answer.await.unwrap().trailers(), Some(&passed), "{protocol}");
            let seen = upstream.last();
            assert_eq!(seen.body.trailers.as_ref(), Some(&passed), "{protocol}");
            assert_eq!(seen.value("x-set").as_deref(), Some("ours"));
        }
    }
}

#[tokio::test]
async fn trailers_of_an_answer_are_cleaned() {
    let upstream = RawUpstream::start();
    let gateway = Gateway::start(&open(&upstream.url(), "", ""));
    for mut client in [gateway.client().await, gateway.client_http2().await] {
        upstream.answer(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\
             trailer: x-sum, x-request-id, connection, keep-alive, upgrade, x-hop\r\n\r\n\
             2\r\nok\r\n0\r\nx-sum: 1\r\nx-request-id: theirs\r\nconnection: x-hop\r\n\
             keep-alive: timeout=5\r\nupgrade: h2c\r\nx-hop: 1\r\n\r\n",
            Then::KeepOpen,
        );
        let reply = client.send(Request::get("/x").header("te", "trailers"), "").await;
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"ok"[..]));
        assert_eq!(reply.trailers, Some(trailers("x-sum")), "{:?}", reply.version);
        // One of which nothing is left ends well, too.
        upstream.answer(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: upgrade\r\n\r\n\
             2\r\nok\r\n0\r\nupgrade: h2c\r\n\r\n",
            Then::KeepOpen,
        );
        let reply = client.send(Request::get("/x").header("te", "trailers"), "").await;
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"ok"[..]));
        assert!(reply.trailers.is_none_or(|trailers| trailers.is_empty()));
    }
}

#[tokio::test]
async fn a_grpc_call_passes() {
    let upstream = Upstream::start();
    upstream.answer(|_| Answer {
        trailers: Some(HeaderMap::from_iter([(
            HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("0"),
        )])),
        ..Answer::ok("\0\0\0\0\u{2}ok").header("content-type", "application/grpc")
    });
    let gateway = Gateway::start(&open(&upstream.url(), "protocol: http2", ""));
    let mut client = gateway.client_http2().await;
    let request = Request::post("/helloworld.Greeter/SayHello")
        .header("te", "trailers")
        .header("content-type", "application/grpc");
    let reply = client.send(request, "\0\0\0\0\u{2}hi").await;
    assert_eq!(reply.trailers.unwrap()["grpc-status"], "0");
    let seen = upstream.last();
    assert_eq!((seen.value("te").as_deref(), seen.body.length), (Some("trailers"), 7));
}

#[tokio::test]
async fn http2_requests_share_one_connection_and_http1_ones_take_turns() {
    let upstream = Upstream::start();
    for (protocol, most) in [("http2", 1), ("http1", 1)] {
        let gateway = Gateway::start(&open(&upstream.url(), &format!("protocol: {protocol}"), ""));
        let before = upstream.count();
        let mut client = gateway.client().await;
        for _ in 0..5 {
            assert_eq!(client.send(Request::post("/x"), "body").await.status, 200);
        }
        let mut connections: Vec<_> =
            upstream.seen()[before..].iter().map(|seen| seen.connection).collect();
        connections.dedup();
        assert_eq!(connections.len(), most, "{protocol}: {connections:?}");
    }
}

/// An upstream behind TLS that answers with the HTTP version it was spoken to in.
fn tls_upstream(tls: &DevTls, alpn: &[&str]) -> Server {
    let mut config = (*tls.server_config()).clone();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Server::start(Arc::new(move |stream| {
        let acceptor = acceptor.clone();
        Box::pin(async move {
            // A handshake that fails is part of what is tested.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(async |request: Request<hyper::body::Incoming>| {
                let text = format!("{:?} {}", request.version(), request.uri().path());
                Ok::<_, std::convert::Infallible>(http::Response::new(text))
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            builder.serve_connection(TokioIo::new(stream), service).await.ok();
        })
    }))
}

#[tokio::test]
async fn an_upstream_behind_tls_is_spoken_to_as_alpn_finds() {
    let tls = DevTls::generate().unwrap();
    let ca = tempfile::NamedTempFile::new().unwrap();
    tls.write_ca_file(ca.path()).await.unwrap();
    let ca = ca.path().display();
    for (alpn, protocol, outcome) in [
        (&["h2", "http/1.1"][..], "auto", "HTTP/2.0 /x"),
        (&["http/1.1"], "auto", "HTTP/1.1 /x"),
        (&[], "auto", "HTTP/1.1 /x"),
        (&["h2", "http/1.1"], "http1", "HTTP/1.1 /x"),
        (&["h2", "http/1.1"], "http2", "HTTP/2.0 /x"),
        (&["http/1.1"], "http2", "upstream_unreachable"),
        (&[], "http2", "upstream_unreachable"),
    ] {
        let upstream = tls_upstream(&tls, alpn);
        let url = format!("https://localhost:{}", upstream.address().port());
        let keys = format!("protocol: {protocol}, tls: {{ ca_file: \"{ca}\" }}");
        let gateway = Gateway::start(&open(&url, &keys, ""));
        for mut client in [gateway.client().await, gateway.client_http2().await] {
            let reply = client.get("/x").await;
            let text = match reply.status.as_u16() {
                200 => String::from_utf8(reply.body.to_vec()).unwrap(),
                502 => reply.outcome().1,
                other => panic!("{other}"),
            };
            assert_eq!(text, outcome, "{alpn:?} {protocol}");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_can_not_prove_itself_is_not_spoken_to() {
    let (tls, other) = (DevTls::generate().unwrap(), DevTls::generate().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (folder.path().join("right.pem"), folder.path().join("wrong.pem"));
    tls.write_ca_file(&right).await.unwrap();
    other.write_ca_file(&wrong).await.unwrap();
    let (right, wrong) = (right.display(), wrong.display());
    let upstream = tls_upstream(&tls, &["http/1.1"]);
    let url = format!("https://127.0.0.1:{}", upstream.address().port());
    for (keys, status) in [
        (format!("tls: {{ ca_file: \"{right}\" }}"), 200),
        (format!("tls: {{ ca_file: \"{right}\", server_name: localhost }}"), 200),
        (format!("tls: {{ ca_file: \"{right}\", server_name: api.internal }}"), 502),
        (format!("tls: {{ ca_file: \"{wrong}\" }}"), 502),
    ] {
        let gateway = Gateway::start(&open(&url, &keys, ""));
        let reply = gateway.client().await.get("/x").await;
        assert_eq!(reply.status.as_u16(), status, "{keys}");
        if status == 502 {
            assert_eq!(reply.outcome().1, "upstream_unreachable");
            let event = super::event(&gateway, "/x").await;
            let reason = event["reason"].as_str().unwrap();
            assert!(reason.contains("TLS") && reason.contains("certificate"), "{reason}");
        }
    }
    // A peer that speaks no TLS at all.
    let plain = Upstream::start();
    let url = format!("https://{}", plain.authority());
    let gateway = Gateway::start(&open(&url, &format!("tls: {{ ca_file: \"{right}\" }}"), ""));
    assert_eq!(gateway.client().await.get("/x").await.status, 502);
}
