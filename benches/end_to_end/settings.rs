//! What is run: arguments, environment variables, and the tiny run of `cargo test --benches`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::case::{Case, Proxy};

/// Cases that the tiny run leaves out, because another shows the same with so few users.
const NOT_IN_SMOKE: [Case; 2] = [Case::Swap1, Case::Swap50000];

/// The cores of the two sides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) proxy: usize,
    pub(crate) load: usize,
}

/// All of a run.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) cases: Vec<Case>,
    /// `None`: those that a case is about, if they are there.
    pub(crate) chosen_proxies: Option<Vec<Proxy>>,
    pub(crate) rounds: usize,
    /// Measured time of one round.
    pub(crate) round: Duration,
    /// Load at the start of each round, and before the first, that is not measured: connections
    /// are made and caches of the CPU are filled.
    pub(crate) ramp: Duration,
    pub(crate) users: usize,
    /// Tokens that are seen for the first time in a round of `first-sight` and `checked`.
    pub(crate) first_tokens: usize,
    pub(crate) connections: usize,
    /// Connections on which nothing happens.
    pub(crate) idle: usize,
    pub(crate) churn: Duration,
    pub(crate) routes: usize,
    /// Requests a second of `latency`; `None`: half of what the slowest proxy can.
    pub(crate) rate: Option<f64>,
    /// `None`: wherever the kernel likes.
    pub(crate) cores: Option<Cores>,
    /// The CPU per request of the first proxy over the last's above which the run fails.
    pub(crate) max_ratio: Option<f64>,
    /// Whether the run fails if anything is not as issue 6 asks.
    pub(crate) strict: bool,
    pub(crate) gateway: PathBuf,
    pub(crate) nginx: Option<PathBuf>,
    pub(crate) envoy: Option<PathBuf>,
}

#[derive(Parser)]
#[command(
    name = "end_to_end",
    about = "What the gateway costs beside a bare hyper-util proxy, in the same run"
)]
struct Arguments {
    /// Cases of these names, or whose name contains one of them; all if none is given
    filters: Vec<String>,
    /// Rounds of each proxy in each case
    #[arg(long, env = "BENCH_ROUNDS", default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of a round
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 3.0)]
    seconds: f64,
    /// Users, each with a token of their own, in the cases that don't say how many
    #[arg(long, env = "BENCH_USERS", default_value_t = 1000)]
    users: usize,
    /// Tokens seen for the first time in a round of `first-sight` and `checked`
    #[arg(long, env = "BENCH_FIRST_TOKENS", default_value_t = 10_000)]
    first_tokens: usize,
    /// Connections, each with one request at a time
    #[arg(long, env = "BENCH_CONNECTIONS", default_value_t = 50)]
    connections: usize,
    /// Connections on which nothing happens, at most what the limit of open files has room for
    #[arg(long, env = "BENCH_IDLE", default_value_t = 9000)]
    idle: usize,
    /// Seconds of `churn`
    #[arg(long, env = "BENCH_CHURN_SECONDS", default_value_t = 300.0)]
    churn_seconds: f64,
    /// Routes of the file that `reload` has read
    #[arg(long, env = "BENCH_ROUTES", default_value_t = 10_000)]
    routes: usize,
    /// Requests a second of `latency`; half of what the slowest proxy can if not given
    #[arg(long, env = "BENCH_RATE")]
    rate: Option<f64>,
    /// Core of the proxy under test
    #[arg(long, env = "BENCH_PROXY_CORE", default_value_t = 0)]
    proxy_core: usize,
    /// Core of the load, the upstream and the provider
    #[arg(long, env = "BENCH_LOAD_CORE", default_value_t = 1)]
    load_core: usize,
    /// Proxies in the order of their turns; ratios are of the first to each of the others.
    /// Default: gateway, bare; in `swap` also nginx and Envoy, if they are there
    #[arg(long, env = "BENCH_PROXIES", value_delimiter = ',')]
    proxies: Option<Vec<Proxy>>,
    /// Exit with 1 if the ratio of CPU per request, first proxy to last, is above this in any case
    #[arg(long, env = "BENCH_MAX_RATIO")]
    max_ratio: Option<f64>,
    /// Exit with 1 if anything is not as issue 6 asks
    #[arg(long, env = "BENCH_STRICT")]
    strict: bool,
    /// The gateway to measure, in place of the one built with this bench
    #[arg(long, env = "BENCH_GATEWAY", default_value = env!("CARGO_BIN_EXE_obo-gateway"))]
    gateway: PathBuf,
    /// nginx with lua-nginx-module and lua-resty-lrucache
    #[arg(long, env = "BENCH_NGINX")]
    nginx: Option<PathBuf>,
    /// Envoy
    #[arg(long, env = "BENCH_ENVOY")]
    envoy: Option<PathBuf>,
    /// A tiny run that only shows that all of it works; the figures mean nothing
    #[arg(long)]
    test: bool,
    /// Measure (`cargo bench` says so)
    #[arg(long, hide = true)]
    bench: bool,
    #[command(flatten)]
    runner: RunnerArguments,
}

/// What test runners pass to everything they run.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of other programs")]
struct RunnerArguments {
    /// Asks for the names of tests; there are none.
    #[arg(long, hide = true)]
    list: bool,
    /// Asks for the tests that are left out otherwise; there are none.
    #[arg(long, hide = true)]
    ignored: bool,
    // Nothing here depends on the rest.
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    show_output: bool,
    #[arg(long, short, hide = true)]
    quiet: bool,
    #[arg(long, hide = true)]
    exact: bool,
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
}

impl Settings {
    /// Reads the arguments; exits with 2 if they can't be read.
    pub(crate) fn parse() -> Self {
        let arguments = Arguments::parse();
        let cases = arguments.cases();
        let settings = Self {
            cases,
            chosen_proxies: arguments.proxies,
            rounds: arguments.rounds.max(1),
            round: seconds(arguments.seconds).max(Duration::from_millis(100)),
            ramp: Duration::from_millis(300),
            users: arguments.users.max(1),
            first_tokens: arguments.first_tokens.max(100),
            connections: arguments.connections.max(1),
            idle: arguments.idle.max(1),
            churn: seconds(arguments.churn_seconds),
            routes: arguments.routes.max(1),
            rate: arguments.rate,
            cores: Some(Cores { proxy: arguments.proxy_core, load: arguments.load_core }),
            max_ratio: arguments.max_ratio,
            strict: arguments.strict,
            gateway: arguments.gateway,
            nginx: arguments.nginx,
            envoy: arguments.envoy,
        };
        // `cargo test --benches` gives no argument at all.
        if arguments.test || !arguments.bench { settings.tiny() } else { settings }
    }

    /// So little that a debug build on a busy machine is through in some seconds.
    fn tiny(self) -> Self {
        Self {
            cases: self.cases.into_iter().filter(|case| !NOT_IN_SMOKE.contains(case)).collect(),
            rounds: 1,
            round: Duration::from_millis(200),
            ramp: Duration::from_millis(50),
            users: 20,
            first_tokens: 100,
            connections: 4,
            idle: 40,
            churn: Duration::from_secs(1),
            routes: 100,
            rate: Some(100.0),
            cores: None,
            max_ratio: None,
            strict: false,
            ..self
        }
    }

    /// The proxies that take turns in `case`.
    pub(crate) fn proxies(&self, case: Case) -> Vec<Proxy> {
        if let Some(chosen) = &self.chosen_proxies {
            return chosen.clone();
        }
        let is_there = |proxy: &Proxy| match proxy {
            Proxy::Gateway | Proxy::Bare => true,
            Proxy::Nginx => case == Case::Swap && self.nginx.is_some(),
            Proxy::Envoy => case == Case::Swap && self.envoy.is_some(),
        };
        let all = [Proxy::Gateway, Proxy::Nginx, Proxy::Envoy, Proxy::Bare];
        all.into_iter().filter(is_there).collect()
    }

    /// How many users there are in `case`.
    pub(crate) fn users_of(&self, case: Case) -> usize {
        match case {
            Case::Swap1 => 1,
            Case::Swap50000 => 50_000,
            Case::FirstSight | Case::Checked => self.first_tokens,
            Case::Plain
            | Case::Swap
            | Case::TlsHttp1
            | Case::TlsHttp2
            | Case::Latency
            | Case::Down
            | Case::Up
            | Case::TwoWorkers
            | Case::IdlePlain
            | Case::IdleTls
            | Case::Churn
            | Case::Start
            | Case::Reload => self.users,
        }
    }
}

impl Arguments {
    fn cases(&self) -> Vec<Case> {
        if self.runner.list || self.runner.ignored {
            return Vec::new();
        }
        let all = Case::value_variants().iter().copied();
        let is_chosen = |case: &Case| {
            self.filters.is_empty()
                || self.filters.iter().any(|filter| {
                    let is_name = Case::value_variants().iter().any(|case| case.name() == filter);
                    case.name() == filter || (!is_name && case.name().contains(filter.as_str()))
                })
        };
        all.filter(is_chosen).collect()
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(3))
}
