//! What is said of a start that fails, or that goes on with warnings: text for people, as `check` prints it, with
//! the line and the hint below it; and where `--log-format json` was asked for, events of the log, one for each
//! problem. A log that is JSON only because nobody looks on is no reason to put the text in a form that
//! nobody reads at night.

use std::process::ExitCode;

use tracing::Level;

use crate::config::Problems;
use crate::last_reload::{FoundProblem, RelatedPlace, Severity};
use crate::launch::{self, StartError};
use crate::observe::sink::LogSink;

/// The form of what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// For programs: `--log-format json`.
    Events,
}

/// Where it is said.
#[derive(Clone, Copy)]
pub(super) struct StartLog<'a> {
    pub(super) sink: &'a LogSink,
    pub(super) form: Form,
}

impl StartLog<'_> {
    /// Says what is wrong with the routes file, or only odd.
    pub(super) fn problems(self, problems: &Problems) {
        if self.is_for_programs() {
            tell(&launch::found(problems), self.sink);
        } else {
            super::to_stderr(&problems.to_string());
        }
    }

    /// Says which addresses can't be listened on.
    pub(super) fn not_started(self, error: &StartError) -> ExitCode {
        if self.is_for_programs() {
            tell(&error.problems(), self.sink);
            ExitCode::FAILURE
        } else {
            super::failure(&error.to_string())
        }
    }

    /// Says why there is no start at all.
    pub(super) fn failure(self, why: &str) -> ExitCode {
        if self.is_for_programs() {
            tracing::error!("error: {why}");
            self.sink.flush();
            ExitCode::FAILURE
        } else {
            super::failure(why)
        }
    }

    /// A log that was turned off says nothing: why there is no gateway is said all the same.
    fn is_for_programs(self) -> bool {
        self.form == Form::Events && tracing::enabled!(Level::ERROR)
    }
}

fn tell(problems: &[FoundProblem], sink: &LogSink) {
    for problem in problems {
        event(problem);
    }
    sink.flush();
}

fn event(problem: &FoundProblem) {
    let FoundProblem { file, line, column, length: _, severity, message, related, hint } = problem;
    let place = match (line, column) {
        (Some(line), Some(column)) => format!("{file}:{line}:{column}"),
        (Some(_) | None, _) => file.clone(),
    };
    let note = related
        .as_ref()
        .map(|RelatedPlace { line, column, message }| format!("{file}:{line}:{column}: {message}"));
    let (note, hint) = (note.as_deref(), hint.as_deref());
    match severity {
        Severity::Error => {
            tracing::error!(file, line, column, note, hint, "{place}: error: {message}");
        }
        Severity::Warning => {
            tracing::warn!(file, line, column, note, hint, "{place}: warning: {message}");
        }
    }
}
