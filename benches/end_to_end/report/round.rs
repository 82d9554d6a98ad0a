//! What a round gave, and the medians over all rounds of a proxy.

use std::time::Duration;

use crate::process::CpuTime;

/// What the measured time of one round gave.
pub(crate) struct Round {
    elapsed: Duration,
    proxy: CpuTime,
    load: CpuTime,
    /// Sorted.
    latencies: Vec<Duration>,
}

/// All rounds of one proxy in one case.
#[derive(Default)]
pub(crate) struct Rounds(Vec<Round>);

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

    /// The part of it that is the proxy's own code.
    pub(crate) fn user_us(&self) -> f64 {
        self.us_per_request(self.proxy.user)
    }

    /// The part of it that is the kernel's.
    pub(crate) fn system_us(&self) -> f64 {
        self.us_per_request(self.proxy.system)
    }

    /// CPU seconds of the proxy for 10^9 bytes, where each request carries `bytes`.
    pub(crate) fn cpu_seconds_per_gb(&self, bytes: usize) -> f64 {
        self.proxy.total().as_secs_f64() * 1e9 / (self.requests() * to_float(bytes))
    }

    /// Gigabits a second, where each request carries `bytes`.
    pub(crate) fn gigabits_per_second(&self, bytes: usize) -> f64 {
        self.per_second() * to_float(bytes) * 8.0 / 1e9
    }

    /// Requests per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.requests() / self.elapsed.as_secs_f64()
    }

    /// The latency in microseconds that `per_mille` of all requests stay below.
    pub(crate) fn latency_us(&self, per_mille: usize) -> f64 {
        let place = self.latencies.len().saturating_sub(1) * per_mille / 1000;
        self.latencies.get(place).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
    }

    /// How busy the proxy's core was.
    pub(crate) fn proxy_percent(&self) -> f64 {
        self.busy_percent(self.proxy)
    }

    /// How busy the load's core was.
    pub(crate) fn load_percent(&self) -> f64 {
        self.busy_percent(self.load)
    }

    fn us_per_request(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.requests()
    }

    fn requests(&self) -> f64 {
        to_float(self.latencies.len())
    }

    fn busy_percent(&self, time: CpuTime) -> f64 {
        100.0 * time.total().as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

impl Rounds {
    pub(crate) fn push(&mut self, round: Round) {
        self.0.push(round);
    }

    /// The median of `figure` over the rounds.
    pub(crate) fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        median(self.0.iter().map(figure).collect())
    }

    /// The smallest and the largest.
    pub(crate) fn range(&self, figure: impl Fn(&Round) -> f64) -> (f64, f64) {
        let figures = || self.0.iter().map(&figure);
        (figures().fold(f64::INFINITY, f64::min), figures().fold(f64::NEG_INFINITY, f64::max))
    }
}

/// The middle of `figures`, or halfway between the two in the middle.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    let upper = figures.get(figures.len() / 2);
    let lower = figures.get(figures.len().saturating_sub(1) / 2);
    upper.zip(lower).map_or(f64::NAN, |(upper, lower)| f64::midpoint(*upper, *lower))
}

#[expect(clippy::cast_precision_loss, reason = "nothing that is counted here reaches 2^52")]
fn to_float(count: usize) -> f64 {
    count as f64
}
