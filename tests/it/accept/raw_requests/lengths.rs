//! Where a message ends: lengths, codings and chunks.

use super::Expect::{Broken, Closes, Forwarded, Twice};
use super::{Expect, HIDDEN, Row, post, row};

/// Lengths and codings. Whatever is doubtful is 400 and closes.
pub(super) fn framing() -> Vec<Row> {
    const BAD: Expect = Closes(&[400]);
    let chunked = |name, expect, coding: &str| {
        post(
            name,
            expect,
            &format!("transfer-encoding: {coding}\r\n"),
            &format!("0\r\n\r\n{HIDDEN}"),
        )
    };
    let length = |name, expect, value: &str| {
        post(name, expect, &format!("content-length: {value}\r\n"), &format!("abc{HIDDEN}"))
    };
    vec![
        post("a good length", Forwarded("/open/x", 3), "content-length: 3\r\n", "abc"),
        post(
            "good chunks",
            Forwarded("/open/x", 3),
            "transfer-encoding: chunked\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
        ),
        post("a length of zero", Forwarded("/open/x", 0), "content-length: 0\r\n", ""),
        post(
            "the coding in capitals",
            Forwarded("/open/x", 3),
            "Transfer-Encoding: CHUNKED\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
        ),
        post(
            "chunks with an extension",
            Forwarded("/open/x", 3),
            "transfer-encoding: chunked\r\n",
            "3;a=b\r\nabc\r\n0\r\n\r\n",
        ),
        row(
            "two good requests in one piece",
            Twice("/open/one", "/open/two"),
            "POST /open/one HTTP/1.1\r\nhost: g\r\ncontent-length: 3\r\n\r\nabcGET /open/two HTTP/1.1\r\nhost: g\r\n\r\n",
        ),
        post(
            "both: length, then coding",
            BAD,
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            &format!("0\r\n\r\n{HIDDEN}"),
        ),
        post(
            "both: coding, then length",
            BAD,
            "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
            &format!("0\r\n\r\n{HIDDEN}"),
        ),
        post(
            "both, the coding unknown",
            BAD,
            "content-length: 3\r\ntransfer-encoding: x\r\n",
            &format!("abc{HIDDEN}"),
        ),
        post(
            "two lengths that differ",
            BAD,
            "content-length: 3\r\ncontent-length: 4\r\n",
            &format!("abc{HIDDEN}"),
        ),
        post(
            "two lengths, the same",
            BAD,
            "content-length: 3\r\ncontent-length: 3\r\n",
            &format!("abc{HIDDEN}"),
        ),
        length("a list of lengths", BAD, "3, 3"),
        length("a length with a plus", BAD, "+3"),
        length("a negative length", BAD, "-1"),
        length("a length in hex", BAD, "0x3"),
        length("a length with a fraction", BAD, "3.0"),
        length("an empty length", BAD, ""),
        length("a length with a space in it", BAD, "3 3"),
        length("a length beyond 64 bits", BAD, "18446744073709551619"),
        chunked("chunked twice in one field", BAD, "chunked, chunked"),
        post(
            "chunked twice in two fields",
            BAD,
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            &format!("0\r\n\r\n{HIDDEN}"),
        ),
        chunked("identity", BAD, "identity"),
        chunked("chunked, then identity", BAD, "chunked, identity"),
        chunked("gzip, then chunked", BAD, "gzip, chunked"),
        chunked("an unknown coding", BAD, "xchunked"),
        chunked("quotes around chunked", BAD, "\"chunked\""),
        chunked("a parameter behind chunked", BAD, "chunked;x=y"),
        chunked("a vertical tab before chunked", BAD, "\x0bchunked"),
        chunked("an empty coding", BAD, ""),
        post(
            "a space before the colon",
            BAD,
            "transfer-encoding : chunked\r\n",
            &format!("0\r\n\r\n{HIDDEN}"),
        ),
        row(
            "a coding in HTTP/1.0",
            BAD,
            format!(
                "POST /open/x HTTP/1.0\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
            ),
        ),
    ]
}

/// The head is good, the body is not. The request may be on its way by then.
pub(super) fn broken_bodies() -> Vec<Row> {
    let chunks = |name, body: &str| {
        post(name, Broken, "transfer-encoding: chunked\r\n", &format!("{body}{HIDDEN}"))
    };
    vec![
        chunks("a chunk size that is no number", "x\r\nabc\r\n0\r\n\r\n"),
        chunks("a negative chunk size", "-3\r\nabc\r\n0\r\n\r\n"),
        chunks("a chunk size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
        chunks("an empty chunk size", "\r\nabc\r\n0\r\n\r\n"),
        chunks("a chunk size beyond 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        chunks("a chunk longer than it says", "2\r\nabc\r\n0\r\n\r\n"),
        chunks("a chunk size that ends with LF alone", "3\nabc\r\n0\r\n\r\n"),
        chunks("a chunk extension with LF alone", "3;a\nabc\r\n0\r\n\r\n"),
    ]
}
