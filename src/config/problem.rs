//! A problem of a routes file, and all of them together: what is said, where, and in which order.
//!
//! Decides the look of a problem, which is the operator's interface. Knows neither YAML nor
//! the meaning of any key.

use std::fmt;

use super::listing::Listing;

/// A run of characters of the routes file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
    /// Length in characters, 1 at least; what runs over the line's end is cut there.
    pub length: u32,
}

/// Whether a problem stops the routes file from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is used, and the operator should know.
    Warning,
}

/// One problem. Values in its texts stand in backticks, and nothing else does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where; `None` for the file as a whole. First, so that problems sort by it.
    pub place: Option<Place>,
    /// How bad.
    pub severity: Severity,
    /// What is wrong, one line without a full stop.
    pub message: String,
    /// A second place that has a part in it, and what is there: ``first given here``.
    pub related: Option<(Place, String)>,
    /// What to do.
    pub hint: Option<String>,
}

impl Problem {
    /// An error at `place`.
    pub fn error(place: Place, message: impl Into<String>) -> Self {
        let (place, message) = (Some(place), message.into());
        Self { place, severity: Severity::Error, message, related: None, hint: None }
    }

    /// A warning at `place`.
    pub fn warning(place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, message) }
    }

    /// An error of the file as a whole.
    pub fn of_file(message: impl Into<String>) -> Self {
        Self { place: None, ..Self::error(Place::default(), message) }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Adds the second place of a problem that two lines make together.
    #[must_use]
    pub fn related(self, place: Place, note: impl Into<String>) -> Self {
        Self { related: Some((place, note.into())), ..self }
    }
}

/// Most errors, and most warnings, that are kept: who has more has one mistake in many lines.
const MAX_PROBLEMS: usize = 100;

/// All problems of one routes file, with the text they are shown in. `Display` prints them
/// sorted by place, a blank line between two.
#[derive(Clone)]
pub struct Problems {
    /// Boxed, since problems are returned as an error.
    listing: Box<Listing>,
    list: Vec<Problem>,
}

impl Problems {
    /// No problem yet in the text of `listing`.
    pub fn new(listing: Listing) -> Self {
        Self { listing: Box::new(listing), list: Vec::new() }
    }

    /// Adds a problem; one that is already there (through a YAML alias) is not said twice.
    pub fn push(&mut self, problem: Problem) {
        // A default stands nowhere in the file.
        let place = problem.place.filter(|place| place.line > 0);
        let problem = self.listing.without_secrets(Problem { place, ..problem });
        if !self.list.contains(&problem) && !self.is_full(problem.severity) {
            self.list.push(problem);
        }
    }

    /// Whether problems of this severity are no longer kept.
    fn is_full(&self, severity: Severity) -> bool {
        self.list.iter().filter(|problem| problem.severity == severity).count() >= MAX_PROBLEMS
    }

    /// Whether one of them is an error.
    pub fn refuse(&self) -> bool {
        self.list.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Whether there is none, not even a warning.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The problems, by place.
    pub fn sorted(&self) -> Vec<&Problem> {
        let mut sorted: Vec<_> = self.list.iter().collect();
        sorted.sort();
        sorted
    }

    /// The text they are shown in.
    pub(super) fn listing(&self) -> &Listing {
        &self.listing
    }

    pub(super) fn listing_mut(&mut self) -> &mut Listing {
        &mut self.listing
    }

    fn print(&self, problem: &Problem, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        self.head(problem.place, severity, &problem.message, f)?;
        if let Some((place, note)) = &problem.related {
            self.head(Some(*place), "note", note, f)?;
        }
        match &problem.hint {
            Some(hint) => writeln!(f, "hint: {}", super::listing::printable(hint)),
            None => Ok(()),
        }
    }

    fn head(
        &self,
        place: Option<Place>,
        kind: &str,
        message: &str,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let (name, message) = (self.listing.name(), super::listing::printable(message));
        let Some(place) = place else { return writeln!(f, "{name}: {kind}: {message}") };
        writeln!(f, "{name}:{}:{}: {kind}: {message}", place.line, place.column)?;
        let Some(excerpt) = self.listing.excerpt(place) else { return Ok(()) };
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", excerpt.text)?;
        writeln!(f, "{margin} | {}{}", " ".repeat(excerpt.before), "^".repeat(excerpt.marked))
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.sorted().into_iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            self.print(problem, f)?;
        }
        if self.is_full(Severity::Error) {
            writeln!(f, "\nthere may be more; only {MAX_PROBLEMS} are shown")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.list).finish()
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Problems {
        Problems::new(Listing::new("routes.yaml", text))
    }

    #[test]
    fn a_problem_looks_as_the_architecture_page_shows_it() {
        let mut problems = problems("routes:\n  - upstream: grpah\n");
        let place = Place { line: 2, column: 15, length: 5 };
        problems.push(
            Problem::error(place, "unknown upstream `grpah`")
                .hint("did you mean `graph`? upstreams here: arm, graph"),
        );
        assert_eq!(
            problems.to_string(),
            "routes.yaml:2:15: error: unknown upstream `grpah`\n  |\n2 |   - upstream: grpah\n  |               ^^^^^\nhint: did you mean `graph`? upstreams here: arm, graph\n"
        );
    }

    #[test]
    fn they_are_sorted_by_place_and_said_once() {
        let mut problems = problems("a\nb\n");
        let at = |line| Place { line, column: 1, length: 1 };
        problems.push(Problem::error(at(2), "second").related(at(1), "first here"));
        problems.push(Problem::warning(at(1), "first"));
        problems.push(Problem::warning(at(1), "first"));
        problems.push(Problem::of_file("can't be read"));
        let lines: Vec<_> = problems.sorted().iter().map(|p| p.message.clone()).collect();
        assert_eq!(lines, ["can't be read", "first", "second"]);
        assert!(problems.refuse());
        assert!(problems.to_string().contains("routes.yaml:1:1: note: first here"));
    }

    #[test]
    fn warnings_alone_refuse_nothing() {
        let mut problems = problems("a\n");
        problems.push(Problem::warning(Place { line: 1, column: 1, length: 1 }, "odd"));
        assert!(!problems.refuse() && !problems.is_empty());
    }
}
