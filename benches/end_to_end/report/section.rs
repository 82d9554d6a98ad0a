//! What a case has to say: a table, and figures beside what issue 6 asks of them.

use std::fmt;

use crate::case::Case;

/// The part of the report that is one case's.
pub(crate) struct Section {
    pub(crate) case: Case,
    /// What whoever reads the table has to know, in a sentence or two.
    pub(crate) about: String,
    pub(crate) head: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) verdicts: Vec<Verdict>,
    /// What makes the figures worth less than they seem.
    pub(crate) doubts: Vec<String>,
}

/// A figure and what it has to be.
pub(crate) struct Verdict {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) bound: Bound,
    pub(crate) kind: Kind,
    /// More about it, for the reader.
    pub(crate) beside: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// CPU per request of the first proxy to the last's, which `--max-ratio` is for.
    CpuRatio,
    Other,
}

/// What issue 6 asks.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    Below(f64),
    /// Nothing; it is there to be read.
    None,
}

impl Section {
    pub(crate) fn new(case: Case, about: String, head: Vec<&'static str>) -> Self {
        Self { case, about, head, rows: Vec::new(), verdicts: Vec::new(), doubts: Vec::new() }
    }

    /// Adds a figure that no option is about.
    pub(crate) fn judge(&mut self, what: impl Into<String>, value: f64, bound: Bound) {
        let (what, beside) = (what.into(), String::new());
        self.verdicts.push(Verdict { what, value, bound, kind: Kind::Other, beside });
    }
}

impl Verdict {
    /// Whether it is what it has to be; a figure that is no number is not.
    pub(crate) fn holds(&self) -> bool {
        match self.bound {
            Bound::AtMost(most) => self.value <= most,
            Bound::AtLeast(least) => self.value >= least,
            Bound::Below(above) => self.value < above,
            Bound::None => true,
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n\n{}\n", self.case.name(), self.about)?;
        writeln!(f, "| {} |", self.head.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(self.head.len()))?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        for doubt in &self.doubts {
            writeln!(f, "\n{doubt}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, value, bound, beside, .. } = self;
        let holds = match (bound, self.holds()) {
            (Bound::None, _) => "",
            (_, true) => "yes",
            (_, false) => "NO",
        };
        write!(f, "{what} | {value:.3} | {bound} | {holds} | {beside}")
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "at most {most}"),
            Self::AtLeast(least) => write!(f, "at least {least}"),
            Self::Below(above) => write!(f, "below {above}"),
            Self::None => Ok(()),
        }
    }
}
