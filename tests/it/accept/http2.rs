//! HTTP/2 from callers: what differs from HTTP/1.1 on the way in.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use super::open_routes;
use crate::support::gateway::Gateway;
use crate::support::raw_http2::{More, Outcome, RawHttp2};
use crate::support::servers::PeerError;
use crate::support::upstream::Upstream;

const PROTOCOL_ERROR: Outcome = Outcome::Reset(1);

fn started() -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open_routes(&upstream, "", ""));
    (upstream, gateway)
}

/// A GET with these fields besides the usual pseudo fields, on a connection of its own.
async fn outcome(gateway: &Gateway, fields: &[(&str, &str)]) -> Outcome {
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", "/open/x")];
    let fields: Vec<_> = pseudo.iter().chain(fields).copied().collect();
    let mut raw = RawHttp2::connect(gateway.address()).await;
    raw.headers(1, &fields, More::Ends).await;
    raw.outcome(1).await
}

#[tokio::test]
async fn a_request_names_one_host() {
    let (upstream, gateway) = started();
    let authority = (":authority", "gateway");
    for fields in [&[authority][..], &[authority, ("host", "GATEWAY:80")], &[("host", "gateway")]] {
        assert_eq!(outcome(&gateway, fields).await, Outcome::Answered(200), "{fields:?}");
    }
    assert_eq!(upstream.count(), 3);
    for fields in [
        &[][..],
        &[authority, ("host", "other")],
        &[authority, ("host", "gateway:8080")],
        &[("host", "gateway"), ("host", "gateway")],
        &[authority, ("host", "gateway"), ("host", "gateway")],
    ] {
        assert_eq!(outcome(&gateway, fields).await, Outcome::Answered(400), "{fields:?}");
    }
    let refused = outcome(&gateway, &[authority, (":authority", "other")]).await;
    assert_eq!(refused, PROTOCOL_ERROR, "two authorities");
    assert_eq!(upstream.count(), 3);
}

#[tokio::test]
async fn a_fragment_is_neither_matched_nor_forwarded() {
    let (upstream, gateway) = started();
    for (path, target) in [
        ("/open/x#/../../admin", "/open/x"),
        ("/open/x#?q=1", "/open/x"),
        ("/open/x?q=1#f", "/open/x?q=1"),
    ] {
        let fields =
            [(":method", "GET"), (":scheme", "http"), (":authority", "gateway"), (":path", path)];
        let mut raw = RawHttp2::connect(gateway.address()).await;
        raw.headers(1, &fields, More::Ends).await;
        assert_eq!(raw.outcome(1).await, Outcome::Answered(200), "{path}");
        assert_eq!(upstream.last().target, target, "forwarded without the fragment");
    }
    assert_eq!(upstream.count(), 3);
}

#[tokio::test]
async fn fields_of_a_connection_are_no_fields_of_http2() {
    let (upstream, gateway) = started();
    let authority = (":authority", "gateway");
    for field in [
        ("connection", "keep-alive"),
        ("connection", "x-a"),
        ("keep-alive", "1"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("X-Capital", "a"),
        (":unknown", "a"),
        ("x-a", "b\r\nx-c: d"),
        ("x-a", "b\0c"),
    ] {
        let refused = outcome(&gateway, &[authority, field]).await;
        assert!(!matches!(refused, Outcome::Answered(200)), "{field:?}: {refused:?}");
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(outcome(&gateway, &[authority, ("te", "trailers")]).await, Outcome::Answered(200));
    assert_eq!(upstream.last().value("te").as_deref(), Some("trailers"));
}

#[tokio::test]
async fn a_length_is_there_once_and_true() {
    let (upstream, gateway) = started();
    let head = |lengths: &[&'static str]| {
        let mut fields = vec![
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/open/x"),
            (":authority", "gateway"),
        ];
        fields.extend(lengths.iter().map(|length| ("content-length", *length)));
        fields
    };
    for lengths in [
        &["3", "3"][..],
        &["3", "4"],
        &["3, 3"],
        &["+3"],
        &["-3"],
        &["0x3"],
        &[""],
        &["2"],
        &["4"],
        &["18446744073709551619"],
    ] {
        let mut raw = RawHttp2::connect(gateway.address()).await;
        raw.headers(1, &head(lengths), More::Follows).await;
        raw.data(1, b"abc", More::Ends).await;
        let outcome = raw.outcome(1).await;
        let refused = matches!(outcome, Outcome::Answered(400) | Outcome::Reset(_));
        assert!(refused, "{lengths:?}: {outcome:?}");
    }
    let whole = upstream.seen().into_iter().filter(|seen| seen.body.complete).count();
    assert_eq!(whole, 0, "a body whose length is in doubt was taken for whole");
    let mut raw = RawHttp2::connect(gateway.address()).await;
    raw.headers(1, &head(&["3"]), More::Follows).await;
    raw.data(1, b"abc", More::Ends).await;
    assert_eq!(raw.outcome(1).await, Outcome::Answered(200));
    assert_eq!(upstream.last().body.start, b"abc");
}

#[tokio::test]
async fn pieces_of_a_cookie_are_joined() {
    let (upstream, gateway) = started();
    let mut client = gateway.client_http2().await;
    for path in ["/open/x", "/open2/x"] {
        let request = Request::get(path)
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("cookie", "c=3");
        assert_eq!(client.send(request, "").await.status, 200);
        assert_eq!(upstream.last().values("cookie"), ["a=1; b=2; c=3"], "{path}");
    }
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_upstream() {
    let (upstream, gateway) = started();
    for path in ["/open/x", "/open2/x"] {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", "abc".parse().unwrap());
        trailers.insert("x_forged", "1".parse().unwrap());
        trailers.insert("authorization", "Bearer abc.def.ghi".parse().unwrap());
        let frames = [
            Ok::<_, PeerError>(Frame::data(Bytes::from_static(b"hello"))),
            Ok(Frame::trailers(trailers)),
        ];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let request = Request::post(path).header("trailer", "x-checksum").body(body).unwrap();
        let response = gateway.client_http2().await.start(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let seen = upstream.last();
        assert_eq!((seen.body.complete, &seen.body.start[..]), (true, &b"hello"[..]), "{path}");
        let trailers = seen.body.trailers.expect("there are trailers");
        assert_eq!(trailers.len(), 1, "{path}: {trailers:?}");
        assert_eq!(trailers["x-checksum"], "abc", "{path}");
    }
}
