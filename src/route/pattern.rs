//! The path of a route: exact segments, `{name}` for one segment, `{*name}` for the rest.
//!
//! A pattern that could never match is an error, not a surprise: requests are canonical when
//! they are matched, so a pattern with dot segments or empty ones waits for ever. It does not
//! know other routes; how patterns rank is the business of `trie.rs`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use thiserror::Error;

use crate::limits::{MAX_PATTERN_NAMES, MAX_PATTERN_SEGMENTS};
use crate::route::canonical::{canonicalise, decode_once};

/// A path that a route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    pub(super) segments: Vec<Segment>,
    /// It ends with a slash of its own; one after `{*name}` can't.
    pub(super) slash_at_end: bool,
}

/// One segment of a [`PathPattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// This text, with its escapes decoded.
    Literal(Box<str>),
    /// `{name}`: one segment, never empty.
    Name(Box<str>),
    /// `{*name}`: what is left, perhaps nothing; the last one.
    Rest(Box<str>),
}

impl Segment {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::Name(name) | Self::Rest(name) => Some(name),
        }
    }
}

/// What a segment can't hold as it is: all but unreserved characters, `sub-delims`, `:` and `@`
/// (RFC 3986 §3.3). Non-ASCII is escaped anyway.
pub(crate) const ESCAPED_IN_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// What is wrong with a pattern of a route, and what to write.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// The path does not begin with a slash.
    #[error("`{0}` does not begin with `/`; write `/{0}`")]
    NotAbsolute(String),
    /// A whole URL.
    #[error("`{0}` is a URL; write its path here, and its host in `hosts`")]
    Url(String),
    /// A `{*name}` that is not the last segment.
    #[error(
        "`{0}` takes the rest of the path and can only be its last segment; write `{{name}}` for one segment"
    )]
    RestNotLast(String),
    /// Braces that are not exactly `{name}` or `{*name}` as a whole segment.
    #[error(
        "segment `{0}` has braces but is not `{{name}}` or `{{*name}}`; a name stands for a whole segment, and a literal brace is written `%7B` or `%7D`"
    )]
    Braces(String),
    /// A name that is not an identifier.
    #[error("`{0}` is not a name; write letters, digits, `_` and `-`, with a letter or `_` first")]
    Name(String),
    /// The same name twice.
    #[error("name `{0}` stands twice in the path; give each its own")]
    Repeated(String),
    /// A bare `*` segment.
    #[error(
        "`*` is no wildcard in a path; write `{{*rest}}` for the rest or `{{name}}` for one segment (a literal star is `%2A`)"
    )]
    Star,
    /// A path that no request has once it is canonical.
    #[error("no request has the path `{text}` once it is cleaned: {why}")]
    NeverMatches {
        /// The pattern, or its segment.
        text: String,
        /// What is wrong and what to write.
        why: String,
    },
    /// More segments or names than a lookup goes through.
    #[error("the path has {found} {what}; at most {limit} are possible")]
    TooMany {
        /// `segments` or `names`.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// What is no host, or no pattern of hosts.
    #[error("host `{text}`: {why}")]
    Host {
        /// The text from the file.
        text: String,
        /// What is wrong and what to write.
        why: &'static str,
    },
}

impl PathPattern {
    /// Reads `/exact`, `/users/{id}`, `/files/{*rest}`.
    ///
    /// Literal text may be written with or without escapes: `/caf%C3%A9` and `/café` are the same.
    ///
    /// # Errors
    ///
    /// What can't be a pattern, and what could never match.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let Some(relative) = text.strip_prefix('/') else {
            return Err(if text.contains("://") {
                PatternError::Url(text.to_owned())
            } else {
                PatternError::NotAbsolute(text.to_owned())
            });
        };
        let most = relative.bytes().filter(|byte| *byte == b'/').count() + 1;
        let segments = Vec::with_capacity(most);
        let mut pattern = Self { text: text.to_owned(), segments, slash_at_end: false };
        let mut pieces = relative.split('/').peekable();
        while let Some(piece) = pieces.next() {
            let last = pieces.peek().is_none();
            if piece.is_empty() && last {
                // `/` itself has no segments and no slash beyond its first.
                pattern.slash_at_end = !pattern.segments.is_empty();
                break;
            }
            pattern.segments.push(segment(piece)?);
        }
        pattern.check()?;
        Ok(pattern)
    }

    /// The names, in the order in which they stand in the path.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(Segment::name)
    }

    /// The text of the segments before the first name, decoded.
    pub fn literal_prefix(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map_while(|segment| match segment {
            Segment::Literal(text) => Some(&**text),
            Segment::Name(_) | Segment::Rest(_) => None,
        })
    }

    /// Whether they take the same paths: they differ in the names alone.
    pub fn takes_the_same_as(&self, other: &Self) -> bool {
        let same = |(one, other): (&Segment, &Segment)| match (one, other) {
            (Segment::Literal(one), Segment::Literal(other)) => one == other,
            (Segment::Name(_), Segment::Name(_)) | (Segment::Rest(_), Segment::Rest(_)) => true,
            (Segment::Literal(_) | Segment::Name(_) | Segment::Rest(_), _) => false,
        };
        self.slash_at_end == other.slash_at_end
            && self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(same)
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn check(&self) -> Result<(), PatternError> {
        let names_before =
            |index: usize| self.segments.iter().take(index).filter_map(Segment::name);
        for (index, segment) in self.segments.iter().enumerate() {
            let name = match segment {
                Segment::Literal(_) => continue,
                Segment::Name(name) => name,
                Segment::Rest(name) => {
                    if index + 1 < self.segments.len() || self.slash_at_end {
                        return Err(PatternError::RestNotLast(format!("{{*{name}}}")));
                    }
                    name
                }
            };
            if names_before(index).any(|other| other == &**name) {
                return Err(PatternError::Repeated(name.to_string()));
            }
        }
        for (what, found, limit) in [
            ("segments", self.segments.len(), MAX_PATTERN_SEGMENTS),
            ("names", self.names().count(), MAX_PATTERN_NAMES),
        ] {
            if found > limit {
                return Err(PatternError::TooMany { what, found, limit });
            }
        }
        Ok(())
    }
}

fn segment(text: &str) -> Result<Segment, PatternError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !text.is_empty() && text.bytes().all(is_plain) {
        return Ok(Segment::Literal(text.into()));
    }
    if let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'))
        && !has_brace(inner)
    {
        return match inner.strip_prefix('*') {
            Some(inner) => Ok(Segment::Rest(name(inner, text)?)),
            None => Ok(Segment::Name(name(inner, text)?)),
        };
    }
    if has_brace(text) {
        return Err(PatternError::Braces(text.to_owned()));
    }
    if matches!(text, "*" | "**") {
        return Err(PatternError::Star);
    }
    literal(text).map(Segment::Literal)
}

fn has_brace(text: &str) -> bool {
    text.bytes().any(|byte| matches!(byte, b'{' | b'}'))
}

fn name(inner: &str, text: &str) -> Result<Box<str>, PatternError> {
    let starts_well = inner.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let goes_on_well =
        inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if starts_well && goes_on_well {
        Ok(inner.into())
    } else {
        Err(PatternError::Name(text.to_owned()))
    }
}

/// The decoded text of a literal segment that a canonical path can have.
fn literal(text: &str) -> Result<Box<str>, PatternError> {
    let never = |why: String| PatternError::NeverMatches { text: text.to_owned(), why };
    match text {
        "" => return Err(never("empty segments are merged; write single slashes".to_owned())),
        "." | ".." => {
            return Err(never("dot segments are resolved; write the path they lead to".to_owned()));
        }
        _ => {}
    }
    // A space is the one character that people write raw in files and callers never can.
    let spelled = if text.contains(' ') {
        format!("/{}", text.replace(' ', "%20"))
    } else {
        ["/", text].concat()
    };
    let canonical = canonicalise(&spelled).map_err(|fault| {
        never(format!("{fault}; write what callers send, with `%` as `%25`, and no query"))
    })?;
    let canonical = canonical.respelled.unwrap_or(spelled);
    let segment = canonical.trim_start_matches('/');
    if segment.is_empty() {
        return Err(never("dot segments are resolved; write the path they lead to".to_owned()));
    }
    Ok(decode_once(segment).into_owned().into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_literals_names_and_a_rest() {
        let pattern = PathPattern::parse("/users/{id}/files/{*rest}").unwrap();
        assert_eq!(pattern.names().collect::<Vec<_>>(), ["id", "rest"]);
        assert_eq!(pattern.text(), "/users/{id}/files/{*rest}");
        assert_eq!(pattern.segments.len(), 4);
        assert_eq!(PathPattern::parse("/").unwrap().segments, []);
        assert!(!PathPattern::parse("/").unwrap().slash_at_end);
        assert!(PathPattern::parse("/a/").unwrap().slash_at_end);
        assert_eq!(PathPattern::parse("/{*all}").unwrap().names().count(), 1);
    }

    #[test]
    fn the_literal_prefix_ends_at_the_first_name() {
        for (text, prefix) in [
            ("/", &[][..]),
            ("/{*rest}", &[]),
            ("/graph/{*rest}", &["graph"]),
            ("/a/{id}/b", &["a"]),
            ("/a/caf%C3%A9/", &["a", "café"]),
        ] {
            let pattern = PathPattern::parse(text).unwrap();
            assert_eq!(pattern.literal_prefix().collect::<Vec<_>>(), prefix, "{text}");
        }
    }

    #[test]
    fn names_alone_make_no_other_pattern() {
        let same = |one, other| {
            let parse = |text| PathPattern::parse(text).unwrap();
            parse(one).takes_the_same_as(&parse(other))
        };
        assert!(same("/a/{id}/{*rest}", "/%61/{name}/{*all}"));
        for (one, other) in
            [("/a/{x}", "/a/{*x}"), ("/a", "/a/"), ("/a", "/A"), ("/a", "/{a}"), ("/a", "/a/b")]
        {
            assert!(!same(one, other) && !same(other, one), "{one} {other}");
        }
    }

    #[test]
    fn literals_are_compared_decoded() {
        for (one, other) in
            [("/café", "/caf%c3%A9"), ("/a b", "/a%20b"), ("/%61", "/a"), ("/a%7Bb", "/a%7bb")]
        {
            let (one, other) = (PathPattern::parse(one), PathPattern::parse(other));
            assert_eq!(one.unwrap().segments, other.unwrap().segments);
        }
    }

    #[test]
    fn what_is_no_pattern_or_never_matches_says_what_to_write() {
        let deep = "/a".repeat(MAX_PATTERN_SEGMENTS + 1);
        let names: Vec<String> = (0..=MAX_PATTERN_NAMES).map(|n| format!("/{{n{n}}}")).collect();
        let names = names.concat();
        for (text, hint) in [
            ("", "write `/`"),
            ("graph", "write `/graph`"),
            ("/{*rest}/x", "last segment"),
            ("/{*rest}/", "last segment"),
            ("/a{id}", "whole segment"),
            ("/{id", "whole segment"),
            ("/{a}{b}", "whole segment"),
            ("/{}", "not a name"),
            ("/{*}", "not a name"),
            ("/{1a}", "not a name"),
            ("/{a b}", "not a name"),
            ("/{a}/{a}", "stands twice"),
            ("/{a}/{*a}", "stands twice"),
            ("/a/*", "{*rest}"),
            ("/a//b", "single slashes"),
            ("/a/../b", "dot segments"),
            ("/a/%2e%2E", "dot segments"),
            ("/a?b", "no query"),
            ("/a#b", "0x23"),
            ("/100%", "%25"),
            ("/a\\b", "0x5C"),
            (deep.as_str(), "at most 64"),
            (names.as_str(), "at most 16"),
        ] {
            let error = PathPattern::parse(text).unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
        assert!(PathPattern::parse(deep.strip_prefix("/a").unwrap()).is_ok());
    }
}
