//! Why a request takes the route that it takes, and not the nearest others: for `explain`.
//!
//! The lookup itself is [`RouteTable::find`]; here each condition of each route is asked by itself, by
//! the functions that the lookup asks. Not for the path of requests: it looks at every route.

use http::HeaderMap;

use super::{Case, RouteMatch, RouteTable};
use crate::route::conditions::{headers_fit, method_fits, query_fits};
use crate::route::pattern::Segment;
use crate::route::target::Target;
use crate::route::trie::{Escapes, Search};

/// How a route stands to a request.
#[derive(Debug)]
pub struct Considered<'t, T> {
    /// What the table holds for it.
    pub route: &'t T,
    /// What it asks for.
    pub matching: &'t RouteMatch,
    /// What of that the request does not have; empty: the route fits.
    pub lacks: Vec<Lack>,
}

/// A condition of a route that a request does not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// `match.query`.
    Query,
    /// `match.headers`.
    Headers,
    /// `match.methods`.
    Method,
    /// `match.path`, but for lower and upper case.
    Case,
    /// `match.hosts`.
    Host,
    /// `match.path`.
    Path,
}

impl<T> RouteTable<T> {
    /// All routes as they stand to a request: those of its host and path in the order in which they
    /// are tried, then the others, the nearest first.
    pub fn consider(&self, target: &Target, headers: &HeaderMap) -> Vec<Considered<'_, T>> {
        let path = target.path();
        let mut tried = Vec::new();
        let mut search = Search::new(path, self.spelling, Escapes::Encoded);
        self.first(target, &mut search, |index, _| {
            // A route that lists a host twice is met twice.
            if !tried.contains(&index) {
                tried.push(index);
            }
            false
        });
        let mut others = Vec::new();
        for (index, (matching, _)) in self.entries.iter().enumerate() {
            if !tried.contains(&index) {
                let lacks_path = !self.path_alone_fits(index, path);
                let lacks_host = !takes_host(matching, target);
                others.push((lacks_path, lacks_host, other_segments(matching, path), index));
            }
        }
        others.sort_unstable();
        let near = tried.into_iter().map(|index| (false, false, index));
        let far = others.into_iter().map(|(path, host, _, index)| (path, host, index));
        let all = near.chain(far).filter_map(|(lacks_path, lacks_host, index)| {
            let (matching, route) = self.entries.get(index)?;
            let fits_case =
                lacks_path || self.case_fits(matching, path, Escapes::Encoded, Case::AsConfigured);
            let lacks = [
                (Lack::Path, lacks_path),
                (Lack::Host, lacks_host),
                (Lack::Case, !fits_case),
                (Lack::Method, !method_fits(&matching.methods, target.method())),
                (Lack::Headers, !headers_fit(&matching.headers, headers)),
                (Lack::Query, !query_fits(&matching.query, target.query())),
            ];
            let lacks = lacks.into_iter().filter_map(|(lack, is)| is.then_some(lack)).collect();
            Some(Considered { route, matching, lacks })
        });
        all.collect()
    }

    /// Whether the path of this entry fits, whatever its host: it is looked for in every tree.
    fn path_alone_fits(&self, index: usize, path: &str) -> bool {
        let trees = self.exact.values().chain(self.below.values()).chain([&self.any]);
        trees.into_iter().any(|tree| {
            let mut search = Search::new(path, self.spelling, Escapes::Encoded);
            search.first(tree, &mut |found| found == index).is_some()
        })
    }
}

fn takes_host(matching: &RouteMatch, target: &Target) -> bool {
    matching.hosts.is_empty()
        || target.host().is_some_and(|host| matching.hosts.iter().any(|own| own.takes(host)))
}

/// How many segments of a route's path are not those of `path`.
fn other_segments(matching: &RouteMatch, path: &str) -> usize {
    let mut found = path.strip_prefix('/').unwrap_or(path).split('/');
    let differs = |segment: &&Segment| match segment {
        Segment::Literal(wanted) => found.next() != Some(&**wanted),
        Segment::Name(_) => found.next().is_none(),
        Segment::Rest(_) => false,
    };
    matching.path.segments.iter().filter(differs).count()
}
