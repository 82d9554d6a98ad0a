//! What others make of a path that the gateway let through: for each spelling of a guarded path, no
//! common reading of what is forwarded reaches what a stricter route guards.
//!
//! The readers are written here, each on its own, and share nothing with `canonical.rs` and
//! `readings.rs`: decoding once or twice, dropping parameters, merging slashes, resolving dots,
//! taking a backslash for a slash, folding case. They are applied in every order.

use std::collections::BTreeSet;

use http::{HeaderMap, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::route::{EncodedSlashes, PathPattern, RouteMatch, RouteTable, Target};

/// What is behind a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    Guarded,
}

/// `/open` is open but for `/open/admin`; `/Fold`, whose case is ignored, is guarded below `/fold`.
fn table(slashes: EncodedSlashes) -> RouteTable<Door> {
    let route = |path: &str, ignore_case, door| {
        let matching = RouteMatch {
            path: PathPattern::parse(path).unwrap(),
            hosts: vec![],
            methods: vec![],
            headers: vec![],
            query: vec![],
            ignore_case,
            encoded_slashes: slashes,
        };
        (matching, door)
    };
    RouteTable::build(vec![
        route("/open/{*rest}", false, Door::Open),
        route("/open/admin/{*rest}", false, Door::Guarded),
        route("/fold/{*rest}", true, Door::Open),
        route("/fold/admin/{*rest}", true, Door::Guarded),
    ])
    .unwrap()
}

/// Whether a server that takes the path as it stands hands out what is guarded.
fn is_guarded(path: &str, folds: bool) -> bool {
    let below = |root: &str| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let lower = path.to_lowercase();
    let folded = lower
        .strip_prefix("/fold/admin")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    below("/open/admin") || folded || folds && lower.starts_with("/open/admin/")
}

type Reader = fn(&str) -> String;

fn decode(path: &str) -> String {
    let bytes = path.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let digit = |index: usize| bytes.get(index).and_then(|byte| (*byte as char).to_digit(16));
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap());
                at += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn drop_parameters(path: &str) -> String {
    let (mut out, mut skipping) = (String::new(), false);
    for letter in path.chars() {
        match letter {
            ';' => skipping = true,
            '/' => skipping = false,
            _ => {}
        }
        if !skipping {
            out.push(letter);
        }
    }
    out
}

fn merge_slashes(path: &str) -> String {
    let mut out = path.to_owned();
    while out.contains("//") {
        out = out.replace("//", "/");
    }
    out
}

/// RFC 3986 §5.2.4, to the letter.
fn resolve_dots(path: &str) -> String {
    let (mut input, mut output) = (path.to_owned(), String::new());
    while !input.is_empty() {
        if let Some(rest) = input.strip_prefix("../").or_else(|| input.strip_prefix("./")) {
            input = rest.to_owned();
        } else if let Some(rest) = input.strip_prefix("/./") {
            input = format!("/{rest}");
        } else if input == "/." {
            input = "/".to_owned();
        } else if let Some(rest) = input.strip_prefix("/../") {
            input = format!("/{rest}");
            output.truncate(output.rfind('/').unwrap_or(0));
        } else if input == "/.." {
            input = "/".to_owned();
            output.truncate(output.rfind('/').unwrap_or(0));
        } else if input == "." || input == ".." {
            input.clear();
        } else {
            let end = input.match_indices('/').map(|(at, _)| at).find(|at| *at > 0);
            output.extend(input.drain(..end.unwrap_or(input.len())));
        }
    }
    output
}

fn turn_backslashes(path: &str) -> String {
    path.replace('\\', "/")
}

const READERS: [Reader; 6] =
    [decode, decode, drop_parameters, merge_slashes, resolve_dots, turn_backslashes];

/// What `path` becomes when some of the readers read it, each at most once, in any order.
fn readings(path: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::from([(path.to_owned(), 0_u8)]);
    let mut fresh: Vec<_> = seen.iter().cloned().collect();
    while let Some((text, used)) = fresh.pop() {
        for (index, reader) in READERS.iter().enumerate() {
            if used & (1 << index) == 0 {
                let next = (reader(&text), used | 1 << index);
                if seen.insert(next.clone()) {
                    fresh.push(next);
                }
            }
        }
    }
    seen.into_iter().map(|(text, _)| text).collect()
}

/// What is forwarded of `path`, if an open route takes it.
fn let_through(table: &RouteTable<Door>, path: &str) -> Option<String> {
    let request = Request::get(path).header("host", "x").body(()).ok()?;
    let target = Target::parse(&request).ok()?;
    let found = table.find(&target, &HeaderMap::new()).ok()?;
    (*found.route == Door::Open).then(|| target.path().to_owned())
}

/// A letter of a path, as it is or hidden.
fn hidden(letter: char) -> BoxedStrategy<String> {
    let code = u32::from(letter);
    let mut ways = vec![
        letter.to_string(),
        letter.to_string(),
        letter.to_string(),
        letter.to_string(),
        format!("%{code:02x}"),
        format!("%{code:02X}"),
        format!("%25{code:02x}"),
        format!("%2525{code:02X}"),
        letter.to_uppercase().to_string(),
    ];
    if letter == '/' {
        let others = [
            "//",
            "/./",
            "/.//",
            "\\",
            "%5c",
            "%5C",
            "%255c",
            "/x/../",
            "/x/..;/",
            "/;/",
            "/;x=1/",
            "/x/..%2f",
            "/%2e/",
            "%2f%2e%2e%2f",
            "/x%2f..%2f",
            ";/",
            ";a=b/",
            "%3b/",
            "/x/%252e%252e/",
            "/.;x/",
            "%c0%af",
            "%253b/",
            "/x/..%5c",
            "?/",
            "%3f/",
            "%23/",
        ];
        ways.extend(others.map(str::to_owned));
    }
    select(ways).boxed()
}

/// Spellings that somebody could take for `guarded`.
fn spelling(guarded: &'static str) -> impl Strategy<Value = String> {
    guarded.chars().map(hidden).collect::<Vec<_>>().prop_map(|letters| letters.concat())
}

/// Anything in front of it that goes up again.
fn detour() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "/y", "/..", "/%2e%2e", "/..;", "/.", "//", "%2f..", "\\..", "/%252e.", "/open",
    ]);
    vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

#[test]
fn the_readers_read() {
    for (reader, path, read) in [
        (decode as Reader, "/%61%2f%2561%zz%4", "/a/%61%zz%4"),
        (drop_parameters, "/a;x=1;y/b;/;c", "/a/b/"),
        (merge_slashes, "//a///b", "/a/b"),
        (resolve_dots, "/a/b/c/./../../g", "/a/g"),
        (resolve_dots, "/a//../b/..", "/a/"),
        (resolve_dots, "/../a", "/a"),
        (turn_backslashes, "/a\\b", "/a/b"),
    ] {
        assert_eq!(reader(path), read, "{path}");
    }
    assert!(readings("/open;x\\%252e%252e/open//admin").iter().any(|path| path == "/open/admin"));
    assert!(is_guarded("/open/admin", false) && is_guarded("/FOLD/Admin/x", false));
    assert!(!is_guarded("/open/administrator", false) && !is_guarded("/OPEN/admin/x", false));
}

#[test]
fn honest_paths_are_let_through() {
    for slashes in [EncodedSlashes::Reject, EncodedSlashes::Keep] {
        let table = table(slashes);
        for path in
            ["/open/x", "/open/a%20b", "/open/a;v=1", "/open/caf%C3%A9", "/fold/x", "/FOLD/x"]
        {
            assert!(let_through(&table, path).is_some(), "{path}");
        }
        for path in [
            "/open/admin/x",
            "/open/admin",
            "/fold/ADMIN/x",
            "/FOLD/admin",
            // Decoded twice, its slashes merged, its dots resolved: in this order it is /open/admin.
            "/open/%2f..%252fopen/admin",
        ] {
            assert_eq!(let_through(&table, path), None, "{path}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_reading_of_what_is_let_through_reaches_what_is_guarded(
        before in detour(),
        path in prop_oneof![
            spelling("/open/admin/x"),
            spelling("/open/admin"),
            spelling("/fold/admin/x"),
        ],
        keeps in any::<bool>(),
    ) {
        let slashes = if keeps { EncodedSlashes::Keep } else { EncodedSlashes::Reject };
        let table = table(slashes);
        for path in [&path, &format!("{before}{path}"), &format!("/open{before}{path}")] {
            let Some(forwarded) = let_through(&table, path) else { continue };
            // Behind a route that ignores case the upstream may ignore it too.
            let folds = forwarded.to_lowercase().starts_with("/fold/");
            for reading in readings(&forwarded) {
                prop_assert!(
                    !is_guarded(&reading, folds),
                    "{} was forwarded as {}, which can be read as {}", path, forwarded, reading
                );
            }
        }
    }
}
