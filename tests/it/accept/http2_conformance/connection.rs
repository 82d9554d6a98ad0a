//! Frames as such, the states of streams, and each kind of frame (RFC 9113 §4 to §6).

use super::Expect::{Answered, Ends, Nothing, Resets};
use super::{
    ACK, CONTINUATION, Case, END_HEADERS, END_STREAM, Expect, FLOW_CONTROL, FRAME_SIZE, GOAWAY,
    HEADERS, NONE, PADDED, PING, PRIORITY, PROTOCOL, PUSH_PROMISE, RST_STREAM, SETTINGS,
    STREAM_CLOSED, WHOLE, WINDOW_UPDATE, WITH_PRIORITY, case, data, fields, half_closed, open,
    request, reset, setting, window,
};
use crate::support::raw_http2::{block, frame};

/// Generic: what every client may send.
pub(super) fn fine() -> Vec<Case> {
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
pub(super) fn frames() -> Vec<Case> {
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
pub(super) fn streams() -> Vec<Case> {
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
pub(super) fn kinds() -> Vec<Case> {
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

/// Sections 6.5 to 6.9: frames of the connection. h2 says `PROTOCOL_ERROR` of some SETTINGS and PING
/// frames of a wrong size or value, where RFC 9113 §6 has `FRAME_SIZE_ERROR` or `FLOW_CONTROL_ERROR`;
/// the connection ends all the same.
pub(super) fn control() -> Vec<Case> {
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
