//! Finds the patterns that a path fits, the most specific first.
//!
//! A tree of segments: at each node a literal is tried before a name, and a name before a
//! rest, which is the order of the contract read segment by segment. A lookup hashes each
//! segment once and goes back only where a path fits two patterns up to some segment; it
//! visits a node at most once, and never more nodes than the patterns that share the path's
//! beginning have. It knows entries only by their number: whether one takes the request is
//! asked of the caller, and a no sends the search on to the next.
//!
//! What is hashed is looked for and never kept: the keys are the file's own, so that nobody who
//! sends paths can have them meet, and the hash need not be one that resists that.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::route::canonical::decode_once;
use crate::route::captures::Captures;
use crate::route::pattern::{PathPattern, Segment};

/// How the literals of a tree are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// As they are.
    Exact,
    /// Folded as far as any upstream might; what case an entry minds is asked of the caller.
    Folded,
}

/// How a path that is looked up is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escapes {
    /// Canonical: escapes are decoded segment by segment, so that `%2F` divides nothing.
    Encoded,
    /// Decoded already; a `%` is a `%`.
    Decoded,
}

/// The numbers of the entries at the end of one pattern, best first.
pub(super) type Leaf = Vec<usize>;

/// A node: what has been read of the path stands above it.
#[derive(Debug, Default)]
pub(super) struct Node {
    literals: Literals,
    name: Option<Box<Node>>,
    /// Patterns that end here.
    here: Leaf,
    /// Patterns that end here with a slash of their own.
    slash: Leaf,
    /// Patterns whose `{*name}` begins here.
    rest: Leaf,
}

impl Node {
    /// Adds entry number `entry` under `pattern`.
    pub(super) fn insert(&mut self, pattern: &PathPattern, spelling: Spelling, entry: usize) {
        let mut node = self;
        for segment in &pattern.segments {
            node = match segment {
                Segment::Literal(text) => node.literals.get_or_insert(&spell(text, spelling)),
                Segment::Name(_) => node.name.get_or_insert_default(),
                Segment::Rest(_) => return node.rest.push(entry),
            };
        }
        if pattern.slash_at_end { &mut node.slash } else { &mut node.here }.push(entry);
    }

    /// Takes out what is behind its literals.
    pub(super) fn take_literals(&mut self) -> impl Iterator<Item = (Box<str>, Self)> + use<> {
        let (few, many) = match std::mem::take(&mut self.literals) {
            Literals::Few(nodes) => (Some(nodes), None),
            Literals::Many(nodes) => (None, Some(nodes)),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    /// Calls `visit` with each leaf of the tree that has entries.
    pub(super) fn each_leaf(&mut self, visit: &mut impl FnMut(&mut Leaf)) {
        for leaf in [&mut self.here, &mut self.slash, &mut self.rest] {
            if !leaf.is_empty() {
                visit(leaf);
            }
        }
        for node in self.literals.nodes_mut().chain(self.name.as_deref_mut()) {
            node.each_leaf(visit);
        }
    }
}

/// The nodes behind the literals of one node. Of most nodes there is one, which takes no table.
#[derive(Debug)]
enum Literals {
    Few(Vec<(Box<str>, Node)>),
    Many(HashMap<Box<str>, Node, RandomState>),
}

/// Most that are looked through.
const FEW: usize = 4;

impl Default for Literals {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Literals {
    fn is_empty(&self) -> bool {
        match self {
            Self::Few(nodes) => nodes.is_empty(),
            Self::Many(_) => false,
        }
    }

    fn get(&self, literal: &str) -> Option<&Node> {
        match self {
            Self::Few(nodes) => nodes.iter().find(|it| *it.0 == *literal).map(|(_, node)| node),
            Self::Many(nodes) => nodes.get(literal),
        }
    }

    #[allow(clippy::indexing_slicing, reason = "it is there, or was put there")]
    fn get_or_insert(&mut self, literal: &str) -> &mut Node {
        if let Self::Few(nodes) = self
            && nodes.len() == FEW
            && nodes.iter().all(|it| *it.0 != *literal)
        {
            *self = Self::Many(nodes.drain(..).collect());
        }
        match self {
            Self::Few(nodes) => {
                let known = nodes.iter().position(|it| *it.0 == *literal);
                let at = known.unwrap_or(nodes.len());
                if known.is_none() {
                    nodes.reserve_exact(1);
                    nodes.push((literal.into(), Node::default()));
                }
                &mut nodes[at].1
            }
            Self::Many(nodes) => nodes.entry(literal.into()).or_default(),
        }
    }

    fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        let (few, many) = match self {
            Self::Few(nodes) => (Some(nodes.iter_mut().map(|(_, node)| node)), None),
            Self::Many(nodes) => (None, Some(nodes.values_mut())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }
}

/// One search for one path.
pub(super) struct Search<'p> {
    path: &'p str,
    spelling: Spelling,
    escapes: Escapes,
    captures: Captures,
}

impl<'p> Search<'p> {
    /// A search for `path`, which begins with `/`, in trees of one `spelling`.
    pub(super) fn new(path: &'p str, spelling: Spelling, escapes: Escapes) -> Self {
        let escapes = if path.contains('%') { escapes } else { Escapes::Decoded };
        Self { path, spelling, escapes, captures: Captures::default() }
    }

    /// The first entry below `root` that the path fits and that `takes` says yes to.
    pub(super) fn first(
        &mut self,
        root: &Node,
        takes: &mut impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        self.descend(root, 0, takes)
    }

    /// The places of the names of what [`Search::first`] found.
    pub(super) fn captures(&self) -> Captures {
        self.captures
    }

    /// Searches below `node`, where the path is read up to the slash at `at`, or to its end.
    ///
    /// Recursion is as deep as the longest pattern, not as the path.
    fn descend(
        &mut self,
        node: &Node,
        at: usize,
        takes: &mut impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let left = self.path.get(at..).unwrap_or_default();
        let relative = left.strip_prefix('/').unwrap_or_default();
        if relative.is_empty() {
            // A pattern with the slash has just that path and goes before the one without.
            let with_slash = if left.is_empty() { &[][..] } else { &node.slash };
            let found = with_slash.iter().chain(&node.here).copied().find(|entry| takes(*entry));
            if found.is_some() {
                return found;
            }
        } else {
            // Segments are short: looking at each byte is quicker than a search for one.
            let length = relative.bytes().position(|byte| byte == b'/');
            let segment = length.and_then(|it| relative.get(..it)).unwrap_or(relative);
            let begin = at + 1;
            let end = begin + segment.len();
            if !node.literals.is_empty()
                && let Some(child) = node.literals.get(&self.key(segment))
                && let Some(found) = self.descend(child, end, takes)
            {
                return Some(found);
            }
            if let Some(child) = &node.name {
                self.captures.push(begin..end);
                if let Some(found) = self.descend(child, end, takes) {
                    return Some(found);
                }
                self.captures.pop();
            }
        }
        let found = node.rest.iter().copied().find(|entry| takes(*entry))?;
        self.captures.push(self.path.len() - relative.len()..self.path.len());
        Some(found)
    }

    /// A segment as the literals of the tree are spelled.
    fn key<'s>(&self, segment: &'s str) -> Cow<'s, str> {
        let decoded = match self.escapes {
            Escapes::Encoded => decode_once(segment),
            Escapes::Decoded => Cow::Borrowed(segment),
        };
        match decoded {
            Cow::Borrowed(text) => spell(text, self.spelling),
            Cow::Owned(text) => Cow::Owned(spell(&text, self.spelling).into_owned()),
        }
    }
}

fn spell(text: &str, spelling: Spelling) -> Cow<'_, str> {
    match spelling {
        Spelling::Exact => Cow::Borrowed(text),
        Spelling::Folded => fold(text),
    }
}

/// `text` without what any reader that ignores case might lose: `ſ` is `s`, `ß` is `ss`, the
/// Kelvin sign is `k`, `İ` is `i`. Texts that are equal in lower case are equal here.
fn fold(text: &str) -> Cow<'_, str> {
    const DOT_ABOVE: char = '\u{307}'; // what is left of `İ` beside the `i`
    if !text.is_ascii() {
        let folded = text.chars().flat_map(char::to_lowercase).flat_map(char::to_uppercase);
        let folded = folded.flat_map(char::to_lowercase);
        Cow::Owned(folded.filter(|letter| *letter != DOT_ABOVE).collect())
    } else if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// How near the literals of a pattern are to a path that fits it in a folded tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Likeness {
    /// Only when both are folded.
    Folded,
    /// But for lower and upper case of the same letters.
    ButForCase,
    /// To the letter.
    Exact,
}

/// How near the literals of `pattern`, which `path` fits in a folded tree, are to the path.
pub(super) fn likeness(pattern: &PathPattern, path: &str, escapes: Escapes) -> Likeness {
    let segments = path.strip_prefix('/').unwrap_or(path).split('/');
    let likenesses = pattern.segments.iter().zip(segments).filter_map(|(wanted, found)| {
        let Segment::Literal(wanted) = wanted else { return None };
        let found = match escapes {
            Escapes::Encoded => decode_once(found),
            Escapes::Decoded => Cow::Borrowed(found),
        };
        Some(if found == **wanted {
            Likeness::Exact
        } else if found.eq_ignore_ascii_case(wanted) || differs_in_case_only(&found, wanted) {
            Likeness::ButForCase
        } else {
            Likeness::Folded
        })
    });
    likenesses.min().unwrap_or(Likeness::Exact)
}

/// Asked of both cases: the Kelvin sign has the lower case of `k` and not its upper case.
fn differs_in_case_only(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase() && one.to_uppercase() == other.to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(patterns: &[&str]) -> Node {
        let mut root = Node::default();
        for (entry, pattern) in patterns.iter().enumerate() {
            root.insert(&PathPattern::parse(pattern).unwrap(), Spelling::Exact, entry);
        }
        root
    }

    /// All that fit, best first.
    fn order<'a>(patterns: &[&'a str], path: &str) -> Vec<&'a str> {
        let root = tree(patterns);
        let mut seen = Vec::new();
        let mut search = Search::new(path, Spelling::Exact, Escapes::Encoded);
        let found = search.first(&root, &mut |entry| {
            seen.push(patterns[entry]);
            false
        });
        assert_eq!(found, None);
        seen
    }

    #[test]
    fn literal_before_name_before_rest_segment_by_segment() {
        let patterns = [
            "/{*all}",
            "/{a}",
            "/a",
            "/a/{*r}",
            "/{a}/b",
            "/a/{b}",
            "/a/b",
            "/{a}/{b}",
            "/{a}/{*r}",
            "/a/",
            "/",
        ];
        assert_eq!(
            order(&patterns, "/a/b"),
            ["/a/b", "/a/{b}", "/a/{*r}", "/{a}/b", "/{a}/{b}", "/{a}/{*r}", "/{*all}"]
        );
        assert_eq!(order(&patterns, "/a"), ["/a", "/a/{*r}", "/{a}", "/{a}/{*r}", "/{*all}"]);
        assert_eq!(
            order(&patterns, "/a/"),
            ["/a/", "/a", "/a/{*r}", "/{a}", "/{a}/{*r}", "/{*all}"]
        );
        assert_eq!(order(&patterns, "/x/y/z"), ["/{a}/{*r}", "/{*all}"]);
        assert_eq!(order(&patterns, "/"), ["/", "/{*all}"]);
    }

    #[test]
    fn places_are_those_of_the_pattern_that_was_found() {
        for (pattern, path, places) in [
            ("/f/{*r}", "/f", &[""][..]),
            ("/f/{*r}", "/f/", &[""]),
            ("/f/{*r}", "/f/a/b/", &["a/b/"]),
            ("/{*r}", "/", &[""]),
            ("/{a}/x/{b}", "/1/x/2/", &["1", "2"]),
            ("/{a}/{*r}", "/%20a/b%2Fc", &["%20a", "b%2Fc"]),
        ] {
            let root = tree(&["/{a}/x/{b}/never", pattern]);
            let mut search = Search::new(path, Spelling::Exact, Escapes::Encoded);
            assert_eq!(search.first(&root, &mut |_| true), Some(1), "{pattern} {path}");
            let captures = search.captures();
            for (index, place) in places.iter().enumerate() {
                assert_eq!(captures.text(index, path), Some(*place), "{pattern} {path}");
            }
            assert_eq!(captures.text(places.len(), path), None);
        }
    }

    #[test]
    fn folding_loses_at_least_what_lower_case_does() {
        for (text, folded) in [
            ("Acce\u{17F}\u{17F}", "access"),
            ("\u{212A}EYS", "keys"),
            ("\u{130}D", "id"),
            ("\u{131}d", "id"),
            ("stra\u{DF}e", "strasse"),
            ("STRA\u{1E9E}E", "strasse"),
            ("\u{3A3}\u{391}\u{3C2}", "\u{3C3}\u{3B1}\u{3C3}"),
            ("caf\u{C9}", "caf\u{E9}"),
        ] {
            assert_eq!(fold(text), folded, "{text}");
        }
        for letter in '\0'..='\u{1FFFF}' {
            let letter = letter.to_string();
            assert_eq!(fold(&letter.to_lowercase()), fold(&letter), "{letter:?}");
        }
    }

    /// Up to [`FEW`] literals are looked through, more stand in a table: what was there moves with all
    /// that is behind it.
    #[test]
    fn literals_are_found_however_many_there_are() {
        let literals: Vec<_> = (0..3 * FEW).map(|number| format!("l{number}")).collect();
        for count in 0..=literals.len() {
            let literals = &literals[..count];
            let mut root = Node::default();
            // Twice: what is known gets no second node, also where one more would be too many.
            for pass in [0, 1] {
                for (number, literal) in literals.iter().enumerate() {
                    let pattern = PathPattern::parse(&format!("/{literal}/x")).unwrap();
                    root.insert(&pattern, Spelling::Exact, 2 * number + pass);
                }
            }
            assert_eq!(matches!(root.literals, Literals::Many(_)), count > FEW, "{count}");
            assert_eq!(root.literals.is_empty(), count == 0);
            assert!(root.literals.get("other").is_none(), "{count}");

            for (number, literal) in literals.iter().enumerate() {
                let mut seen = Vec::new();
                let path = format!("/{literal}/x");
                let mut search = Search::new(&path, Spelling::Exact, Escapes::Encoded);
                search.first(&root, &mut |entry| {
                    seen.push(entry);
                    false
                });
                assert_eq!(seen, [2 * number, 2 * number + 1], "{literal} of {count}");
            }
            let mut visited = Vec::new();
            root.each_leaf(&mut |leaf| visited.extend(leaf.iter().copied()));
            visited.sort_unstable();
            assert_eq!(visited, (0..2 * count).collect::<Vec<_>>());

            let mut taken: Vec<_> =
                root.take_literals().map(|(literal, _)| literal.into_string()).collect();
            taken.sort_unstable();
            let mut due = literals.to_vec();
            due.sort_unstable();
            assert_eq!(taken, due);
            assert!(root.literals.is_empty());
        }
    }

    #[test]
    fn segments_fit_whole() {
        for (pattern, path) in [
            ("/api", "/apiary"),
            ("/api/{*r}", "/apiary"),
            ("/api/", "/api"),
            ("/{a}", "/"),
            ("/a/{b}", "/a/"),
            ("/a/{b}", "/a"),
            ("/a/b", "/a%2Fb"),
            ("/a", "/A"),
        ] {
            assert_eq!(order(&[pattern], path), [""; 0], "{pattern} {path}");
        }
    }
}
