//! What is said of a start that fails, or that goes on with warnings: text for people, as `check` prints it;
//! and where the log is JSON, events of the log, one for each problem, with place and hint.

use std::process::ExitCode;

use tracing::Level;

use crate::config::Problems;
use crate::last_reload::{FoundProblem, RelatedPlace, Severity};
use crate::launch::{self, StartError};
use crate::observe::sink::{LogFormat, LogSink};

/// Says what is wrong with the routes file, or only odd.
pub(super) fn problems(problems: &Problems, sink: &LogSink) {
    if is_for_machines(sink) {
        tell(&launch::found(problems), sink);
    } else {
        super::to_stderr(&problems.to_string());
    }
}

/// Says which addresses can't be listened on.
pub(super) fn not_started(error: &StartError, sink: &LogSink) -> ExitCode {
    if is_for_machines(sink) {
        tell(&error.problems(), sink);
        ExitCode::FAILURE
    } else {
        super::failure(&error.to_string())
    }
}

/// Says why there is no start at all.
pub(super) fn failure(why: &str, sink: &LogSink) -> ExitCode {
    if is_for_machines(sink) {
        tracing::error!("error: {why}");
        sink.flush();
        ExitCode::FAILURE
    } else {
        super::failure(why)
    }
}

/// Whether events are what is wanted. A log that was turned off says nothing: why there is no gateway is
/// said all the same.
fn is_for_machines(sink: &LogSink) -> bool {
    sink.format() == LogFormat::Json && tracing::enabled!(Level::ERROR)
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
