//! The routes file: YAML in, and what every key of it says with the place where it says it.
//!
//! ```text
//! text ─ tree ─ reader ─ file::RoutesFile ─ resolve ─ the types of the other modules
//!          └ source (${…})                    each step says all its problems
//! ```
//!
//! Nothing outside of this folder knows YAML or the environment.

pub mod file;
pub mod resolve;
pub mod schema;
mod access;
mod azure;
mod below;
mod choice;
mod complaint;
mod failure;
mod files_read;
mod hidden;
mod listing;
mod parse;
mod problem;
mod reader;
mod rule;
mod source;
mod spanned;
mod suggest;
mod syntax;
mod tree;
mod value;
mod written;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::regular_file;

pub use failure::WrongText;
pub use file::RoutesFile;
pub use files_read::{FilesRead, Look};
pub use listing::Listing;
pub use problem::{Place, Problem, Problems, Severity};
pub use source::{Environment, MAX_NAMED_FILE_BYTES};
pub use spanned::{List, OneOrMany, Spanned, Table};
pub use suggest::{did_you_mean, nearest};
pub use value::{
    Address, AdminAddress, Algorithm, Attempts, Claim, ClockSkew, Count, ExpectedStatus, HeadBytes,
    HeaderType, HttpUrl, KeyPrefix, Network, Pending, Percent, Period, PeriodOrZero,
    RedirectStatus, RequestPath, Sample, Share, SigningAlgorithm, SizeLimit, Status, Tenant,
    TenantId, Text, Timeout, Times, Upgrade, UpstreamConnections, Workers,
};

/// Largest routes file in bytes: 20,000 routes of 800 bytes.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// What problems call standard input.
const STDIN: &str = "<stdin>";

/// A routes file's text, and where it came from.
#[derive(Clone)]
pub struct Source {
    /// What problems call it: the path as given.
    pub name: String,
    /// The YAML.
    pub text: String,
    /// The folder that relative paths in it are relative to.
    pub base: PathBuf,
}

/// What was read of a routes file.
#[derive(Debug)]
pub struct Reading {
    /// The file. If [`Problems::refuse`], only what had no problem, for checks of meaning to
    /// go on with: routes, providers and upstreams are missing from it. `None` if too little
    /// is left.
    pub file: Option<RoutesFile>,
    /// What is wrong so far.
    pub problems: Problems,
    /// The names under `providers`, also of those with problems.
    pub provider_names: Vec<String>,
    /// The names under `upstreams`, also of those with problems.
    pub upstream_names: Vec<String>,
    /// Whether it names a `cache.redis`, be it one with problems.
    pub names_shared_cache: bool,
    /// The files that `${file:…}` read, as the routes file names them.
    pub files_read: Vec<PathBuf>,
    /// What the file says, to be looked at.
    written: written::Draft,
}

impl Source {
    /// Reads the routes file at `path`; `-` is standard input, whose relative paths are
    /// relative to the working directory.
    ///
    /// # Errors
    ///
    /// One problem: there is no such file, or it can't be read, or is no text.
    pub fn open(path: &Path) -> Result<Self, Problems> {
        let is_stdin = path == Path::new("-");
        let name = if is_stdin { STDIN.to_owned() } else { path.display().to_string() };
        let bytes = if is_stdin {
            limited(io::stdin().lock())
        } else {
            fs::File::open(path).and_then(limited)
        };
        let bytes = bytes.map_err(|error| refused(&name, cannot_read(&error)))?;
        let base = path.parent().filter(|_| !is_stdin).unwrap_or(Path::new("")).to_owned();
        Self::of(name, bytes, base)
    }

    /// Reads the routes file at `path` again. What is no regular file is refused: a pipe can be
    /// read once only, and at the second time nobody may ever write into it.
    ///
    /// # Errors
    ///
    /// One problem: there is no such file, or it can't be read, or is no file, or no text.
    pub fn reopen(path: &Path) -> Result<Self, Problems> {
        let name = path.display().to_string();
        let is_other = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        let bytes = regular_file::open(path).and_then(limited).map_err(|error| {
            let problem = cannot_read(&error);
            let hint = "a pipe can be read at the start only: restart, or keep the routes file on disk to reload it";
            refused(&name, if is_other { problem.hint(hint) } else { problem })
        })?;
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        Self::of(name, bytes, base)
    }

    fn of(name: String, bytes: Vec<u8>, base: PathBuf) -> Result<Self, Problems> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { name, text, base }),
            Err(error) => {
                let before = error.utf8_error().valid_up_to();
                let line =
                    error.as_bytes().iter().take(before).filter(|byte| **byte == b'\n').count() + 1;
                // Its lines are not shown: what they say is not known, and may be secret.
                let place =
                    Place { line: u32::try_from(line).unwrap_or(u32::MAX), column: 1, length: 1 };
                let problem = Problem::error(place, "this line is not UTF-8 text");
                let hint =
                    "save the file as UTF-8, without letters of another encoding in this line";
                Err(refused(&name, problem.hint(hint)))
            }
        }
    }
}

fn limited(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn cannot_read(error: &io::Error) -> Problem {
    let problem = Problem::of_file(format!("can't read the routes file: {error}"));
    if error.kind() == io::ErrorKind::NotFound {
        problem.hint("name one with `--config FILE` (`-` is stdin), or see `obo-gateway demo` for one that works")
    } else {
        problem.hint("name a file that this user may read with `--config FILE` (`-` is stdin)")
    }
}

fn refused(name: &str, problem: Problem) -> Problems {
    let mut problems = Problems::new(Listing::new(name, ""));
    problems.push(problem);
    problems
}

/// Reads the routes file `text`, which problems call `name`. Finds what is wrong with its
/// form; what it means is decided when it is resolved.
pub fn read(text: &str, name: &str, environment: &Environment) -> Reading {
    let mut problems = Problems::new(Listing::new(name, text));
    let tree = if u64::try_from(text.len()).is_ok_and(|length| length <= MAX_FILE_BYTES) {
        parse::parse(text, environment, &mut problems)
    } else {
        let message = format!("the file is larger than {} MiB", MAX_FILE_BYTES / 1024 / 1024);
        problems.push(Problem::of_file(message).hint("is this a routes file?"));
        None
    };
    let tree = tree.map(|tree| azure::fill_in(tree, environment, &mut problems));
    let Some(tree) = tree else {
        let (provider_names, upstream_names, files_read, written) = Default::default();
        return Reading {
            file: None,
            problems,
            provider_names,
            upstream_names,
            names_shared_cache: false,
            files_read,
            written,
        };
    };
    Reading {
        file: reader::read(&tree.root, file::RULES, &mut problems),
        provider_names: tree.names_under("providers"),
        upstream_names: tree.names_under("upstreams"),
        names_shared_cache: tree.names_under("cache").iter().any(|name| name == "redis"),
        files_read: tree.files,
        written: written::Draft::of(tree.root, problems.listing()),
        problems,
    }
}

#[cfg(test)]
mod tests;
