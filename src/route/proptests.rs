//! Properties of canonicalisation and matching, against a reference that is slow and plain:
//! it looks at every route and shares no code with the trie or the readings.

use std::cmp::Reverse;

use http::{HeaderMap, Method, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::canonical::canonicalise;
use super::readings::{all_readings, lax_readings};
use crate::rejection::Code;
use crate::route::{EncodedSlashes, HostPattern, PathPattern, RouteMatch, RouteTable, Target};

/// One route as the reference sees it.
#[derive(Clone, Debug)]
struct Plain {
    path: Vec<String>,
    host: &'static str,
    methods: &'static [&'static str],
    query: &'static [(&'static str, &'static str)],
    ignore_case: bool,
    keep: bool,
}

impl Plain {
    fn text(&self) -> String {
        format!("/{}", self.path.join("/"))
    }

    fn matching(&self) -> RouteMatch {
        let hosts = if self.host.is_empty() { vec![] } else { vec![self.host] };
        RouteMatch {
            path: PathPattern::parse(&self.text()).unwrap(),
            hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
            methods: self.methods.iter().map(|name| name.parse().unwrap()).collect(),
            headers: vec![],
            query: self.query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ignore_case: self.ignore_case,
            encoded_slashes: if self.keep { EncodedSlashes::Keep } else { EncodedSlashes::Reject },
        }
    }

    fn host_rank(&self, host: &str) -> Option<(u8, Reverse<usize>)> {
        match self.host.strip_prefix('*') {
            None if self.host.is_empty() => Some((2, Reverse(0))),
            None => (self.host == host).then_some((0, Reverse(0))),
            Some(suffix) => host.ends_with(suffix).then_some((1, Reverse(suffix.len()))),
        }
    }

    /// The rank of each step through the path, if the (decoded) segments fit.
    fn path_rank(&self, segments: &[String], mind_case: bool) -> Option<Vec<u8>> {
        let mut ranks = Vec::new();
        let mut rest = segments;
        let (slash, pattern) = match self.path.split_last() {
            Some((last, before)) if last.is_empty() => (!before.is_empty(), before),
            _ => (false, &self.path[..]),
        };
        for wanted in pattern {
            if wanted.starts_with("{*") {
                ranks.push(2);
                return Some(ranks);
            }
            let (segment, after) = rest.split_first()?;
            if segment.is_empty() {
                return None;
            }
            if wanted.starts_with('{') {
                ranks.push(1);
            } else if segment == wanted
                || (!mind_case && segment.to_lowercase() == wanted.to_lowercase())
            {
                ranks.push(0);
            } else {
                return None;
            }
            rest = after;
        }
        match rest {
            [] if !slash => ranks.push(1),
            [end] if end.is_empty() => ranks.push(u8::from(!slash)),
            _ => return None,
        }
        Some(ranks)
    }
}

/// The best route for decoded segments, by looking at all.
fn reference(
    routes: &[Plain],
    segments: &[String],
    method: &str,
    host: &str,
    query: &str,
    ignore_all_case: bool,
) -> Option<usize> {
    let fitting = routes.iter().enumerate().filter_map(|(index, route)| {
        let takes_method = route.methods.is_empty()
            || route.methods.contains(&method)
            || (method == "HEAD" && route.methods.contains(&"GET"));
        let takes_query = route.query.iter().all(|(k, v)| {
            let values = query.split('&').filter_map(|pair| pair.split_once('='));
            let values: Vec<&str> =
                values.filter(|(key, _)| key == k).map(|(_, value)| value).collect();
            !values.is_empty() && values.iter().all(|value| value == v)
        });
        if !takes_method || !takes_query {
            return None;
        }
        let mind_case = !route.ignore_case && !ignore_all_case;
        let rank = (
            route.host_rank(host)?,
            route.path_rank(segments, mind_case)?,
            route.methods.is_empty(),
            Reverse(route.query.len()),
            route.query,
            route.ignore_case,
        );
        Some((rank, index))
    });
    fitting.min().map(|(_, index)| index)
}

fn routes() -> impl Strategy<Value = Vec<Plain>> {
    let segment = select(vec!["a", "b", "A", "é", "{n}"]);
    let path = (vec(segment, 0..4), select(vec!["", "slash", "rest"]));
    let route = (
        path,
        select(vec!["", "", "h.x", "*.x", "*.h.x"]),
        select(vec![&[][..], &["GET"], &["POST"], &["GET", "POST"]]),
        select(vec![&[][..], &[("q", "1")], &[("q", "1"), ("r", "2")]]),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.3),
    );
    let route = route.prop_map(|((segments, end), host, methods, query, ignore_case, keep)| {
        let mut path: Vec<String> = segments
            .iter()
            .enumerate()
            .map(|(i, segment)| segment.replace("{n}", &format!("{{n{i}}}")))
            .collect();
        match end {
            "slash" => path.push(String::new()),
            "rest" => path.push("{*rest}".to_owned()),
            _ => {}
        }
        if path.is_empty() {
            path.push(String::new());
        }
        Plain { path, host, methods, query, ignore_case, keep }
    });
    vec(route, 1..12)
}

/// The table, without the routes that can't be told apart from another.
fn table(mut routes: Vec<Plain>) -> (Vec<Plain>, RouteTable<usize>) {
    loop {
        let entries = routes.iter().enumerate().map(|(i, route)| (route.matching(), i)).collect();
        match RouteTable::build(entries) {
            Ok(table) => return (routes, table),
            Err(ambiguities) => {
                assert!(routes.len() > 1, "one route is no rival of itself");
                routes.remove(ambiguities[0].second);
            }
        }
    }
}

fn request(method: &str, host: &str, path: &str, query: &str) -> Option<Target> {
    let request =
        Request::builder().method(method).uri(format!("{path}?{query}")).header("host", host);
    Target::parse(&request.body(()).ok()?).ok()
}

fn split(path: &str) -> Vec<String> {
    path.strip_prefix('/').unwrap_or(path).split('/').map(str::to_owned).collect()
}

/// Dot segments resolved and empty ones merged, in the plainest way.
fn plain_resolve(path: &str) -> String {
    let mut kept = Vec::new();
    let segments = split(path);
    for segment in &segments {
        match segment.as_str() {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment.as_str()),
        }
    }
    kept.retain(|segment| !segment.is_empty());
    let slash = matches!(segments.last().map(String::as_str), Some("" | "." | ".."));
    match (kept.is_empty(), slash) {
        (true, _) => "/".to_owned(),
        (false, true) => format!("/{}/", kept.join("/")),
        (false, false) => format!("/{}", kept.join("/")),
    }
}

fn plain_decode(text: &str) -> String {
    let octets: Vec<u8> = percent_decode(text.as_bytes());
    String::from_utf8_lossy(&octets).into_owned()
}

fn percent_decode(octets: &[u8]) -> Vec<u8> {
    match octets {
        [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            let digits = [*high, *low];
            let digits = str::from_utf8(&digits).unwrap();
            let mut decoded = vec![u8::from_str_radix(digits, 16).unwrap()];
            decoded.extend(percent_decode(rest));
            decoded
        }
        [first, rest @ ..] => {
            let mut decoded = vec![*first];
            decoded.extend(percent_decode(rest));
            decoded
        }
        [] => vec![],
    }
}

fn plain_strip(path: &str) -> String {
    let bare: Vec<&str> =
        path.split('/').map(|s| s.split_once(';').map_or(s, |(s, _)| s)).collect();
    bare.join("/")
}

fn hostile_path() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "a",
        "b",
        "A",
        "é",
        "%61",
        "%2561",
        "%252561",
        "%C3%A9",
        "%c3%a9",
        "%25c3%25a9",
        "%25c0%25ae",
        "%2F",
        "%5C",
        "%252F",
        "%255c",
        ";",
        "%3B",
        "%253B",
        ";x=1",
        ".",
        "..",
        "%2e",
        "%2E%2E",
        "%252e",
        "/",
        "/",
        "/",
        "%20",
        "%25",
        "%00",
        "%c0%af",
        "%",
        "\\",
        "n",
    ]);
    vec(piece, 0..9).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// A path that has `text`, all of it escaped.
fn escaped(text: &str) -> String {
    let escapes: Vec<String> = text.bytes().map(|octet| format!("%{octet:02X}")).collect();
    format!("/a{}b", escapes.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn canonicalisation_is_idempotent_and_leaves_nothing_to_resolve(path in hostile_path()) {
        if let Ok(canonical) = canonicalise(&path) {
            let once = canonical.respelled.unwrap_or_else(|| path.clone());
            let again = canonicalise(&once).unwrap();
            prop_assert_eq!(&again.respelled, &None);
            prop_assert_eq!(&plain_resolve(&once), &once);
            prop_assert!(once.starts_with('/') && !once.contains("//"));
        }
    }

    #[test]
    fn canonicalisation_never_panics(path in "\\PC{0,40}|/[/.%;a2eEfF5cC\\\\]{0,24}") {
        if let Ok(canonical) = canonicalise(&path) {
            prop_assert!(canonical.respelled.is_none_or(|text| text.starts_with('/')));
        }
    }

    #[test]
    fn the_short_way_to_the_readings_leads_where_the_long_one_does(
        path in prop_oneof![
            hostile_path(),
            "/[a-c/.;%2\\x{e9}]{0,24}",
            "[ -~]{0,4}|\\PC{0,3}".prop_map(|text| escaped(&text)),
        ],
    ) {
        if let Ok(canonical) = canonicalise(&path) {
            let path = canonical.respelled.unwrap_or(path);
            prop_assert_eq!(lax_readings(&path), all_readings(&path));
        }
    }

    #[test]
    fn the_trie_agrees_with_the_reference(
        routes in routes(),
        segments in vec(select(vec!["a", "b", "A", "é", "n"]), 0..5),
        slash in any::<bool>(),
        method in select(vec!["GET", "HEAD", "POST", "PUT"]),
        host in select(vec!["h.x", "g.x", "g.h.x", "x"]),
        query in select(vec!["", "q=1", "r=2&q=1", "q=2", "q=1&q=2", "q=1&q=1"]),
    ) {
        let (routes, table) = table(routes);
        let mut path = format!("/{}", segments.join("/"));
        if slash && path != "/" {
            path.push('/');
        }
        let wanted = |ignore| reference(&routes, &split(&path), method, host, query, ignore);
        let target = request(method, host, &path, query).unwrap();
        let found = table.find(&target, &HeaderMap::new());
        let mut best = wanted(false);
        if let Some(index) = best && routes[index].ignore_case && wanted(true) != best {
            prop_assert_eq!(found.map(|found| *found.route).map_err(|r| r.code()), Err(Code::BadRequest));
            return Ok(());
        }
        match found {
            Ok(found) => prop_assert_eq!(Some(*found.route), best.take()),
            Err(rejection) => {
                prop_assert_eq!(best, None);
                // Without conditions the path fits some route by some method, but not by this one.
                let bare: Vec<Plain> =
                    routes.iter().map(|route| Plain { query: &[], ..route.clone() }).collect();
                let fits = |method| {
                    reference(&bare, &split(&path), method, host, query, false).is_some()
                };
                let wrong_method = !fits(method) && ["GET", "POST"].into_iter().any(fits);
                let code = if wrong_method { Code::MethodNotAllowed } else { Code::RouteNotFound };
                prop_assert_eq!(rejection.code(), code);
            }
        }
    }

    #[test]
    fn no_lax_reading_of_an_accepted_path_reaches_another_route(
        routes in routes(),
        path in hostile_path(),
        host in select(vec!["h.x", "g.h.x"]),
    ) {
        let (routes, table) = table(routes);
        let Some(target) = request(Method::GET.as_str(), host, &path, "q=1") else { return Ok(()) };
        let Ok(found) = table.find(&target, &HeaderMap::new()) else { return Ok(()) };
        let path = target.path();
        let ignore = routes[*found.route].ignore_case;
        // As it stands, a reader that decodes segments without dividing them is the strict one.
        let decode_each = |path: &str| split(path).iter().map(|s| plain_decode(s)).collect::<Vec<_>>();
        prop_assert_eq!(
            reference(&routes, &decode_each(path), "GET", host, "q=1", false),
            Some(*found.route)
        );
        let mut texts = vec![path.to_owned(), plain_strip(path)];
        for _ in 0..3 {
            let decoded: Vec<_> = texts.iter().map(|text| plain_decode(text)).collect();
            texts.extend(decoded);
        }
        let decoded = texts.split_off(2);
        let mut readings: Vec<_> =
            texts.iter().map(|text| decode_each(&plain_resolve(text))).collect();
        for text in decoded {
            for text in [text.replace('\\', "/"), text] {
                readings.push(split(&plain_resolve(&plain_strip(&text))));
                readings.push(split(&plain_resolve(&text)));
            }
        }
        for reading in readings {
            let other = reference(&routes, &reading, "GET", host, "q=1", ignore);
            prop_assert!(
                other.is_none() || other == Some(*found.route),
                "{} read as {} reaches {:?}, not {:?}", path, reading.join("/"), other, found.route
            );
        }
    }
}
