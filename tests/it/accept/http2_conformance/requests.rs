//! Header blocks and the requests in them (RFC 7541, RFC 9113 §8).

use super::Expect::{Answered, Ends, Malformed};
use super::{
    Case, END_HEADERS, END_STREAM, HEADERS, NONE, PSEUDO, UNDECODABLE, WHOLE, case, data, fields,
    open,
};
use crate::support::raw_http2::{block, frame};

/// RFC 7541, and section 4.3.
pub(super) fn hpack() -> Vec<Case> {
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
pub(super) fn messages() -> Vec<Case> {
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
