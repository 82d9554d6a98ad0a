//! Floods of HTTP/2 frames: each is answered with GOAWAY (`ENHANCE_YOUR_CALM`) and a close, and
//! another connection is served all the while.

use super::open_routes;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::raw_http2::{More, Outcome, RawHttp2, block, frame};
use crate::support::upstream::{Answer, Upstream};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: [u8; 4] = [0, 0, 0, 8];
const ENHANCE_YOUR_CALM: u32 = 11;

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/open/x"), (":authority", "gateway")];

fn started(server: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open_routes(&upstream, "", server));
    (upstream, gateway)
}

/// A request of another caller.
async fn is_served(other: &mut RawHttp2, stream: u32) {
    other.headers(stream, &GET, More::Ends).await;
    assert_eq!(other.outcome(stream).await, Outcome::Answered(200));
}

/// Sends `flood` on a connection of its own, which is to end.
async fn ends_with(gateway: &Gateway, name: &str, flood: &[u8]) {
    let mut other = RawHttp2::connect(gateway.address()).await;
    is_served(&mut other, 1).await;
    let mut raw = RawHttp2::connect(gateway.address()).await;
    raw.send(flood).await;
    is_served(&mut other, 3).await;
    assert_eq!(raw.farewell().await, Some(ENHANCE_YOUR_CALM), "{name}");
    is_served(&mut other, 5).await;
}

fn opened(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&GET))
}

#[tokio::test]
async fn frames_that_cost_the_caller_nothing() {
    let (_upstream, gateway) = started("");
    let open = opened(1);
    let tree = [0, 0, 0, 0, 16];
    for (name, before, one, count) in [
        ("SETTINGS", &[][..], frame(SETTINGS, 0, 0, &[]), 51),
        ("SETTINGS that set much", &[], frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0].repeat(20)), 51),
        ("acknowledged SETTINGS", &[], frame(PING, 1, 0, &[0; 8]), 501),
        ("PING", &[], frame(PING, 0, 0, &[0; 8]), 501),
        ("PRIORITY", &[], frame(PRIORITY, 0, 1, &tree), 1001),
        ("PRIORITY of many streams", &[], frame(PRIORITY, 0, 2_000_001, &tree), 1001),
        ("WINDOW_UPDATE", &[], frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), 1101),
        ("WINDOW_UPDATE of a stream", &open, frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), 1101),
        ("empty DATA", &open, frame(DATA, 0, 1, &[]), 101),
        ("padded DATA without data", &open, frame(DATA, 8, 1, &[3, 0, 0, 0]), 101),
        ("unknown frames", &[], frame(0x42, 0, 0, b"whatever"), 501),
        ("GOAWAY", &[], frame(GOAWAY, 0, 0, &[0; 8]), 501),
    ] {
        ends_with(&gateway, name, &[before, &one.repeat(count)].concat()).await;
        // Much more of it than it takes, and still sent when the end has come.
        ends_with(&gateway, name, &[before, &one.repeat(40 * count)].concat()).await;
    }
}

#[tokio::test]
async fn as_many_as_honest_callers_send_are_served() {
    let (_upstream, gateway) = started("");
    let mut raw = RawHttp2::connect(gateway.address()).await;
    for frames in [
        frame(SETTINGS, 0, 0, &[]).repeat(40),
        frame(PING, 0, 0, &[0; 8]).repeat(400),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]).repeat(900),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(900),
        frame(0x42, 0, 0, b"grease").repeat(400),
    ] {
        raw.send(&frames).await;
    }
    is_served(&mut raw, 1).await;
}

#[tokio::test]
async fn rapid_reset() {
    let (upstream, gateway) = started("");
    // In one piece: they are reset before anybody has seen them.
    let pairs = |count: u32| -> Vec<u8> {
        (0..count)
            .flat_map(|n| [opened(2 * n + 1), frame(RST_STREAM, 0, 2 * n + 1, &CANCEL)].concat())
            .collect()
    };
    ends_with(&gateway, "rapid reset", &pairs(600)).await;
    // One after the other: each was seen, and made a request to the upstream perhaps.
    let mut raw = RawHttp2::connect(gateway.address()).await;
    for n in 0..1000 {
        raw.send(&opened(2 * n + 1)).await;
        raw.send(&frame(RST_STREAM, 0, 2 * n + 1, &CANCEL)).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.farewell().await, Some(ENHANCE_YOUR_CALM));
    assert!(upstream.count() < 1000, "{}", upstream.count());
}

#[tokio::test]
async fn streams_that_we_are_made_to_reset() {
    let (_upstream, gateway) = started("");
    // CVE-2025-8671: an error of the stream each, which we answer with a reset.
    let fields = [GET.as_slice(), &[("content-length", "1")]].concat();
    let errors = |count: u32| -> Vec<u8> {
        (0..count)
            .flat_map(|n| {
                let head = frame(HEADERS, END_HEADERS, 2 * n + 1, &block(&fields));
                [head, frame(DATA, END_STREAM, 2 * n + 1, b"more than one")].concat()
            })
            .collect()
    };
    ends_with(&gateway, "bodies longer than they say", &errors(400)).await;
    // Refused for what is in them, before anybody sees them.
    let malformed = [GET.as_slice(), &[("connection", "close")]].concat();
    let refused = |count: u32| -> Vec<u8> {
        (0..count)
            .flat_map(|n| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block(&malformed)))
            .collect()
    };
    ends_with(&gateway, "malformed requests", &refused(400)).await;
}

#[tokio::test]
async fn streams_beyond_the_limit_without_end() {
    let (upstream, gateway) = started("max_concurrent_streams: 2");
    let gate = Gate::new();
    let held = gate.clone();
    upstream.answer(move |seen| match seen.value("x-held") {
        Some(_) => Answer::ok("ok").held_by(&held),
        None => Answer::ok("ok"),
    });
    let fields = [GET.as_slice(), &[("x-held", "1")]].concat();
    let many: Vec<u8> = (0..1000_u32)
        .flat_map(|n| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block(&fields)))
        .collect();
    ends_with(&gateway, "refused streams", &many).await;
    gate.open();
    assert!(upstream.count() < 10, "{}", upstream.count());
}

#[tokio::test]
async fn heads_without_end() {
    let (upstream, gateway) = started("max_header_bytes: 8KiB");
    let begun = frame(HEADERS, END_STREAM, 1, &block(&GET));
    let piece = |payload: &[u8], count| frame(CONTINUATION, 0, 1, payload).repeat(count);
    let field = block(&[("x-a", "b".repeat(100).as_str())]);
    // A field of 4,000 bytes that is indexed once, and then named by one byte each time.
    let bomb =
        [&[0x40, 3, b'x', b'-', b'a', 0x7f, 0xa1, 0x1e][..], &[b'b'; 4000], &[0xbe; 8000]].concat();
    for (name, flood) in [
        ("empty CONTINUATION", [&begun[..], &piece(b"", 1000)].concat()),
        ("CONTINUATION of a byte", [&begun[..], &piece(&[0x82], 1000)].concat()),
        ("CONTINUATION of fields", [&begun[..], &piece(&field, 1000)].concat()),
        (
            "a bomb",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[&block(&GET), &bomb[..]].concat()),
        ),
    ] {
        ends_with(&gateway, name, &flood).await;
    }
    assert!(upstream.seen().iter().all(|seen| seen.value("x-a").is_none()));
}

#[tokio::test]
async fn a_slow_head_has_its_time_and_not_that_of_idleness() {
    let (upstream, gateway) = started("header_timeout: 300ms");
    let gate = Gate::new();
    let held = gate.clone();
    upstream.answer(move |seen| match seen.value("x-held") {
        Some(_) => Answer::ok("ok").held_by(&held),
        None => Answer::ok("ok"),
    });
    let whole = frame(HEADERS, END_STREAM | END_HEADERS, 3, &block(&GET));
    let open_end = frame(HEADERS, END_STREAM, 3, &block(&GET));
    for cut in [&open_end[..], &whole[..whole.len() - 1], &whole[..9]] {
        // Also while another request of the connection is being answered.
        let mut raw = RawHttp2::connect(gateway.address()).await;
        let fields = [GET.as_slice(), &[("x-held", "1")]].concat();
        raw.headers(1, &fields, More::Ends).await;
        raw.send(cut).await;
        let mut other = RawHttp2::connect(gateway.address()).await;
        is_served(&mut other, 1).await;
        assert_eq!(raw.farewell().await, Some(ENHANCE_YOUR_CALM), "{}", cut.len());
        is_served(&mut other, 3).await;
    }
    gate.open();
}
