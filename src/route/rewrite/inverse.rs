//! The other direction of a `rewrite`: from a path of the upstream to the one that a caller of the
//! gateway has to write, so that it is forwarded as that path.
//!
//! What is found here is a proposal: several paths may lead to one, some to none, and another
//! route may take it. Whoever uses it looks it up in the table and compares what comes out.

use percent_encoding::utf8_percent_encode;

use super::{Piece, Rewrite, Template};
use crate::route::captures::Captures;
use crate::route::pattern::{ESCAPED_IN_SEGMENT, PathPattern, Segment};

/// A request by the same route: what it had for the names that its rewrite drops.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its canonical path.
    pub path: &'a str,
    /// What it had for the names.
    pub captures: &'a Captures,
}

impl Rewrite {
    /// A path that a route of `pattern` would forward as `forwarded`, which begins with `/` and
    /// has no query. `None` where none can be told: the rewrite drops a name and `known` does
    /// not have it, or it makes no such path.
    pub fn invert(
        &self,
        forwarded: &str,
        pattern: &PathPattern,
        known: Option<Known<'_>>,
    ) -> Option<String> {
        let mut names = vec![None; pattern.names().count()];
        let (segments, end) = match self {
            Self::Keep => return Some(forwarded.to_owned()),
            Self::StripPrefix(prefix) => (pattern.segments.get(..prefix.segments)?, forwarded),
            Self::Template(template) => {
                template.read(forwarded, pattern, &mut names)?;
                (pattern.segments.as_slice(), if pattern.slash_at_end { "/" } else { "" })
            }
        };
        for (index, name) in names.iter_mut().enumerate().filter(|(_, name)| name.is_none()) {
            let text = known.and_then(|known| known.captures.text(index, known.path));
            *name = text.map(str::to_owned);
        }
        let mut path = spell(segments, &names)?;
        path.push_str(end);
        Some(if path.is_empty() { "/".to_owned() } else { path })
    }
}

/// The path that these segments stand for.
fn spell(segments: &[Segment], names: &[Option<String>]) -> Option<String> {
    let mut names = names.iter();
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        match segment {
            Segment::Literal(text) => {
                path.extend(utf8_percent_encode(text, ESCAPED_IN_SEGMENT));
            }
            Segment::Name(_) => path.push_str(names.next()?.as_ref().filter(|it| !it.is_empty())?),
            Segment::Rest(_) => path.push_str(names.next()?.as_deref()?.trim_start_matches('/')),
        }
    }
    Some(path)
}

/// A part of a segment that a template makes.
enum Part<'t> {
    Text(&'t str),
    Name(usize),
}

impl Template {
    /// Reads from a path that this may have made what the names stood for.
    fn read(&self, path: &str, pattern: &PathPattern, names: &mut [Option<String>]) -> Option<()> {
        let made = self.segments();
        let came: Vec<&str> = path.split('/').collect();
        let rest = made.iter().enumerate().find_map(|(at, segment)| match segment.as_slice() {
            [Part::Name(index)] if takes_rest(pattern, *index) => Some((at, *index)),
            _ => None,
        });
        let Some((at, rest)) = rest else { return read_all(&made, &came, names) };
        // The rest takes what the segments before and behind it leave over.
        let behind = made.len().checked_sub(at + 1)?;
        let until = came.len().checked_sub(behind)?;
        // An empty rest at the end leaves the slash before it.
        if until == at && behind == 0 {
            return None;
        }
        set(names, rest, &came.get(at..until)?.join("/"))?;
        read_all(made.get(..at)?, came.get(..at)?, names)?;
        read_all(made.get(at + 1..)?, came.get(until..)?, names)
    }

    /// What it makes, segment by segment; the first is the nothing before the first slash.
    fn segments(&self) -> Vec<Vec<Part<'_>>> {
        let mut segments = Vec::new();
        let mut segment = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Capture(index) => segment.push(Part::Name(*index)),
                Piece::Literal(text) => {
                    for (number, text) in text.split('/').enumerate() {
                        if number > 0 {
                            segments.push(std::mem::take(&mut segment));
                        }
                        if !text.is_empty() {
                            segment.push(Part::Text(text));
                        }
                    }
                }
            }
        }
        segments.push(segment);
        segments
    }
}

fn takes_rest(pattern: &PathPattern, index: usize) -> bool {
    let mut names = pattern.segments.iter().filter(|it| !matches!(it, Segment::Literal(_)));
    matches!(names.nth(index), Some(Segment::Rest(_)))
}

fn read_all(made: &[Vec<Part<'_>>], came: &[&str], names: &mut [Option<String>]) -> Option<()> {
    if made.len() != came.len() {
        return None;
    }
    made.iter().zip(came).try_for_each(|(made, came)| read_segment(made, came, names))
}

/// Where names stand side by side any division will do: together they make the same text.
fn read_segment(made: &[Part<'_>], came: &str, names: &mut [Option<String>]) -> Option<()> {
    let (mut made, mut came) = (made, came);
    while let Some((part, behind)) = made.split_first() {
        match part {
            Part::Text(text) => came = came.strip_prefix(text)?,
            Part::Name(index) => {
                let first = came.chars().next()?.len_utf8();
                let end = match behind {
                    [] => came.len(),
                    [Part::Name(_), ..] => first,
                    // The last text of a segment is at its end.
                    [Part::Text(text)] => came.strip_suffix(text)?.len().max(first),
                    [Part::Text(text), ..] => first + came.get(first..)?.find(text)?,
                };
                let (name, rest) = came.split_at_checked(end)?;
                set(names, *index, name)?;
                came = rest;
            }
        }
        made = behind;
    }
    came.is_empty().then_some(())
}

/// A name that stands twice is the same text twice.
fn set(names: &mut [Option<String>], index: usize, text: &str) -> Option<()> {
    let name = names.get_mut(index)?;
    if let Some(before) = name {
        return (before == text).then_some(());
    }
    *name = Some(text.to_owned());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::trie::{Escapes, Node, Search, Spelling};
    use proptest::prelude::*;
    use proptest::sample::select;

    fn captures(pattern: &PathPattern, path: &str) -> Option<Captures> {
        let mut root = Node::default();
        root.insert(pattern, Spelling::Exact, 0);
        let mut search = Search::new(path, Spelling::Exact, Escapes::Encoded);
        search.first(&root, &mut |_| true)?;
        Some(search.captures())
    }

    /// What the route forwards for the path that the inverse proposes.
    fn there_and_back(rewrite: &Rewrite, pattern: &PathPattern, link: &str) -> Option<String> {
        let path = rewrite.invert(link, pattern, None)?;
        Some(rewrite.apply(&path, &captures(pattern, &path)?).into_owned())
    }

    fn made(pattern: &str, rewrite: &str) -> (PathPattern, Rewrite) {
        let pattern = PathPattern::parse(pattern).unwrap();
        let rewrite = match rewrite.split_once(' ') {
            None => Rewrite::Keep,
            Some(("strip", text)) => Rewrite::strip_prefix(text, &pattern).unwrap(),
            Some((_, text)) => Rewrite::template(text, &pattern).unwrap(),
        };
        (pattern, rewrite)
    }

    #[test]
    fn the_path_that_a_caller_writes() {
        for (pattern, rewrite, link, path) in [
            ("/graph/{*rest}", "strip /graph", "/v1.0/me", Some("/graph/v1.0/me")),
            ("/graph/{*rest}", "strip /graph", "/", Some("/graph/")),
            ("/{*rest}", "keep", "/v1.0/me/", Some("/v1.0/me/")),
            ("/café x/{*rest}", "strip /café x", "/a", Some("/caf%C3%A9%20x/a")),
            ("/g/{*rest}", "to /v1.0/{rest}", "/v1.0/me/x", Some("/g/me/x")),
            ("/g/{*rest}", "to /v1.0/{rest}", "/v1.0/", Some("/g/")),
            ("/g/{*rest}", "to /v1.0/{rest}", "/v1.0/a/", Some("/g/a/")),
            ("/g/{*rest}", "to /v1.0/{rest}", "/v1.0", None),
            ("/g/{*rest}", "to /v1.0/{rest}", "/beta/me", None),
            ("/g/{*rest}", "to /a/{rest}/end", "/a/end", Some("/g/")),
            ("/g/{*rest}", "to /a/{rest}/end", "/a/b/c/end", Some("/g/b/c")),
            ("/g/{*rest}", "to /a/{rest}/end", "/a", None),
            ("/{a}/{b}", "to /{b}/x-{a}.json", "/2/x-1.json.json", Some("/1.json/2")),
            ("/{a}/{b}", "to /{b}/x-{a}.json", "/2/x-.json", None),
            ("/{a}", "to /{a}/{a}", "/1/1", Some("/1")),
            ("/{a}", "to /{a}/{a}", "/1/2", None),
            ("/{a}/", "to /{a}", "/1", Some("/1/")),
            ("/{a}/x", "to /{a}", "/", None),
            ("/{a}/x", "to /fixed", "/fixed", None),
            ("/{t}/g/{*rest}", "strip /{t}/g", "/me", None),
        ] {
            let (pattern, rewrite) = made(pattern, rewrite);
            let found = rewrite.invert(link, &pattern, None);
            assert_eq!(found.as_deref(), path, "{} of {link}", pattern.text());
            if found.is_some() {
                assert_eq!(there_and_back(&rewrite, &pattern, link).as_deref(), Some(link));
            }
        }
    }

    #[test]
    fn names_that_the_rewrite_drops_are_those_of_the_request() {
        let (pattern, rewrite) = made("/{t}/g/{*rest}", "strip /{t}/g");
        let path = "/acme/g/v1.0/me";
        let captures = captures(&pattern, path).unwrap();
        let known = Some(Known { path, captures: &captures });
        let found = rewrite.invert("/v1.0/users", &pattern, known);
        assert_eq!(found.as_deref(), Some("/acme/g/v1.0/users"));
    }

    proptest! {
        /// Whatever a route forwards, the inverse finds a path that is forwarded alike; and of
        /// any path at all, the inverse is right or says that it has none.
        #[test]
        fn an_inverse_is_right_or_there_is_none(
            (pattern, rewrite) in select(vec![
                ("/g/{*rest}", "strip /g"), ("/g/{*rest}", "to /v1.0/{rest}"), ("/{*rest}", "keep"),
                ("/g/{*rest}", "to /a/{rest}/end"), ("/{a}/{b}", "to /{b}/x-{a}.json"),
                ("/g/{a}/{*r}", "to /{r}"), ("/{a}/{b}/{c}", "to /{a}-{b}/{c}"),
                ("/{a}/{b}", "to /x/{a}{b}"), ("/a b/{n}/", "strip /a b"),
            ]),
            path in "/(g|a|v1\\.0|x-1\\.json|%20|a%20b|1-2-3|end)?(/(g|a|x|1-2|%C3%A9|'x'|end|\\.json)){0,4}/?",
        ) {
            let (pattern, rewrite) = made(pattern, rewrite);
            if let Some(path) = rewrite.invert(&path, &pattern, None)
                && let Some(captures) = captures(&pattern, &path)
                && !path.contains("//")
            {
                let forwarded = rewrite.apply(&path, &captures);
                let again = rewrite.invert(&forwarded, &pattern, None);
                prop_assert!(again.is_some(), "{path} is forwarded as {forwarded}");
            }
            if let Some(captures) = captures(&pattern, &path).filter(|_| !path.contains("//")) {
                let forwarded = rewrite.apply(&path, &captures).into_owned();
                let known = Some(Known { path: &path, captures: &captures });
                let back = rewrite.invert(&forwarded, &pattern, known);
                prop_assert!(back.is_some(), "{path} is forwarded as {forwarded}");
            }
        }
    }
}
