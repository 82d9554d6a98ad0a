//! What is simulated: the arguments, each with its unit.

use std::time::Duration;

use clap::{Parser, ValueEnum};

/// All of a run.
#[expect(clippy::struct_excessive_bools, reason = "flags")]
#[derive(Clone, Debug, Parser)]
#[command(
    name = "replicas",
    about = "Replicas, users and a provider that throttles, in virtual time: what sharing tokens saves"
)]
pub(crate) struct Settings {
    /// What all chance comes from: the same seed, the same tables
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// What is run
    #[arg(long, value_enum, default_value_t = Mode::Both)]
    pub(crate) mode: Mode,
    /// Replicas; each request goes to any of those in service
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) replicas: u32,
    /// A user's requests go to one replica, while it is in service
    #[arg(long)]
    pub(crate) affinity: bool,
    /// Users, each with a token of their own at a time
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) users: u32,
    /// Upstreams, each with scopes of its own; a request goes to any of them
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) upstreams: u8,
    /// Requests a second; they come at random (Poisson)
    #[arg(long, default_value_t = 1000.0, value_parser = positive)]
    pub(crate) rate: f64,
    /// How unequal users are: their rates are log-normal with this sigma. 0: all alike; 1.5: a tenth
    /// of them send more than half of all requests
    #[arg(long, default_value_t = 1.5, value_parser = positive_or_none)]
    pub(crate) heavy: f64,
    /// Minutes of the tables
    #[arg(long, default_value_t = 40)]
    pub(crate) minutes: u32,
    /// Minutes before them that are not counted, in which the provider throttles nobody
    #[arg(long, default_value = "75", value_parser = minutes)]
    pub(crate) warm_up: Duration,
    /// Minutes that a caller's token lives; clients get a new one five minutes before its end
    #[arg(long, default_value = "75", value_parser = minutes)]
    pub(crate) inbound_life: Duration,
    /// Minutes that an outbound token lives
    #[arg(long, default_value = "75", value_parser = minutes)]
    pub(crate) token_life: Duration,
    /// By how many percent both lives differ, up or down (Entra: 60 to 90 minutes)
    #[arg(long, default_value_t = 20.0, value_parser = percent)]
    pub(crate) life_spread: f64,
    /// Tokens that a replica keeps in memory at most (`cache.max_entries`)
    #[arg(long, default_value_t = 100_000)]
    pub(crate) max_entries: usize,
    /// Exchanges of a replica that are under way at most (`max_in_flight`)
    #[arg(long, default_value_t = obo_gateway::authn::ProviderSettings::DEFAULT_MAX_IN_FLIGHT)]
    pub(crate) max_in_flight: usize,
    /// Milliseconds that the provider takes: a quarter at least, the rest by chance (exponential)
    #[arg(long, default_value = "250", value_parser = milliseconds)]
    pub(crate) latency: Duration,
    /// Exchanges a second that the provider grants for each upstream's scopes; more are a 429
    #[arg(long, default_value_t = 100.0, value_parser = positive)]
    pub(crate) provider_rate: f64,
    /// Seconds of `Retry-After` of a 429
    #[arg(long, default_value = "60", value_parser = seconds)]
    pub(crate) retry_after: Duration,
    /// Percent of the users whom the provider refuses
    #[arg(long, default_value_t = 0.0, value_parser = percent)]
    pub(crate) refused: f64,
    /// Milliseconds of a round trip to Redis
    #[arg(long, default_value = "0.5", value_parser = milliseconds)]
    pub(crate) redis_latency: Duration,
    /// Milliseconds after which Redis counts as not there (`cache.redis.timeout`)
    #[arg(long, default_value = "50", value_parser = milliseconds)]
    pub(crate) redis_timeout: Duration,
    /// Minute of the tables in which a rolling restart begins, or `never`
    #[arg(long, default_value = "10", value_parser = when)]
    pub(crate) restart_at: When,
    /// Seconds between one replica's restart and the next one's
    #[arg(long, default_value = "45", value_parser = seconds)]
    pub(crate) restart_every: Duration,
    /// Seconds that a replica is out of service
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub(crate) restart_takes: Duration,
    /// Minute of the tables in which the provider goes down, or `never`
    #[arg(long, default_value = "22", value_parser = when)]
    pub(crate) outage_at: When,
    /// Minutes that it is down
    #[arg(long, default_value = "3", value_parser = minutes)]
    pub(crate) outage_takes: Duration,
    /// While it is down it says nothing for ten seconds, rather than a 5xx
    #[arg(long)]
    pub(crate) outage_hangs: bool,
    /// Minute of the tables in which Redis goes down and comes back empty, or `never`
    #[arg(long, default_value = "32", value_parser = when)]
    pub(crate) redis_down_at: When,
    /// Minutes that it is down
    #[arg(long, default_value = "3", value_parser = minutes)]
    pub(crate) redis_down_takes: Duration,
    /// Only check the simulation itself (so does `cargo test --benches`)
    #[arg(long)]
    pub(crate) test: bool,
    /// Keep the names of all tokens asked for, and count them.
    #[arg(skip)]
    pub(crate) counts_keys: bool,
    #[command(flatten)]
    pub(crate) runner: RunnerArguments,
}

/// What cargo and test runners pass to everything they run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RunnerArguments {
    /// Measure (`cargo bench` says so).
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
    /// Asks for the names of tests; there are none.
    #[arg(long, hide = true)]
    pub(crate) list: bool,
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
    #[arg(hide = true)]
    filters: Vec<String>,
}

/// Which worlds are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Each replica by itself, then all with Redis, with the same requests
    Both,
    /// Each replica by itself
    Alone,
    /// All with Redis
    Shared,
}

/// When something begins, from minute 0 of the tables on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct When(pub(crate) Option<Duration>);

impl Settings {
    /// Whether only the checks are run: `cargo test --benches` gives no argument at all.
    pub(crate) fn only_checks(&self) -> bool {
        self.test || !self.runner.bench
    }

    /// When all is over, the warm-up included.
    pub(crate) fn end(&self) -> Duration {
        self.warm_up + Duration::from_mins(self.minutes.into())
    }

    /// When `event` begins, the warm-up included.
    pub(crate) fn begin(&self, event: When) -> Option<Duration> {
        Some(self.warm_up + event.0?)
    }
}

fn number(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|error| format!("`{text}`: {error}"))?;
    if number.is_finite() && (0.0..=1e9).contains(&number) {
        Ok(number)
    } else {
        Err(format!("`{text}` is not between 0 and 1e9"))
    }
}

fn positive_or_none(text: &str) -> Result<f64, String> {
    number(text)
}

fn positive(text: &str) -> Result<f64, String> {
    number(text).and_then(|it| if it > 0.0 { Ok(it) } else { Err("it must be above 0".into()) })
}

fn percent(text: &str) -> Result<f64, String> {
    number(text).and_then(|it| if it < 100.0 { Ok(it) } else { Err("it must be below 100".into()) })
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    number(text).map(|it| Duration::from_secs_f64(it / 1000.0))
}

fn seconds(text: &str) -> Result<Duration, String> {
    number(text).map(Duration::from_secs_f64)
}

fn minutes(text: &str) -> Result<Duration, String> {
    number(text).map(|it| Duration::from_secs_f64(it * 60.0))
}

fn when(text: &str) -> Result<When, String> {
    if text == "never" { Ok(When(None)) } else { minutes(text).map(|at| When(Some(at))) }
}
