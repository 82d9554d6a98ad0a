//! Which commit this is, for `--version`: the commit and its day from git, where this is a
//! checkout of its own; else from the variable `OBO_GATEWAY_COMMIT` (`COMMIT` or `COMMIT DAY`,
//! as container builds without `.git` set it); else `unknown`. Never the time of the build: the
//! same sources give the same program.

#![allow(clippy::disallowed_methods, reason = "cargo tells a build script everything by variables")]

use std::path::Path;
use std::process::Command;

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let commit = of_git(&root).or_else(of_environment);
    tell("rerun-if-env-changed", "OBO_GATEWAY_COMMIT");
    tell("rerun-if-changed", "build.rs");
    tell("rustc-env", &format!("OBO_GATEWAY_BUILD={}", commit.as_deref().unwrap_or("unknown")));
}

fn of_git(root: &str) -> Option<String> {
    // Sources that were unpacked in another repository are not of its commit.
    let top = git(root, &["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != Path::new(root).canonicalize().ok()? {
        return None;
    }
    let mut watched = vec!["HEAD".to_owned(), "logs/HEAD".to_owned(), "packed-refs".to_owned()];
    watched.extend(git(root, &["symbolic-ref", "-q", "HEAD"]));
    for name in watched {
        let path = git(root, &["rev-parse", "--git-path", &name])?;
        let path = Path::new(root).join(path);
        // A file that is not there would have every build run this again.
        if path.exists() {
            tell("rerun-if-changed", &path.display().to_string());
        }
    }
    commit(&git(root, &["log", "-1", "--format=%H %cs"])?)
}

fn of_environment() -> Option<String> {
    commit(&std::env::var("OBO_GATEWAY_COMMIT").ok()?)
}

/// `abc1234 2026-11-23`: seven digits in any clone, however deep; nothing else gets into the
/// program.
fn commit(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    let hash = words.next().filter(|hash| {
        (7..=64).contains(&hash.len()) && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    })?;
    let (hash, _) = hash.split_at_checked(7)?;
    let is_day = |day: &&str| {
        day.len() == 10 && day.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
    };
    Some(match words.next().filter(is_day) {
        Some(day) => format!("{hash} {day}"),
        None => hash.to_owned(),
    })
}

fn git(root: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[allow(clippy::print_stdout, reason = "it is how a build script speaks to cargo")]
fn tell(key: &str, value: &str) {
    println!("cargo::{key}={value}");
}
