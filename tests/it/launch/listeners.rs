//! Listeners that come, go and change at a reload.

use std::net::SocketAddr;

use http::Request;
use http_body_util::BodyExt as _;

use super::{ANY, at, closed, file, logged, reloads};
use crate::accept::tls::certificate;
use crate::support::client::{Client, full};
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::servers::PeerError;
use crate::support::upstream::{Answer, Upstream};
use crate::support::within;

/// The next answer of `upstream` is a stream.
fn streams(upstream: &Upstream) -> tokio::sync::mpsc::Sender<Result<bytes::Bytes, PeerError>> {
    let (answer, down) = Answer::stream();
    let mut answer = Some(answer);
    upstream.answer(move |_| answer.take().unwrap_or_else(|| Answer::ok("later")));
    down
}

#[tokio::test]
async fn one_comes_and_another_goes_and_nobody_elsewhere_notices() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&file(&[ANY, ANY], &upstream, ""));
    let [stays, goes] = gateway.addresses() else { panic!("two") };
    let (mut beside, mut leaving) = (Client::http1(*stays).await, Client::http2(*goes).await);
    assert_eq!(beside.get("/here").await.status, 204);
    let down = streams(&upstream);
    let request = Request::get("/slow").body(full("")).unwrap();
    let mut body = leaving.start(request).await.unwrap().into_body();
    down.send(Ok("one".into())).await.unwrap();
    within("a piece", body.frame()).await.unwrap().unwrap();
    let idle = Client::http1(*goes).await;

    let (stay, new) = (at(*stays, ""), "address: \"127.0.0.2:0\"");
    gateway.write_file(&file(&[new, &stay], &upstream, ""));
    let changes = gateway.reload();
    closed(*goes).await;
    drop(idle);
    let addresses = gateway.running().addresses();
    assert_eq!(addresses[1], *stays, "in the order of the file");
    assert_eq!(Client::http1(addresses[0]).await.get("/here").await.status, 204);
    // The same connection, and no other; and what was in flight on the one that went.
    assert_eq!(beside.get("/here").await.status, 204);
    down.send(Ok("two".into())).await.unwrap();
    let frame = within("a piece", body.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "two");
    drop(down);
    assert_eq!(within("the end", body.collect()).await.unwrap().to_bytes(), "");
    assert_eq!(changes.listeners.added.len(), 2, "the port of one is written now: {changes}");
    assert_eq!(gateway.log().text().matches("cut off").count(), 0);
}

#[tokio::test]
async fn what_outlives_the_grace_of_one_that_goes_is_cut_off_there_alone() {
    let upstream = Upstream::start();
    let server = "server: { shutdown_grace: 100ms }";
    let gateway = Gateway::start(&file(&[ANY, ANY], &upstream, server));
    let [stays, goes] = gateway.addresses() else { panic!("two") };
    let request = || Request::get("/slow").body(full("")).unwrap();
    let (mut one, mut other) = (Client::http1(*stays).await, Client::http1(*goes).await);
    let down = streams(&upstream);
    let mut body = one.start(request()).await.unwrap().into_body();
    let cut = streams(&upstream);
    let mut cut_body = other.start(request()).await.unwrap().into_body();
    gateway.write_file(&file(&[&at(*stays, "")], &upstream, server));
    gateway.reload();
    assert!(within("the end", cut_body.frame()).await.unwrap().is_err());
    within("the upstream to see it", cut.closed()).await;
    down.send(Ok("still".into())).await.unwrap();
    let frame = within("a piece", body.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "still");
}

#[tokio::test]
async fn a_port_that_is_taken_refuses_the_whole_file() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&file(&[ANY], &upstream, ""));
    let address = gateway.address();
    let own = at(address, "");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_at = at(taken.local_addr().unwrap(), "");
    let (free, also_free) = ("address: \"127.0.0.3:0\"", "address: \"127.0.0.1:0\"");
    let other = file(&[&own, free, &taken_at, also_free], &upstream, "").replace("204", "200");
    gateway.write_file(&other);
    let problems = gateway.try_reload().unwrap_err();
    let place = "routes.yaml:4:16: error: can't listen on";
    assert!(problems.contains(place) && problems.contains("the port is in use"), "{problems}");
    assert!(problems.contains("hint: nothing was changed"), "{problems}");
    assert_eq!(gateway.running().addresses(), [address]);
    assert_eq!(gateway.client().await.get("/here").await.status, 204);
    let last = gateway.running().last_reload().unwrap();
    let last = serde_json::to_value(&*last).unwrap();
    assert_eq!((&last["outcome"], &last["cause"]), (&"failure".into(), &"SIGHUP".into()));
    assert_eq!(last["text"], problems);
    assert_eq!(
        (&last["problems"][0]["line"], &last["problems"][0]["column"]),
        (&4.into(), &16.into())
    );
    assert!(reloads(&gateway, 1).await[0].contains("routes.yaml:4:16"));

    // An address that the gateway itself has in another form is told as such.
    let all = format!("address: \"0.0.0.0:{}\"", address.port());
    gateway.write_file(&file(&[&all], &upstream, ""));
    let problems = gateway.try_reload().unwrap_err();
    let told = format!("hint: the gateway itself listens on `{address}`");
    assert!(problems.contains(&told), "{problems}");

    drop(taken);
    gateway.write_file(&other);
    gateway.reload();
    assert_eq!(gateway.running().addresses().len(), 4);
    assert_eq!(gateway.client().await.get("/here").await.status, 200);
    let last = gateway.running().last_reload().unwrap();
    assert!(last.problems.is_empty(), "{:?}", last.problems);
    assert_eq!(last.changes.routes.changed, ["here"]);
}

#[tokio::test]
async fn an_address_that_went_can_be_had_again_at_once() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&file(&[ANY, ANY], &upstream, ""));
    let [stays, goes] = gateway.addresses() else { panic!("two") };
    let (stays, goes_and_comes) = (at(*stays, ""), at(*goes, ""));
    for _ in 0..50 {
        for listeners in [&[&*stays][..], &[&*stays, &goes_and_comes]] {
            gateway.write_file(&file(listeners, &upstream, ""));
            gateway.reload();
        }
        assert_eq!(Client::http1(*goes).await.get("/here").await.status, 204);
    }
}

#[tokio::test]
async fn tls_and_the_proxy_header_come_and_go_for_new_connections() {
    let upstream = Upstream::start();
    let certificate = certificate();
    let gateway = Gateway::start(&file(&[ANY], &upstream, ""));
    let address = gateway.address();
    let reload = |more: &str| {
        gateway.write_file(&file(&[&at(address, more)], &upstream, ""));
        gateway.reload()
    };
    let mut clear = gateway.client().await;
    assert_eq!(clear.get("/here").await.status, 204);

    reload(&certificate.keys());
    let metric =
        format!("obo_gateway_tls_certificate_expiry_timestamp_seconds{{listener=\"{address}\"}}");
    assert!(gateway.metrics().await.contains(&metric));
    let mut secure = Client::tls(address, &certificate.pem, Some("h2")).await;
    assert_eq!(secure.get("/here").await.status, 204);
    assert_eq!(clear.get("/here").await.status, 204, "who is in stays");

    reload(", proxy_protocol: true");
    assert!(!gateway.metrics().await.contains(&metric));
    let mut behind = Raw::connect(address).await;
    behind.send(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\nGET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(behind.reply().await.unwrap().status, 200);
    assert!(upstream.last().value("x-forwarded-for").unwrap().contains("192.0.2.7"));
    let mut without = Raw::connect(address).await;
    without.send(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let rest = without.rest().await;
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(upstream.count(), 1, "only what came behind the header");

    assert_eq!(reload("").listeners.changed, [address.to_string()]);
    assert_eq!(gateway.client().await.get("/here").await.status, 204);
    assert_eq!(secure.get("/here").await.status, 204, "who is in stays");
    assert_eq!(clear.get("/here").await.status, 204, "who is in stays");
    assert!(reload("").is_empty(), "nothing is another");
}

#[tokio::test]
async fn one_line_tells_what_a_reload_changed_and_what_has_to_wait() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&file(&[ANY], &upstream, "server: { workers: 1 }"));
    let before = file(&[ANY], &upstream, "server: { workers: 2 }");
    gateway.write_file(&before.replace("name: here", "name: there"));
    gateway.reload();
    let told = "SIGHUP: the routes file was read again and is in force: routes: added there, \
                removed here; settings: changed server";
    assert_eq!(reloads(&gateway, 1).await, [told]);
    let waits = "`server.workers` changed: that takes effect with a restart";
    logged(&gateway, waits).await;
    assert_eq!(gateway.running().last_reload().unwrap().needs_restart, ["server.workers"]);
    gateway.write_file(&before.replace("upstream: up", "upstream: upp"));
    gateway.try_reload().unwrap_err();
    let lines = reloads(&gateway, 2).await;
    assert!(lines[1].contains("routes.yaml:") && lines[1].contains("hint: did you mean `up`"));
    assert_eq!(gateway.log().text().matches(waits).count(), 1);
}

#[tokio::test]
async fn the_end_of_a_listeners_certificate_is_said_as_it_comes_near() {
    let upstream = Upstream::start();
    let certificate = certificate();
    let gateway = Gateway::start(&file(&[&format!("{ANY}{}", certificate.keys())], &upstream, ""));
    logged(&gateway, "callers are shown the certificate").await;
    assert!(!gateway.log().text().contains("that callers are shown expires"));
    // Made without an end of its own, it ends in the year 4096.
    let years = std::time::Duration::from_hours(24 * 365 * 3000);
    gateway.clock().advance(years);
    gateway.reload();
    logged(&gateway, "has expired, and callers refuse the gateway").await;
    let last = gateway.running().last_reload().unwrap();
    assert!(last.text.contains("warning: the certificate in `"), "{}", last.text);
}

#[tokio::test]
async fn a_reload_of_the_same_file_leaves_all_sockets_as_they_are() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&file(&[ANY, ANY, "address: \"127.0.0.2:0\""], &upstream, ""));
    let before: Vec<SocketAddr> = gateway.running().addresses();
    let admin = gateway.admin_address();
    assert!(gateway.reload().is_empty());
    assert_eq!(gateway.running().addresses(), before);
    assert_eq!(gateway.running().admin_address(), Some(admin));
}
