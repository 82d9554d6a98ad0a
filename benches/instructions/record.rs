//! What was counted last, with which compiler, and what a new count means beside it.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::count::Counts;

/// Growth in percent above which a count is a regression.
const TOLERATED_PERCENT: f64 = 3.0;
/// Shrinking in percent below which the record is out of date.
const NOTABLE_PERCENT: f64 = -3.0;

/// Counts and the build they are of.
pub(crate) struct Record {
    build: String,
    counts: Counts,
}

/// What the counts of this build mean beside the recorded ones.
pub(crate) struct Verdict {
    /// Both builds, if they can't be compared.
    other_builds: Option<(String, String)>,
    lines: Vec<Line>,
    /// Cases that are recorded and were not counted.
    gone: Vec<String>,
}

struct Line {
    name: String,
    recorded: Option<usize>,
    counted: usize,
}

impl Record {
    /// `counts`, taken of the build that this is.
    pub(crate) fn of_this_build(counts: Counts) -> Result<Self, String> {
        let rustc = Command::new("rustc")
            .arg("--version")
            .output()
            .map_err(|error| format!("`rustc --version`: {error}"))?;
        let rustc = String::from_utf8_lossy(&rustc.stdout).trim().to_owned();
        let profile = if cfg!(debug_assertions) { "dev" } else { "optimised" };
        let build = format!("{rustc}, {} {profile}", std::env::consts::ARCH);
        Ok(Self { build, counts })
    }

    /// Reads what [`Record::write`] wrote.
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(file)
            .map_err(|error| format!("`{}`: {error}; record with UPDATE=1", file.display()))?;
        let mut build = None;
        let mut counts = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (name, value) = line
                .split_once(": ")
                .ok_or_else(|| format!("`{}`: what is `{line}`?", file.display()))?;
            if name == "build" {
                build = Some(value.to_owned());
            } else {
                let count = value
                    .parse()
                    .map_err(|error| format!("`{}`: `{line}`: {error}", file.display()))?;
                counts.push((name.to_owned(), count));
            }
        }
        let build = build.ok_or_else(|| format!("`{}` names no build", file.display()))?;
        Ok(Self { build, counts })
    }

    /// Writes it for the next comparison.
    pub(crate) fn write(&self, file: &Path) -> Result<(), String> {
        let text = format!(
            "# Instructions a turn, counted by callgrind: see `Instructions` in benches/README.md.\n\
             # Recorded by `UPDATE=1 tests/run instructions`; compared by `tests/run instructions`.\n\
             {self}"
        );
        fs::write(file, text).map_err(|error| format!("`{}`: {error}", file.display()))
    }

    /// Compares these counts with the `recorded` ones.
    pub(crate) fn against(&self, recorded: &Self) -> Verdict {
        let lines = self.counts.iter().map(|(name, counted)| Line {
            name: name.clone(),
            recorded: recorded
                .counts
                .iter()
                .find_map(|(other, count)| (other == name).then_some(*count)),
            counted: *counted,
        });
        let other_builds =
            (self.build != recorded.build).then(|| (recorded.build.clone(), self.build.clone()));
        let is_gone = |name: &String| self.counts.iter().all(|(other, _)| other != name);
        let gone = recorded.counts.iter().map(|(name, _)| name).filter(|name| is_gone(name));
        Verdict { other_builds, lines: lines.collect(), gone: gone.cloned().collect() }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "build: {}", self.build)?;
        for (name, count) in &self.counts {
            writeln!(f, "{name}: {count}")?;
        }
        Ok(())
    }
}

impl Verdict {
    /// Whether a case that is recorded was not counted; or, under the same compiler, a count grew
    /// by more than is tolerated or has no record.
    pub(crate) fn is_regression(&self) -> bool {
        let has_grown = self.other_builds.is_none() && self.lines.iter().any(Line::is_regression);
        has_grown || !self.gone.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        for name in &self.gone {
            writeln!(
                f,
                "{name}: recorded, but not counted. If there is no such case any more, record \
                 without it: UPDATE=1 tests/run instructions"
            )?;
        }
        match &self.other_builds {
            Some((recorded, counted)) => write!(
                f,
                "NOT COMPARED: recorded with `{recorded}`, but this is `{counted}`, and counts of two \
                 compilers differ by themselves. Record anew, on a commit that is known to be good: \
                 UPDATE=1 tests/run instructions"
            ),
            None if self.lines.iter().any(Line::is_regression) => write!(
                f,
                "more than {TOLERATED_PERCENT} % above the record, or not in it. If that is the price of something, \
                 say so in the commit and record it: UPDATE=1 tests/run instructions"
            ),
            None if self.lines.iter().any(Line::is_notably_less) => write!(
                f,
                "ok, and notably less than recorded: keep it with UPDATE=1 tests/run instructions"
            ),
            None => write!(f, "ok: none is more than {TOLERATED_PERCENT} % above the record"),
        }
    }
}

impl Line {
    #[expect(clippy::cast_precision_loss, reason = "counts of instructions are below 2^52")]
    fn growth_percent(&self) -> Option<f64> {
        let recorded = self.recorded? as f64;
        Some(100.0 * (self.counted as f64 - recorded) / recorded)
    }

    fn is_regression(&self) -> bool {
        self.growth_percent().is_none_or(|growth| growth > TOLERATED_PERCENT)
    }

    fn is_notably_less(&self) -> bool {
        self.growth_percent().is_some_and(|growth| growth < NOTABLE_PERCENT)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, counted, .. } = self;
        match (self.recorded, self.growth_percent()) {
            (Some(recorded), Some(growth)) => {
                write!(f, "{name}: {counted} instructions, recorded {recorded}: {growth:+.1} %")
            }
            _ => write!(f, "{name}: {counted} instructions, not recorded"),
        }
    }
}
