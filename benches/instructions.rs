//! Instructions that looking up a route and canonicalising a target take, counted by callgrind and
//! compared with the last ones recorded in `instructions.txt`.
//!
//! Counts don't depend on how busy the machine is, so CI can hold them to a few percent; they do
//! depend on the compiler, so the record names the toolchain, and another one is a reason to record
//! anew, not a failure. It decides what is counted and when a count is a regression; how long
//! anything takes is `route.rs`'s to say.
//!
//! Without arguments (`cargo test --benches`) each case is run once and nothing is counted.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench fails loudly, its output is its product, and it has no callers"
)]

/// The product's own file, for what it takes without the rest of [`Target::parse`].
#[allow(dead_code, reason = "the bench calls one function of it")]
#[path = "../src/route/canonical.rs"]
mod canonical;
#[path = "instructions/count.rs"]
mod count;
#[path = "instructions/record.rs"]
mod record;
#[path = "route/table.rs"]
mod table;

use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use http::HeaderMap;
use obo_gateway::route::Target;

use crate::canonical::canonicalise;
use crate::record::Record;
use crate::table::{ROUTES_OF_A_SERVICE, TARGETS, request, table, target};

/// How often each case is run where it is counted: what is made at first use, and entering and
/// leaving what is counted, is next to nothing then.
const TURNS: usize = 100;
/// Routes of the table, where it is counted.
const ROUTES: usize = 10_000;

#[derive(Parser)]
#[command(name = "instructions", about = "Instructions of route look-up and canonicalisation")]
#[expect(clippy::struct_excessive_bools, reason = "flags, most of them of other programs")]
struct Arguments {
    /// Count with callgrind, and fail if any count is more than 3 % above the recorded one
    #[arg(long)]
    compare: bool,
    /// With `--compare`: write the counts to the record instead of comparing them
    #[arg(long, env = "UPDATE", value_parser = clap::builder::FalseyValueParser::new())]
    update: bool,
    /// Another record than benches/instructions.txt
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt"))]
    record: PathBuf,
    /// What cargo and test runners pass; there are no tests to list.
    #[arg(long, hide = true)]
    bench: bool,
    #[arg(long, hide = true)]
    test: bool,
    #[arg(long, hide = true)]
    list: bool,
    /// Run one case: this is the process that callgrind looks at.
    #[arg(long, hide = true)]
    run: Option<String>,
    #[arg(hide = true)]
    filters: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(name) = &arguments.run {
        run(name, ROUTES, TURNS);
        return ExitCode::SUCCESS;
    }
    if !arguments.compare {
        if !arguments.list {
            for name in case_names() {
                run(&name, 10, 1);
            }
        }
        return ExitCode::SUCCESS;
    }
    match compare(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            println!("instructions: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> Result<ExitCode, String> {
    let counts = count::count(&case_names(), TURNS)?;
    let counted = Record::of_this_build(counts)?;
    if arguments.update {
        counted.write(&arguments.record)?;
        println!("{counted}\nwritten to {}", arguments.record.display());
        return Ok(ExitCode::SUCCESS);
    }
    let recorded = Record::read(&arguments.record)?;
    let verdict = counted.against(&recorded);
    println!("{verdict}");
    Ok(if verdict.is_regression() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Cases of look-up: the part of the path behind `/service-LAST`.
const FINDS: [(&str, &str); 3] = [
    ("named", "/items/4711/parts/12"),
    ("rest", "/files/a/b/c/d/e/f.txt"),
    ("escapes", "/files/My%20Documents/a.txt"),
];

/// A case is named after its group and what is in it, as in `route.rs`.
fn case_names() -> Vec<String> {
    let names = |group, cases: [(&str, &str); 3]| cases.map(|(name, _)| format!("{group}/{name}"));
    [names("path", TARGETS), names("target", TARGETS), names("find", FINDS)].concat()
}

/// Runs the case of that name, which is one of [`case_names`].
fn run(name: &str, routes: usize, turns: usize) {
    let (group, name) = name.split_once('/').unwrap();
    let in_group = |of, cases: [(&str, &'static str); 3]| {
        let case = cases.into_iter().find(|(other, _)| *other == name);
        case.filter(|_| group == of).map(|(_, path)| path)
    };
    if let Some(target) = in_group("path", TARGETS) {
        let path = target.split('?').next().unwrap();
        counted_by_callgrind(turns, &|_| {
            black_box(canonicalise(black_box(path)).unwrap());
        });
    }
    if let Some(target) = in_group("target", TARGETS) {
        let request = request(target);
        counted_by_callgrind(turns, &|_| {
            black_box(Target::parse(black_box(&request)).unwrap());
        });
    }
    if let Some(path) = in_group("find", FINDS) {
        let headers = HeaderMap::new();
        let table = table(routes);
        let services = routes / ROUTES_OF_A_SERVICE;
        // Another service each turn: keys of hashes are random, and how far one of them is from
        // its place is luck.
        let targets: Vec<Target> = (0..turns)
            .map(|turn| (services - 1).saturating_sub(turn * (services / turns)))
            .map(|service| target(&format!("/service-{service}{path}")))
            .collect();
        counted_by_callgrind(turns, &|turn| {
            let target = targets.get(turn).unwrap();
            black_box(*table.find(black_box(target), &headers).unwrap().route);
        });
    }
}

/// What callgrind counts: all of a call, and nothing else. `count.rs` names it.
#[inline(never)]
fn counted_by_callgrind(turns: usize, case: &dyn Fn(usize)) {
    for turn in 0..black_box(turns) {
        case(turn);
    }
}
