//! Several workers: who serves what can't be seen from outside, and neither can that there are several.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use obo_gateway::accept::CutOff;

use super::{ANY, at, closed, file};
use crate::support::client::{Client, full};
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::raw::Raw;
use crate::support::upstream::{Answer, Upstream};
use crate::support::within;

const WORKERS: &str = "server: { workers: 4, shutdown_grace: 60s }";

/// So many connections, each of which had an answer.
async fn callers(gateway: &Gateway, count: usize) -> Vec<Client> {
    let mut callers = Vec::new();
    for _ in 0..count {
        let mut caller = gateway.client().await;
        assert_eq!(caller.get("/x").await.status, 200);
        callers.push(caller);
    }
    callers
}

fn lines(upstream: &Upstream) -> usize {
    upstream.seen().iter().map(|seen| seen.connection).collect::<BTreeSet<_>>().len()
}

#[tokio::test]
async fn what_one_of_them_kept_serves_all_of_them() {
    let upstream = Upstream::start();
    upstream.answer(|_| Answer::ok("ok"));
    let gateway = Gateway::start(&file(&[ANY], &upstream, WORKERS));
    let mut callers = callers(&gateway, 8).await;
    for caller in &mut callers {
        assert_eq!(caller.get("/x").await.status, 200);
    }
    assert_eq!((upstream.count(), lines(&upstream)), (16, 1));
}

#[tokio::test]
async fn the_limit_of_an_upstream_is_for_all_of_them() {
    let (upstream, gate) = (Upstream::start(), Gate::new());
    let hold = gate.clone();
    upstream.answer(move |_| Answer::ok("ok").held_by(&hold));
    let yaml = file(&[ANY], &upstream, WORKERS).replace(
        "upstreams: { up: { url:",
        "upstreams: { up: { max_connections: 2, max_pending: 100, url:",
    );
    let gateway = Gateway::start(&yaml);
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let address = gateway.address();
            tokio::spawn(async move { Client::http1(address).await.get("/x").await.status })
        })
        .collect();
    gate.arrived(2).await;
    gateway.metrics_when("obo_gateway_requests_in_flight 16\n").await;
    assert_eq!(upstream.count(), 2);
    gate.open();
    for status in within("all answers", join_all(calls)).await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!((upstream.count(), lines(&upstream)), (16, 2));
}

#[tokio::test]
async fn a_listener_that_goes_ends_on_each_of_them_and_the_rest_goes_on() {
    let upstream = Upstream::start();
    upstream.answer(|_| Answer::ok("ok"));
    let gateway = Gateway::start(&file(&[ANY, ANY], &upstream, WORKERS));
    let [stays, goes] = gateway.addresses() else { panic!("two") };
    let mut beside = callers(&gateway, 4).await;
    let mut leaving = Vec::new();
    for _ in 0..4 {
        let mut caller = Raw::connect(*goes).await;
        caller.send(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(caller.reply().await.unwrap().status, 200);
        leaving.push(caller);
    }
    gateway.write_file(&file(&[&at(*stays, "")], &upstream, WORKERS));
    gateway.reload();
    closed(*goes).await;
    for caller in &mut leaving {
        assert!(caller.is_closed().await);
    }
    for caller in &mut beside {
        assert_eq!(caller.get("/x").await.status, 200);
    }
    assert_eq!(gateway.log().text().matches("cut off").count(), 0);
}

#[tokio::test]
async fn what_is_under_way_on_each_of_them_is_finished_at_the_end() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&file(&[ANY], &upstream, WORKERS));
    let mut streams = Vec::new();
    for _ in 0..8 {
        let (answer, down) = Answer::stream();
        let mut answer = Some(answer);
        upstream.answer(move |_| answer.take().unwrap());
        let mut caller = gateway.client().await;
        let request = http::Request::get("/slow").body(full("")).unwrap();
        let mut body = caller.start(request).await.unwrap().into_body();
        down.send(Ok("one".into())).await.unwrap();
        within("a piece", body.frame()).await.unwrap().unwrap();
        streams.push((caller, body, down));
    }
    let drained = gateway.drain();
    closed(gateway.address()).await;
    for (_caller, body, down) in streams {
        down.send(Ok("two".into())).await.unwrap();
        drop(down);
        assert_eq!(within("the end", body.collect()).await.unwrap().to_bytes(), "two");
    }
    assert_eq!(within("the drain", drained).await.unwrap(), CutOff::default());
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off_on_each_of_them() {
    let (upstream, gate) = (Upstream::start(), Gate::new());
    let hold = gate.clone();
    upstream.answer(move |_| Answer::ok("ok").held_by(&hold));
    let server = "server: { workers: 4, shutdown_grace: 100ms }";
    let gateway = Gateway::start(&file(&[ANY], &upstream, server));
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let address = gateway.address();
            tokio::spawn(async move {
                let request = http::Request::get("/x").body(full("")).unwrap();
                Client::http1(address).await.start(request).await.is_err()
            })
        })
        .collect();
    gate.arrived(8).await;
    let cut_off = tokio::time::timeout(Duration::from_mins(1), gateway.drain()).await;
    assert_eq!(cut_off.unwrap().unwrap(), CutOff { connections: 8, requests: 8 });
    for broken in within("all to break", join_all(calls)).await {
        assert!(broken.unwrap());
    }
    gate.open();
}
