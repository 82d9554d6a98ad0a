//! The text of the routes file as problems show it: lines by number, with secrets blotted out.
//!
//! Decides what of a line may be printed. A secret written into the file is hidden in the
//! line and in every message; a value that came from the environment or another file is named
//! by its `${…}`, never shown.

use std::sync::{Arc, OnceLock};

use super::problem::{Place, Problem};
use crate::secret::Secret;

/// What is printed for a secret, whatever its length.
pub(super) const BLOT: &str = "********";

/// Most characters of a line that are shown; a longer one is cut around what is marked.
const MAX_SHOWN: usize = 160;

/// Shortest secret that is looked for anywhere in a message; a shorter one only as a whole
/// value in backticks, or half the words would be blotted.
const MIN_SECRET_IN_PROSE: usize = 6;

/// The routes file's name and lines, and what of them must not be shown.
#[derive(Clone)]
pub struct Listing {
    name: Arc<str>,
    lines: Arc<Lines>,
    hidden: Vec<Range>,
    secrets: Vec<Secret>,
    replaced: Vec<Replaced>,
}

/// A text by lines: all of a large file, kept for the few lines that problems are in.
struct Lines {
    text: String,
    /// Where each begins and ends, without its break; found once somebody asks.
    ranges: OnceLock<Vec<std::ops::Range<usize>>>,
}

/// From a line and column up to, not including, another; both from 1.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Range {
    start: (u32, u32),
    end: (u32, u32),
}

/// A value that came from outside the file, and the expression it stands for.
#[derive(Clone)]
struct Replaced {
    place: Place,
    value: Secret,
    expression: String,
}

/// One line to print, and what of it is marked, in characters.
pub(super) struct Excerpt {
    pub(super) text: String,
    pub(super) before: usize,
    pub(super) marked: usize,
}

impl Lines {
    fn of(text: String) -> Self {
        Self { text, ranges: OnceLock::new() }
    }

    /// The line of this `number`, from 1.
    fn get(&self, number: usize) -> Option<&str> {
        self.text.get(self.ranges().get(number.checked_sub(1)?)?.clone())
    }

    fn ranges(&self) -> &[std::ops::Range<usize>] {
        self.ranges.get_or_init(|| {
            let mut begin = 0;
            let lines = self.text.split('\n').map(|line| {
                let end = begin + line.len();
                let range = begin..end;
                begin = end + 1;
                range
            });
            lines.collect()
        })
    }
}

impl Listing {
    /// The lines of `text`, which problems will call `name`.
    pub fn new(name: &str, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // The line breaks of YAML 1.2 §5.4.
        let text = if text.contains('\r') {
            text.replace("\r\n", "\n").replace('\r', "\n")
        } else {
            text.to_owned()
        };
        let lines = Arc::new(Lines::of(text));
        let (hidden, secrets, replaced) = (Vec::new(), Vec::new(), Vec::new());
        Self { name: name.into(), lines, hidden, secrets, replaced }
    }

    /// What problems call the file.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The text, with `\n` behind each line but the last.
    pub(super) fn text(&self) -> &str {
        &self.lines.text
    }

    /// Never shows what stands from `start` up to `end` (line and column, from 1).
    pub(super) fn hide(&mut self, start: (u32, u32), end: (u32, u32)) {
        // The end of a block scalar is wherever the next line's text begins.
        let before_end = usize::try_from(end.0)
            .ok()
            .and_then(|line| self.lines.get(line))
            .map(|line| line.chars().zip(1..end.1).all(|(character, _)| character == ' '));
        let end = if before_end == Some(true) && start.0 < end.0 { (end.0, 1) } else { end };
        let range = Range { start, end };
        if start < end && !self.hidden.contains(&range) {
            self.hidden.push(range);
        }
    }

    /// Never shows `secret` in a message.
    pub(super) fn keep_secret(&mut self, secret: &str) {
        if !secret.is_empty() {
            self.secrets.push(Secret::new(secret.to_owned()));
        }
    }

    /// Remembers that the scalar at `place`, written `expression`, became `value`.
    pub(super) fn replaced(&mut self, place: Place, value: &str, expression: &str) {
        let (value, expression) = (Secret::new(value.to_owned()), expression.to_owned());
        self.replaced.push(Replaced { place, value, expression });
    }

    /// The scalar `text` at `place` as it may be shown: what came from outside as it was written,
    /// and nothing that is hidden there, or is a secret elsewhere in the file.
    pub(super) fn shown<'s>(&'s self, place: Place, text: &'s str) -> &'s str {
        let is_hidden = self.hidden.iter().any(|it| it.holds(place.line, place.column));
        let mut secrets = self.secrets.iter().map(Secret::expose);
        let is_secret = |secret: &str| {
            text == secret || secret.len() >= MIN_SECRET_IN_PROSE && text.contains(secret)
        };
        match self.replaced.iter().find(|it| it.place == place) {
            _ if is_hidden => BLOT,
            Some(replaced) => &replaced.expression,
            None if secrets.any(is_secret) => BLOT,
            None => text,
        }
    }

    /// `problem` with its texts free of secrets.
    pub(super) fn without_secrets(&self, mut problem: Problem) -> Problem {
        let place = problem.place;
        let clean = |text: &mut String| {
            for replaced in self.replaced.iter().filter(|it| Some(it.place) == place) {
                let value = replaced.value.expose();
                *text = text.replace(&quoted(value), &quoted(&replaced.expression));
                if value.len() >= MIN_SECRET_IN_PROSE {
                    *text = text.replace(value, &replaced.expression);
                }
            }
            for secret in self.secrets.iter().map(Secret::expose) {
                *text = text.replace(&quoted(secret), &quoted(BLOT));
                if secret.len() >= MIN_SECRET_IN_PROSE {
                    *text = text.replace(secret, BLOT);
                }
            }
        };
        clean(&mut problem.message);
        if let Some(hint) = &mut problem.hint {
            clean(hint);
        }
        problem
    }

    /// The line of `place` as it may be shown; `None` if there is no such line.
    pub(super) fn excerpt(&self, place: Place) -> Option<Excerpt> {
        let line = self.lines.get(usize::try_from(place.line).ok()?)?;
        let last = place.column.saturating_add(place.length.max(1));
        // What begins within a hidden run marks the whole of it.
        let around = self.hidden.iter().find(|it| it.holds(place.line, place.column));
        let column_of = |it: &Range| if it.start.0 == place.line { it.start.1 } else { 1 };
        let place = Place { column: around.map_or(place.column, column_of), ..place };
        let (mut text, mut before, mut marked) = (Vec::new(), 0, 0);
        let mut blotted = None;
        for (column, character) in (1..).zip(line.chars()) {
            let is_marked = (place.column..last).contains(&column);
            let range = self.hidden.iter().find(|it| it.holds(place.line, column));
            let shown = match range {
                None => vec![printable_char(character)],
                // All of a hidden run becomes one blot, marked if its first character is.
                Some(range) if blotted != Some(*range) => BLOT.chars().collect(),
                Some(_) => Vec::new(),
            };
            blotted = range.copied();
            if is_marked {
                marked += shown.len();
            } else if column < place.column {
                before += shown.len();
            }
            text.extend(shown);
        }
        // A place just behind the line's end: where something is missing.
        before += usize::try_from(place.column).ok()?.saturating_sub(line.chars().count() + 1);
        Some(cut(&text, before, marked.max(1)))
    }
}

impl Range {
    fn holds(&self, line: u32, column: u32) -> bool {
        (self.start..self.end).contains(&(line, column))
    }
}

fn cut(text: &[char], before: usize, marked: usize) -> Excerpt {
    if text.len() <= MAX_SHOWN {
        return Excerpt { text: text.iter().collect(), before, marked };
    }
    let start = before.saturating_sub(MAX_SHOWN / 4);
    let shown: String = text.iter().skip(start).take(MAX_SHOWN).collect();
    let left = if start > 0 { "…" } else { "" };
    let right = if start + MAX_SHOWN < text.len() { "…" } else { "" };
    let before = before - start + left.chars().count();
    let marked = marked.min((MAX_SHOWN + 1).saturating_sub(before)).max(1);
    Excerpt { text: format!("{left}{shown}{right}"), before, marked }
}

/// `text` without what would move the cursor of a terminal or turn the direction of reading.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(printable_char).collect()
}

fn printable_char(character: char) -> char {
    match character {
        '\t' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '\u{fffd}',
        control if control.is_control() => '\u{fffd}',
        other => other,
    }
}

fn quoted(text: &str) -> String {
    format!("`{text}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(listing: &Listing, line: u32, column: u32, length: u32) -> (String, usize, usize) {
        let excerpt = listing.excerpt(Place { line, column, length }).unwrap();
        (excerpt.text, excerpt.before, excerpt.marked)
    }

    #[test]
    fn a_secret_becomes_a_blot_of_fixed_length_and_the_mark_follows() {
        let mut listing = Listing::new("f", "{ secret: hunter2hunter2, scope: x }");
        listing.hide((1, 11), (1, 25));
        let line = "{ secret: ********, scope: x }";
        assert_eq!(shown(&listing, 1, 11, 14), (line.into(), 10, 8));
        assert_eq!(shown(&listing, 1, 27, 5), (line.into(), 20, 5));
    }

    #[test]
    fn lines_end_as_yaml_says_and_nothing_moves_the_cursor() {
        let listing = Listing::new("f", "\u{feff}a\r\nb\rc\u{1b}[2J\td");
        assert_eq!(shown(&listing, 1, 1, 1), ("a".into(), 0, 1));
        assert_eq!(shown(&listing, 3, 1, 99), ("c\u{fffd}[2J d".into(), 0, 7));
        assert!(listing.excerpt(Place { line: 4, column: 1, length: 1 }).is_none());
        assert!(listing.excerpt(Place::default()).is_none());
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let listing = Listing::new("f", &format!("{}needle{}", "x".repeat(500), "y".repeat(500)));
        let (text, before, marked) = shown(&listing, 1, 501, 6);
        assert!(text.chars().count() <= MAX_SHOWN + 2);
        let marked: String = text.chars().skip(before).take(marked).collect();
        assert_eq!(marked, "needle");
    }

    #[test]
    fn messages_name_the_expression_and_not_the_value() {
        let mut listing = Listing::new("f", "tenant: ${TENANT}");
        let place = Place { line: 1, column: 9, length: 9 };
        listing.replaced(place, "oops", "${TENANT}");
        listing.keep_secret("hunter2");
        let problem = listing.without_secrets(
            Problem::error(place, "`oops` is no tenant id").hint("not hunter2, hunt"),
        );
        assert_eq!(problem.message, "`${TENANT}` is no tenant id");
        assert_eq!(problem.hint.as_deref(), Some("not ********, hunt"));
    }
}
