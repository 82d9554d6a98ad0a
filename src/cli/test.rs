//! `test`: holds the routes to the `tests:` of their file, without any network.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::explain::Format;
use super::run::File;
use crate::clock::SystemClock;
use crate::dry_run;
use crate::launch;
use crate::observe::Metrics;

#[derive(Debug, Args)]
pub(super) struct TestArguments {
    /// How it is said
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn main(config: &str, arguments: &TestArguments) -> ExitCode {
    let prepared =
        launch::prepare(Box::new(File::new(config)), Arc::new(SystemClock), Metrics::default());
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(problems) => {
            super::to_stderr(&problems.to_string());
            return ExitCode::FAILURE;
        }
    };
    let runtime = match super::run::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return super::failure(&format!("no runtime: {error}")),
    };
    let (snapshot, mut tests) = prepared.into_tests();
    let report = runtime.block_on(dry_run::run(&snapshot, &mut tests));
    let file = if config == "-" { "<stdin>" } else { config };
    match arguments.format {
        Format::Text => super::to_stdout(&report.shown(file).to_string()),
        Format::Json => super::to_stdout_as_json(&report),
    }
    if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
