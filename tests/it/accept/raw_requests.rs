//! Raw bytes as requests: smuggling, broken framing, hosts, targets and paths (section 3.4).
//!
//! The gateway has an open route at `/open/{*rest}` and a guarded one at `/open/admin/{*rest}`,
//! with one upstream behind both. Whatever a row sends, the upstream sees nothing under
//! `/open/admin`, nothing that the row did not mean to ask for, and the next good request works.

use std::net::SocketAddr;

use crate::support::raw::{Raw, RawReply};
use crate::support::upstream::Upstream;

/// What a row must come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// One answer, its status one of these; then the connection closes. Nothing is forwarded.
    Closes(&'static [u16]),
    /// One answer, its status one of these. Nothing is forwarded.
    Refused(&'static [u16]),
    /// The connection closes; an answer (400) may come before. Nothing is forwarded.
    Cut,
    /// 200, and the upstream saw exactly this target, with a body of so many bytes.
    Forwarded(&'static str, u64),
    /// Answered with 200 twice on one connection; the upstream saw these two targets.
    Twice(&'static str, &'static str),
    /// The request reaches the upstream, but its body is broken: 400 or a close, never a whole body there.
    Broken,
}

use Expect::{Broken, Closes, Cut, Forwarded, Refused, Twice};

/// One row.
pub struct Row {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub expect: Expect,
}

/// The routes file that the table is about.
pub fn routes_file(upstream: &Upstream) -> String {
    let url = upstream.url();
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
server: {{ max_header_bytes: 64KiB }}
providers:
  sso: {{ type: oidc, issuer: "http://127.0.0.1:1/realms/main", audiences: [orders] }}
upstreams:
  plain: {{ url: "{url}" }}
routes:
  - {{ match: {{ path: "/open/{{*rest}}" }}, auth: none, upstream: plain }}
  - {{ match: {{ path: "/open/admin/{{*rest}}" }}, auth: any, upstream: plain }}
"#
    )
}

/// Sends every row to the gateway at `address`, each on a connection of its own, and after each
/// a good request. Hands out the request ids and codes of the refusals that told them: the
/// parser's own do not.
///
/// # Panics
///
/// With all rows that came to something else than the table says.
pub async fn run(address: SocketAddr, upstream: &Upstream) -> Vec<(String, String)> {
    let mut refusals = Vec::new();
    let mut wrong = Vec::new();
    for row in rows() {
        let before = upstream.count();
        let mut raw = Raw::connect(address).await;
        raw.send(&row.bytes).await;
        let came = judge(&mut raw, &row.expect, address, upstream, before).await;
        match came {
            Ok(refusal) => refusals.extend(refusal),
            Err(came) => wrong.push(format!("{}: {:?}, but {came}", row.name, row.expect)),
        }
        let seen = upstream.seen();
        if let Some(seen) = seen[before..].iter().find(|seen| is_guarded(&seen.target)) {
            wrong.push(format!("{}: the upstream saw {}", row.name, seen.target));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    refusals
}

/// Whether an upstream, however lax, could take `target` for something under `/open/admin`.
fn is_guarded(target: &str) -> bool {
    let path = target.split(['?', '#']).next().unwrap().to_ascii_lowercase();
    path.contains("admin")
}

async fn judge(
    raw: &mut Raw,
    expect: &Expect,
    address: SocketAddr,
    upstream: &Upstream,
    before: usize,
) -> Result<Option<(String, String)>, String> {
    let mut refusal = None;
    let targets =
        || upstream.seen()[before..].iter().map(|seen| seen.target.clone()).collect::<Vec<_>>();
    let mut forwarded: Vec<String> = Vec::new();
    match expect {
        Closes(statuses) | Refused(statuses) => {
            let reply = raw.reply().await.ok_or("the connection closed without an answer")?;
            if !statuses.contains(&reply.status) {
                return Err(format!("the answer is {}", reply.status));
            }
            refusal = told(&reply);
            if matches!(expect, Closes(_)) && !raw.is_closed().await {
                return Err("more came behind the answer".to_owned());
            }
        }
        Cut => only_a_400(&raw.rest().await)?,
        Forwarded(target, length) => {
            let reply = raw.reply().await.ok_or("the connection closed without an answer")?;
            let bodies: Vec<_> =
                upstream.seen()[before..].iter().map(|seen| seen.body.length).collect();
            if reply.status != 200 || bodies != [*length] {
                return Err(format!(
                    "the answer is {}, the bodies forwarded {bodies:?}",
                    reply.status
                ));
            }
            forwarded.push((*target).to_owned());
        }
        Twice(first, second) => {
            for _ in 0..2 {
                let reply = raw.reply().await.ok_or("the connection closed without an answer")?;
                if reply.status != 200 {
                    return Err(format!("an answer is {}", reply.status));
                }
            }
            forwarded.extend([(*first).to_owned(), (*second).to_owned()]);
        }
        Broken => {
            only_a_400(&raw.rest().await)?;
        }
    }
    let mut good = Raw::connect(address).await;
    good.send(b"GET /open/after HTTP/1.1\r\nhost: gateway\r\n\r\n").await;
    let after = good.reply().await.map(|reply| reply.status);
    if after != Some(200) {
        return Err(format!("the good request after it came to {after:?}"));
    }
    forwarded.push("/open/after".to_owned());
    if *expect == Broken {
        // Its head may have been on its way when the fault came, and then arrives, without the
        // end of its body, at any time: before the good request or after it.
        let seen = upstream.seen();
        if seen[before..].iter().any(|seen| seen.target == "/open/x" && seen.body.complete) {
            return Err("the upstream took the body for whole".to_owned());
        }
        let others: Vec<_> = targets().into_iter().filter(|target| target != "/open/x").collect();
        return if others == forwarded {
            Ok(refusal)
        } else {
            Err(format!("the upstream saw {others:?}"))
        };
    }
    if targets() == forwarded {
        Ok(refusal)
    } else {
        Err(format!("the upstream saw {:?}", targets()))
    }
}

/// The request id and the code of a refusal with a problem document.
fn told(reply: &RawReply) -> Option<(String, String)> {
    reply.header("content-type").filter(|kind| *kind == "application/problem+json")?;
    let problem: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
    let member = |name: &str| problem[name].as_str().expect("a text").to_owned();
    assert_eq!(reply.header("x-request-id"), problem["request_id"].as_str());
    Some((member("request_id"), member("code")))
}

/// What comes before a connection is cut: nothing, one 400, or what is no HTTP/1.1 at all.
fn only_a_400(came: &[u8]) -> Result<(), String> {
    let answers = came.windows(7).filter(|window| window == b"HTTP/1.").count();
    let fine = answers == 0 || answers == 1 && came.starts_with(b"HTTP/1.1 400 ");
    if fine { Ok(()) } else { Err(format!("this came: {}", came.escape_ascii())) }
}

fn row(name: &'static str, expect: Expect, bytes: impl Into<Vec<u8>>) -> Row {
    Row { name, bytes: bytes.into(), expect }
}

/// A GET of `target` with a good host.
fn target(name: &'static str, expect: Expect, target: &str) -> Row {
    row(name, expect, format!("GET {target} HTTP/1.1\r\nhost: gateway\r\n\r\n"))
}

/// A POST whose head has these `fields` (each with its CRLF), then `body`.
fn post(name: &'static str, expect: Expect, fields: &str, body: &str) -> Row {
    row(name, expect, format!("POST /open/x HTTP/1.1\r\nhost: gateway\r\n{fields}\r\n{body}"))
}

/// A GET whose head has these `fields` (each with its CRLF), and no others.
fn head(name: &'static str, expect: Expect, fields: &str) -> Row {
    row(name, expect, format!("GET /open/x HTTP/1.1\r\n{fields}\r\n"))
}

/// The table.
pub fn rows() -> Vec<Row> {
    [framing(), broken_bodies(), lines_and_fields(), hosts_and_methods(), tricks(), paths()]
        .into_iter()
        .flatten()
        .collect()
}

/// The request that smugglers hide in a body.
const HIDDEN: &str = "GET /open/admin/smuggled HTTP/1.1\r\nhost: gateway\r\n\r\n";

/// Lengths and codings. Whatever is doubtful is 400 and closes.
fn framing() -> Vec<Row> {
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
fn broken_bodies() -> Vec<Row> {
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

/// Line ends, folding, names, values, sizes.
fn lines_and_fields() -> Vec<Row> {
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
fn hosts_and_methods() -> Vec<Row> {
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

/// What smugglers send that is none of the above.
fn tricks() -> Vec<Row> {
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

/// No spelling of a path reaches what `/open/admin` guards.
fn paths() -> Vec<Row> {
    const BAD: Expect = Refused(&[400]);
    // The guarded route asks for a token.
    const GUARDED: Expect = Refused(&[401]);
    vec![
        target("as it stands", GUARDED, "/open/admin/x"),
        target("without what follows", GUARDED, "/open/admin"),
        target("two slashes", GUARDED, "/open//admin/x"),
        target("slashes in front", GUARDED, "//open/admin/x"),
        target("a dot segment", GUARDED, "/open/./admin/x"),
        target("two dots", GUARDED, "/open/y/../admin/x"),
        target("encoded dots", GUARDED, "/open/y/%2e%2E/admin/x"),
        target("a half-encoded dot segment", GUARDED, "/open/y/.%2e/admin/x"),
        target("dots beyond the root", GUARDED, "/../../open/admin/x"),
        target("an encoded letter", GUARDED, "/open/%61dmin/x"),
        target("all letters encoded", GUARDED, "/%6f%70%65%6e/%61%64%6d%69%6e/x"),
        target("a letter encoded twice", BAD, "/open/%2561dmin/x"),
        target("an encoded slash", BAD, "/open%2fadmin/x"),
        target("an encoded slash in capitals", BAD, "/open%2Fadmin/x"),
        target("an encoded slash behind two dots", BAD, "/open/y/..%2fadmin/x"),
        target("a slash encoded twice", BAD, "/open/y%252f..%252fadmin/x"),
        target("a backslash", BAD, "/open/y\\..\\admin/x"),
        target("an encoded backslash", BAD, "/open/y%5c..%5cadmin/x"),
        target("dots with a parameter", BAD, "/open/y/..;x/admin/x"),
        target("dots with an empty parameter", BAD, "/open/y/..;/admin/x"),
        target("one dot with a parameter", BAD, "/open/.;x/admin/x"),
        target("a parameter on a segment", BAD, "/open/admin;x/y"),
        target("a parameter on the segment before", Refused(&[400, 404]), "/open;x/admin/y"),
        target("an encoded semicolon behind dots", BAD, "/open/y/..%3bx/admin/x"),
        target("NUL, encoded", BAD, "/open/y%00/../admin/x"),
        target("an encoded line end", BAD, "/open/y%0d%0ax"),
        target("an encoded DEL", BAD, "/open/y%7f"),
        target("a raw hash", BAD, "/open/y#/admin"),
        target("half an escape", BAD, "/open/y%2"),
        target("an escape that is none", BAD, "/open/y%zz"),
        target("overlong UTF-8: a slash", BAD, "/open%c0%afadmin/x"),
        target("overlong UTF-8: a dot", BAD, "/open/y/%c0%ae%c0%ae/admin"),
        target("invalid UTF-8", BAD, "/open/y%ff"),
        target("a surrogate", BAD, "/open/y%ed%a0%80"),
        row(
            "a raw byte beyond ASCII",
            Refused(&[400]),
            b"GET /open/y\xff HTTP/1.1\r\nhost: gateway\r\n\r\n",
        ),
        row("a raw control byte", Cut, b"GET /open/y\x01 HTTP/1.1\r\nhost: gateway\r\n\r\n"),
        target("two dots out of the open route", Refused(&[404]), "/open/../elsewhere"),
        target("another case is another path", Refused(&[404]), "/OPEN/x"),
        target("a path that begins alike", Refused(&[404]), "/opener/x"),
        target("good UTF-8, encoded", Forwarded("/open/%C3%A9", 0), "/open/%C3%A9"),
        target("an unreserved escape is decoded", Forwarded("/open/a~b", 0), "/open/a%7Eb"),
        target(
            "the query goes as it came",
            Forwarded("/open/x?a=%2e%2e/%2F&&b=..//%zz", 0),
            "/open/x?a=%2e%2e/%2F&&b=..//%zz",
        ),
        target("an empty query", Forwarded("/open/x?", 0), "/open/x?"),
        target("a slash at the end stays", Forwarded("/open/x/", 0), "/open/x/"),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_is_whole() {
        let rows = rows();
        let names: HashSet<_> = rows.iter().map(|row| (row.name, &row.bytes)).collect();
        assert_eq!(names.len(), rows.len(), "two rows are the same");
        assert!(rows.len() >= 100, "{} rows", rows.len());
        for row in rows {
            assert!(
                row.bytes.windows(2).any(|end| end == b"\r\n"),
                "{}: the gateway would wait",
                row.name
            );
        }
    }
}
