//! What the kernel says of a process: CPU time and peak memory; and the core it runs on.

use std::fs;
use std::ops::Sub;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Failure;

/// Clock ticks a second in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux that Rust runs on
/// but Alpha. The kernel scales the sum to what its scheduler measured, so a tick is the
/// resolution, not the error of sampling.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of all threads of a process, ended ones included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuTime {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl CpuTime {
    /// Of process `pid`, so far.
    pub(crate) fn of(pid: u32) -> Result<Self, Failure> {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).map_err(|error| format!("`{path}`: {error}"))?;
        // The name in parentheses may hold anything; utime and stime are fields 14 and 15.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut fields = fields.split_ascii_whitespace().skip(11);
        let mut time = || -> Result<Duration, Failure> {
            let ticks: u32 =
                fields.next().ok_or_else(|| format!("`{path}` is cut short"))?.parse()?;
            Ok(TICK * ticks)
        };
        Ok(Self { user: time()?, system: time()? })
    }

    /// User and system time together.
    pub(crate) fn total(self) -> Duration {
        self.user + self.system
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            // The kernel's split of the sum may step back by a tick.
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// The largest resident size of process `pid` so far, in KiB.
pub(crate) fn peak_memory_kib(pid: u32) -> Result<u64, Failure> {
    memory_kib(pid, "VmHWM:")
}

/// The resident size of process `pid`, in KiB.
pub(crate) fn memory_kib_of(pid: u32) -> Result<u64, Failure> {
    memory_kib(pid, "VmRSS:")
}

fn memory_kib(pid: u32, line: &str) -> Result<u64, Failure> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).map_err(|error| format!("`{path}`: {error}"))?;
    let value = status.lines().find_map(|found| found.strip_prefix(line));
    let value = value.and_then(|value| value.trim().strip_suffix(" kB"));
    Ok(value.ok_or_else(|| format!("`{path}` has no {line}"))?.parse()?)
}

/// How many files this process, and one that it starts, can have open.
pub(crate) fn open_files_limit() -> Result<usize, Failure> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_ascii_whitespace().next());
    match soft {
        Some("unlimited") => Ok(usize::MAX),
        Some(soft) => Ok(soft.parse()?),
        None => Err("`/proc/self/limits` does not say how many files can be open".into()),
    }
}

/// Moves this process to `core`; threads and processes it starts from now on are there too.
pub(crate) fn pin_this_process(core: usize) -> Result<(), Failure> {
    let status = Command::new("taskset")
        .args(["-p", "-c", &core.to_string(), &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("`taskset` (package util-linux) can't be run: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("no core {core} here; the bench needs two (`--proxy-core`, `--load-core`)")
            .into())
    }
}
