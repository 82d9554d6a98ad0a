//! The end: readiness turns first, new connections are refused after the delay, and slow streams
//! end well.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;

use super::{ANY, closed, file};
use crate::support::client::{Client, full};
use crate::support::gateway::Gateway;
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
