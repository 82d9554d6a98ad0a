//! The routes and the requests that both micro benches ask about.

use http::{Method, Request};
use obo_gateway::route::{
    EncodedSlashes, HostPattern, PathPattern, RouteMatch, RouteTable, Target,
};

/// What is canonicalised, by the name of its case.
pub(crate) const TARGETS: [(&str, &str); 3] = [
    ("clean", "/graph/v1.0/me/messages/AAMkAGI2/attachments?$select=id&$top=10"),
    ("escapes", "/graph/v1.0/me/drive/root:/My%20Documents/%C3%A9t%C3%A9.txt"),
    ("dots", "/graph/v1.0/../v1.0/./me//messages"),
];

/// The shapes of [`table`]: one route for each.
pub(crate) const ROUTES_OF_A_SERVICE: usize = SHAPES.len();

const SHAPES: [&str; 5] =
    ["", "/items", "/items/{id}", "/items/{id}/parts/{part}", "/files/{*rest}"];

/// A request for `path` at the host that half of the services are for.
pub(crate) fn request(path: &str) -> Request<()> {
    Request::builder().uri(path).header("host", "api.example.com").body(()).unwrap()
}

/// The same, canonical.
pub(crate) fn target(path: &str) -> Target {
    Target::parse(&request(path)).unwrap()
}

/// Services with five routes each, every other one for one host.
pub(crate) fn table(routes: usize) -> RouteTable<usize> {
    let entries = (0..routes).map(|index| {
        let (service, shape) = (index / SHAPES.len(), SHAPES.get(index % SHAPES.len()).unwrap());
        let matching = RouteMatch {
            path: PathPattern::parse(&format!("/service-{service}{shape}")).unwrap(),
            hosts: match service % 2 {
                0 => vec![HostPattern::parse("api.example.com").unwrap()],
                _ => vec![],
            },
            methods: vec![Method::GET, Method::POST],
            headers: vec![],
            query: vec![],
            ignore_case: false,
            encoded_slashes: EncodedSlashes::Reject,
        };
        (matching, index)
    });
    RouteTable::build(entries.collect()).unwrap()
}
