//! Which route wins, rule by rule, in pairs; the situations of the Gateway API's `HTTPRoute`
//! conformance suite among them (its prefix matches are `{*rest}` here).

mod spellings;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use crate::rejection::{Code, Extra, Rejection};
use crate::route::{
    Ambiguity, EncodedSlashes, HostPattern, PathPattern, RouteMatch, RouteTable, Target,
};

/// `[METHOD,METHOD ][host,host]/path[?key=value&key=value][ name:value…][ ~][ keep]`
fn matching(text: &str) -> RouteMatch {
    let mut words = text.split(' ').peekable();
    let upper = |word: &&str| !word.contains('/');
    let methods = words.next_if(upper).map_or(Vec::new(), |word| {
        word.split(',').map(|name| Method::from_bytes(name.as_bytes()).unwrap()).collect()
    });
    let place = words.next().unwrap();
    let (hosts, path) = place.split_at(place.find('/').unwrap());
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut matching = RouteMatch {
        path: PathPattern::parse(path).unwrap(),
        hosts: hosts.split_terminator(',').map(|host| HostPattern::parse(host).unwrap()).collect(),
        methods,
        headers: Vec::new(),
        query: query
            .split_terminator('&')
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        ignore_case: false,
        encoded_slashes: EncodedSlashes::Reject,
    };
    for word in words {
        match word {
            "~" => matching.ignore_case = true,
            "keep" => matching.encoded_slashes = EncodedSlashes::Keep,
            header => {
                let (name, value) = header.split_once(':').unwrap();
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                matching.headers.push((name, value.to_owned()));
            }
        }
    }
    matching
}

fn build(routes: &[&'static str]) -> Result<RouteTable<&'static str>, Vec<Ambiguity>> {
    RouteTable::build(routes.iter().map(|route| (matching(route), *route)).collect())
}

/// `METHOD host/path?query[ name:value…]`
fn ask(
    table: &RouteTable<&'static str>,
    request: &str,
) -> Result<(&'static str, Vec<String>), Rejection> {
    let mut words = request.split(' ');
    let method = words.next().unwrap();
    let place = words.next().unwrap();
    let (host, path) = place.split_at(place.find('/').unwrap());
    let mut headers = HeaderMap::new();
    for header in words {
        let (name, value) = header.split_once(':').unwrap();
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    let host = if host.is_empty() { "x" } else { host };
    let request = Request::builder().method(method).uri(path).header("host", host);
    let target = Target::parse(&request.body(()).unwrap())?;
    let found = table.find(&target, &headers)?;
    let texts = (0..).map_while(|index| found.captures.text(index, target.path()));
    Ok((found.route, texts.map(str::to_owned).collect()))
}

/// Asks in the order given and in the opposite one: order in the file means nothing.
pub(super) fn check(routes: &[&'static str], cases: &[(&str, Result<&'static str, Code>)]) {
    let mut turned = routes.to_vec();
    turned.reverse();
    for table in [build(routes).unwrap(), build(&turned).unwrap()] {
        for (request, wanted) in cases {
            let found = ask(&table, request);
            let found = found.map(|(route, _)| route).map_err(|rejection| rejection.code());
            assert_eq!(found, *wanted, "{request} among {routes:?}");
        }
    }
}

pub(super) const NOT_FOUND: Result<&str, Code> = Err(Code::RouteNotFound);
pub(super) const NOT_ALLOWED: Result<&str, Code> = Err(Code::MethodNotAllowed);
const BAD: Result<&str, Code> = Err(Code::BadRequest);

#[test]
fn a_path_reaches_what_is_passed_over_up_to_the_first_route_that_takes_all() {
    let table = build(&[
        "GET /a/b",
        "/a/b x-v:2",
        "POST /a/{name}",
        "/a/{*rest}",
        "/{*rest}",
        "api.example.com/a/{*all}",
        "/Old/{*rest} ~",
    ])
    .unwrap();
    for (place, reached) in [
        ("x/a/b", &["GET /a/b", "/a/b x-v:2", "POST /a/{name}", "/a/{*rest}"][..]),
        ("x/a/%62/", &["GET /a/b", "/a/b x-v:2", "POST /a/{name}", "/a/{*rest}"]),
        ("x/a/c", &["POST /a/{name}", "/a/{*rest}"]),
        ("x/A/b", &["/{*rest}"]),
        ("x/old/y", &["/Old/{*rest} ~"]),
        ("api.example.com/a/b", &["api.example.com/a/{*all}"]),
        ("api.example.com/b", &["/{*rest}"]),
    ] {
        let (host, path) = place.split_at(place.find('/').unwrap());
        let request = Request::get(path).header("host", host).body(()).unwrap();
        let target = Target::parse(&request).unwrap();
        assert_eq!(table.reachable(&target).copied().collect::<Vec<_>>(), reached, "{place}");
    }
}

#[test]
fn hosts_exact_before_the_longest_wildcard_before_none() {
    let routes = ["api.example.com/{*r}", "*.example.com/{*r}", "*.b.example.com/{*r}", "/{*r}"];
    check(
        &routes,
        &[
            ("GET api.example.com/", Ok(routes[0])),
            ("GET API.Example.com.:8443/", Ok(routes[0])),
            ("GET x.example.com/", Ok(routes[1])),
            ("GET a.x.example.com/", Ok(routes[1])),
            ("GET x.b.example.com/", Ok(routes[2])),
            ("GET b.example.com/", Ok(routes[1])),
            ("GET example.com/", Ok(routes[3])),
            ("GET notexample.com/", Ok(routes[3])),
            ("GET api.example.com.evil.org/", Ok(routes[3])),
        ],
    );
}

#[test]
fn a_host_weighs_more_than_a_path() {
    let routes = ["a.x/{*r}", "/exact", "b.x/other"];
    check(
        &routes,
        &[
            ("GET a.x/exact", Ok(routes[0])),
            ("GET b.x/exact", Ok(routes[1])),
            ("GET c.x/other", NOT_FOUND),
        ],
    );
}

#[test]
fn a_route_that_does_not_fit_is_passed_over_for_a_less_specific_one() {
    let routes = ["GET a.x/p/q", "POST a.x/p/{n}", "PUT *.x/p/{n}", "DELETE /{*r}"];
    check(
        &routes,
        &[
            ("GET a.x/p/q", Ok(routes[0])),
            ("HEAD a.x/p/q", Ok(routes[0])),
            ("POST a.x/p/q", Ok(routes[1])),
            ("PUT a.x/p/q", Ok(routes[2])),
            ("DELETE a.x/p/q", Ok(routes[3])),
            ("PATCH a.x/p/q", NOT_ALLOWED),
        ],
    );
    check(
        &["/p x-v:2", "/{*r}"],
        &[("GET /p x-v:2", Ok("/p x-v:2")), ("GET /p x-v:3", Ok("/{*r}"))],
    );
}

#[test]
fn allow_lists_what_the_fitting_routes_take() {
    let table = build(&["GET /p", "POST,PUT /{n}", "PATCH other.x/p", "DELETE /p x-v:1"]).unwrap();
    let rejection = ask(&table, "OPTIONS /p").unwrap_err();
    assert_eq!(rejection.code(), Code::MethodNotAllowed);
    let Extra::Allow(mut allow) = rejection.extra().clone() else { panic!("{rejection:?}") };
    allow.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    let listed = [Method::DELETE, Method::GET, Method::HEAD, Method::POST, Method::PUT];
    assert_eq!(allow, listed);
    assert!(!rejection.closes());
    assert_eq!(ask(&table, "OPTIONS /p/q").unwrap_err().code(), Code::RouteNotFound);
    assert_eq!(ask(&table, "DELETE /p x-v:1").unwrap().0, "DELETE /p x-v:1");
}

#[test]
fn the_method_is_at_fault_only_where_no_route_of_the_path_takes_it() {
    check(
        &["GET /x x-v:1", "POST /x?q=1", "PUT other.x/x"],
        &[
            ("DELETE /x", NOT_ALLOWED),
            ("DELETE /x x-v:1", NOT_ALLOWED),
            ("PUT /x", NOT_ALLOWED),
            ("GET /x", NOT_FOUND),
            ("HEAD /x", NOT_FOUND),
            ("POST /x x-v:1", NOT_FOUND),
            ("DELETE /y", NOT_FOUND),
        ],
    );
}

#[test]
fn a_rest_may_be_empty_and_an_exact_path_takes_a_slash() {
    let routes = ["/f/{*rest}"];
    check(
        &routes,
        &[
            ("GET /f", Ok(routes[0])),
            ("GET /f/", Ok(routes[0])),
            ("GET /f/a", Ok(routes[0])),
            ("GET /fa", NOT_FOUND),
        ],
    );
    let routes = ["/x", "/x/{*rest}"];
    check(
        &routes,
        &[
            ("GET /x", Ok(routes[0])),
            ("GET /x/", Ok(routes[0])),
            ("GET /x//", Ok(routes[0])),
            ("GET /x/y", Ok(routes[1])),
        ],
    );
    let routes = ["/x", "/x/", "/{n}/"];
    check(
        &routes,
        &[
            ("GET /x", Ok(routes[0])),
            ("GET /x/", Ok(routes[1])),
            ("GET /y/", Ok(routes[2])),
            ("GET /y", NOT_FOUND),
        ],
    );
    check(&["/{n}"], &[("GET /a", Ok("/{n}")), ("GET /a/", Ok("/{n}")), ("GET /", NOT_FOUND)]);
}

#[test]
fn captures_are_the_text_of_the_canonical_path() {
    let table = build(&["/{a}/f/{*rest}"]).unwrap();
    for (request, texts) in [
        ("GET /1/f", ["1", ""]),
        ("GET /1/f/", ["1", ""]),
        ("GET /%31/./f//2/", ["1", "2/"]),
        ("GET /a%20b/f/%C3%a9", ["a%20b", "%C3%a9"]),
    ] {
        assert_eq!(ask(&table, request).unwrap().1, texts, "{request}");
    }
}

#[test]
fn gateway_api_path_match_order() {
    let routes = [
        "/match/exact/one",
        "/match/exact/{*r}",
        "/match/prefix/{*r}",
        "/match/prefix/one/{*r}",
        "/match/{*r}",
        "/match/exact",
    ];
    check(
        &routes,
        &[
            ("GET /match/exact/one", Ok(routes[0])),
            ("GET /match/exact/one/any", Ok(routes[1])),
            ("GET /match/exact", Ok(routes[5])),
            ("GET /match/prefix/one/any", Ok(routes[3])),
            ("GET /match/prefix/any", Ok(routes[2])),
            ("GET /match/prefixation", Ok(routes[4])),
            ("GET /match/any", Ok(routes[4])),
            ("GET /matching", NOT_FOUND),
        ],
    );
}

#[test]
fn gateway_api_header_matching() {
    let routes = [
        "/ version:one",
        "/ version:two",
        "/ version:two color:orange",
        "/ color:blue",
        "/ color:red",
    ];
    check(
        &routes,
        &[
            ("GET / version:one", Ok(routes[0])),
            ("GET / VERSION:two", Ok(routes[1])),
            ("GET / version:two color:orange", Ok(routes[2])),
            ("GET / color:blue", Ok(routes[3])),
            ("GET / color:orange", NOT_FOUND),
            ("GET / version:two version:two", NOT_FOUND),
            ("GET / some-other-header:one", NOT_FOUND),
            ("GET /", NOT_FOUND),
        ],
    );
}

#[test]
fn gateway_api_method_and_query_matching() {
    let routes = [
        "POST /",
        "GET /",
        "/path1",
        "PATCH /path1",
        "GET /?animal=whale",
        "GET /?animal=whale&color=blue",
    ];
    check(
        &routes,
        &[
            ("POST /", Ok(routes[0])),
            ("GET /", Ok(routes[1])),
            ("HEAD /", Ok(routes[1])),
            ("PUT /", NOT_ALLOWED),
            ("PATCH /path1", Ok(routes[3])),
            ("DELETE /path1", Ok(routes[2])),
            ("GET /?animal=whale", Ok(routes[4])),
            ("GET /?x&animal=%77hale", Ok(routes[4])),
            // Upstreams differ in which of two values they read.
            ("GET /?animal=cat&animal=whale", Ok(routes[1])),
            ("GET /?animal=whale&animal=cat", Ok(routes[1])),
            ("GET /?animal=whale&animal=whale", Ok(routes[4])),
            ("GET /?color=blue&animal=whale", Ok(routes[5])),
            ("GET /?animal=whales", Ok(routes[1])),
            ("GET /?Animal=whale", Ok(routes[1])),
        ],
    );
}

#[test]
fn methods_weigh_more_than_headers_and_headers_more_than_query() {
    let routes = ["GET /", "/ a:1 b:2", "/?p=1&q=2", "/ c:3", "/"];
    check(
        &routes,
        &[
            ("GET /?p=1&q=2 a:1 b:2 c:3", Ok(routes[0])),
            ("PUT /?p=1&q=2 a:1 b:2 c:3", Ok(routes[1])),
            ("PUT /?p=1&q=2 a:1 c:3", Ok(routes[3])),
            ("PUT /?p=1&q=2", Ok(routes[2])),
            ("PUT /?p=1", Ok(routes[4])),
        ],
    );
}

#[test]
fn what_can_not_be_told_apart_is_named() {
    for (one, other) in [
        ("/a", "/a"),
        ("/{x}", "/{y}"),
        ("/{x}/b/{*r}", "/{y}/b/{*s}"),
        ("/caf\u{e9}", "/caf%C3%A9"),
        ("GET /a", "GET,POST /a"),
        ("GET /a", "HEAD /a"),
        ("a.x,b.x/a", "B.x,c.x/a"),
        ("*.x/a", "*.x/a"),
        ("/a ~", "/A ~"),
        ("/a h:1 g:2", "/a g:2 h:1"),
        ("/?a=1", "/?a=1"),
    ] {
        let ambiguities = build(&["/other", one, other]).unwrap_err();
        assert_eq!(ambiguities, [Ambiguity { first: 1, second: 2 }], "{one} and {other}");
    }
    let three = build(&["/a", "/a", "/a"]).unwrap_err();
    assert_eq!(three.len(), 3);
    for (one, other) in [
        ("/a", "/b"),
        ("/a", "/A"),
        ("/a", "/a/"),
        ("/a", "/a ~"),
        ("/a", "/{a}"),
        ("/{a}", "/{*a}"),
        ("GET /a", "/a"),
        ("GET /a", "POST /a"),
        ("a.x/a", "b.x/a"),
        ("a.x/a", "*.x/a"),
        ("*.x/a", "/a"),
        ("/a h:1", "/a h:2"),
        ("/a h:1", "/a g:1"),
        ("/a h:1", "/a?h=1"),
        ("a.x,A.x/a", "/b"),
    ] {
        assert!(build(&[one, other]).is_ok(), "{one} and {other}");
    }
}

#[test]
fn a_request_without_host_takes_routes_without_hosts_only() {
    let table = build(&["a.x/a", "*.x/b", "/c"]).unwrap();
    for (path, fits) in [("/a", false), ("/b", false), ("/c", true)] {
        let request = Request::builder().version(http::Version::HTTP_10).uri(path);
        let target = Target::parse(&request.body(()).unwrap()).unwrap();
        assert_eq!(table.find(&target, &HeaderMap::new()).is_ok(), fits, "{path}");
    }
}

#[test]
fn routes_are_listed_in_the_order_of_the_file() {
    let routes = ["/{*r}", "/b", "/a"];
    assert_eq!(build(&routes).unwrap().iter().copied().collect::<Vec<_>>(), routes);
}
