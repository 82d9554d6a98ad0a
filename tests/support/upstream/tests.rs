//! What the upstream of the tests does is what tests may rely on.

use super::*;
use crate::support::client::Client;
use crate::support::token::Token;

#[tokio::test]
async fn it_takes_down_what_comes_over_both_protocols() {
    let upstream = Upstream::start();
    let address = upstream.authority().parse().unwrap();
    for mut client in [Client::http1(address).await, Client::http2(address).await] {
        client.is_not_a_gateway();
        let request = Request::post("/a%2Fb?c=%20").header("x-a", "1").header("x-a", "2");
        let reply = client.send(request, "body").await;
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"ok"[..]));
        let seen = upstream.last();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/a%2Fb?c=%20"));
        assert_eq!(seen.authority, upstream.authority());
        assert_eq!(seen.values("x-a"), ["1", "2"]);
        assert_eq!(
            (seen.body.length, &seen.body.start[..], seen.body.complete),
            (4, &b"body"[..], true)
        );
        assert_eq!(seen.body.sha256, hex(aws_lc_rs::digest::digest(&SHA256, b"body").as_ref()));
    }
    assert_eq!(upstream.seen()[0].version, http::Version::HTTP_11);
    assert_eq!(upstream.seen()[1].version, http::Version::HTTP_2);
}

#[tokio::test]
async fn it_streams_aborts_and_holds() {
    let upstream = Upstream::start();
    let mut client = Client::http1(upstream.authority().parse().unwrap()).await;
    client.is_not_a_gateway();
    upstream.answer(|_| Answer { body: AnswerBody::Bulk(200_000), ..Answer::ok("") });
    assert_eq!(client.get("/").await.body.len(), 200_000);

    let trailers =
        HeaderMap::from_iter([(HeaderName::from_static("x-t"), HeaderValue::from_static("1"))]);
    let sent = trailers.clone();
    upstream.answer(move |_| Answer { trailers: Some(sent.clone()), ..Answer::ok("t") });
    let request = Request::get("/").header("te", "trailers");
    assert_eq!(client.send(request, "").await.trailers, Some(trailers));

    upstream.answer(|_| Answer {
        body: AnswerBody::Abort { start: "abc".into(), length: 10 },
        ..Answer::ok("")
    });
    assert!(client.try_send(Request::get("/"), "").await.is_err());
    let mut client = Client::http1(upstream.authority().parse().unwrap()).await;
    client.is_not_a_gateway();
    let gate = Gate::new();
    let hold = gate.clone();
    upstream.answer(move |_| Answer::ok("late").held_by(&hold));
    let call = tokio::spawn(async move { client.get("/").await });
    gate.arrived(1).await;
    assert!(!call.is_finished());
    gate.open();
    assert_eq!(&call.await.unwrap().body[..], b"late");
}

#[tokio::test]
#[should_panic(expected = "GET /: a caller's token or a secret of the gateway is in `x-copy`")]
async fn a_violation_is_raised_when_it_is_dropped() {
    let upstream = Upstream::start();
    let mut client = Client::http1(upstream.authority().parse().unwrap()).await;
    client.is_not_a_gateway();
    let token = Token::entra_v2("https://i").user("upstream-violation").build();
    client.send(Request::get("/").header("x-copy", token), "").await;
    drop(upstream);
}
