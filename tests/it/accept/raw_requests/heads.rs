//! Lines, fields, hosts and methods.

use super::Expect::{Closes, Cut, Forwarded, Refused};
use super::{Expect, HIDDEN, Row, head, row, target};

/// Line ends, folding, names, values, sizes.
pub(super) fn lines_and_fields() -> Vec<Row> {
    const BAD: Expect = Closes(&[400]);
    vec![
        head("a folded field", BAD, "host: gateway\r\nx-a: b\r\n c\r\n"),
        head("a fold before the first field", BAD, " x-a: b\r\nhost: gateway\r\n"),
        head("CR alone in a value", BAD, "host: gateway\r\nx-a: b\rc\r\n"),
        head(
            "CR alone for a line end",
            BAD,
            "host: gateway\r\nx-a: b\rtransfer-encoding: chunked\r\n",
        ),
        head("NUL in a value", BAD, "host: gateway\r\nx-a: b\0c\r\n"),
        head("NUL in a name", BAD, "host: gateway\r\nx\0a: b\r\n"),
        head("a name with a space", BAD, "host: gateway\r\nx a: b\r\n"),
        head("a space before the colon", BAD, "host: gateway\r\nx-a : b\r\n"),
        head("no colon", BAD, "host: gateway\r\nx-a\r\n"),
        head("no name", BAD, "host: gateway\r\n: b\r\n"),
        head("a name with a parenthesis", BAD, "host: gateway\r\nx(a: b\r\n"),
        head("a name beyond ASCII", BAD, "host: gateway\r\nx\u{e9}: b\r\n"),
        head("a name with `_` is dropped", Forwarded("/open/x", 0), "host: gateway\r\nx_a: b\r\n"),
        head(
            "a named hop-by-hop field is dropped",
            Forwarded("/open/x", 0),
            "host: gateway\r\nconnection: keep-alive, x-a\r\nkeep-alive: 1\r\nx-a: b\r\n",
        ),
        head(
            "`Connection` can't name what frames",
            Forwarded("/open/x", 0),
            "host: gateway\r\nconnection: host, content-length, x-request-id\r\n",
        ),
        head(
            "a field of 100 KiB",
            Closes(&[400, 431]),
            &format!("host: gateway\r\nx-a: {}\r\n", "b".repeat(100 * 1024)),
        ),
        head(
            "a thousand fields",
            Closes(&[400, 431]),
            &format!("host: gateway\r\n{}", "x-a: b\r\n".repeat(1000)),
        ),
        target(
            "a target of 100 KiB",
            Closes(&[400, 414, 431]),
            &format!("/open/{}", "x".repeat(100 * 1024)),
        ),
        row(
            "an empty line before the request",
            Forwarded("/open/x", 0),
            "\r\nGET /open/x HTTP/1.1\r\nhost: gateway\r\n\r\n",
        ),
        row("HTTP/0.9", Cut, "GET /open/x\r\n\r\n"),
        row("HTTP/1.2", Cut, "GET /open/x HTTP/1.2\r\nhost: gateway\r\n\r\n"),
        row("HTTP/3.0", Cut, "GET /open/x HTTP/3.0\r\nhost: gateway\r\n\r\n"),
        row("http/1.1 in lower case", Cut, "GET /open/x http/1.1\r\nhost: gateway\r\n\r\n"),
        row("two spaces before the target", Cut, "GET  /open/x HTTP/1.1\r\nhost: gateway\r\n\r\n"),
        row("a space in the target", Cut, "GET /open/x y HTTP/1.1\r\nhost: gateway\r\n\r\n"),
        row("a tab for the space", Cut, "GET\t/open/x HTTP/1.1\r\nhost: gateway\r\n\r\n"),
        row("a TLS hello", Cut, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        row("binary", Cut, b"\x00\x01\x02\x03\xff\xfe\r\n\r\n"),
        row("a broken HTTP/2 preface", Cut, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"),
    ]
}

/// Who is asked, and for what.
pub(super) fn hosts_and_methods() -> Vec<Row> {
    const BAD: Expect = Closes(&[400]);
    vec![
        head("no host", BAD, ""),
        head("an empty host", BAD, "host:\r\n"),
        head("two hosts", BAD, "host: gateway\r\nhost: other\r\n"),
        head("two hosts, the same", BAD, "host: gateway\r\nhost: gateway\r\n"),
        head("a list of hosts", BAD, "host: gateway, other\r\n"),
        head("a host with a path", BAD, "host: gateway/admin\r\n"),
        head("a host with a user", BAD, "host: user@gateway\r\n"),
        head("a host with a space", BAD, "host: gate way\r\n"),
        head("a host with a bad port", BAD, "host: gateway:http\r\n"),
        head("a host with a port beyond 65535", BAD, "host: gateway:65536\r\n"),
        head("a host with an open bracket", BAD, "host: [::1\r\n"),
        head("a host with a port", Forwarded("/open/x", 0), "host: gateway:8080\r\n"),
        head("a host that is an IPv6 address", Forwarded("/open/x", 0), "host: [::1]:8080\r\n"),
        row("HTTP/1.0 without a host", Forwarded("/open/x", 0), "GET /open/x HTTP/1.0\r\n\r\n"),
        row("HTTP/1.0 with two hosts", BAD, "GET /open/x HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n"),
        row(
            "an absolute target",
            Forwarded("/open/x?y", 0),
            "GET http://gateway/open/x?y HTTP/1.1\r\nhost: gateway\r\n\r\n",
        ),
        row(
            "an absolute target for another host",
            BAD,
            "GET http://other/open/x HTTP/1.1\r\nhost: gateway\r\n\r\n",
        ),
        row(
            "an absolute target with a user",
            BAD,
            "GET http://user@gateway/open/x HTTP/1.1\r\nhost: gateway\r\n\r\n",
        ),
        row(
            "an absolute target without a host field",
            BAD,
            "GET http://gateway/open/x HTTP/1.1\r\n\r\n",
        ),
        row("TRACE", Closes(&[405]), "TRACE /open/x HTTP/1.1\r\nhost: gateway\r\n\r\n"),
        row(
            "CONNECT",
            Closes(&[405]),
            "CONNECT upstream:443 HTTP/1.1\r\nhost: upstream:443\r\n\r\n",
        ),
        row(
            "CONNECT, and then a request",
            Closes(&[405]),
            format!("CONNECT upstream:443 HTTP/1.1\r\nhost: upstream:443\r\n\r\n{HIDDEN}"),
        ),
        row(
            "`OPTIONS *`",
            Refused(&[400, 404, 405]),
            "OPTIONS * HTTP/1.1\r\nhost: gateway\r\n\r\n",
        ),
        row("`GET *`", Refused(&[400]), "GET * HTTP/1.1\r\nhost: gateway\r\n\r\n"),
        row(
            "an authority for a target",
            Refused(&[400]),
            "GET gateway:80 HTTP/1.1\r\nhost: gateway\r\n\r\n",
        ),
        row(
            "a method in lower case is another method",
            Forwarded("/open/x", 0),
            "get /open/x HTTP/1.1\r\nhost: gateway\r\n\r\n",
        ),
        row("a method with a bracket", Cut, "GE[T /open/x HTTP/1.1\r\nhost: gateway\r\n\r\n"),
        row("no method", Cut, " /open/x HTTP/1.1\r\nhost: gateway\r\n\r\n"),
    ]
}
