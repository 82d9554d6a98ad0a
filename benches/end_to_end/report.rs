//! What a run has to say: rounds, their medians, the table and the ratios.
//!
//! It decides what is printed where: progress and failures to stderr, the report, in
//! Markdown, to stdout.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the output of a bench is its product"
)]

use std::error::Error;
use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::process::CpuTime;
use crate::settings::{Case, Proxy, Settings};
use crate::users::Users;

/// A core that is less busy than this had a reason to wait.
const BUSY_PERCENT: f64 = 90.0;

/// What the measured time of one round gave.
pub(crate) struct Round {
    elapsed: Duration,
    proxy: CpuTime,
    load: CpuTime,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl Round {
    /// `latencies` has an entry for each answer in `elapsed`.
    pub(crate) fn new(
        elapsed: Duration,
        proxy: CpuTime,
        load: CpuTime,
        mut latencies: Vec<Duration>,
    ) -> Self {
        latencies.sort_unstable();
        Self { elapsed, proxy, load, latencies }
    }

    /// CPU microseconds of the proxy per request.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.us_per_request(self.proxy.total())
    }

    /// Requests per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.requests() / self.elapsed.as_secs_f64()
    }

    fn us_per_request(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.requests()
    }

    #[expect(clippy::cast_precision_loss, reason = "a round has far less than 2^52 requests")]
    fn requests(&self) -> f64 {
        self.latencies.len() as f64
    }

    /// The latency in microseconds that `per_mille` of all requests stay below.
    fn latency_us(&self, per_mille: usize) -> f64 {
        let place = self.latencies.len().saturating_sub(1) * per_mille / 1000;
        self.latencies.get(place).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
    }

    fn busy_percent(&self, time: CpuTime) -> f64 {
        100.0 * time.total().as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

/// All rounds of one proxy in one case.
pub(crate) struct Row {
    pub(crate) case: Case,
    pub(crate) proxy: Proxy,
    pub(crate) rounds: Vec<Round>,
    pub(crate) peak_kib: u64,
    /// Answers that were not what they had to be, the warm-up included.
    pub(crate) wrong: u64,
}

impl Row {
    pub(crate) fn new(case: Case, proxy: Proxy) -> Self {
        Self { case, proxy, rounds: Vec::new(), peak_kib: 0, wrong: 0 }
    }

    fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        median(&self.sorted(figure))
    }

    fn sorted(&self, figure: impl Fn(&Round) -> f64) -> Vec<f64> {
        let mut figures: Vec<f64> = self.rounds.iter().map(figure).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures
    }

    fn print(&self) {
        let cpu = self.sorted(Round::cpu_us);
        println!(
            "| {} | {} | {:.2} | {:.2}-{:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {} | {:.0} | {:.0} | {} |",
            self.case.name(),
            self.proxy.name(),
            self.median(Round::cpu_us),
            cpu.first().unwrap_or(&f64::NAN),
            cpu.last().unwrap_or(&f64::NAN),
            self.median(|round| round.us_per_request(round.proxy.user)),
            self.median(|round| round.us_per_request(round.proxy.system)),
            self.median(Round::per_second),
            self.median(|round| round.latency_us(500)),
            self.median(|round| round.latency_us(990)),
            self.peak_mib(),
            self.median(|round| round.busy_percent(round.proxy)),
            self.median(|round| round.busy_percent(round.load)),
            self.wrong,
        );
    }

    fn peak_mib(&self) -> String {
        format!("{}.{}", self.peak_kib / 1024, self.peak_kib % 1024 * 10 / 1024)
    }
}

/// A whole run.
pub(crate) struct Report {
    conditions: String,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// An empty report, with the lengths of the tokens in its conditions.
    pub(crate) fn new(conditions: &str, users: &Users) -> Self {
        let tokens =
            users.numbered(0).map_or((0, 0), |one| (one.inbound.len(), one.outbound.len()));
        let conditions = format!(
            "{conditions}; {} users, tokens of {} bytes in and {} out",
            users.iter().len(),
            tokens.0,
            tokens.1,
        );
        Self { conditions, rows: Vec::new() }
    }

    /// Prints the table, then the ratios.
    pub(crate) fn print(&self) {
        println!("{}\n", self.conditions);
        println!(
            "| case | proxy | CPU us/req | min-max | user | system | req/s | p50 us | p99 us | peak MiB | proxy core % | load core % | wrong answers |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
        for row in &self.rows {
            row.print();
        }
        println!();
        for ratio in self.ratios() {
            println!(
                "{}: CPU per request, first proxy to last: {:.3} (of the medians), {:.3} (of the best rounds)",
                ratio.case.name(),
                ratio.of_medians,
                ratio.of_best_rounds,
            );
        }
        let waited = |row: &Row| row.median(|round| round.busy_percent(round.proxy)) < BUSY_PERCENT;
        if self.rows.iter().any(waited) {
            println!(
                "\nA proxy did not have its core to itself, or had too little to do: with the load's core \
                 below {BUSY_PERCENT} % too, other work ran on this machine. Absolute figures are too \
                 high then, and requests/s and latencies mean little."
            );
        }
    }

    /// Whether no ratio is above `max_ratio`.
    pub(crate) fn holds(&self, max_ratio: Option<f64>) -> bool {
        let Some(max) = max_ratio else { return true };
        let mut holds = true;
        for Ratio { case, of_medians, .. } in self.ratios() {
            // A ratio that is no number does not hold either.
            if of_medians.is_nan() || of_medians > max {
                holds = false;
                eprintln!("end_to_end: {}: the ratio {of_medians:.3} is above {max}", case.name());
            }
        }
        holds
    }

    /// A ratio for each case; none for a proxy alone.
    fn ratios(&self) -> Vec<Ratio> {
        let cases = self.rows.chunk_by(|one, next| one.case == next.case);
        cases
            .filter_map(|rows| match rows {
                [first, .., last] => Some(Ratio::new(first, last)),
                _ => None,
            })
            .collect()
    }
}

/// CPU per request of the first proxy of a case to the last's.
struct Ratio {
    case: Case,
    of_medians: f64,
    /// Other work nearly always adds to the cost, so this is usually less disturbed.
    of_best_rounds: f64,
}

impl Ratio {
    fn new(first: &Row, last: &Row) -> Self {
        let best = |row: &Row| row.sorted(Round::cpu_us).first().copied().unwrap_or(f64::NAN);
        Self {
            case: first.case,
            of_medians: first.median(Round::cpu_us) / last.median(Round::cpu_us),
            of_best_rounds: best(first) / best(last),
        }
    }
}

/// The middle of sorted figures, or halfway between the two in the middle.
fn median(sorted: &[f64]) -> f64 {
    let upper = sorted.get(sorted.len() / 2);
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2);
    upper.zip(lower).map_or(f64::NAN, |(upper, lower)| f64::midpoint(*upper, *lower))
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
