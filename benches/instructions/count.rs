//! Counting: this program once more, under callgrind.
//!
//! It knows how valgrind is called and how its dumps are read; not what is counted.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The function whose one call is counted.
const COUNTED: &str = "*counted_by_callgrind*";

/// Instructions of one turn of each case, by its name.
pub(crate) type Counts = Vec<(String, usize)>;

/// Runs each case with `--run` in a process of its own under callgrind, all at once; gives what one
/// of its `turns` took.
pub(crate) fn count(names: &[String], turns: usize) -> Result<Counts, String> {
    let dir = tempfile::tempdir().map_err(|error| format!("no place for dumps: {error}"))?;
    let program = dir.path().join("counted");
    let this = std::env::current_exe().map_err(|error| format!("who am I? {error}"))?;
    // valgrind 3.19 can't read the debug information of today's compilers; names are enough.
    let mut objcopy = Command::new("objcopy");
    let objcopy = objcopy.arg("--strip-debug").arg(this).arg(&program);
    ended_well("objcopy", started(objcopy, "binutils")?)?;

    let mut running = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let dump = dir.path().join(number.to_string());
        let mut valgrind = Command::new("valgrind");
        valgrind
            .args(["--tool=callgrind", "-q", "--collect-atstart=no"])
            .arg(format!("--toggle-collect={COUNTED}"))
            .arg(format!("--callgrind-out-file={}", dump.display()))
            .arg(&program)
            .args(["--run", name]);
        running.push((name, dump, started(&mut valgrind, "valgrind")?));
    }
    let mut counts = Vec::new();
    for (name, dump, child) in running {
        ended_well("valgrind", child)?;
        counts.push((name.clone(), total(&dump)?.div_ceil(turns)));
    }
    Ok(counts)
}

fn started(command: &mut Command, package: &str) -> Result<Child, String> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().map_err(|error| {
        let program = command.get_program().display();
        format!("`{program}` can't be run (Debian package {package}): {error}")
    })
}

fn ended_well(program: &str, child: Child) -> Result<(), String> {
    let output =
        child.wait_with_output().map_err(|error| format!("`{program}` was lost: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("`{program}` failed ({}):\n{said}", output.status))
    }
}

/// The sum of a dump.
fn total(file: &Path) -> Result<usize, String> {
    let dump = fs::read_to_string(file)
        .map_err(|error| format!("callgrind left no `{}`: {error}", file.display()))?;
    let total = dump
        .lines()
        .find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
    total
        .and_then(|total| total.trim().parse().ok())
        .filter(|total| *total > 0)
        .ok_or_else(|| format!("callgrind counted nothing in `{}`", file.display()))
}
