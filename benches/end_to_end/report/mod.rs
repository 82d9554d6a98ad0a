//! What a run has to say: a table for each case, then what issue 6 asks and whether it is so.
//!
//! It decides what is printed where: progress and failures to stderr, the report, in
//! Markdown, to stdout.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the output of a bench is its product"
)]

mod round;
mod section;

use std::error::Error;
use std::fs;
use std::process::Command;

use crate::settings::Settings;
use crate::users::Users;

pub(crate) use round::{Round, Rounds, median};
pub(crate) use section::{Bound, Kind, Section, Verdict};

/// A whole run.
pub(crate) struct Report {
    conditions: String,
    pub(crate) sections: Vec<Section>,
}

impl Report {
    /// An empty report, with the lengths of the tokens in its conditions.
    pub(crate) fn new(conditions: &str, users: &Users) -> Self {
        let tokens =
            users.numbered(0).map_or((0, 0), |one| (one.inbound.len(), one.outbound.len()));
        let conditions =
            format!("{conditions}; tokens of {} bytes in and {} out", tokens.0, tokens.1);
        Self { conditions, sections: Vec::new() }
    }

    /// Prints the tables, then the figures that count.
    pub(crate) fn print(&self) {
        println!("{}\n", self.conditions);
        for section in &self.sections {
            println!("{section}");
        }
        println!("### What counts\n");
        println!("| case | figure | measured | issue 6 | holds | |\n|---|---|---|---|---|---|");
        for section in &self.sections {
            for verdict in &section.verdicts {
                println!("| {} | {verdict} |", section.case.name());
            }
        }
    }

    /// Whether no ratio of CPU per request is above `max_ratio`; and, if `strict`, whether all is as
    /// issue 6 asks.
    pub(crate) fn holds(&self, max_ratio: Option<f64>, strict: bool) -> bool {
        let mut holds = true;
        for section in &self.sections {
            for verdict in &section.verdicts {
                let is_ratio = verdict.kind == Kind::CpuRatio;
                // A ratio that is no number does not hold either.
                let is_below = max_ratio.is_none_or(|max| !is_ratio || verdict.value <= max);
                if !is_below || (strict && !verdict.holds()) {
                    holds = false;
                    eprintln!("end_to_end: does not hold: {}: {verdict}", section.case.name());
                }
            }
        }
        holds
    }
}

/// The commit, the machine and the size of the run, in one line.
pub(crate) fn conditions(settings: &Settings) -> String {
    let commit = output("git", &["describe", "--always", "--dirty"]);
    let date = output("date", &["-u", "+%Y-%m-%d %H:%M UTC"]);
    let kernel = output("uname", &["-sr"]);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let busy = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = match settings.cores {
        Some(cores) => format!("proxy on core {}, load on core {}", cores.proxy, cores.load),
        None => "NOT pinned, a smoke run: the figures mean nothing".to_owned(),
    };
    format!(
        "commit {commit}, {date}; {}, {kernel}, load average before the run {}; {cores}; \
         {} rounds of {:?}, {} connections",
        cpu.map_or("unknown CPU", |(_, model)| model),
        busy.split(' ').next().unwrap_or("unknown"),
        settings.rounds,
        settings.round,
        settings.connections,
    )
}

/// Tells whoever waits what is going on.
pub(crate) fn progress(what: &str) {
    eprintln!("end_to_end: {what}");
}

/// Prints `failure` with its sources.
pub(crate) fn say_failure(failure: &dyn Error) {
    eprintln!("end_to_end: error: {failure}");
    let mut source = failure.source();
    while let Some(cause) = source {
        eprintln!("  because: {cause}");
        source = cause.source();
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}
