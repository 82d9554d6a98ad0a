//! The routes, and which one a request takes.
//!
//! The most specific one, whatever the order in the file: by host, then by path segment after
//! segment, then by methods, then by the number of header and query conditions. A route that
//! does not take the method or a condition is passed over for the next. What the contract
//! leaves open is settled without looking at the order either: among routes that differ only
//! in *which* headers or parameters they ask for, the texts of the conditions decide, and of
//! two paths that differ only in `ignore_case` the one that minds the case goes first.

mod considered;

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;
use http::header::HeaderName;
use http::{HeaderMap, Method};

use crate::giving_way::{Turn, drop_giving_way, giving_way};
use crate::rejection::{Code, Extra, Rejection};
use crate::route::captures::Captures;
use crate::route::conditions::{headers_fit, method_fits, query_fits};
use crate::route::host::{HostKind, HostPattern};
use crate::route::pattern::{PathPattern, Segment};
use crate::route::ranking::{find_ambiguities, rank};
use crate::route::readings::lax_readings;
use crate::route::target::Target;
pub use considered::{Considered, Lack};

use crate::route::trie::{Escapes, Likeness, Node, Search, Spelling, likeness};

/// What a request must have to take a route.
#[derive(Clone, Debug)]
pub struct RouteMatch {
    /// The path.
    pub path: PathPattern,
    /// Any one of these hosts; every host, also none, where the list is empty.
    pub hosts: Vec<HostPattern>,
    /// Any one of these methods; every method where the list is empty. GET includes HEAD.
    pub methods: Vec<Method>,
    /// All of these headers, each with this value; several lines of one name count as one list.
    pub headers: Vec<(HeaderName, String)>,
    /// All of these parameters, anywhere in the query, compared decoded; one that is repeated
    /// has this value each time.
    pub query: Vec<(String, String)>,
    /// The upstream does not tell upper from lower case in paths.
    pub ignore_case: bool,
    /// What happens to `%2F` and `%5C` in the path.
    pub encoded_slashes: EncodedSlashes,
}

/// What a route does with `%2F` and `%5C` in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodedSlashes {
    /// 400: many servers take them for slashes.
    #[default]
    Reject,
    /// They are part of a segment, and forwarded as they came.
    Keep,
}

/// Two entries that some request fits alike, by their places in the list given to
/// [`RouteTable::build`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ambiguity {
    /// The earlier one.
    pub first: usize,
    /// The later one.
    pub second: usize,
}

/// All routes, ready to be looked up.
#[derive(Debug)]
pub struct RouteTable<T> {
    entries: Vec<(RouteMatch, T)>,
    exact: HashMap<Box<str>, Node, RandomState>,
    below: HashMap<Box<str>, Node, RandomState>,
    any: Node,
    spelling: Spelling,
    /// Some literal of a table that is folded has letters beyond ASCII.
    folds_letters: bool,
}

/// The route that a request takes.
#[derive(Debug)]
pub struct Found<'t, T> {
    /// What the table holds for it.
    pub route: &'t T,
    /// What its names stood for, as places in [`Target::path`].
    pub captures: Captures,
}

impl<T> Drop for RouteTable<T> {
    fn drop(&mut self) {
        drop_giving_way(self.entries.drain(..));
        drop_giving_way(self.any.take_literals());
    }
}

impl<T> RouteTable<T> {
    /// Builds the table; `entries` may stand in any order.
    ///
    /// # Errors
    ///
    /// Every pair that can't be told apart: a common host pattern, the same path but for
    /// names, a common method and the same conditions.
    pub fn build(entries: Vec<(RouteMatch, T)>) -> Result<Self, Vec<Ambiguity>> {
        let folded = entries.iter().any(|(matching, _)| matching.ignore_case);
        let spelling = if folded { Spelling::Folded } else { Spelling::Exact };
        let folds_letters = folded
            && entries
                .iter()
                .flat_map(|(matching, _)| &matching.path.segments)
                .any(|segment| matches!(segment, Segment::Literal(text) if !text.is_ascii()));
        let mut table = Self {
            entries,
            exact: HashMap::default(),
            below: HashMap::default(),
            any: Node::default(),
            spelling,
            folds_letters,
        };
        for (index, (matching, _)) in giving_way(table.entries.iter().enumerate()) {
            if matching.hosts.is_empty() {
                table.any.insert(&matching.path, spelling, index);
            }
            for host in &matching.hosts {
                let tree = match &host.0 {
                    HostKind::Exact(name) => table.exact.entry(name.clone()).or_default(),
                    HostKind::Below(name) => table.below.entry(name.clone()).or_default(),
                };
                tree.insert(&matching.path, spelling, index);
            }
        }
        let mut ambiguities = BTreeSet::new();
        let mut turn = Turn::begin();
        let trees = table.exact.values_mut().chain(table.below.values_mut());
        for tree in trees.chain([&mut table.any]) {
            tree.each_leaf(&mut |leaf| {
                turn.give_way();
                rank(leaf, &table.entries);
                find_ambiguities(leaf, &table.entries, &mut ambiguities);
            });
        }
        if ambiguities.is_empty() { Ok(table) } else { Err(ambiguities.into_iter().collect()) }
    }

    /// The route that `target` takes.
    ///
    /// # Errors
    ///
    /// - 404: no route fits.
    /// - 405 with `Allow`: host and path fit some route, and the method none of those, whatever
    ///   their conditions.
    /// - 400: an encoded slash where the route keeps none, or a path that a lax reader would
    ///   take to another route or could not read at all (see `readings.rs`).
    pub fn find(&self, target: &Target, headers: &HeaderMap) -> Result<Found<'_, T>, Rejection> {
        let mut other_methods = Vec::new();
        let mut method_is_taken = false;
        let mut search = Search::new(target.path(), self.spelling, Escapes::Encoded);
        let found = self.first(target, &mut search, |index, matching| {
            if !self.case_fits(matching, target.path(), Escapes::Encoded, Case::AsConfigured) {
                return false;
            }
            if !method_fits(&matching.methods, target.method()) {
                other_methods.push(index);
                return false;
            }
            method_is_taken = true;
            conditions_fit(matching, target, headers)
        });
        let entry = found.and_then(|index| self.entries.get(index));

        let slashes = entry.map(|(matching, _)| matching.encoded_slashes);
        if target.has_encoded_slashes() && slashes != Some(EncodedSlashes::Keep) {
            return Err(encoded_slash(target));
        }
        let ignores_case = entry.is_some_and(|(matching, _)| matching.ignore_case);
        if (target.is_doubtful() || ignores_case || self.has_doubtful_case(target.path()))
            && let Some(other) = self.lax_find(target, headers, found)?
        {
            return Err(self.ambiguous(target, found, other));
        }
        match entry {
            Some((_, route)) => Ok(Found { route, captures: search.captures() }),
            None if method_is_taken || other_methods.is_empty() => Err(not_found(target)),
            None => Err(self.method_not_allowed(target, &other_methods)),
        }
    }

    /// What the table holds for the routes that requests with the host and path of `target` can
    /// take, whatever their method, headers and query are; the most specific first.
    ///
    /// The last one is a route that asks for none of these, if there is one: nothing passes it over.
    pub fn reachable(&self, target: &Target) -> impl Iterator<Item = &T> {
        let takes_all = |matching: &RouteMatch| {
            matching.methods.is_empty() && matching.headers.is_empty() && matching.query.is_empty()
        };
        self.reached(target, |_| true, takes_all).into_iter()
    }

    /// What the table holds for the routes that a request for `target` might take if its method
    /// were `method`, and of its header fields it `may_have` just some; the most specific first.
    pub fn possible(
        &self,
        target: &Target,
        method: &Method,
        may_have: impl Fn(&HeaderName) -> bool,
    ) -> Vec<&T> {
        let fits = |matching: &RouteMatch| {
            method_fits(&matching.methods, method)
                && query_fits(&matching.query, target.query())
                && matching.headers.iter().all(|(name, _)| may_have(name))
        };
        self.reached(target, fits, |matching| matching.headers.is_empty())
    }

    /// What the table holds for those routes of the host and path of `target` that `fits` accepts,
    /// up to the first one that `ends` the search; the most specific first.
    fn reached(
        &self,
        target: &Target,
        fits: impl Fn(&RouteMatch) -> bool,
        ends: impl Fn(&RouteMatch) -> bool,
    ) -> Vec<&T> {
        let mut reached = Vec::new();
        let mut search = Search::new(target.path(), self.spelling, Escapes::Encoded);
        let last = self.first(target, &mut search, |index, matching| {
            let fits =
                self.case_fits(matching, target.path(), Escapes::Encoded, Case::AsConfigured)
                    && fits(matching);
            let ends = fits && ends(matching);
            if fits && !ends {
                reached.push(index);
            }
            ends
        });
        let reached = reached.into_iter().chain(last);
        reached.filter_map(|index| self.entries.get(index)).map(|(_, route)| route).collect()
    }

    /// Each route with what a request must have to take it, in the order given to
    /// [`RouteTable::build`].
    pub fn entries(&self) -> impl Iterator<Item = (&RouteMatch, &T)> {
        self.entries.iter().map(|(matching, route)| (matching, route))
    }

    /// What the table holds for each route, in the order given to [`RouteTable::build`].
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, route)| route)
    }

    /// The first entry, host tree by host tree, that the path fits and `takes` accepts.
    fn first(
        &self,
        target: &Target,
        search: &mut Search<'_>,
        mut takes: impl FnMut(usize, &RouteMatch) -> bool,
    ) -> Option<usize> {
        let takes = &mut |index: usize| {
            self.entries.get(index).is_some_and(|(matching, _)| takes(index, matching))
        };
        if let Some(host) = target.host() {
            if !self.exact.is_empty()
                && let Some(tree) = self.exact.get(host)
                && let Some(found) = search.first(tree, takes)
            {
                return Some(found);
            }
            if !self.below.is_empty() {
                // The longest suffix first; at most as often as the host has labels.
                let mut name = host;
                while let Some((_, suffix)) = name.split_once('.') {
                    if let Some(tree) = self.below.get(suffix)
                        && let Some(found) = search.first(tree, takes)
                    {
                        return Some(found);
                    }
                    name = suffix;
                }
            }
        }
        search.first(&self.any, takes)
    }

    /// Another entry than `found` that some lax reading of the path leads to.
    ///
    /// A route that ignores case stands before an upstream that does, in its own way of folding
    /// letters: behind it, a route that minds the case guards every spelling of what it names.
    ///
    /// # Errors
    ///
    /// 400: the path has no readings to look up.
    fn lax_find(
        &self,
        target: &Target,
        headers: &HeaderMap,
        found: Option<usize>,
    ) -> Result<Option<usize>, Rejection> {
        let ignores_case = found
            .and_then(|index| self.entries.get(index))
            .is_some_and(|(matching, _)| matching.ignore_case);
        let decoded = if target.is_doubtful() {
            lax_readings(target.path()).ok_or_else(|| not_text(target))?
        } else {
            Vec::new()
        };
        let as_it_is = match self.spelling {
            Spelling::Exact => None,
            Spelling::Folded => Some((target.path(), Escapes::Encoded)),
        };
        let readings = decoded.iter().map(|reading| (reading.as_str(), Escapes::Decoded));

        let other = |path: &str, escapes, case| {
            let mut search = Search::new(path, self.spelling, escapes);
            let other = self.first(target, &mut search, |_, matching| {
                self.case_fits(matching, path, escapes, case)
                    && conditions_fit(matching, target, headers)
                    && method_fits(&matching.methods, target.method())
            });
            if other == found { None } else { other }
        };
        Ok(as_it_is.into_iter().chain(readings).find_map(|(path, escapes)| {
            other(path, escapes, Case::AsConfigured)
                .or_else(|| {
                    let doubtful = self.has_doubtful_case(path) || escapes == Escapes::Encoded;
                    if doubtful { other(path, escapes, Case::FoldedWhereIgnored) } else { None }
                })
                .or_else(|| if ignores_case { other(path, escapes, Case::Folded) } else { None })
        }))
    }

    /// Whether readers that ignore case may disagree on the letters of `path`.
    fn has_doubtful_case(&self, path: &str) -> bool {
        self.spelling == Spelling::Folded && (self.folds_letters || !path.is_ascii())
    }

    /// Whether the case of `path` suits the entry: a table where some route ignores case finds
    /// entries in every case of letters.
    fn case_fits(&self, matching: &RouteMatch, path: &str, escapes: Escapes, case: Case) -> bool {
        let least = match (self.spelling, case, matching.ignore_case) {
            (Spelling::Exact, _, _)
            | (Spelling::Folded, Case::Folded, _)
            | (Spelling::Folded, Case::FoldedWhereIgnored, true) => return true,
            (Spelling::Folded, Case::AsConfigured, true) => Likeness::ButForCase,
            (Spelling::Folded, Case::AsConfigured | Case::FoldedWhereIgnored, false) => {
                Likeness::Exact
            }
        };
        likeness(&matching.path, path, escapes) >= least
    }

    fn ambiguous(&self, target: &Target, found: Option<usize>, other: usize) -> Rejection {
        let text = |index: usize| {
            self.entries.get(index).map_or("", |(matching, _)| matching.path.text()).to_owned()
        };
        let found = found.map_or_else(
            || "no route".to_owned(),
            |index| format!("the route of `{}`", text(index)),
        );
        Rejection::new(
            Code::BadRequest,
            "the path can be read in more than one way",
            format!(
                "ambiguous path {}: it takes {found}, but a server that decodes it again, drops \
                 `;` parameters or ignores case would read a path of the route of `{}`; the \
                 caller has to spell it plainly",
                shown(target.path()),
                text(other),
            ),
        )
    }

    fn method_not_allowed(&self, target: &Target, candidates: &[usize]) -> Rejection {
        let mut allow: Vec<Method> = Vec::new();
        let listed = candidates
            .iter()
            .filter_map(|index| self.entries.get(*index))
            .flat_map(|(matching, _)| &matching.methods);
        for method in listed {
            let with_head = (*method == Method::GET).then_some(Method::HEAD);
            for method in std::iter::once(method.clone()).chain(with_head) {
                if !allow.contains(&method) {
                    allow.push(method);
                }
            }
        }
        Rejection::new(
            Code::MethodNotAllowed,
            "this path does not take this method",
            format!(
                "method {} refused: {} fits a route, and the routes it fits take {allow:?} only",
                target.method(),
                shown(target.path()),
            ),
        )
        .with(Extra::Allow(allow))
    }
}

fn conditions_fit(matching: &RouteMatch, target: &Target, headers: &HeaderMap) -> bool {
    headers_fit(&matching.headers, headers) && query_fits(&matching.query, target.query())
}

/// Whose case of letters is minded in a lookup.
#[derive(Clone, Copy)]
enum Case {
    /// That of routes that don't ignore it; the others take lower and upper case alike.
    AsConfigured,
    /// The others take whatever any upstream might fold to their path.
    FoldedWhereIgnored,
    /// Nobody's.
    Folded,
}

fn encoded_slash(target: &Target) -> Rejection {
    Rejection::new(
        Code::BadRequest,
        "the path has an encoded slash or backslash",
        format!(
            "path {} refused: it has `%2F` or `%5C`, and no route that keeps them takes it; if \
             the upstream needs them, set `encoded_slashes: keep` on its route",
            shown(target.path()),
        ),
    )
}

fn not_text(target: &Target) -> Rejection {
    Rejection::new(
        Code::BadRequest,
        "the path can be read in more than one way",
        format!(
            "ambiguous path {}: a server that decodes it again gets octets that are not UTF-8, \
             which lenient decoders take for dots and slashes; the caller has to spell it plainly",
            shown(target.path()),
        ),
    )
}

fn not_found(target: &Target) -> Rejection {
    Rejection::new(
        Code::RouteNotFound,
        "no route takes this request",
        format!(
            "no route for {} {} at host `{}`: host, path or conditions fit none",
            target.method(),
            shown(target.path()),
            target.host().unwrap_or("none"),
        ),
    )
}

/// The beginning of a path for the log: quoted, with what is not printable escaped.
fn shown(path: &str) -> String {
    const LONGEST: usize = 200; // characters; more is noise in a log line
    let mut shown: String = path.chars().take(LONGEST).collect();
    if shown.len() < path.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}
