//! Raw bytes as requests: smuggling, broken framing, hosts, targets and paths (section 3.4).
//!
//! The gateway has an open route at `/open/{*rest}` and a guarded one at `/open/admin/{*rest}`,
//! with one upstream behind both. Whatever a row sends, the upstream sees nothing under
//! `/open/admin`, nothing that the row did not mean to ask for, and the next good request works.

mod heads;
mod lengths;
mod paths;
mod tricks;

use std::net::SocketAddr;

use self::heads::{hosts_and_methods, lines_and_fields};
use self::lengths::{broken_bodies, framing};
use self::paths::paths;
use self::tricks::tricks;
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
