//! A thousand connections of each kind open at once, and what one of them costs in memory; slow
//! readers in hundreds, who cost no more the longer they are slow.
//!
//! Figures are printed (`cargo test --test it scale -- --nocapture`; `SCALE_BINARY` names another
//! build) and held to bounds; those of a release build are in `benches/README.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, FuturesUnordered};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::process::Process;
use super::{all, file, open, up};
use crate::support::client::{Client, full};
use crate::support::raw::Raw;
use crate::support::servers::{Handled, Server};
use crate::support::websocket::{WebSocketUpstream, handshake, text};
use crate::support::within;

const MANY: usize = 1000;

/// Most memory for one of them, in KiB. What the debug build takes is some more than a release
/// build's; the bound of the issue is for that one.
const KIB_EACH: u64 = 64;

/// Most for one reader who takes nothing of a long answer, with what the gateway has read for it.
const KIB_EACH_SLOW: u64 = 400;

/// The test's process holds both ends of each connection.
fn needs_open_files() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft = line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX);
    assert!(
        soft >= 4 * MANY,
        "this takes 4,000 open files, and {soft} are allowed: `ulimit -n 8192`"
    );
}

/// An upstream of endless event streams: each has the first event at once, and one more with each
/// change of `events`. `open` counts those that have not ended.
fn event_streams(events: watch::Receiver<u64>, open: Arc<AtomicUsize>) -> Server {
    Server::http(Arc::new(move |_: Request<Incoming>, _| -> Handled {
        open.fetch_add(1, Ordering::SeqCst);
        let state = (events.clone(), Some(0), Counted(Arc::clone(&open)));
        let frames = stream::unfold(state, |(mut events, first, counted)| async move {
            let event = if let Some(first) = first {
                first
            } else {
                events.changed().await.ok()?;
                *events.borrow_and_update()
            };
            let frame = Frame::data(Bytes::from(format!("data: {event}\n\n")));
            Some((Ok(frame), (events, None, counted)))
        });
        Box::pin(async move {
            let answer = Response::builder().header("content-type", "text/event-stream");
            Ok(answer.body(StreamBody::new(frames).boxed_unsync()).unwrap())
        })
    }))
}

/// One that is open; no more when this is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// `count` clients, `streams` of them on each connection.
async fn clients(gateway: &Process, count: usize, streams: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    while clients.len() < count {
        if streams == 1 {
            clients.push(Client::http1(gateway.address).await);
        } else {
            let first = Client::http2(gateway.address).await;
            clients.extend((1..streams).map(|_| first.beside()));
            clients.push(first);
        }
    }
    clients
}

async fn event(body: &mut Incoming) -> Bytes {
    within("an event", body.frame()).await.unwrap().unwrap().into_data().unwrap()
}

#[allow(clippy::print_stdout, reason = "figures to write down")]
fn each(what: &str, gateway: &Process, before: u64, count: usize, most: u64) {
    let kib = gateway.resident_kib().saturating_sub(before) / count as u64;
    println!("{what}: {kib} KiB each, of {count}");
    assert!(kib < most, "{what}: {kib} KiB each, and {most} are stated");
}

#[tokio::test]
async fn a_thousand_idle_connections_cost_little_each() {
    needs_open_files();
    let upstream = Server::http(Arc::new(|_, _| -> Handled {
        Box::pin(async { Ok(Response::new(full("ok"))) })
    }));
    let gateway = Process::start(&open(&format!("http://{}", upstream.address()), "", ""));
    for (what, http2) in [("idle connections, HTTP/1.1", false), ("idle connections, HTTP/2", true)]
    {
        let mut warm = Client::http1(gateway.address).await;
        assert_eq!(warm.get("/warm").await.status, 200);
        let before = gateway.resident_kib();
        let mut idle = Vec::new();
        for _ in 0..MANY {
            let mut client = if http2 {
                Client::http2(gateway.address).await
            } else {
                Client::http1(gateway.address).await
            };
            assert_eq!(client.get("/x").await.status, 200);
            idle.push(client);
        }
        each(what, &gateway, before, MANY, KIB_EACH);
    }
}

#[tokio::test]
async fn a_thousand_event_streams_cost_little_each_and_are_all_served() {
    needs_open_files();
    for (what, count, streams, protocol) in [
        ("event streams, HTTP/1.1 on both sides", MANY, 1, "http1"),
        ("event streams, 50 to an HTTP/2 connection, HTTP/2 behind", MANY, 50, "http2"),
        ("event streams, 100 to an HTTP/2 connection, HTTP/1.1 behind", MANY, 100, "http1"),
    ] {
        let (events, told) = watch::channel(0);
        let opened = Arc::new(AtomicUsize::new(0));
        let upstream = event_streams(told, Arc::clone(&opened));
        let url = format!("http://{}", upstream.address());
        let keys = format!("protocol: {protocol}");
        let patient = "header_timeout: 5m";
        let gateway = Process::start(&file(patient, &[&up(&url, &keys)], &[&all("")]));
        let warm = clients(&gateway, 10, 1).await;
        let before = gateway.resident_kib();
        let mut bodies = Vec::new();
        let mut clients = clients(&gateway, count, streams).await;
        for client in &mut clients {
            let request = Request::get("/events").body(full("")).unwrap();
            let mut body = client.start(request).await.unwrap().into_body();
            assert_eq!(event(&mut body).await, "data: 0\n\n");
            bodies.push(body);
        }
        each(what, &gateway, before, count, KIB_EACH);
        assert_eq!(opened.load(Ordering::SeqCst), count);

        // Each event reaches all of them.
        for number in 1..=3 {
            events.send(number).unwrap();
            let got: FuturesUnordered<_> = bodies.iter_mut().map(event).collect();
            let expected = format!("data: {number}\n\n");
            let right = got.filter(|got| std::future::ready(*got == expected)).count().await;
            assert_eq!(right, count);
        }
        // Those who go away are gone at the upstream, too.
        drop((bodies, clients, warm));
        let gone = async {
            while opened.load(Ordering::SeqCst) > 0 {
                // An upstream over HTTP/1.1 learns of it when it writes.
                events.send_modify(|number| *number += 1);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("the upstream to see them go", gone).await;
    }
}

#[tokio::test]
async fn a_thousand_websockets_cost_little_each_and_are_all_served() {
    needs_open_files();
    for (what, upstream, protocol) in [
        ("WebSockets, HTTP/1.1 on both sides", WebSocketUpstream::start(), "http1"),
        ("WebSockets, HTTP/2 behind", WebSocketUpstream::start_http2(true), "http2"),
    ] {
        let keys = format!("protocol: {protocol}");
        let patient = "header_timeout: 5m";
        let gateway = Process::start(&file(patient, &[&up(&upstream.url(), &keys)], &[&all("")]));
        let warm = clients(&gateway, 10, 1).await;
        let before = gateway.resident_kib();
        let mut callers = Vec::new();
        for _ in 0..MANY {
            let mut caller = Raw::connect(gateway.address).await;
            caller.send(handshake("/ws", "").as_bytes()).await;
            assert_eq!(caller.reply().await.unwrap().status, 101);
            callers.push(caller);
        }
        each(what, &gateway, before, MANY, KIB_EACH);
        for round in ["one", "two", "three"] {
            let said = text(round);
            for caller in &mut callers {
                caller.send(&said).await;
            }
            for caller in &mut callers {
                assert_eq!(caller.exactly(said.len()).await, said);
            }
        }
        // Those who go away are gone at the upstream, too.
        drop((callers, warm));
        upstream.ended(MANY).await;
    }
}

#[tokio::test]
async fn readers_who_take_nothing_cost_no_more_with_time_and_hold_up_nobody() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let upstream = Server::http(Arc::new(move |_, _| -> Handled {
        let counter = Arc::clone(&counter);
        let chunk = Bytes::from(vec![b'x'; 64 << 10]);
        let frames = stream::repeat_with(move || {
            counter.fetch_add(chunk.len(), Ordering::Relaxed);
            Ok(Frame::data(chunk.clone()))
        });
        Box::pin(async move { Ok(Response::new(StreamBody::new(frames).boxed_unsync())) })
    }));
    let url = format!("http://{}", upstream.address());
    for (what, count, streams, protocol) in
        [("slow readers, HTTP/1.1", 200, 1, "http1"), ("slow readers, HTTP/2", MANY, 50, "http2")]
    {
        // A busy machine takes its time: nobody is to be cut off for being slow.
        let patient = "header_timeout: 5m, body_idle_timeout: 5m";
        let keys = format!("protocol: {protocol}");
        let gateway = Process::start(&file(patient, &[&up(&url, &keys)], &[&all("")]));
        let warm = clients(&gateway, 10, 1).await;
        let before = gateway.resident_kib();
        let mut slow = clients(&gateway, count, streams).await;
        let mut bodies: Vec<Incoming> = Vec::new();
        for client in &mut slow {
            let request = Request::get("/endless").body(full("")).unwrap();
            bodies.push(client.start(request).await.unwrap().into_body());
        }
        // All that can be held is, once the upstream sends no more.
        let mut last = usize::MAX;
        while last != sent.load(Ordering::Relaxed) {
            last = sent.load(Ordering::Relaxed);
            // That nothing happens shows only in time.
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        each(what, &gateway, before, count, KIB_EACH_SLOW);
        // Others are served as ever.
        let mut other = Client::http1(gateway.address).await;
        let request = Request::get("/endless").body(full("")).unwrap();
        let mut body = other.start(request).await.unwrap().into_body();
        let mut got = 0;
        while got < 4 << 20 {
            let frame = within("more", body.frame()).await.unwrap().unwrap();
            got += frame.into_data().unwrap().len();
        }
        drop((bodies, slow, warm));
    }
}
