//! What sharing tokens saves: replicas, users and a provider that throttles, in virtual time.
//!
//! A run is a queue of things to happen and chance from a seed: the same arguments give the same
//! tables, and an hour takes seconds. The same requests are sent to replicas that are each alone
//! and to replicas that share a Redis, through a rolling restart, an outage of the provider and one
//! of Redis. Rules that the product has without any IO are its own files (`renewal`, `breaker`) and
//! numbers (`limits`); the others are written again, each with the name of its place. It knows
//! nothing of tokens' contents, bytes or sockets; `benches/README.md` says how to read it.
//!
//! Without arguments (`cargo test --benches`) it checks itself: `checks.rs`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "tables are its product, a wrong index is a bug that may end it, and its numbers are small"
)]

mod checks;
mod course;
mod memory;
mod provider;
mod replica;
mod report;
mod settings;
mod store;
mod tally;
mod users;
mod world;

// The product's own files, and what they find at the root of their crate.
#[path = "../../src/exchange/breaker/state.rs"]
#[allow(dead_code, reason = "the product says why it does not ask; nobody reads that here")]
mod breaker;
#[path = "../../src/exchange/renewal.rs"]
#[allow(unused_imports, reason = "its tests are the library's")]
mod renewal;
use obo_gateway::{limits, secret};

use std::process::ExitCode;

use clap::Parser;

use crate::report::Ran;
use crate::settings::{Mode, Settings};
use crate::world::World;

fn main() -> ExitCode {
    let settings = Settings::parse();
    if settings.runner.list {
        return ExitCode::SUCCESS;
    }
    if settings.only_checks() {
        return checks::run();
    }
    let worlds: Vec<(&str, bool)> = match settings.mode {
        Mode::Both => vec![("alone", false), ("shared", true)],
        Mode::Alone => vec![("alone", false)],
        Mode::Shared => vec![("shared", true)],
    };
    report::print_conditions(&settings);
    let worlds: Vec<Ran> = worlds
        .into_iter()
        .map(|(name, shares)| {
            let ran = Ran::new(name, World::new(&settings, shares).run());
            report::print_minutes(&settings, &ran);
            ran
        })
        .collect();
    report::print_summary(&settings, &worlds);
    ExitCode::SUCCESS
}
