//! Which of several routes with one path goes first, and which can't be told apart.
//!
//! It sees only routes that end at the same place of a tree: same host pattern, same path but
//! for names and, in a table where some route ignores case, but for case.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use http::header::HeaderName;

use crate::route::conditions::methods_overlap;
use crate::route::pattern::Segment;
use crate::route::table::{Ambiguity, RouteMatch};
use crate::route::trie::Leaf;

/// Sorts the entries of one leaf, the most specific first, without regard to their numbers.
pub(super) fn rank<T>(leaf: &mut Leaf, entries: &[(RouteMatch, T)]) {
    leaf.sort_by_cached_key(|index| {
        entries.get(*index).map(|(matching, _)| {
            (
                matching.methods.is_empty(),
                Reverse(matching.headers.len()),
                Reverse(matching.query.len()),
                // Of two that mind different things, any order will do that is not the file's.
                headers(matching),
                query(matching),
                matching.ignore_case,
            )
        })
    });
}

/// Adds the pairs of one leaf that some request fits alike.
pub(super) fn find_ambiguities<T>(
    leaf: &Leaf,
    entries: &[(RouteMatch, T)],
    found: &mut BTreeSet<Ambiguity>,
) {
    for (position, one) in leaf.iter().enumerate() {
        for other in leaf.iter().skip(position + 1) {
            let (Some((a, _)), Some((b, _))) = (entries.get(*one), entries.get(*other)) else {
                continue;
            };
            // A route that lists the same host twice is no rival of itself.
            if one != other && is_ambiguous(a, b) {
                found.insert(Ambiguity { first: *one.min(other), second: *one.max(other) });
            }
        }
    }
}

fn is_ambiguous(one: &RouteMatch, other: &RouteMatch) -> bool {
    let same_methods = match (one.methods.is_empty(), other.methods.is_empty()) {
        (true, true) => true,
        (false, false) => methods_overlap(&one.methods, &other.methods),
        (true, false) | (false, true) => false,
    };
    let same_case = one.ignore_case == other.ignore_case
        && (one.ignore_case || literals(one).eq(literals(other)));
    same_methods && same_case && headers(one) == headers(other) && query(one) == query(other)
}

fn literals(matching: &RouteMatch) -> impl Iterator<Item = &str> {
    matching.path.segments.iter().filter_map(|segment| match segment {
        Segment::Literal(text) => Some(&**text),
        Segment::Name(_) | Segment::Rest(_) => None,
    })
}

fn headers(matching: &RouteMatch) -> Vec<(&str, &str)> {
    sorted(matching.headers.iter().map(|(name, value)| (HeaderName::as_str(name), value.as_str())))
}

fn query(matching: &RouteMatch) -> Vec<(&str, &str)> {
    sorted(matching.query.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

fn sorted<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(&'a str, &'a str)> {
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_unstable();
    pairs
}
