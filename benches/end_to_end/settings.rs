//! What is run: arguments, environment variables, and the tiny run of `cargo test --benches`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// What a request asks of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// An open route: no token comes, none goes on.
    Plain,
    /// A token that was seen before, swapped for the cached one of its user.
    Swap,
}

impl Case {
    /// The route's name; its path is `/NAME/{user}`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Swap => "swap",
        }
    }
}

/// Who sits in the proxy's seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proxy {
    /// `obo-gateway run` with metrics and access log.
    Gateway,
    /// The proxy of `bare_proxy.rs`.
    Bare,
}

impl Proxy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Bare => "bare",
        }
    }
}

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
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) rounds: usize,
    /// Measured time of one round.
    pub(crate) round: Duration,
    pub(crate) users: usize,
    pub(crate) connections: usize,
    /// `None`: wherever the kernel likes.
    pub(crate) cores: Option<Cores>,
    /// The CPU per request of the first proxy over the last's above which the run fails.
    pub(crate) max_ratio: Option<f64>,
    pub(crate) gateway: PathBuf,
}

#[derive(Parser)]
#[command(
    name = "end_to_end",
    about = "CPU per request of the gateway beside a bare hyper-util proxy"
)]
struct Arguments {
    /// Cases whose name contains one of these; all if none is given
    filters: Vec<String>,
    /// Rounds of each proxy in each case
    #[arg(long, env = "BENCH_ROUNDS", default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of a round
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 3.0)]
    seconds: f64,
    /// Users, each with a token of their own
    #[arg(long, env = "BENCH_USERS", default_value_t = 1000)]
    users: usize,
    /// Connections, each with one request at a time
    #[arg(long, env = "BENCH_CONNECTIONS", default_value_t = 50)]
    connections: usize,
    /// Core of the proxy under test
    #[arg(long, env = "BENCH_PROXY_CORE", default_value_t = 0)]
    proxy_core: usize,
    /// Core of the load, the upstream and the provider
    #[arg(long, env = "BENCH_LOAD_CORE", default_value_t = 1)]
    load_core: usize,
    /// Proxies in the order of their turns; the ratio is of the first to the last
    #[arg(long, env = "BENCH_PROXIES", value_delimiter = ',', default_values = ["gateway", "bare"])]
    proxies: Vec<Proxy>,
    /// Exit with 1 if the ratio of CPU per request is above this in any case
    #[arg(long, env = "BENCH_MAX_RATIO")]
    max_ratio: Option<f64>,
    /// The gateway to measure, in place of the one built with this bench
    #[arg(long, env = "BENCH_GATEWAY", default_value = env!("CARGO_BIN_EXE_obo-gateway"))]
    gateway: PathBuf,
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
        let chosen = |case: &Case| {
            let filters = &arguments.filters;
            filters.is_empty() || filters.iter().any(|filter| case.name().contains(filter.as_str()))
        };
        let cases = if arguments.runner.list || arguments.runner.ignored {
            Vec::new()
        } else {
            Case::value_variants().iter().copied().filter(chosen).collect()
        };
        // `cargo test --benches` gives no argument at all.
        let smoke = arguments.test || !arguments.bench;
        if smoke {
            return Self {
                cases,
                proxies: arguments.proxies,
                rounds: 1,
                round: Duration::from_millis(200),
                users: 20,
                connections: 4,
                cores: None,
                max_ratio: None,
                gateway: arguments.gateway,
            };
        }
        Self {
            cases,
            proxies: arguments.proxies,
            rounds: arguments.rounds.max(1),
            round: Duration::try_from_secs_f64(arguments.seconds)
                .unwrap_or(Duration::from_secs(3))
                .max(Duration::from_millis(100)),
            users: arguments.users.max(1),
            connections: arguments.connections.max(1),
            cores: Some(Cores { proxy: arguments.proxy_core, load: arguments.load_core }),
            max_ratio: arguments.max_ratio,
            gateway: arguments.gateway,
        }
    }
}
