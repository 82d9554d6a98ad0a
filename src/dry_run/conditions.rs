//! Which conditions of a route's `match` no policy test reaches: a value that no test comes with, and a
//! condition that no test is passed over for.

use http::Method;

use super::Walk;
use crate::route::{Lack, RouteMatch, Target};
use crate::snapshot::Route;

/// What of the conditions of `route` none of `walks` shows, of which it took its `own`: keys of `match`,
/// each with what is missing.
pub(super) fn unreached(
    route: &Route,
    walks: &[Walk<'_>],
    own: &[&Walk<'_>],
) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let Some(matching) = own.iter().find_map(|walk| walk.matching_of(route)) else { return found };
    let RouteMatch { hosts, methods, headers, query, .. } = matching;

    for host in hosts {
        let is_taken_by = |walk: &&Walk<'_>| {
            let asked = walk.target.as_ref().and_then(|target| target.host()).unwrap_or_default();
            // Of two that take a host, the longer is the one that says so.
            let takes = hosts.iter().filter(|own| own.takes(asked));
            takes.max_by_key(|own| own.to_string().len()) == Some(host)
        };
        if !own.iter().any(is_taken_by) {
            found.push(("hosts", format!("no test comes for {host}")));
        }
    }
    for method in methods {
        let comes_with = |walk: &&Walk<'_>| {
            let asked = walk.target.as_ref().map(Target::method);
            let is_for_get = *method == Method::GET && !methods.contains(&Method::HEAD);
            asked == Some(method) || (is_for_get && asked == Some(&Method::HEAD))
        };
        if !own.iter().any(comes_with) {
            found.push(("methods", format!("no test comes with {method}")));
        }
    }
    let all = [
        ("hosts", "host", !hosts.is_empty(), Lack::Host),
        ("methods", "method", !methods.is_empty(), Lack::Method),
        ("headers", "headers", !headers.is_empty(), Lack::Headers),
        ("query", "query", !query.is_empty(), Lack::Query),
    ];
    for (key, of, is_asked, lack) in all {
        // Nothing else may be in the way: that would have decided too.
        let decides = |walk: &Walk<'_>| walk.lacks_of(route).is_some_and(|all| all == [lack]);
        if is_asked && !walks.iter().any(decides) {
            found.push((key, format!("no test is passed over for its {of}")));
        }
    }
    found
}

impl Walk<'_> {
    fn matching_of(&self, route: &Route) -> Option<&RouteMatch> {
        let mut all = self.considered.iter();
        all.find(|it| std::ptr::eq(it.route, route)).map(|it| it.matching)
    }

    fn lacks_of(&self, route: &Route) -> Option<&[Lack]> {
        let mut all = self.considered.iter();
        all.find(|it| std::ptr::eq(it.route, route)).map(|it| &*it.lacks)
    }
}
