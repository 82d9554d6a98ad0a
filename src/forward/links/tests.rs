use super::fuzzing::linking;
use super::*;
use crate::route::EncodedSlashes;
use http::HeaderValue;
use proptest::prelude::*;
use proptest::sample::select;

fn origin(tls: bool, host: &str, port: u16, base_path: &str) -> Origin {
    Origin { tls, host: host.to_owned(), port, base_path: base_path.to_owned() }
}

#[test]
fn which_links_are_the_upstreams() {
    let https = origin(true, "graph.example", 443, "");
    let based = origin(false, "::1", 8080, "/base");
    for (origin, link, path) in [
        (&https, "https://graph.example/v1.0/me", Some("/v1.0/me")),
        (&https, "HTTPS://Graph.EXAMPLE:443/v1.0/me/", Some("/v1.0/me/")),
        (&https, "https://graph.example", Some("/")),
        (&https, "https://graph.example//x", Some("//x")),
        (&based, "http://[::1]:8080/base/x", Some("/x")),
        (&based, "http://[::1]:8080/base/", Some("/")),
        (&based, "http://[::1]:8080/base", None),
        (&based, "http://[::1]:8080/based", None),
        (&based, "http://[::1]:8080/BASE/x", None),
        (&based, "http://[::1]/base/x", None),
        (&based, "http://::1:8080/base/x", None),
        (&https, "http://graph.example/x", None),
        (&https, "https://graph.example:80/x", None),
        (&https, "https://graph.example:/x", None),
        (&https, "https://graph.example:0443/x", None),
        (&https, "https://graph.example:+443/x", None),
        (&https, "https://graph.example./x", None),
        (&https, "https://graph.example.evil/x", None),
        (&https, "https://graph.example@evil/x", None),
        (&https, "https://evil@graph.example/x", None),
        (&https, "https://graph.example:443@evil/x", None),
        (&https, "https://graph.example\\@evil/x", None),
        (&https, "https://evil/https://graph.example/x", None),
        (&https, "https:/graph.example/x", None),
        (&https, "https:graph.example/x", None),
        (&https, "//graph.example/x", None),
        (&https, "/x", None),
        (&https, " https://graph.example/x", None),
        (&https, "https://graph.example/x y", None),
        (&https, "https://graph.example/\u{e9}", None),
        (&https, "https://gr\u{e0}ph.example/x", None),
        (&https, "https://[graph.example]/x", None),
        (&https, "https://", None),
        (&https, "", None),
    ] {
        assert_eq!(origin.path_of(link), path, "{link}");
    }
}

#[test]
fn a_rest_that_is_a_template_is_found() {
    let linking = linking("graph.example", "/graph/{*rest}", "to /v1.0/{rest}");
    for (link, tail, expected) in [
        ("https://graph.example/v1.0/me", "?$skip=1", Some("http://gateway.example:8080/graph/me")),
        ("https://graph.example/v1.0/", "", Some("http://gateway.example:8080/graph/")),
        ("https://graph.example/v1.0", "", None),
        ("https://graph.example/beta/me", "", None),
        ("https://graph.example/v1.0/a", "? ", None),
    ] {
        assert_eq!(linking.relink(link, tail).as_deref(), expected, "{link}{tail}");
    }
}

/// Routes as a file might have them; the last three lead elsewhere.
const ROUTES: [(&str, &str); 8] = [
    ("/g/{*rest}", "strip /g"),
    ("/t/{a}/{*rest}", "to /v1.0/{rest}"),
    ("/x/{a}/{b}", "to /{b}/x-{a}"),
    ("/{*rest}", "keep"),
    ("/k%20k/{*rest}", "strip /k%20k"),
    ("/g/own/{*rest}", ""),
    ("/g/{a}/secret", ""),
    ("/t/{a}/b", ""),
];

fn linking_by(came_by: usize, keep: EncodedSlashes) -> Box<Linking> {
    let entries = ROUTES.map(|(pattern, rewrite)| {
        let pattern = PathPattern::parse(pattern).unwrap();
        let way = rewrite.split_once(' ').or(Some(("keep", "")).filter(|_| rewrite == "keep"));
        let way = way.map(|(kind, text)| {
            Arc::new(Way {
                upstream: "up".into(),
                origins: [origin(true, "up.example", 443, "/base")].into(),
                pattern: pattern.clone(),
                rewrite: match kind {
                    "strip" => Rewrite::strip_prefix(text, &pattern).unwrap(),
                    "to" => Rewrite::template(text, &pattern).unwrap(),
                    _ => Rewrite::Keep,
                },
                called_at: CalledAt::PublicUrl,
            })
        });
        let matching = RouteMatch {
            path: pattern,
            hosts: vec![],
            methods: vec![],
            headers: vec![],
            query: vec![],
            ignore_case: false,
            encoded_slashes: keep,
        };
        (matching, way)
    });
    let way = entries[came_by].1.clone().unwrap();
    let links = Links::new(entries.to_vec(), None).unwrap();
    let path = ["/g/1", "/t/acme/1", "/x/1/2", "/1", "/k%20k/1"][came_by];
    let target = target(path);
    let found = links.table.find(&target, &HeaderMap::new()).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    headers.insert(X_FORWARDED_HOST, HeaderValue::from_static("gw.example"));
    Linking::begin(&links, &way, &target, &found.captures, &mut headers).unwrap()
}

fn target(path_and_query: &str) -> Target {
    let request = Request::get(path_and_query).header("host", "gw.example");
    Target::parse(&request.body(()).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// A link that is replaced and then called asks the upstream for just what it offered.
    #[test]
    fn there_and_back(
        came_by in 0_usize..5,
        keeps: bool,
        segments in proptest::collection::vec(select(vec![
            "v1.0", "me", "b", "own", "secret", "x-1", "x-", "g", "t", "%2F", "%2f", "%C3%A9", "%20",
            "users('a%40b')", "..", ".", "", "%2e", "a;b", "%5C", "$metadata", "k%20k", "%", "a=b&c",
        ]), 0..5),
        slash: bool,
        query in select(vec![
            "", "?", "?$skiptoken=a%2Fb%3D", "?a=1&b=%zz", "?%24skip=1?&&=", "?x#f", "#f", "?a\"b", "?\u{e9}",
        ]),
    ) {
        let keep = if keeps { EncodedSlashes::Keep } else { EncodedSlashes::Reject };
        let linking = linking_by(came_by, keep);
        let path = format!("/{}{}", segments.join("/"), if slash { "/" } else { "" });
        let link = format!("https://up.example/base{path}");
        if let Some(linked) = linking.relink(&link, query) {
            let called = linked.strip_prefix("https://gw.example").unwrap();
            let query = query.split('#').next().unwrap();
            let target = target(&format!("{called}{query}"));
            let found = linking.links.table.find(&target, &HeaderMap::new()).unwrap();
            let way = found.route.as_ref().expect("a way to the upstream");
            prop_assert_eq!(way.rewrite.apply(target.path(), &found.captures), path);
            prop_assert_eq!(target.query(), query.strip_prefix('?'));
        } else {
            // What is plain is not left alone: the catch-all leads to it.
            let odd = ["..", ".", "", "%2e", "%2F", "%2f", "%5C", "%", "a;b"];
            let is_plain = !segments.iter().any(|segment| odd.contains(segment))
                && !query.contains(['"', '\u{e9}']) && !path.contains("//")
                // These are other routes' unless another way leads there.
                && !["g", "t"].iter().any(|first| segments.first() == Some(first));
            prop_assert!(!is_plain, "{link}{query} by {came_by}");
        }
    }
}
