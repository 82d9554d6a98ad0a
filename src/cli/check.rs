//! `check`: reads the routes file and everything it names, and says what is wrong with it; with
//! `--online` also tries for real what it names.
//!
//! Exits with 1 if the file has a problem, or if anything that was tried failed.

use std::process::ExitCode;
use std::sync::Arc;

use super::run::{self, File};
use super::{CheckArguments, ReportFormat};
use crate::clock::{SharedClock, SystemClock};
use crate::config::resolve::Resolved;
use crate::launch;
use crate::observe::Metrics;
use crate::online;

pub(super) fn main(config: &str, arguments: &CheckArguments) -> ExitCode {
    let clock: SharedClock = Arc::new(SystemClock);
    let prepared =
        launch::prepare(Box::new(File::new(config)), Arc::clone(&clock), Metrics::default());
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(problems) => {
            super::to_stderr(&problems.to_string());
            return ExitCode::FAILURE;
        }
    };
    if !prepared.warnings().is_empty() {
        super::to_stderr(&prepared.warnings().to_string());
    }
    let good = good(config, prepared.resolved());
    match (arguments.online, arguments.format) {
        (false, _) => {
            super::to_stdout(&good);
            ExitCode::SUCCESS
        }
        (true, ReportFormat::Text) => {
            // Before the tries, which take their time.
            super::to_stdout(&good);
            tried(prepared.resolved(), &clock, |report| Ok(report.text()))
        }
        (true, ReportFormat::Json) => {
            tried(prepared.resolved(), &clock, |report| Ok(report.json()? + "\n"))
        }
    }
}

/// The line that says what the file has.
fn good(config: &str, resolved: &Resolved) -> String {
    let snapshot = &resolved.snapshot;
    format!(
        "{}: good: {}, {}, {}, {}\n",
        if config == "-" { "<stdin>" } else { config },
        count(snapshot.routes.iter().filter(|route| route.is_of_the_file()).count(), "route"),
        count(snapshot.upstreams.len(), "upstream"),
        count(snapshot.providers.len(), "provider"),
        count(resolved.listeners.len(), "listener"),
    )
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Tries what the file names, and prints the report.
fn tried(
    resolved: &Resolved,
    clock: &SharedClock,
    printed: impl Fn(&online::Report) -> Result<String, serde_json::Error>,
) -> ExitCode {
    let runtime = match run::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return super::failure(&format!("no runtime: {error}")),
    };
    let report = runtime.block_on(online::check(resolved, clock));
    // A look-up of a name, or a disk, that hangs is not waited for.
    runtime.shutdown_background();
    match printed(&report) {
        Ok(text) => super::to_stdout(&text),
        Err(error) => return super::failure(&format!("the report can't be written: {error}")),
    }
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
