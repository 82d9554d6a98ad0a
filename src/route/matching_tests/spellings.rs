//! Spellings of one path that another reader may take for another's: cases, encoded slashes, parameters.

use super::{BAD, NOT_FOUND, check};

#[test]
fn case_is_ignored_where_the_route_says_so() {
    check(
        &["/Users/{id} ~", "/Groups"],
        &[
            ("GET /users/A", Ok("/Users/{id} ~")),
            ("GET /USERS/A", Ok("/Users/{id} ~")),
            ("GET /Groups", Ok("/Groups")),
            ("GET /groups", NOT_FOUND),
        ],
    );
    // The order of segments holds in spite of case.
    check(
        &["/foo/{a}", "/FOO/bar ~"],
        &[("GET /foo/bar", Ok("/FOO/bar ~")), ("GET /foo/x", Ok("/foo/{a}"))],
    );
}

#[test]
fn behind_a_route_that_ignores_case_every_case_is_guarded() {
    let routes = ["/api/{*r} ~", "/api/Admin"];
    check(
        &routes,
        &[
            ("GET /api/Admin", Ok(routes[1])),
            ("GET /api/admin", BAD),
            ("GET /API/ADMIN", BAD),
            ("GET /API/admins", Ok(routes[0])),
        ],
    );
    check(
        &["/api/{*r}", "/api/Admin", "/else ~"],
        &[("GET /api/admin", Ok("/api/{*r}")), ("GET /ELSE", Ok("/else ~"))],
    );
}

#[test]
fn letters_that_only_some_upstreams_fold_never_reach_past_a_route() {
    let routes = ["/access/{*r} ~", "/keys ~", "/id ~", "/{*open}", "/plain"];
    check(
        &routes,
        &[
            ("GET /ACCESS/x", Ok(routes[0])),
            ("GET /acce%C5%BFs", BAD),
            ("GET /acce\u{17F}s/x", BAD),
            ("GET /acce%25C5%25BFs", BAD),
            ("GET /%E2%84%AAeys", BAD),
            ("GET /\u{130}d", BAD),
            ("GET /\u{131}d", BAD),
            ("GET /acce%C3%A9", Ok(routes[3])),
            ("GET /caf\u{e9}", Ok(routes[3])),
            // This one minds every letter.
            ("GET /pla\u{131}n", Ok(routes[3])),
        ],
    );
    // A path in ASCII may be what a literal beyond it folds to, and the guard may mind the case.
    check(
        &["/stra\u{DF}e ~", "/{*open}"],
        &[("GET /STRA%C3%9FE", Ok("/stra\u{DF}e ~")), ("GET /strasse", BAD)],
    );
    check(
        &["/api/{*r} ~", "/api/Access"],
        &[("GET /api/acce%C5%BFs", BAD), ("GET /api/acce%C3%A9", Ok("/api/{*r} ~"))],
    );
    // Nobody ignores case here.
    check(&["/access", "/{*open}"], &[("GET /acce%C5%BFs", Ok("/{*open}"))]);
}

#[test]
fn encoded_slashes_are_kept_only_by_routes_that_say_so() {
    let routes =
        ["/keep/{name} keep", "/other/{*r}", "/keep/a/b", "/pair/{a}/{b} keep", "/pair/{a} keep"];
    check(
        &routes,
        &[
            ("GET /keep/x%2Fy", Ok(routes[0])),
            ("GET /keep/x%5cy", Ok(routes[0])),
            ("GET /other/x%2Fy", BAD),
            ("GET /other/x%5Cy", BAD),
            ("GET /nowhere%2Fy", BAD),
            // Read as a slash it is the path of another route.
            ("GET /keep/a%2Fb", BAD),
            ("GET /keep/a%5Cb", BAD),
            ("GET /keep/a%2F..%2Fb", BAD),
            // Without the parameter, and with the slash still encoded, it is another route's.
            ("GET /pair/a%2Fb/;x", BAD),
        ],
    );
}

#[test]
fn no_lax_spelling_reaches_past_a_stricter_route() {
    let routes = ["/{*open}", "/admin/{*r}", "/users/{id}", "/users", "/sp%20ace", "/caf\u{e9}"];
    check(
        &routes,
        &[
            // Spelled plainly, or in a way that has one reading.
            ("GET /admin", Ok(routes[1])),
            ("GET /%61dmin", Ok(routes[1])),
            ("GET //admin", Ok(routes[1])),
            ("GET /x/../admin/y", Ok(routes[1])),
            ("GET /x/%2e%2e/admin", Ok(routes[1])),
            ("GET /sp%20ace", Ok(routes[4])),
            ("GET /caf%c3%A9", Ok(routes[5])),
            ("GET /caf\u{e9}", Ok(routes[5])),
            ("GET /x;y=1/z", Ok(routes[0])),
            ("GET /100%25", Ok(routes[0])),
            ("GET /users/a;b", Ok(routes[2])),
            ("GET /users/a%3Bb", Ok(routes[2])),
            ("GET /admin/x;y", Ok(routes[1])),
            ("GET /Admin", Ok(routes[0])),
            // Lax readers would find a stricter route.
            ("GET /admin;x", BAD),
            ("GET /admin;x/y", BAD),
            ("GET /admin%3Bx/y", BAD),
            ("GET /;x/admin", BAD),
            ("GET /%2561dmin", BAD),
            ("GET /%252561dmin", BAD),
            ("GET /x/%252e%252e/admin", BAD),
            ("GET /x/%252e%252e%252fadmin", BAD),
            ("GET /admin%252Fx", BAD),
            ("GET /admin%255Cx", BAD),
            ("GET /admin%3Fx", BAD),
            ("GET /admin%23", BAD),
            ("GET /users/;x", BAD),
            ("GET /sp%2520ace", BAD),
            ("GET /caf%25c3%25A9", BAD),
            ("GET /admin%2500x", BAD),
            // Overlong dots and slashes, one encoding further down.
            ("GET /x/%25c0%25ae%25c0%25ae/admin/y", BAD),
            ("GET /x/%2525c0%2525ae%2525c0%2525ae/admin/y", BAD),
            ("GET /admin%25c0%25afy", BAD),
            // And these are refused whatever routes there are.
            ("GET /x/..;/admin", BAD),
            ("GET /x%2F..%2Fadmin", BAD),
            ("GET /admin%00", BAD),
            ("GET /x%c0%afadmin", BAD),
        ],
    );
}

#[test]
fn a_path_that_only_a_lax_reader_would_route_is_400_too() {
    check(
        &["POST /admin"],
        &[("POST /admin;x", BAD), ("GET /admin;x", NOT_FOUND), ("POST /x;y", NOT_FOUND)],
    );
}
