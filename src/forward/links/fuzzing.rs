//! Fuzz target of the links of answers. In no product; see `src/fuzzing.rs`.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "to panic is how a target speaks"
)]

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request};
use serde_json::Value;
use url::Url;

use super::json::{Scanner, Written};
use super::{Linking, Links, Origin, Way, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::authn::CalledAt;
use crate::limits::MAX_LINK_BYTES;
use crate::route::{PathPattern, Rewrite, RouteMatch, Target};

const NAMES: [&str; 3] = ["@odata.nextLink", "@odata.deltaLink", "nextLink"];

/// What an upstream answers: the first byte says into what pieces it is cut, which must not
/// matter; the rest is a body, and a link in the head.
pub(crate) fn links(data: &[u8]) {
    let Some((piece, body)) = data.split_first() else { return };
    let linking = linking("graph.example", "/graph/{*rest}", "strip /graph");
    let expected = reference(body, &mut |raw| relink(&linking, raw));
    for piece in [1, usize::from(*piece).max(1), body.len().max(1)] {
        let found = scanned(body, piece, &mut |raw| relink(&linking, raw));
        assert!(found == expected, "in pieces of {piece}");
    }
    // Whoever parses both finds the same, but for links.
    if let Ok(before) = serde_json::from_slice::<Value>(body) {
        let after = serde_json::from_slice::<Value>(&expected).expect("JSON stays JSON");
        compare(&before, &after, &linking);
    }
    if let Ok(link) = str::from_utf8(body) {
        judge(&linking, link);
    }
}

/// A body as it is handed on, cut into pieces of this size.
pub(super) fn scanned(
    body: &[u8],
    piece: usize,
    relink: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Vec<u8> {
    let (mut scanner, mut out) = (Scanner::default(), Vec::new());
    for bytes in body.chunks(piece) {
        scanner.feed(bytes, &mut out, relink);
    }
    scanner.finish(&mut out);
    out
}

/// The same slowly and plainly, on all of it at once.
pub(super) fn reference(body: &[u8], relink: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    // Where strings begin and end, behind and before their quotes.
    let mut strings = Vec::new();
    let mut at = 0;
    while let Some(open) = body[at..].iter().position(|byte| *byte == b'"') {
        let start = at + open + 1;
        let mut end = start;
        while body.get(end).is_some_and(|byte| *byte != b'"') {
            end += if body[end] == b'\\' { 2 } else { 1 };
        }
        if end >= body.len() {
            break;
        }
        strings.push((start, end));
        at = end + 1;
    }
    let is_space = |byte: &u8| b" \t\r\n".contains(byte);
    let mut out = Vec::new();
    let mut copied = 0;
    for pair in strings.windows(2) {
        let [(start, end), (value, value_end)] = [pair[0], pair[1]];
        let before = body[..start - 1].iter().rfind(|byte| !is_space(byte));
        let name = serde_json::from_slice::<String>(&body[start - 1..=end]);
        let between: Vec<u8> =
            body[end + 1..value - 1].iter().filter(|byte| !is_space(byte)).copied().collect();
        let is_member = matches!(before, Some(b'{' | b',')) && between == b":";
        let is_link = is_member && name.is_ok_and(|name| NAMES.contains(&name.as_str()));
        if is_link
            && value_end - value <= MAX_LINK_BYTES
            && let Some(link) = relink(&body[value..value_end])
        {
            out.extend_from_slice(&body[copied..value]);
            out.extend_from_slice(&link);
            copied = value_end;
        }
    }
    out.extend_from_slice(&body[copied..]);
    out
}

fn relink(linking: &Linking, raw: &[u8]) -> Option<Vec<u8>> {
    let written = Written::read(raw)?;
    let path = linking.relink(written.path(), written.tail())?;
    Some(written.with_path(&path))
}

fn compare(before: &Value, after: &Value, linking: &Linking) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            assert_eq!(before.len(), after.len());
            for ((name, before), (other, after)) in before.iter().zip(after) {
                assert_eq!(name, other);
                match (before, after) {
                    (Value::String(link), Value::String(new)) if NAMES.contains(&name.as_str()) => {
                        let linked = judge(linking, link);
                        assert!(new == linked.as_ref().unwrap_or(link) || link.len() > 5_000);
                    }
                    _ => compare(before, after, linking),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len());
            for (before, after) in before.iter().zip(after) {
                compare(before, after, linking);
            }
        }
        _ => assert_eq!(before, after),
    }
}

/// What takes the place of a link leads to the gateway, and nothing but the upstream's own links
/// are replaced: as a browser reads them.
fn judge(linking: &Linking, link: &str) -> Option<String> {
    let tail_at = link.find(['?', '#']).unwrap_or(link.len());
    let (path, tail) = link.split_at(tail_at);
    let linked = linking.relink(path, tail)? + tail;
    let (old, new) = (Url::parse(link).expect("a link"), Url::parse(&linked).expect("a link"));
    assert_eq!((old.scheme(), old.host_str()), ("https", Some("graph.example")), "{link}");
    assert_eq!((old.port(), old.username(), old.password()), (None, "", None), "{link}");
    assert!(linked.starts_with("http://gateway.example:8080/graph/"), "{linked}");
    assert_eq!(new.path(), format!("/graph{}", old.path()), "{link}");
    assert_eq!((new.query(), new.fragment()), (old.query(), old.fragment()), "{link}");
    Some(linked)
}

/// A gateway with one route to an upstream at `https://{host}`.
pub(super) fn linking(host: &str, pattern: &str, rewrite: &str) -> Box<Linking> {
    let pattern = PathPattern::parse(pattern).unwrap();
    let rewrite = match rewrite.split_once(' ') {
        Some(("strip", prefix)) => Rewrite::strip_prefix(prefix, &pattern).unwrap(),
        Some((_, template)) => Rewrite::template(template, &pattern).unwrap(),
        None => Rewrite::Keep,
    };
    let origin = Origin { tls: true, host: host.to_owned(), port: 443, base_path: String::new() };
    let way = Arc::new(Way {
        upstream: "graph".into(),
        origins: [origin].into(),
        pattern: pattern.clone(),
        rewrite,
        called_at: CalledAt::PublicUrl,
    });
    let matching = RouteMatch {
        path: pattern,
        hosts: vec![],
        methods: vec![],
        headers: vec![],
        query: vec![],
        ignore_case: false,
        encoded_slashes: crate::route::EncodedSlashes::Reject,
    };
    let links = Links::new(vec![(matching, Some(Arc::clone(&way)))], None).unwrap();
    let request = Request::get("/graph/me").header("host", "gateway.example:8080");
    let target = Target::parse(&request.body(()).unwrap()).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    headers.insert(X_FORWARDED_HOST, HeaderValue::from_static("gateway.example:8080"));
    Linking::begin(&links, &way, &target, &crate::route::Captures::default(), &mut headers).unwrap()
}
