//! The end: readiness turns first, new connections are refused after the delay, and slow streams
//! end well.

use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;
use obo_gateway::accept::CutOff;
use tokio::task::JoinHandle;

use super::{ANY, at, closed, file, logged};
use crate::support::client::{Client, full};
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::raw_http2::{More, RawHttp2};
use crate::support::upstream::{Answer, Upstream};
use crate::support::within;

#[tokio::test]
async fn readiness_turns_first_and_streams_outlive_the_listeners() {
    let upstream = Upstream::start();
    let server = "server: { shutdown_delay: 2s, shutdown_grace: 60s }";
    let gateway = Gateway::start_in_virtual_time(&file(&[ANY], &upstream, server));
    let mut admin = Client::http1(gateway.admin_address()).await;
    admin.is_not_a_gateway();
    assert_eq!(admin.get("/readyz").await.status, 200);
    let mut streams = Vec::new();
    for http2 in [false, true] {
        let (answer, down) = Answer::stream();
        let mut answer = Some(answer);
        upstream.answer(move |_| answer.take().unwrap_or_else(|| Answer::ok("short")));
        let mut client = if http2 { gateway.client_http2().await } else { gateway.client().await };
        let request = Request::get("/slow").body(full("")).unwrap();
        let mut body = client.start(request).await.unwrap().into_body();
        down.send(Ok("one".into())).await.unwrap();
        within("a piece", body.frame()).await.unwrap().unwrap();
        streams.push((client, body, down));
    }

    let drained = gateway.drain();
    let turned = async {
        while admin.get("/readyz").await.status != 503 {
            tokio::task::yield_now().await;
        }
    };
    within("readiness to turn", turned).await;
    gateway.pass(Duration::from_secs(1)).await;
    // Not a connection is refused as long as the load balancer may not know yet.
    assert_eq!(gateway.client().await.get("/here").await.status, 204);
    gateway.pass(Duration::from_secs(1)).await;
    closed(gateway.address()).await;
    assert_eq!(admin.get("/readyz").await.status, 503, "the admin port says so to the end");
    gateway.pass(Duration::from_secs(20)).await;
    for (_client, mut body, down) in streams {
        down.send(Ok("two".into())).await.unwrap();
        let frame = within("a piece", body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "two");
        drop(down);
        assert_eq!(within("the end", body.collect()).await.unwrap().to_bytes(), "");
    }
    let cut_off = within("the drain", drained).await.unwrap();
    assert_eq!((cut_off.connections, cut_off.requests), (0, 0));
}

const GET: &[u8] = b"GET /here HTTP/1.1\r\nhost: a\r\n\r\n";

/// Has the end begin; it has when this returns.
async fn begin(gateway: &Gateway) -> JoinHandle<CutOff> {
    let mut admin = Client::http1(gateway.admin_address()).await;
    admin.is_not_a_gateway();
    let drained = gateway.drain();
    let turned = async {
        while admin.get("/readyz").await.status != 503 {
            tokio::task::yield_now().await;
        }
    };
    within("readiness to turn", turned).await;
    drained
}

/// A connection to `address` that had an answer.
async fn kept(address: SocketAddr) -> Raw {
    let mut caller = Raw::connect(address).await;
    caller.send(GET).await;
    let reply = caller.reply().await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (204, None));
    caller
}

/// What crosses the end on this connection is answered, and is the last.
async fn answered(caller: &mut Raw) {
    caller.send(GET).await;
    let reply = caller.reply().await.expect("an answer");
    assert_eq!((reply.status, reply.header("connection")), (204, Some("close")));
    assert!(caller.is_closed().await);
}

#[tokio::test]
async fn a_request_that_crosses_the_end_is_answered_and_a_later_one_finds_it_closed() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_in_virtual_time(&file(&[ANY], &upstream, ""));
    let (mut crosses, mut late) = (kept(gateway.address()).await, kept(gateway.address()).await);
    // Neither has said anything yet; whether they are accepted, or wait to be, is all one.
    let mut new = Raw::connect(gateway.address()).await;
    let mut silent = Raw::connect(gateway.address()).await;
    let mut half = kept(gateway.address()).await;
    half.send(&GET[..10]).await;
    // Of long ago: what it is given does not depend on how long it had nothing to say.
    gateway.pass(Duration::from_secs(5)).await;
    let drained = begin(&gateway).await;
    closed(gateway.address()).await;
    gateway.pass(Duration::from_millis(900)).await;
    answered(&mut crosses).await;
    answered(&mut new).await;
    gateway.pass(Duration::from_millis(100)).await;
    assert!(late.is_closed().await && silent.is_closed().await);
    late.send(GET).await;
    assert_eq!(late.reply().await, None);
    // A head that has begun has its time.
    gateway.pass(Duration::from_secs(2)).await;
    half.send(&GET[10..]).await;
    let reply = half.reply().await.expect("an answer");
    assert_eq!((reply.status, reply.header("connection")), (204, Some("close")));
    let cut_off = within("the drain", drained).await.unwrap();
    assert_eq!((cut_off.connections, cut_off.requests), (0, 0));
}

#[tokio::test]
async fn behind_an_answer_that_did_not_say_it_is_the_last_comes_a_moment_too() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_in_virtual_time(&file(&[ANY], &upstream, ""));
    let (answer, down) = Answer::stream();
    let mut answer = Some(answer);
    upstream.answer(move |_| answer.take().unwrap_or_else(|| Answer::ok("short")));
    let mut caller = Raw::connect(gateway.address()).await;
    caller.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    down.send(Ok("one".into())).await.unwrap();
    // The head and a piece of the body are there.
    assert_eq!(caller.exactly(12).await, b"HTTP/1.1 200");
    let drained = begin(&gateway).await;
    gateway.pass(Duration::from_secs(10)).await;
    drop(down);
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n0\r\n\r\n") {
        read.extend(caller.exactly(1).await);
    }
    answered(&mut caller).await;
    within("the drain", drained).await.unwrap();
}

#[tokio::test]
async fn nobody_is_waited_for_where_nobody_is_and_a_short_grace_is_short() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_in_virtual_time(&file(&[ANY], &upstream, ""));
    // No time passes.
    let cut_off = within("the drain", gateway.drain()).await.unwrap();
    assert_eq!((cut_off.connections, cut_off.requests), (0, 0));

    let server = "server: { shutdown_grace: 100ms }";
    let gateway = Gateway::start_in_virtual_time(&file(&[ANY], &upstream, server));
    let mut idle = kept(gateway.address()).await;
    let drained = begin(&gateway).await;
    gateway.pass(Duration::from_millis(100)).await;
    assert!(idle.is_closed().await);
    let cut_off = within("the drain", drained).await.unwrap();
    assert_eq!((cut_off.connections, cut_off.requests), (0, 0), "it waited for nothing");
}

#[tokio::test]
async fn who_waits_to_be_accepted_is_answered() {
    let upstream = Upstream::start();
    let server = "server: { max_connections: 1 }";
    let gateway = Gateway::start_in_virtual_time(&file(&[ANY], &upstream, server));
    let held = Gate::new();
    upstream.answer({
        let held = held.clone();
        move |_| Answer::ok("late").held_by(&held)
    });
    let mut first = Raw::connect(gateway.address()).await;
    first.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    held.arrived(1).await;
    let mut waits = Raw::connect(gateway.address()).await;
    waits.send(GET).await;
    let drained = begin(&gateway).await;
    held.open();
    let reply = first.reply().await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    let reply = waits.reply().await.expect("an answer");
    assert_eq!((reply.status, reply.header("connection")), (204, Some("close")));
    assert!(waits.is_closed().await);
    let cut_off = within("the drain", drained).await.unwrap();
    assert_eq!((cut_off.connections, cut_off.requests), (0, 0));
}

#[tokio::test]
async fn a_listener_that_a_reload_removes_ends_as_gently() {
    let upstream = Upstream::start();
    let gateway = Gateway::start_in_virtual_time(&file(&[ANY, ANY], &upstream, ""));
    let [stays, goes] = gateway.addresses() else { panic!("two") };
    let (mut beside, mut crosses, mut late) =
        (kept(*stays).await, kept(*goes).await, kept(*goes).await);
    let mut over_http2 = Client::http2(*goes).await;
    assert_eq!(over_http2.get("/here").await.status, 204);
    gateway.write_file(&file(&[&at(*stays, "")], &upstream, ""));
    gateway.reload();
    closed(*goes).await;
    gateway.pass(Duration::from_millis(900)).await;
    answered(&mut crosses).await;
    gateway.pass(Duration::from_millis(100)).await;
    assert!(late.is_closed().await);
    beside.send(GET).await;
    assert_eq!(beside.reply().await.unwrap().header("connection"), None);
}

#[tokio::test]
async fn what_is_cut_off_is_logged_and_counted_as_such_over_both_versions() {
    let upstream = Upstream::start();
    let server = "server: { shutdown_grace: 20s }";
    let gateway = Gateway::start_in_virtual_time(&file(&[ANY], &upstream, server));
    let held = Gate::new();
    upstream.answer({
        let held = held.clone();
        move |_| Answer::ok("late").held_by(&held)
    });
    let mut http1 = Raw::connect(gateway.address()).await;
    http1.send(b"GET /one HTTP/1.1\r\nhost: a\r\n\r\n").await;
    held.arrived(1).await;
    let mut http2 = RawHttp2::connect(gateway.address()).await;
    let get =
        |path| [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a")];
    http2.headers(1, &get("/two"), More::Ends).await;
    held.arrived(2).await;
    // One whose head has been answered, over each.
    let mut downs = Vec::new();
    for path in ["/three", "/four"] {
        let (answer, down) = Answer::stream();
        let mut answer = Some(answer);
        upstream.answer(move |_| answer.take().unwrap());
        down.send(Ok("piece".into())).await.unwrap();
        downs.push(down);
        if path == "/three" {
            let mut caller = Raw::connect(gateway.address()).await;
            caller.send(b"GET /three HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert_eq!(caller.exactly(12).await, b"HTTP/1.1 200");
            tokio::spawn(async move { caller.rest().await });
        } else {
            http2.headers(3, &get(path), More::Ends).await;
            assert_eq!(http2.body(3, 5).await, b"piece");
        }
    }
    let drained = begin(&gateway).await;
    gateway.pass(Duration::from_secs(20)).await;
    let cut_off = within("the drain", drained).await.unwrap();
    assert_eq!((cut_off.connections, cut_off.requests), (3, 4));
    assert!(http1.is_closed().await);
    http2.closed().await;
    for (path, status) in [("/one", 503), ("/two", 503), ("/three", 200), ("/four", 200)] {
        let reason = format!("\"path\":\"{path}\",\"status\":{status}");
        logged(&gateway, &reason).await;
        let log = gateway.log().text();
        let line = log.lines().find(|line| line.contains(&reason)).unwrap();
        assert!(
            line.contains("cut off: the gateway ended, and `shutdown_grace` was over"),
            "{line}"
        );
    }
    assert!(!gateway.log().text().contains("\"status\":499"));
}
