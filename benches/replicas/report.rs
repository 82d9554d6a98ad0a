//! The tables.

use std::time::Duration;

use crate::settings::Settings;
use crate::tally::{Minute, Operation, Outcome, Tally};
use crate::world::World;

/// A world that ran, with what it is called.
pub(crate) struct Ran {
    pub(crate) name: &'static str,
    pub(crate) tally: Tally,
    /// The most tokens that Redis had at a time.
    pub(crate) most_shared: Option<usize>,
}

impl Ran {
    pub(crate) fn new(name: &'static str, world: World) -> Self {
        let most_shared = world.store.as_ref().map(|store| store.most);
        Self { name, tally: world.tally, most_shared }
    }
}

/// A stretch of minutes with something in it.
struct Phase {
    name: &'static str,
    from: usize,
    to: usize,
}

/// What is simulated, in a line or two.
pub(crate) fn print_conditions(settings: &Settings) {
    let Settings { seed, replicas, users, upstreams, rate, provider_rate, .. } = settings;
    println!(
        "{replicas} replicas, {users} users, {upstreams} upstreams, {rate} requests/s; the provider grants {provider_rate} exchanges/s \
         for each upstream's scopes, else 429 with Retry-After {} s; tokens live {} min, those of callers {} min, both give or take \
         {} %; seed {seed}",
        settings.retry_after.as_secs(),
        settings.token_life.as_secs() / 60,
        settings.inbound_life.as_secs() / 60,
        settings.life_spread,
    );
}

/// One row for each minute.
pub(crate) fn print_minutes(settings: &Settings, ran: &Ran) {
    println!("\n{}\n", ran.name);
    println!(
        "| minute | requests | memory | shared | coalesced | exchanged | stale | refused | failed | exchanges | 429 | 5xx | Redis ops | |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|");
    for nth in 0..settings.minutes as usize {
        let minute = ran.tally.minutes.get(nth).copied().unwrap_or_default();
        println!("| {nth} | {} | {} |", cells(&minute), happenings(settings, nth));
    }
    let all = ran.tally.sum(0, usize::MAX);
    println!("| all | {} | |", cells(&all));
}

fn cells(minute: &Minute) -> String {
    let of = |outcome| minute.of(outcome);
    let cells = [
        minute.requests,
        of(Outcome::Memory),
        of(Outcome::Shared),
        of(Outcome::Coalesced),
        of(Outcome::Exchanged),
        of(Outcome::Stale),
        of(Outcome::Refused),
        of(Outcome::Failed),
        minute.calls,
        minute.throttled,
        minute.down,
        minute.all_operations(),
    ];
    cells.map(|cell| cell.to_string()).join(" | ")
}

/// What happens in a minute.
fn happenings(settings: &Settings, minute: usize) -> String {
    let (from, to) = (Duration::from_mins(minute as u64), Duration::from_mins(minute as u64 + 1));
    let restarts = settings.restart_at.0.map_or(0, |begin| {
        let at = |nth| begin + settings.restart_every * nth;
        (0..settings.replicas).filter(|nth| (from..to).contains(&at(*nth))).count()
    });
    let overlaps = |begin: Option<Duration>, takes| {
        begin.is_some_and(|begin| begin < to && begin + takes > from)
    };
    let mut texts = Vec::new();
    if restarts > 0 {
        texts.push(format!("{restarts} restarted"));
    }
    if overlaps(settings.outage_at.0, settings.outage_takes) {
        texts.push("provider down".to_owned());
    }
    if overlaps(settings.redis_down_at.0, settings.redis_down_takes) {
        texts.push("Redis down".to_owned());
    }
    texts.join(", ")
}

/// The worlds side by side.
pub(crate) fn print_summary(settings: &Settings, worlds: &[Ran]) {
    println!("\nSummary\n");
    println!(
        "| | | requests | exchanges | exchanges/s | most in a second | 429 | failed | failed of a million | Redis ops/s | longest wait ms |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for phase in phases(settings) {
        for ran in worlds {
            let sum = ran.tally.sum(phase.from, phase.to);
            let seconds = (phase.to - phase.from) as f64 * 60.0;
            let calls = &ran.tally.calls_by_second;
            let most =
                calls.iter().take(phase.to * 60).skip(phase.from * 60).max().copied().unwrap_or(0);
            let failed = sum.of(Outcome::Failed);
            println!(
                "| {} | {} | {} | {} | {:.1} | {most} | {} | {failed} | {:.0} | {:.1} | {} |",
                phase.name,
                ran.name,
                sum.requests,
                sum.calls,
                sum.calls as f64 / seconds,
                sum.throttled,
                failed as f64 * 1e6 / sum.requests.max(1) as f64,
                sum.all_operations() as f64 / seconds,
                sum.longest.as_millis(),
            );
        }
    }
    for ran in worlds {
        let Some(most) = ran.most_shared else { continue };
        let sum = ran.tally.sum(0, usize::MAX);
        let of = |operation| sum.operations[operation as usize];
        println!(
            "\n{}: at most {most} tokens in Redis; operations: {} claims, {} holds, {} stores, {} releases, {} pings; {} calls for a \
             token that was being asked for already",
            ran.name,
            of(Operation::Claim),
            of(Operation::Hold),
            of(Operation::Store),
            of(Operation::Release),
            of(Operation::Ping),
            ran.tally.doubles,
        );
    }
}

/// From the begin of each event to that of the next one.
fn phases(settings: &Settings) -> Vec<Phase> {
    let minutes = settings.minutes as usize;
    let events = [
        ("rolling restart", settings.restart_at),
        ("provider down", settings.outage_at),
        ("Redis down", settings.redis_down_at),
    ];
    let mut begins = vec![(0, "steady")];
    begins.extend(events.into_iter().filter_map(|(name, when)| {
        Some(((when.0?.as_secs() / 60) as usize, name)).filter(|(from, _)| *from < minutes)
    }));
    begins.sort_by_key(|(from, _)| *from);
    let ends: Vec<usize> = begins.iter().skip(1).map(|(from, _)| *from).chain([minutes]).collect();
    let phases = begins.into_iter().zip(ends).filter(|((from, _), to)| from < to);
    let mut phases: Vec<Phase> =
        phases.map(|((from, name), to)| Phase { name, from, to }).collect();
    phases.push(Phase { name: "all", from: 0, to: minutes });
    phases
}
