//! A hundred mebibytes down to a slow reader and up to a slow upstream: neither the gateway nor
//! what lies between holds more than a little of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use super::open;
use super::process::Process;
use crate::support::client::Client;
use crate::support::gate::Gate;
use crate::support::servers::PeerBody;
use crate::support::upstream::{Answer, Reading, Upstream};
use crate::support::within;

const WHOLE: u64 = 100 << 20;

/// What sockets (some mebibytes on each of two hops) and windows may hold of it.
const BETWEEN: u64 = 40 << 20;

/// What the gateway may grow by.
const GROWTH_KIB: u64 = 32 << 10;

/// A body of [`WHOLE`] bytes, and how many of them were taken.
fn bulk() -> (PeerBody, Arc<AtomicU64>) {
    let taken = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&taken);
    let chunk = Bytes::from(vec![b'x'; 64 << 10]);
    let frames = futures_util::stream::iter(0..WHOLE / (64 << 10)).map(move |_| {
        counter.fetch_add(chunk.len() as u64, Ordering::SeqCst);
        Ok(Frame::data(chunk.clone()))
    });
    (StreamBody::new(frames).boxed_unsync(), taken)
}

/// Waits until nothing moves any more: all that can be held between the two ends is.
async fn stalled(taken: &AtomicU64) -> u64 {
    let mut last = None;
    loop {
        let now = taken.load(Ordering::SeqCst);
        if last == Some(now) && now > 0 {
            return now;
        }
        last = Some(now);
        // That nothing happens shows only in time.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn connect(address: SocketAddr, http2: bool) -> Client {
    if http2 { Client::http2(address).await } else { Client::http1(address).await }
}

#[tokio::test]
async fn a_slow_reader_holds_the_upstream_back() {
    for (protocol, http2) in [("http1", false), ("http1", true), ("http2", false), ("http2", true)]
    {
        let upstream = Upstream::start();
        let gateway = Process::start(&open(&upstream.url(), &format!("protocol: {protocol}"), ""));
        let mut client = connect(gateway.address, http2).await;
        assert_eq!(client.get("/warm").await.status, 200);
        let before = gateway.peak_kib();

        let (answer, down) = Answer::stream();
        let mut answer = Some(answer);
        upstream.answer(move |_| answer.take().unwrap());
        let taken = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&taken);
        let sending = tokio::spawn(async move {
            let chunk = Bytes::from(vec![b'x'; 64 << 10]);
            for _ in 0..WHOLE / (64 << 10) {
                down.send(Ok(chunk.clone())).await.unwrap();
                counter.fetch_add(64 << 10, Ordering::SeqCst);
            }
        });
        let request = Request::get("/x").body(crate::support::client::full("")).unwrap();
        let mut body = client.start(request).await.unwrap().into_body();
        let held = stalled(&taken).await;
        assert!(held < BETWEEN, "{protocol} {http2}: {held} bytes are on their way to nobody");
        let mut got = 0;
        while let Some(frame) = within("more", body.frame()).await {
            got += frame.unwrap().into_data().unwrap().len() as u64;
        }
        sending.await.unwrap();
        let growth = gateway.peak_kib() - before;
        assert_eq!(got, WHOLE);
        assert!(growth < GROWTH_KIB, "{protocol} {http2}: it grew by {growth} KiB");
    }
}

#[tokio::test]
async fn a_slow_upstream_holds_the_caller_back() {
    for (protocol, http2) in [("http1", false), ("http1", true), ("http2", false), ("http2", true)]
    {
        let upstream = Upstream::start();
        let gateway = Process::start(&open(&upstream.url(), &format!("protocol: {protocol}"), ""));
        let mut client = connect(gateway.address, http2).await;
        assert_eq!(client.get("/warm").await.status, 200);
        let before = gateway.peak_kib();

        let gate = Gate::new();
        let slow = gate.clone();
        upstream.answer(move |_| Answer {
            reading: Reading::Held(slow.clone()),
            ..Answer::ok("early")
        });
        let (body, taken) = bulk();
        let request = Request::post("/x").body(body).unwrap();
        let answer = client.start(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let held = stalled(&taken).await;
        assert!(held < BETWEEN, "{protocol} {http2}: {held} bytes are on their way to nobody");
        gate.open();
        let whole = |seen: &[crate::support::seen::Seen]| seen.last().unwrap().body.complete;
        let seen = upstream.seen_when("the whole body", whole).await;
        let growth = gateway.peak_kib() - before;
        assert_eq!(seen.last().unwrap().body.length, WHOLE);
        assert!(growth < GROWTH_KIB, "{protocol} {http2}: it grew by {growth} KiB");
    }
}
