//! HTTP/2 frame by frame: the cases of h2spec, rebuilt as a table (RFC 9113 and RFC 7541).
//!
//! Each case has a connection of its own, on which settings were exchanged. An error of a stream may be
//! taken for one of the connection (RFC 9113 §5.4.2), and where the RFC leaves the code open, or h2
//! takes a more general one, the case names them all. None of it reaches the upstream, and after each
//! the gateway serves.

use std::fmt::Write as _;

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
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const NONE: u8 = 0;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;
const WHOLE: u8 = END_STREAM | END_HEADERS;

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const COMPRESSION: u32 = 9;

// h2 says `PROTOCOL_ERROR` of some SETTINGS and PING frames of a wrong size or value, where RFC 9113
// §6 has `FRAME_SIZE_ERROR` or `FLOW_CONTROL_ERROR`. The connection ends all the same.

/// What h2 says of a header block that can't be decoded: RFC 9113 §4.3 has `COMPRESSION_ERROR`, and h2
/// the general code; the connection ends all the same.
const UNDECODABLE: &[u32] = &[COMPRESSION, PROTOCOL];

#[derive(Clone, Copy, Debug)]
enum Expect {
    /// The connection ends with GOAWAY and one of these codes.
    Ends(&'static [u32]),
    /// Stream 1 is reset, or the connection ends, with one of these codes.
    Resets(&'static [u32]),
    /// A malformed request: reset, or answered with 400.
    Malformed,
    /// It is of no consequence: a PING behind it is answered, and so is a request.
    Nothing,
    /// Stream 1 is answered with 200.
    Answered,
}

use Expect::{Answered, Ends, Malformed, Nothing, Resets};

struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    expect: Expect,
}

fn case(name: &'static str, expect: Expect, frames: &[Vec<u8>]) -> Case {
    Case { name, bytes: frames.concat(), expect }
}

const PSEUDO: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/open/x"), (":authority", "gateway")];

fn fields(more: &[(&str, &str)]) -> Vec<u8> {
    block(&[PSEUDO.as_slice(), more].concat())
}

/// A request that is answered at once.
fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &fields(&[]))
}

/// A request whose body is still to come.
fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &fields(&[]))
}

/// A whole request whose answer is held back: half closed for as long as the case takes.
fn half_closed(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &fields(&[("x-held", "1")]))
}

fn data(flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, payload)
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, NONE, stream, &[0, 0, 0, 8])
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, NONE, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn window(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, NONE, stream, &by.to_be_bytes())
}

fn cases() -> Vec<Case> {
    [fine(), frames(), streams(), kinds(), control(), hpack(), messages()]
        .into_iter()
        .flatten()
        .collect()
}

/// Generic: what every client may send.
fn fine() -> Vec<Case> {
    let indexed =
        [&[0x83, 0x86][..], &block(&[(":path", "/open/x"), (":authority", "g")])].concat();
    let (first, second) = indexed.split_at(5);
    vec![
        case("a request", Answered, &[request(1)]),
        case("a request with a body", Answered, &[open(1), data(END_STREAM, 1, b"abc")]),
        case("an empty body", Answered, &[open(1), data(END_STREAM, 1, b"")]),
        case("a padded body", Answered, &[open(1), data(END_STREAM | PADDED, 1, b"\x02abc\0\0")]),
        case(
            "trailers",
            Answered,
            &[open(1), data(NONE, 1, b"abc"), frame(HEADERS, WHOLE, 1, &block(&[("x-a", "b")]))],
        ),
        case(
            "a head in two frames",
            Answered,
            &[frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, second)],
        ),
        case(
            "a head that is padded",
            Answered,
            &[frame(HEADERS, WHOLE | PADDED, 1, &[&[3][..], &indexed, &[0; 3]].concat())],
        ),
        case(
            "a head with a priority",
            Answered,
            &[frame(
                HEADERS,
                WHOLE | WITH_PRIORITY,
                1,
                &[&[0, 0, 0, 0, 16][..], &indexed].concat(),
            )],
        ),
        case(
            "a priority first",
            Answered,
            &[frame(PRIORITY, NONE, 1, &[0, 0, 0, 0, 1]), request(1)],
        ),
        case("settings", Nothing, &[setting(1, 4096), setting(3, 100), setting(4, 65_535)]),
        case("an unknown setting", Nothing, &[setting(0x4242, 1)]),
        case("an unknown frame", Nothing, &[frame(0x42, 0xff, 0, b"whatever")]),
        case("unknown flags", Nothing, &[frame(PING, 0xf6, 0, &[0; 8])]),
        case("the reserved bit", Nothing, &[frame(PING, NONE, 0x8000_0000, &[0; 8])]),
        case("a PING that is an answer", Nothing, &[frame(PING, ACK, 0, &[7; 8])]),
        case("a window of the connection", Nothing, &[window(0, 1)]),
        case("a window of a stream", Answered, &[open(1), window(1, 1), data(END_STREAM, 1, b"")]),
        case("a window of a stream that is over", Nothing, &[request(1), window(1, 1)]),
        case("a reset", Nothing, &[open(1), reset(1)]),
        case("a reset of a stream that was reset", Nothing, &[open(1), reset(1), reset(1)]),
    ]
}

/// Sections 4 and 5.5: frames as such.
fn frames() -> Vec<Case> {
    let large = vec![0; 16_385];
    vec![
        case(
            "DATA beyond the largest frame",
            Resets(&[FRAME_SIZE]),
            &[open(1), data(NONE, 1, &large)],
        ),
        case(
            "HEADERS beyond the largest frame",
            Ends(&[FRAME_SIZE]),
            &[frame(HEADERS, WHOLE, 1, &large)],
        ),
        case("an unknown frame beyond it", Ends(&[FRAME_SIZE]), &[frame(0x42, NONE, 0, &large)]),
        case(
            "an unknown frame within a head",
            Ends(&[PROTOCOL]),
            &[frame(HEADERS, END_STREAM, 1, &fields(&[])), frame(0x42, NONE, 0, b"")],
        ),
        case(
            "PRIORITY within a head",
            Ends(&[PROTOCOL]),
            &[
                frame(HEADERS, END_STREAM, 1, &fields(&[])),
                frame(PRIORITY, NONE, 1, &[0, 0, 0, 0, 1]),
            ],
        ),
        case(
            "PING within a head",
            Ends(&[PROTOCOL]),
            &[frame(HEADERS, END_STREAM, 1, &fields(&[])), frame(PING, NONE, 0, &[0; 8])],
        ),
        case(
            "another head within a head",
            Ends(&[PROTOCOL]),
            &[frame(HEADERS, END_STREAM, 1, &fields(&[])), request(3)],
        ),
        case(
            "DATA within a head",
            Ends(&[PROTOCOL]),
            &[frame(HEADERS, NONE, 1, &fields(&[])), data(END_STREAM, 1, b"a")],
        ),
    ]
}

/// Section 5.1: streams and their states.
fn streams() -> Vec<Case> {
    const OVER: Expect = Resets(&[STREAM_CLOSED, PROTOCOL]);
    let more = frame(CONTINUATION, END_HEADERS, 1, &fields(&[]));
    vec![
        case(
            "DATA on an idle stream",
            Ends(&[PROTOCOL, STREAM_CLOSED]),
            &[data(END_STREAM, 1, b"a")],
        ),
        case("RST_STREAM on an idle stream", Ends(&[PROTOCOL]), &[reset(1)]),
        case("WINDOW_UPDATE on an idle stream", Ends(&[PROTOCOL]), &[window(1, 1)]),
        case("CONTINUATION on an idle stream", Ends(&[PROTOCOL]), std::slice::from_ref(&more)),
        case("DATA behind the end", OVER, &[half_closed(1), data(END_STREAM, 1, b"a")]),
        case("HEADERS behind the end", OVER, &[half_closed(1), request(1)]),
        case("CONTINUATION behind the end", Ends(&[PROTOCOL]), &[half_closed(1), more.clone()]),
        case(
            "DATA behind trailers",
            OVER,
            &[
                frame(HEADERS, END_HEADERS, 1, &fields(&[("x-held", "1")])),
                frame(HEADERS, WHOLE, 1, &block(&[("x-a", "b")])),
                data(END_STREAM, 1, b"a"),
            ],
        ),
        case("HEADERS behind a reset", OVER, &[open(1), reset(1), request(1)]),
        case("CONTINUATION behind a reset", Ends(&[PROTOCOL]), &[open(1), reset(1), more]),
        case("an even stream", Ends(&[PROTOCOL]), &[request(2)]),
        case(
            "a stream below the last",
            Ends(&[PROTOCOL, STREAM_CLOSED]),
            &[request(5), request(3)],
        ),
    ]
}

/// Sections 6.1 to 6.4 and 6.10: frames of streams.
fn kinds() -> Vec<Case> {
    vec![
        case("DATA on stream 0", Ends(&[PROTOCOL]), &[data(END_STREAM, 0, b"a")]),
        case(
            "DATA, all padding and more",
            Ends(&[PROTOCOL]),
            &[open(1), data(PADDED, 1, b"\x05abc")],
        ),
        case(
            "DATA, padded with nothing at all",
            Ends(&[PROTOCOL, FRAME_SIZE]),
            &[open(1), data(PADDED, 1, b"")],
        ),
        case("HEADERS on stream 0", Ends(&[PROTOCOL]), &[request(0)]),
        case(
            "HEADERS, all padding and more",
            Ends(&[PROTOCOL]),
            &[frame(HEADERS, WHOLE | PADDED, 1, &[9, 0x82])],
        ),
        case(
            "HEADERS too short for its priority",
            Ends(&[PROTOCOL, FRAME_SIZE]),
            &[frame(HEADERS, WHOLE | WITH_PRIORITY, 1, &[0, 0, 0])],
        ),
        case(
            "PRIORITY on stream 0",
            Ends(&[PROTOCOL]),
            &[frame(PRIORITY, NONE, 0, &[0, 0, 0, 0, 1])],
        ),
        case(
            "PRIORITY of 4 bytes",
            Resets(&[FRAME_SIZE, PROTOCOL]),
            &[open(1), frame(PRIORITY, NONE, 1, &[0; 4])],
        ),
        case(
            "PRIORITY that hangs on itself",
            Resets(&[PROTOCOL]),
            &[open(1), frame(PRIORITY, NONE, 1, &[0, 0, 0, 1, 1])],
        ),
        case("RST_STREAM on stream 0", Ends(&[PROTOCOL]), &[reset(0)]),
        case(
            "RST_STREAM of 3 bytes",
            Ends(&[FRAME_SIZE, PROTOCOL]),
            &[open(1), frame(RST_STREAM, NONE, 1, &[0; 3])],
        ),
        case(
            "RST_STREAM of 5 bytes",
            Ends(&[FRAME_SIZE, PROTOCOL]),
            &[open(1), frame(RST_STREAM, NONE, 1, &[0; 5])],
        ),
        case(
            "CONTINUATION on stream 0",
            Ends(&[PROTOCOL]),
            &[
                frame(HEADERS, END_STREAM, 1, &fields(&[])),
                frame(CONTINUATION, END_HEADERS, 0, b""),
            ],
        ),
        case(
            "CONTINUATION of another stream",
            Ends(&[PROTOCOL]),
            &[
                frame(HEADERS, END_STREAM, 1, &fields(&[])),
                frame(CONTINUATION, END_HEADERS, 3, b""),
            ],
        ),
        case(
            "CONTINUATION behind a whole head",
            Ends(&[PROTOCOL]),
            &[open(1), frame(CONTINUATION, END_HEADERS, 1, b"")],
        ),
        case(
            "CONTINUATION behind DATA",
            Ends(&[PROTOCOL]),
            &[open(1), data(NONE, 1, b"a"), frame(CONTINUATION, END_HEADERS, 1, b"")],
        ),
        case(
            "PUSH_PROMISE of a caller",
            Ends(&[PROTOCOL]),
            &[
                open(1),
                frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &fields(&[])].concat()),
            ],
        ),
    ]
}

/// Sections 6.5 to 6.9: frames of the connection.
fn control() -> Vec<Case> {
    const SIZE: Expect = Ends(&[FRAME_SIZE, PROTOCOL]);
    const BAD: Expect = Ends(&[PROTOCOL]);
    vec![
        case(
            "SETTINGS that acknowledge and set",
            SIZE,
            &[frame(SETTINGS, ACK, 0, &[0, 3, 0, 0, 0, 1])],
        ),
        case("SETTINGS on a stream", BAD, &[frame(SETTINGS, NONE, 1, &[])]),
        case("SETTINGS of 3 bytes", SIZE, &[frame(SETTINGS, NONE, 0, &[0; 3])]),
        case("SETTINGS: push is 2", BAD, &[setting(2, 2)]),
        case("SETTINGS: a window of 2^31", Ends(&[FLOW_CONTROL, PROTOCOL]), &[setting(4, 1 << 31)]),
        case("SETTINGS: frames of 16383", BAD, &[setting(5, 16_383)]),
        case("SETTINGS: frames of 2^24", BAD, &[setting(5, 1 << 24)]),
        case("SETTINGS: the CONNECT protocol is 2", Ends(&[PROTOCOL]), &[setting(8, 2)]),
        case("PING on a stream", BAD, &[frame(PING, NONE, 1, &[0; 8])]),
        case("PING of 6 bytes", SIZE, &[frame(PING, NONE, 0, &[0; 6])]),
        case("PING of 9 bytes", SIZE, &[frame(PING, NONE, 0, &[0; 9])]),
        case("GOAWAY on a stream", BAD, &[frame(GOAWAY, NONE, 1, &[0; 8])]),
        case(
            "GOAWAY of 7 bytes",
            Ends(&[FRAME_SIZE, PROTOCOL]),
            &[frame(GOAWAY, NONE, 0, &[0; 7])],
        ),
        case("a window of nothing", BAD, &[window(0, 0)]),
        case("a window of nothing for a stream", Resets(&[PROTOCOL]), &[open(1), window(1, 0)]),
        case(
            "WINDOW_UPDATE of 3 bytes",
            Ends(&[FRAME_SIZE, PROTOCOL]),
            &[frame(WINDOW_UPDATE, NONE, 0, &[0; 3])],
        ),
        case(
            "WINDOW_UPDATE of 5 bytes",
            Ends(&[FRAME_SIZE, PROTOCOL]),
            &[frame(WINDOW_UPDATE, NONE, 0, &[0; 5])],
        ),
        case("a window beyond 2^31-1", Ends(&[FLOW_CONTROL]), &[window(0, 0x7fff_ffff)]),
        case(
            "a stream's window beyond 2^31-1",
            Resets(&[FLOW_CONTROL]),
            &[open(1), window(1, 0x7fff_ffff)],
        ),
        case(
            "a stream's window beyond it by settings",
            Ends(&[FLOW_CONTROL]),
            &[
                frame(HEADERS, END_HEADERS, 1, &fields(&[("x-held", "1")])),
                window(1, 0x7fff_0000),
                setting(4, 0x7fff_ffff),
            ],
        ),
    ]
}

/// RFC 7541, and section 4.3.
fn hpack() -> Vec<Case> {
    let head = |more: &[u8]| vec![frame(HEADERS, WHOLE, 1, &[&fields(&[]), more].concat())];
    let first = |more: &[u8]| vec![frame(HEADERS, WHOLE, 1, &[more, &fields(&[])].concat())];
    vec![
        case(
            "a field of the table that was put there",
            Answered,
            &[
                // `x-a: b` is indexed, and then named by 62.
                frame(HEADERS, WHOLE, 1, &[&fields(&[])[..], b"\x40\x03x-a\x01b\xbe"].concat()),
            ],
        ),
        case("a value in Huffman's code", Answered, &head(b"\x00\x03x-a\x81\x1f")),
        case("a field that is never indexed", Answered, &head(b"\x10\x03x-a\x01b")),
        case("the table made smaller", Answered, &first(b"\x20")),
        case("the table made as large as we allow", Answered, &first(b"\x3f\xe1\x1f")),
        case("the table made larger than that", Ends(UNDECODABLE), &first(b"\x3f\xe2\x1f")),
        case("the table changed behind a field", Ends(UNDECODABLE), &head(b"\x20")),
        case("index 0", Ends(UNDECODABLE), &head(b"\x80")),
        case("an index beyond the table", Ends(UNDECODABLE), &head(b"\xc6")),
        case("a name beyond the table", Ends(UNDECODABLE), &head(b"\x7f\x30\x01b")),
        case(
            "a number without end",
            Ends(UNDECODABLE),
            &head(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
        ),
        case("a value longer than the block", Ends(UNDECODABLE), &head(b"\x00\x03x-a\x7fb")),
        case("a block that breaks off", Ends(UNDECODABLE), &head(b"\x00\x03x-")),
        case("Huffman: padding of 8 bits", Ends(UNDECODABLE), &head(b"\x00\x03x-a\x82\x1f\xff")),
        case("Huffman: padding of zeros", Ends(UNDECODABLE), &head(b"\x00\x03x-a\x81\x18")),
        case(
            "Huffman: the end of strings",
            Ends(UNDECODABLE),
            &head(b"\x00\x03x-a\x84\xff\xff\xff\xff"),
        ),
    ]
}

/// Section 8: requests.
fn messages() -> Vec<Case> {
    let with = |name, more: &[(&str, &str)]| {
        case(name, Malformed, &[frame(HEADERS, WHOLE, 1, &fields(more))])
    };
    let only = |name, fields: &[(&str, &str)]| {
        case(name, Malformed, &[frame(HEADERS, WHOLE, 1, &block(fields))])
    };
    let of = |name, method: &str, scheme: &str, path: &str, authority: &str| {
        only(
            name,
            &[(":method", method), (":scheme", scheme), (":path", path), (":authority", authority)],
        )
    };
    let trailers = |name, fields: &[(&str, &str)], flags| {
        case(
            name,
            Malformed,
            &[open(1), data(NONE, 1, b"a"), frame(HEADERS, flags, 1, &block(fields))],
        )
    };
    let length = |name, length: &str, body: &[u8]| {
        let head = frame(HEADERS, END_HEADERS, 1, &fields(&[("content-length", length)]));
        case(name, Malformed, &[head, data(END_STREAM, 1, body)])
    };
    let [method, scheme, path, authority] = PSEUDO;
    vec![
        with("a name with a capital", &[("X-a", "b")]),
        with("a name with a space", &[("x a", "b")]),
        with("a name with a colon", &[("x:a", "b")]),
        with("an empty name", &[("", "b")]),
        with("a name with NUL", &[("x\0a", "b")]),
        with("a value with CR", &[("x-a", "b\rc")]),
        with("a value with LF", &[("x-a", "b\nc")]),
        with("a value with NUL", &[("x-a", "b\0c")]),
        with("a value that hides a field", &[("x-a", "b\r\ntransfer-encoding: chunked")]),
        with("a pseudo field that is unknown", &[(":unknown", "b")]),
        with("a pseudo field of answers", &[(":status", "200")]),
        with("a pseudo field twice: method", &[method]),
        with("a pseudo field twice: scheme", &[scheme]),
        with("a pseudo field twice: path", &[path]),
        with("a pseudo field twice: authority", &[authority]),
        with("a pseudo field behind a field", &[("x-a", "b"), (":path", "/open/x")]),
        only("a pseudo field behind all", &[method, scheme, authority, ("x-a", "b"), path]),
        only("no method", &[scheme, path, authority]),
        only("no scheme", &[method, path, authority]),
        only("no path", &[method, scheme, authority]),
        only("neither authority nor host", &[method, scheme, path]),
        of("an empty path", "GET", "http", "", "gateway"),
        of("an empty method", "", "http", "/open/x", "gateway"),
        of("an empty scheme", "GET", "", "/open/x", "gateway"),
        of("an empty authority", "GET", "http", "/open/x", ""),
        of("a path that is `*`", "GET", "http", "*", "gateway"),
        of("a path without a slash", "GET", "http", "open/x", "gateway"),
        of("a path that is a URL", "GET", "http", "http://gateway/open/x", "gateway"),
        of("a path with a space", "GET", "http", "/open/x y", "gateway"),
        of("a path with a line end", "GET", "http", "/open/x HTTP/1.1\r\nx: y", "gateway"),
        of("a path with NUL", "GET", "http", "/open/x\0", "gateway"),
        of("a method with a space", "GET /open/x HTTP/1.1", "http", "/open/x", "gateway"),
        of("a method with a line end", "GET\r\n", "http", "/open/x", "gateway"),
        of("an authority with a user", "GET", "http", "/open/x", "user@gateway"),
        of("an authority with a path", "GET", "http", "/open/x", "gateway/x"),
        of("an authority with a space", "GET", "http", "/open/x", "gate way"),
        of("an authority with a line end", "GET", "http", "/open/x", "gateway\r\nx: y"),
        of("an authority with a bad port", "GET", "http", "/open/x", "gateway:http"),
        with("a host that disagrees", &[("host", "other")]),
        with("two hosts", &[("host", "gateway"), ("host", "gateway")]),
        with("connection", &[("connection", "close")]),
        with("keep-alive", &[("keep-alive", "1")]),
        with("proxy-connection", &[("proxy-connection", "keep-alive")]),
        with("transfer-encoding", &[("transfer-encoding", "chunked")]),
        with("upgrade", &[("upgrade", "h2c")]),
        with("TE other than trailers", &[("te", "trailers, deflate;q=0.5")]),
        trailers("trailers that do not end the stream", &[("x-a", "b")], END_HEADERS),
        // h2 leaves it out; RFC 9113 §8.1 would have the request refused.
        case(
            "a pseudo field in trailers",
            Answered,
            &[
                open(1),
                data(NONE, 1, b"a"),
                frame(HEADERS, WHOLE, 1, &block(&[(":path", "/open/admin")])),
            ],
        ),
        trailers("a capital in trailers", &[("X-a", "b")], WHOLE),
        length("a length above the body", "4", b"abc"),
        length("a length below the body", "2", b"abc"),
        length("a length that is no number", "+3", b"abc"),
        length("a list of lengths", "3, 3", b"abc"),
        length("a length for no body", "1", b""),
        case(
            "a length and the end at once",
            Malformed,
            &[frame(HEADERS, WHOLE, 1, &fields(&[("content-length", "1")]))],
        ),
        only(
            "CONNECT with a protocol that nobody knows",
            &[(":method", "CONNECT"), (":protocol", "unknown"), scheme, path, authority],
        ),
        only(
            "a protocol without CONNECT",
            &[method, (":protocol", "websocket"), scheme, path, authority],
        ),
        only("CONNECT with a path", &[(":method", "CONNECT"), scheme, path, authority]),
        only("CONNECT without an authority", &[(":method", "CONNECT")]),
    ]
}

fn fits(came: Outcome, fine: impl Fn(Outcome) -> bool) -> Result<(), String> {
    if fine(came) { Ok(()) } else { Err(format!("{came:?}")) }
}

#[tokio::test]
async fn each_case_comes_to_what_the_rfc_says() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&open_routes(&upstream, "", ""));
    let gate = Gate::new();
    let held = gate.clone();
    upstream.answer(move |seen| match seen.value("x-held") {
        Some(_) => Answer::ok("ok").held_by(&held),
        None => Answer::ok("ok"),
    });
    let cases = cases();
    assert!(cases.len() >= 100, "{} cases", cases.len());
    let mut wrong = String::new();
    for case in cases {
        let before = upstream.count();
        let mut raw = RawHttp2::connect(gateway.address()).await;
        raw.send(&case.bytes).await;
        let came = match case.expect {
            Nothing => {
                let pong = raw.answers_ping().await;
                raw.send(&request(101)).await;
                let answered = raw.outcome(101).await == Outcome::Answered(200);
                if pong && answered {
                    Ok(())
                } else {
                    Err(format!("pong {pong}, answered {answered}"))
                }
            }
            Answered => fits(raw.outcome(1).await, |came| came == Outcome::Answered(200)),
            Ends(codes) => {
                let code = raw.farewell().await;
                let fine = code.is_some_and(|code| codes.contains(&code));
                if fine { Ok(()) } else { Err(format!("it ended with {code:?}")) }
            }
            // What came before the fault may have been answered before it was seen.
            Resets(codes) => fits(
                raw.fault(1).await,
                |came| matches!(came, Outcome::Reset(code) | Outcome::GoneAway(code) if codes.contains(&code)),
            ),
            // An answer is 400, or 405 for CONNECT, which is in no table.
            Malformed => fits(raw.outcome(1).await, |came| {
                matches!(
                    came,
                    Outcome::Reset(PROTOCOL)
                        | Outcome::GoneAway(PROTOCOL)
                        | Outcome::Answered(400 | 0)
                )
            }),
        };
        if let Err(came) = came {
            writeln!(wrong, "{}: {:?}, but {came}", case.name, case.expect).unwrap();
        }
        if matches!(case.expect, Malformed) {
            let whole = upstream.seen()[before..].iter().any(|seen| seen.body.complete);
            if whole {
                writeln!(wrong, "{}: the upstream saw a whole request", case.name).unwrap();
            }
        }
        let mut other = RawHttp2::connect(gateway.address()).await;
        other.headers(1, &PSEUDO, More::Ends).await;
        assert_eq!(other.outcome(1).await, Outcome::Answered(200), "behind {}", case.name);
    }
    gate.open();
    assert!(wrong.is_empty(), "\n{wrong}");
}
