//! `check`: reads the routes file and everything it names, and says what is wrong with it.

use std::process::ExitCode;
use std::sync::Arc;

use super::run::File;
use crate::clock::SystemClock;
use crate::launch;
use crate::observe::Metrics;

pub(super) fn main(config: &str) -> ExitCode {
    match launch::prepare(Box::new(File::new(config)), Arc::new(SystemClock), Metrics::default()) {
        Ok(prepared) => {
            if !prepared.warnings().is_empty() {
                super::to_stderr(&prepared.warnings().to_string());
            }
            let resolved = prepared.resolved();
            let snapshot = &resolved.snapshot;
            super::to_stdout(&format!(
                "{}: good: {}, {}, {}, {}\n",
                if config == "-" { "<stdin>" } else { config },
                count(
                    snapshot.routes.iter().filter(|route| route.is_of_the_file()).count(),
                    "route"
                ),
                count(snapshot.upstreams.len(), "upstream"),
                count(snapshot.providers.len(), "provider"),
                count(resolved.listeners.len(), "listener"),
            ));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            super::to_stderr(&problems.to_string());
            ExitCode::FAILURE
        }
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
