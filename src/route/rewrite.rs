//! The path that the upstream gets, made from the one that was matched.
//!
//! Checked against the route's own pattern when the file is read, so that nothing is left to
//! go wrong with a request: a prefix is stripped only where every path of the route has it, and
//! a template only uses names that the pattern has. The outcome is as canonical as the path.

mod inverse;

pub use inverse::Known;

use std::borrow::Cow;

use thiserror::Error;

use crate::route::canonical::canonicalise;
use crate::route::captures::Captures;
use crate::route::pattern::{PathPattern, PatternError, Segment};

/// What becomes of a path before it is forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rewrite {
    /// It goes on as it is.
    #[default]
    Keep,
    /// Segments at its beginning are taken off.
    StripPrefix(StripPrefix),
    /// It is made anew.
    Template(Template),
}

/// How many segments are taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripPrefix {
    segments: usize,
}

/// Literal text and the places of names, in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    /// The number of a name of the pattern.
    Capture(usize),
}

/// What is wrong with a `rewrite`, and what to write.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RewriteError {
    /// The prefix is no path.
    #[error("`strip_prefix` is not a path: {0}")]
    Prefix(#[source] PatternError),
    /// Some path of the route does not begin with the prefix.
    #[error(
        "paths of `{pattern}` do not all begin with the segments of `{prefix}`; strip what `match.path` begins with"
    )]
    NotAPrefix {
        /// The prefix.
        prefix: String,
        /// The route's path.
        pattern: String,
    },
    /// A name that the route's path does not have.
    #[error("`{{{name}}}` is not a name of `{pattern}`{}", suggestion(.nearest.as_deref()))]
    UnknownName {
        /// The name.
        name: String,
        /// The route's path.
        pattern: String,
        /// The name that was probably meant.
        nearest: Option<String>,
    },
    /// A brace that does not belong to a name.
    #[error(
        "`{0}` has a brace without its other half; write `{{name}}`, or `%7B` and `%7D` for literal braces"
    )]
    Braces(String),
    /// A rest, which may be empty, that is glued to other text.
    #[error(
        "`{{{0}}}` stands for the rest of the path, which may be empty; put it between slashes"
    )]
    RestInSegment(String),
    /// Dots that a name's text may turn into a dot segment.
    #[error(
        "`{0}` has only dots beside a name, and `;x` or `%2Fx` in its place makes a dot segment of them; put a letter, a digit or a slash between"
    )]
    DotsBesideName(String),
    /// What is not a canonical path.
    #[error("`{text}` does not make a path: {why}")]
    NotAPath {
        /// The template.
        text: String,
        /// What is wrong and what to write.
        why: String,
    },
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{{{name}}}`?")).unwrap_or_default()
}

impl Rewrite {
    /// `strip_prefix: /graph`: takes the segments of `prefix` off paths of `pattern`.
    ///
    /// # Errors
    ///
    /// A prefix that is no path, or that `pattern` does not begin with.
    pub fn strip_prefix(prefix: &str, pattern: &PathPattern) -> Result<Self, RewriteError> {
        let parsed = PathPattern::parse(prefix).map_err(RewriteError::Prefix)?;
        let fits = parsed.segments.len() <= pattern.segments.len()
            && parsed
                .segments
                .iter()
                .zip(&pattern.segments)
                .all(|(one, other)| one == other && !matches!(one, Segment::Rest(_)));
        if !fits {
            return Err(RewriteError::NotAPrefix {
                prefix: prefix.to_owned(),
                pattern: pattern.text().to_owned(),
            });
        }
        Ok(match parsed.segments.len() {
            0 => Self::Keep,
            segments => Self::StripPrefix(StripPrefix { segments }),
        })
    }

    /// `path: "/v1.0/{rest}"`: makes the path from text and names of `pattern`.
    ///
    /// # Errors
    ///
    /// Names that `pattern` does not have, and what would not be a canonical path.
    pub fn template(text: &str, pattern: &PathPattern) -> Result<Self, RewriteError> {
        let mut pieces = Vec::new();
        // With an `x` for each name, the template itself must be a canonical path; and dots of
        // its own must not become a segment, beside a text that lax readers take for nothing.
        let mut sample = String::new();
        let mut hostile = String::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (literal, after) = rest.split_at_checked(open).unwrap_or((rest, ""));
            let (name, tail) = after
                .strip_prefix('{')
                .and_then(|after| after.split_once('}'))
                .ok_or_else(|| RewriteError::Braces(text.to_owned()))?;
            sample.push_str(literal);
            hostile.push_str(literal);
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.into()));
            }
            // The star of `{*rest}` is tolerated: it is how the name stands in `match.path`.
            let (index, takes_rest) = find_name(name.trim_start_matches('*'), pattern)?;
            let glued = !sample.ends_with('/') || !(tail.is_empty() || tail.starts_with('/'));
            if takes_rest && glued {
                return Err(RewriteError::RestInSegment(name.to_owned()));
            }
            sample.push('x');
            hostile.push_str("%2F;x%2F");
            pieces.push(Piece::Capture(index));
            rest = tail;
        }
        sample.push_str(rest);
        hostile.push_str(rest);
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.into()));
        }
        check_sample(&sample, text)?;
        canonicalise(&hostile).map_err(|_hidden| RewriteError::DotsBesideName(text.to_owned()))?;
        Ok(Self::Template(Template { pieces }))
    }

    /// What it makes of the paths of `pattern`, with the names of that.
    pub fn described(&self, pattern: &PathPattern) -> String {
        match self {
            Self::Keep => pattern.text().to_owned(),
            Self::StripPrefix(prefix) => prefix.strip(pattern.text()).to_owned(),
            Self::Template(template) => {
                let text = |piece: &Piece| match piece {
                    Piece::Literal(text) => text.to_string(),
                    Piece::Capture(index) => {
                        let name = pattern.names().nth(*index).unwrap_or_default();
                        format!("{{{name}}}")
                    }
                };
                template.pieces.iter().map(text).collect()
            }
        }
    }

    /// The path for the upstream; always begins with `/`.
    ///
    /// `path` is [`Target::path`](crate::route::Target::path) and `captures` what was found for it.
    pub fn apply<'p>(&self, path: &'p str, captures: &Captures) -> Cow<'p, str> {
        match self {
            Self::Keep => Cow::Borrowed(path),
            Self::StripPrefix(prefix) => Cow::Borrowed(prefix.strip(path)),
            Self::Template(template) => Cow::Owned(template.fill(path, captures)),
        }
    }
}

fn find_name(name: &str, pattern: &PathPattern) -> Result<(usize, bool), RewriteError> {
    let mut names = pattern.segments.iter().filter_map(|segment| match segment {
        Segment::Literal(_) => None,
        Segment::Name(name) => Some((&**name, false)),
        Segment::Rest(name) => Some((&**name, true)),
    });
    match names.clone().position(|(known, _)| known == name) {
        Some(index) => Ok((index, names.nth(index).is_some_and(|(_, takes_rest)| takes_rest))),
        None => Err(RewriteError::UnknownName {
            name: name.to_owned(),
            pattern: pattern.text().to_owned(),
            nearest: nearest(name, names.map(|(known, _)| known)),
        }),
    }
}

/// The known name most like `name`, if one is like it at all.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 3))
        .min()
        .map(|(_, known)| known.to_owned())
}

fn check_sample(sample: &str, text: &str) -> Result<(), RewriteError> {
    let wrong = |why: String| RewriteError::NotAPath { text: text.to_owned(), why };
    let canonical = canonicalise(sample).map_err(|fault| {
        wrong(format!(
            "{fault}; write a path that begins with `/`, with `%20` for a space and no query"
        ))
    })?;
    if !sample.is_ascii() || sample.contains(['"', '<', '>', '^', '`', '|']) {
        return Err(wrong("write characters that a path can't hold as escapes".to_owned()));
    }
    match canonical.respelled {
        None => Ok(()),
        Some(_) => Err(wrong(
            "it has dot segments, empty segments or needless escapes; write it without".to_owned(),
        )),
    }
}

impl StripPrefix {
    /// `path` from the slash on that ends the prefix. Counted in segments, so that every
    /// spelling that the route takes is stripped alike.
    fn strip<'p>(&self, path: &'p str) -> &'p str {
        path.match_indices('/').nth(self.segments).and_then(|(at, _)| path.get(at..)).unwrap_or("/")
    }
}

impl Template {
    fn fill(&self, path: &str, captures: &Captures) -> String {
        let mut filled = String::with_capacity(path.len());
        for piece in &self.pieces {
            let text = match piece {
                Piece::Literal(text) => text,
                Piece::Capture(index) => captures.text(*index, path).unwrap_or_default(),
            };
            // An empty rest, or one that ends with a slash, leaves no empty segment behind.
            let text = if filled.ends_with('/') { text.trim_start_matches('/') } else { text };
            filled.push_str(text);
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::trie::{Escapes, Node, Search, Spelling};

    fn apply(rewrite: &Rewrite, pattern: &PathPattern, path: &str) -> String {
        let mut root = Node::default();
        root.insert(pattern, Spelling::Folded, 0);
        let mut search = Search::new(path, Spelling::Folded, Escapes::Encoded);
        assert_eq!(search.first(&root, &mut |_| true), Some(0), "{path}");
        rewrite.apply(path, &search.captures()).into_owned()
    }

    #[test]
    fn a_prefix_is_stripped_at_segment_boundaries() {
        for (pattern, prefix, path, out) in [
            ("/graph/{*rest}", "/graph", "/graph/me", "/me"),
            ("/graph/{*rest}", "/graph", "/graph", "/"),
            ("/graph/{*rest}", "/graph", "/graph/", "/"),
            ("/graph/{*rest}", "/graph/", "/graph/me/", "/me/"),
            ("/graph/{*rest}", "/graph", "/GRAPH/graph", "/graph"),
            ("/café/{*rest}", "/caf%C3%A9", "/caf%c3%a9/x", "/x"),
            ("/a/b/{id}", "/a/b", "/a/b/1", "/1"),
            ("/a/b/{id}", "/a", "/a/b/1/", "/b/1/"),
            ("/{t}/a/{*r}", "/{t}/a", "/x/a/y", "/y"),
            ("/a", "/a", "/a", "/"),
            ("/a", "/", "/a", "/a"),
        ] {
            let pattern = PathPattern::parse(pattern).unwrap();
            let rewrite = Rewrite::strip_prefix(prefix, &pattern).unwrap();
            assert_eq!(apply(&rewrite, &pattern, path), out, "{prefix} of {path}");
        }
    }

    #[test]
    fn a_prefix_that_not_every_path_has_is_refused() {
        for (pattern, prefix) in [
            ("/graph/{*rest}", "/gra"),
            ("/graph/{*rest}", "/graph/v1"),
            ("/graph/{*rest}", "/graph/{*rest}"),
            ("/{*rest}", "/graph"),
            ("/{a}/{*rest}", "/graph"),
            ("/a", "/a/b"),
            ("/a", "a"),
            ("/a", "/*"),
        ] {
            let pattern = PathPattern::parse(pattern).unwrap();
            assert!(Rewrite::strip_prefix(prefix, &pattern).is_err(), "{prefix}");
        }
    }

    #[test]
    fn a_template_is_filled_without_leaving_empty_segments() {
        for (pattern, template, path, out) in [
            ("/graph/{*rest}", "/v1.0/{rest}", "/graph/me/x", "/v1.0/me/x"),
            ("/graph/{*rest}", "/v1.0/{rest}", "/graph", "/v1.0/"),
            ("/graph/{*rest}", "/v1.0/{*rest}", "/graph/a/", "/v1.0/a/"),
            ("/graph/{*rest}", "/{rest}/end", "/graph/", "/end"),
            ("/graph/{*rest}", "/{rest}/end", "/graph/a/", "/a/end"),
            ("/graph/{*rest}", "/{rest}", "/graph", "/"),
            ("/{a}/{b}", "/{b}/x-{a}.json", "/1/2", "/2/x-1.json"),
            ("/{a}", "/fixed", "/1", "/fixed"),
            ("/{a}", "/{a}{a}", "/%20", "/%20%20"),
            ("/{a}", "/v1.{a}.json", "/;x", "/v1.;x.json"),
            ("/{a}", "/...{a}", "/;x", "/...;x"),
            ("/{a}", "/.x{a}", "/%2Fx", "/.x%2Fx"),
        ] {
            let pattern = PathPattern::parse(pattern).unwrap();
            let rewrite = Rewrite::template(template, &pattern).unwrap();
            assert_eq!(apply(&rewrite, &pattern, path), out, "{template} of {path}");
        }
    }

    #[test]
    fn a_template_that_is_no_path_says_what_to_write() {
        let pattern = PathPattern::parse("/graph/{version}/{*rest}").unwrap();
        for (template, hint) in [
            ("/{rset}", "did you mean `{rest}`?"),
            ("/{versions}", "did you mean `{version}`?"),
            ("/{zzzzzzzz}", "is not a name of `/graph/{version}/{*rest}`"),
            ("/{rest", "other half"),
            ("/rest}", "other half"),
            ("/a{rest}", "between slashes"),
            ("/{rest}a", "between slashes"),
            ("{rest}", "between slashes"),
            ("", "begins with `/`"),
            ("v1.0/{rest}", "begins with `/`"),
            ("/a/../{rest}", "dot segments"),
            ("/a//{rest}", "empty segments"),
            ("/%61", "needless escapes"),
            ("/a?b={rest}", "between slashes"),
            ("/a?b", "no query"),
            ("/a b", "%20"),
            ("/é", "escapes"),
            ("/..{version}", "only dots beside a name"),
            ("/.{version}/x", "only dots beside a name"),
            ("/{version}..", "only dots beside a name"),
            ("/{version}.;v=1", "only dots beside a name"),
            ("/{version}..{version}", "only dots beside a name"),
            ("/%2E{version}", "needless escapes"),
            ("/a%2F..{version}", "only dots beside a name"),
        ] {
            let error = Rewrite::template(template, &pattern).unwrap_err().to_string();
            assert!(error.contains(hint), "{template}: {error}");
        }
    }
}
