//! HTTP/2 frame by frame: the cases of h2spec, rebuilt as a table (RFC 9113 and RFC 7541).
//!
//! Each case has a connection of its own, on which settings were exchanged. An error of a stream may be
//! taken for one of the connection (RFC 9113 §5.4.2), and where the RFC leaves the code open, or h2
//! takes a more general one, the case names them all. None of it reaches the upstream, and after each
//! the gateway serves.

mod connection;
mod requests;

use std::fmt::Write as _;

use self::connection::{control, fine, frames, kinds, streams};
use self::requests::{hpack, messages};
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
