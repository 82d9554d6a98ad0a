//! The conformance suite of the Kubernetes Gateway API for `HTTPRoute` matching, rebuilt as tables; what
//! it has for one rule alone (order of paths, headers, methods, query) is in `matching_tests.rs`.
//!
//! Its prefix match is `{*rest}` here. Two things are meant to be otherwise: an exact path takes a slash
//! at its end, and a path that fits by no method is 405.

use super::matching_tests::{NOT_ALLOWED, NOT_FOUND, check};

/// `HTTPRouteMatching`: `v1` takes `/` and `version: one`, `v2` takes `/v2` and `version: two`.
#[test]
fn rules_of_one_route() {
    let v1 = ["/{*v1}", "/{*v1} version:one"];
    let v2 = ["/v2/{*v2}", "/{*v2} version:two"];
    check(
        &[v1[0], v1[1], v2[0], v2[1]],
        &[
            ("GET /", Ok(v1[0])),
            ("GET /example", Ok(v1[0])),
            ("GET / version:one", Ok(v1[1])),
            ("GET /v2", Ok(v2[0])),
            ("GET /v2/example", Ok(v2[0])),
            ("GET / version:two", Ok(v2[1])),
            ("GET /v2/", Ok(v2[0])),
            // Not by words that begin alike, nor anywhere but in front.
            ("GET /v2example", Ok(v1[0])),
            ("GET /foo/v2/example", Ok(v1[0])),
            // A longer path weighs more than a header.
            ("GET /v2/ version:one", Ok(v2[0])),
        ],
    );
}

/// `HTTPRouteMatchingAcrossRoutes`: the same, of two routes with hosts.
#[test]
fn rules_of_several_routes() {
    let part1 = ["example.com,example.net/{*v1}", "example.com,example.net/{*v1} version:one"];
    let part2 = ["example.com/v2/{*v2}", "example.com/{*v2} version:two"];
    check(
        &[part1[0], part1[1], part2[0], part2[1]],
        &[
            ("GET example.com/", Ok(part1[0])),
            ("GET example.com/example", Ok(part1[0])),
            ("GET example.net/example", Ok(part1[0])),
            ("GET example.com/example version:one", Ok(part1[1])),
            ("GET example.com/v2", Ok(part2[0])),
            ("GET example.com/v2/", Ok(part2[0])),
            ("GET example.com/v2/example", Ok(part2[0])),
            ("GET example.com/ version:two", Ok(part2[1])),
            // The second route is not about this host.
            ("GET example.net/v2/example", Ok(part1[0])),
            ("GET example.net/ version:two", Ok(part1[0])),
            ("GET example.org/", NOT_FOUND),
        ],
    );
}

/// `HTTPExactPathMatching`.
#[test]
fn exact_paths() {
    let routes = ["/one", "/two"];
    check(
        &routes,
        &[
            ("GET /one", Ok(routes[0])),
            ("GET /two", Ok(routes[1])),
            ("GET /", NOT_FOUND),
            ("GET /one/example", NOT_FOUND),
            ("GET /two/example", NOT_FOUND),
            ("GET /One", NOT_FOUND),
            ("GET /onee", NOT_FOUND),
            ("GET /one/", Ok(routes[0])),
        ],
    );
}

/// `HTTPRouteHostnameIntersection` and `HTTPRouteListenerHostnameMatching`, as far as hosts of routes go.
#[test]
fn hosts() {
    let very = "very.specific.com/s1/{*r}";
    let below = "*.specific.com/s2/{*r}";
    let wild = "*.anotherwildcard.io/s3/{*r}";
    let deep = "*.foo.anotherwildcard.io/s3/{*r}";
    let any = "/s4/{*r}";
    check(
        &[very, below, wild, deep, any],
        &[
            ("GET very.specific.com/s1", Ok(very)),
            ("GET VERY.specific.com:8080/s1", Ok(very)),
            ("GET very.specific.com/s2", Ok(below)),
            ("GET more.very.specific.com/s2", Ok(below)),
            ("GET non.matching.com/s1", NOT_FOUND),
            ("GET foo.very.specific.com/s1", NOT_FOUND),
            ("GET specific.com/s2", NOT_FOUND),
            ("GET veryspecific.com/s2", NOT_FOUND),
            ("GET one.anotherwildcard.io/s3", Ok(wild)),
            ("GET two.one.anotherwildcard.io/s3", Ok(wild)),
            ("GET foo.anotherwildcard.io/s3", Ok(wild)),
            ("GET one.foo.anotherwildcard.io/s3", Ok(deep)),
            ("GET anotherwildcard.io/s3", NOT_FOUND),
            ("GET wildcard.io/s3", NOT_FOUND),
            ("GET whatever.example/s4", Ok(any)),
            ("GET very.specific.com/s4", Ok(any)),
        ],
    );
}

/// `HTTPRouteMethodMatching`: methods with headers and paths, by their order of precedence.
#[test]
fn methods_beside_other_conditions() {
    let routes = [
        "POST /{*v1}",
        "GET /{*v1}",
        "/{*v1} version:four",
        "PATCH /path1/{*v2}",
        "/path2/{*v2} version:two",
        "PUT /path3/{*v3} version:three",
        "DELETE /path4/{*v3}",
        "PATCH /path5/{*v1}",
    ];
    check(
        &routes,
        &[
            ("POST /", Ok(routes[0])),
            ("GET /", Ok(routes[1])),
            ("HEAD /", Ok(routes[1])),
            ("PUT / version:four", Ok(routes[2])),
            // A method weighs more than a header.
            ("GET / version:four", Ok(routes[1])),
            ("PATCH /path1", Ok(routes[3])),
            ("GET /path2 version:two", Ok(routes[4])),
            // What does not fit is passed over.
            ("GET /path2", Ok(routes[1])),
            ("PUT /path3 version:three", Ok(routes[5])),
            ("PUT /path3 version:four", Ok(routes[2])),
            ("DELETE /path4", Ok(routes[6])),
            ("PATCH /path5", Ok(routes[7])),
            ("PATCH /", NOT_ALLOWED_BUT_FOR_A_HEADER),
        ],
    );
    check(
        &["POST /{*v1}", "GET /{*v1}"],
        &[("HEAD /", Ok("GET /{*v1}")), ("PATCH /", NOT_ALLOWED), ("DELETE /x", NOT_ALLOWED)],
    );
}

/// The path fits a route that takes every method, whose header is not there: 404, not 405.
const NOT_ALLOWED_BUT_FOR_A_HEADER: Result<&str, crate::rejection::Code> = NOT_FOUND;

/// `HTTPRouteQueryParamMatching`: the more conditions hold, the better, and text is compared as it is.
#[test]
fn query_conditions() {
    let routes = [
        "/{*v1}?animal=whale",
        "/{*v2}?animal=dolphin",
        "/{*v3}?animal=dolphin&color=blue",
        "/{*v3}?ANIMAL=Whale",
        "/path1/{*v1}?animal=whale",
        "/{*v2}?animal=whale version:one",
    ];
    check(
        &routes,
        &[
            ("GET /?animal=whale", Ok(routes[0])),
            ("GET /?animal=dolphin", Ok(routes[1])),
            ("GET /?animal=dolphin&color=blue", Ok(routes[2])),
            ("GET /?ANIMAL=Whale", Ok(routes[3])),
            ("GET /?animal=whale&otherparam=irrelevant", Ok(routes[0])),
            ("GET /?animal=dolphin&color=yellow", Ok(routes[1])),
            ("GET /path1?animal=whale", Ok(routes[4])),
            ("GET /?animal=whale version:one", Ok(routes[5])),
            // A path weighs more than a header.
            ("GET /path1?animal=whale version:one", Ok(routes[4])),
            ("GET /?color=blue", NOT_FOUND),
            ("GET /?animal=dog", NOT_FOUND),
            ("GET /?animal=whaledolphin", NOT_FOUND),
            ("GET /", NOT_FOUND),
        ],
    );
}
