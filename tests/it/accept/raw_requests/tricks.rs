//! What smugglers send that is none of the others.

use super::Expect::{Broken, Closes, Cut, Forwarded, Refused, Twice};
use super::{Expect, HIDDEN, Row, head, post, row};

/// What smugglers send that is none of the above.
pub(super) fn tricks() -> Vec<Row> {
    const BAD: Expect = Closes(&[400]);
    let te = |name, expect, fields: &str| post(name, expect, fields, &format!("0\r\n\r\n{HIDDEN}"));
    let chunks = |name, expect, body: &str| {
        post(name, expect, "transfer-encoding: chunked\r\n", &format!("{body}{HIDDEN}"))
    };
    let length = HIDDEN.len();
    vec![
        te("CL.TE", BAD, "content-length: 4\r\ntransfer-encoding: chunked\r\n"),
        te("TE.CL with a tab", BAD, "transfer-encoding:\tchunked\r\ncontent-length: 4\r\n"),
        te(
            "TE.TE, one of them unknown",
            BAD,
            "transfer-encoding: chunked\r\ntransfer-encoding: x\r\n",
        ),
        te("TE.TE, one of them empty", BAD, "transfer-encoding:\r\ntransfer-encoding: chunked\r\n"),
        te("a coding behind CR alone", BAD, "x-a: b\rtransfer-encoding: chunked\r\n"),
        te("a coding behind LF alone", BAD, "x-a: b\ntransfer-encoding: chunked\r\n"),
        te("a coding on a folded line", BAD, "transfer-encoding:\r\n chunked\r\n"),
        te("a coding with NUL", BAD, "transfer-encoding: chunked\0\r\n"),
        te("a coding with a comma", BAD, "transfer-encoding: chunked,\r\n"),
        te("a length folded", BAD, "content-length:\r\n 5\r\n"),
        te("a length with `_`, and none", BAD, "content-length: 5\r\ncontent-length: \r\n"),
        te(
            "a length beyond what anybody sends",
            BAD,
            "content-length: 99999999999999999999999\r\n",
        ),
        te("a length with an underscore in it", BAD, "content-length: 1_0\r\n"),
        te("a length with an exponent", BAD, "content-length: 1e1\r\n"),
        te("a length in other digits", BAD, "content-length: \u{0665}\r\n"),
        te("lengths split by a comma", BAD, "content-length: 5,\r\n"),
        post(
            "a length with zeros in front",
            Forwarded("/open/x", 3),
            "content-length: 003\r\n",
            "abc",
        ),
        post(
            "a length with a tab behind",
            Forwarded("/open/x", 3),
            "content-length: 3\t\r\n",
            "abc",
        ),
        chunks("a trailer with LF alone", Broken, "3\r\nabc\r\n0\r\nx-a: b\n\r\n"),
        chunks("a trailer with CR alone", Broken, "3\r\nabc\r\n0\r\nx-a: b\rc\r\n\r\n"),
        chunks("a chunk without its end", Broken, "3\r\nabc0\r\n\r\n"),
        chunks("a chunk that ends with LF alone", Broken, "3\r\nabc\n0\r\n\r\n"),
        chunks("a chunk size with a space", Broken, "3 \r\nabc\r\n0\r\n\r\n"),
        chunks("a space before a chunk size", Broken, " 3\r\nabc\r\n0\r\n\r\n"),
        chunks("a chunk size with a plus", Broken, "+3\r\nabc\r\n0\r\n\r\n"),
        chunks("a chunk size with `_`", Broken, "0_3\r\nabc\r\n0\r\n\r\n"),
        chunks("a chunk extension with NUL", Broken, "3;a=\0\r\nabc\r\n0\r\n\r\n"),
        chunks("a chunk size that ends with CR alone", Broken, "3\rabc\r\n0\r\n\r\n"),
        post(
            "a chunk size with zeros in front",
            Forwarded("/open/x", 3),
            "transfer-encoding: chunked\r\n",
            "003\r\nabc\r\n000\r\n\r\n",
        ),
        post(
            "trailers that frame and route",
            Forwarded("/open/x", 3),
            "transfer-encoding: chunked\r\n",
            "3\r\nabc\r\n0\r\ncontent-length: 5\r\ntransfer-encoding: x\r\nhost: a\r\n\r\n",
        ),
        row(
            "a request hidden in the body of a GET",
            Twice("/open/one", "/open/two"),
            format!(
                "GET /open/one HTTP/1.1\r\nhost: g\r\ncontent-length: {length}\r\n\r\n{HIDDEN}\
                 GET /open/two HTTP/1.1\r\nhost: g\r\n\r\n"
            ),
        ),
        row(
            "a request hidden in a chunk",
            Twice("/open/one", "/open/two"),
            format!(
                "POST /open/one HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n\
                 {length:x}\r\n{HIDDEN}\r\n0\r\n\r\nGET /open/two HTTP/1.1\r\nhost: g\r\n\r\n"
            ),
        ),
        head(
            "an upgrade to h2c is none",
            Forwarded("/open/x", 0),
            "host: gateway\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
        ),
        row("HTTP/2.0 on a line of HTTP/1", Cut, "GET /open/x HTTP/2.0\r\nhost: gateway\r\n\r\n"),
        row("HTTP/1.10", Cut, "GET /open/x HTTP/1.10\r\nhost: gateway\r\n\r\n"),
        row("HTTP/01.1", Cut, "GET /open/x HTTP/01.1\r\nhost: gateway\r\n\r\n"),
        row("HTTP/1.1 and a space", Cut, "GET /open/x HTTP/1.1 \r\nhost: gateway\r\n\r\n"),
        row("a request line without a version", Cut, "GET /open/x\r\nhost: gateway\r\n\r\n"),
        row("nothing but LF for line ends", BAD, "GET /open/x HTTP/1.1\nhost: gateway\n\n\r\n"),
        row("`PRI *`", Refused(&[400]), "PRI * HTTP/1.1\r\nhost: gateway\r\n\r\n"),
        row(
            "trace in lower case",
            Closes(&[405]),
            "trace /open/x HTTP/1.1\r\nhost: gateway\r\n\r\n",
        ),
        row(
            "connect with a path",
            Closes(&[400, 405]),
            "CONNECT /open/x HTTP/1.1\r\nhost: gateway\r\n\r\n",
        ),
        row("a method with NUL", Cut, "GE\0T /open/x HTTP/1.1\r\nhost: gateway\r\n\r\n"),
        row("a method with a colon", Cut, "GET: /open/x HTTP/1.1\r\nhost: gateway\r\n\r\n"),
        head("a space before the colon of the host", BAD, "host : gateway\r\n"),
        head("a host behind a tab", Forwarded("/open/x", 0), "host:\tgateway\t\r\n"),
        head("a host with two ports", BAD, "host: gateway:80:80\r\n"),
        head("a host with a query", BAD, "host: gateway?x\r\n"),
        head("a host with a fragment", BAD, "host: gateway#x\r\n"),
        head("a host with a backslash", BAD, "host: gateway\\x\r\n"),
        head("a host with something behind its bracket", BAD, "host: [::1]x\r\n"),
        head("a host with an escape", BAD, "host: %67ateway\r\n"),
        head("a host with a control byte", BAD, "host: gate\x01way\r\n"),
        head("a host beyond ASCII", BAD, "host: g\u{e4}teway\r\n"),
        head("a negative port", BAD, "host: gateway:-1\r\n"),
        head("a host of 300 bytes", BAD, &format!("host: {}\r\n", "a.".repeat(150))),
        row(
            "an absolute target of another scheme",
            Refused(&[400]),
            "GET ftp://gateway/open/x HTTP/1.1\r\nhost: gateway\r\n\r\n",
        ),
        row(
            "an absolute target without a host",
            BAD,
            "GET http:///open/x HTTP/1.1\r\nhost: gateway\r\n\r\n",
        ),
        row(
            "an absolute target for another port",
            BAD,
            "GET http://gateway:81/open/x HTTP/1.1\r\nhost: gateway\r\n\r\n",
        ),
        row(
            "a target without a slash",
            Refused(&[400]),
            "GET open/x HTTP/1.1\r\nhost: gateway\r\n\r\n",
        ),
        row("a query for a target", Refused(&[400]), "GET ?x HTTP/1.1\r\nhost: gateway\r\n\r\n"),
    ]
}
