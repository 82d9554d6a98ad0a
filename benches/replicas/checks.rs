//! What must hold of the simulation, on small worlds: each check is a claim about the whole, and
//! fails if a rule is broken anywhere.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::settings::{Settings, When};
use crate::tally::{Minute, Outcome};
use crate::world::World;

type Check = fn() -> Result<(), String>;

const CHECKS: [(&str, Check); 9] = [
    ("every_request_has_one_outcome", every_request_has_one_outcome),
    ("one_exchange_for_each_token_where_all_share", one_exchange_for_each_token_where_all_share),
    ("alone_each_replica_makes_its_own", alone_each_replica_makes_its_own),
    ("a_restart_costs_nothing_where_all_share", a_restart_costs_nothing_where_all_share),
    ("one_replica_renews_for_all", one_replica_renews_for_all),
    ("the_provider_grants_no_more_than_its_rate", the_provider_grants_no_more_than_its_rate),
    ("an_outage_is_over_when_it_is_over", an_outage_is_over_when_it_is_over),
    (
        "without_redis_nothing_fails_and_it_is_left_alone",
        without_redis_nothing_fails_and_it_is_left_alone,
    ),
    ("a_seed_is_a_run", a_seed_is_a_run),
];

/// Runs them all, and says which failed.
pub(crate) fn run() -> ExitCode {
    let mut all_hold = true;
    for (name, check) in CHECKS {
        match check() {
            Ok(()) => println!("{name}: ok"),
            Err(why) => {
                eprintln!("{name}: FAILED: {why}");
                all_hold = false;
            }
        }
    }
    if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A small world in which nothing happens: 60 tokens, ten minutes, nothing throttled.
fn quiet() -> Settings {
    let arguments = [
        "replicas",
        "--replicas",
        "3",
        "--users",
        "20",
        "--upstreams",
        "3",
        "--rate",
        "20",
        "--heavy",
        "0.5",
        "--minutes",
        "10",
        "--warm-up",
        "0",
        "--inbound-life",
        "10000",
        "--token-life",
        "10000",
        "--life-spread",
        "0",
        "--provider-rate",
        "1000",
        "--restart-at",
        "never",
        "--outage-at",
        "never",
        "--redis-down-at",
        "never",
    ];
    Settings { counts_keys: true, ..Settings::parse_from(arguments) }
}

/// Everything at once: tokens of minutes, a narrow provider, restarts and both outages.
fn rough() -> Settings {
    Settings {
        users: 200,
        rate: 100.0,
        minutes: 30,
        inbound_life: Duration::from_mins(12),
        token_life: Duration::from_mins(5),
        life_spread: 20.0,
        provider_rate: 1.0,
        max_in_flight: 2,
        max_entries: 100,
        refused: 5.0,
        restart_at: minute(5),
        outage_at: minute(12),
        redis_down_at: minute(20),
        ..quiet()
    }
}

fn minute(nth: u64) -> When {
    When(Some(Duration::from_mins(nth)))
}

fn ran(settings: &Settings, shares: bool) -> (World, Minute) {
    let world = World::new(settings, shares).run();
    let sum = world.tally.sum(0, usize::MAX);
    (world, sum)
}

fn holds(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn every_request_has_one_outcome() -> Result<(), String> {
    for hangs in [false, true] {
        for shares in [false, true] {
            let settings = Settings { outage_hangs: hangs, ..rough() };
            let (world, sum) = ran(&settings, shares);
            let which = |what: &str| format!("shared {shares}, hangs {hangs}: {what}: {sum:?}");
            for (nth, minute) in world.tally.minutes.iter().enumerate() {
                holds(minute.requests == minute.all_outcomes(), || {
                    which(&format!("minute {nth}: {minute:?}"))
                })?;
            }
            holds(sum.requests > 100_000, || which("few requests"))?;
            for outcome in [
                Outcome::Memory,
                Outcome::Stale,
                Outcome::Coalesced,
                Outcome::Exchanged,
                Outcome::Refused,
                Outcome::Failed,
            ] {
                holds(sum.of(outcome) > 0, || which(&format!("no {outcome:?}")))?;
            }
            holds((sum.of(Outcome::Shared) > 0) == shares, || which("what is shared"))?;
            holds((sum.all_operations() > 0) == shares, || which("operations on Redis"))?;
            holds(world.courses.is_empty() && world.calls_for.is_empty(), || {
                which("something is under way at the end")
            })?;
        }
    }
    Ok(())
}

fn one_exchange_for_each_token_where_all_share() -> Result<(), String> {
    let (world, sum) = ran(&quiet(), true);
    let tokens = world.asked_for.len() as u64;
    holds(tokens == 60, || format!("{tokens} tokens were asked for: 20 users, 3 upstreams"))?;
    holds(sum.calls == 60 && sum.granted == 60, || format!("60 tokens: {sum:?}"))?;
    // Over several lives of callers' tokens, each of which is exchanged once.
    let settings = Settings { inbound_life: Duration::from_mins(20), minutes: 60, ..quiet() };
    let (world, sum) = ran(&settings, true);
    let tokens = world.asked_for.len() as u64;
    holds(tokens > 200, || format!("{tokens} tokens in four lives"))?;
    holds(sum.calls == tokens, || format!("{tokens} tokens: {sum:?}"))?;
    holds(world.tally.doubles == 0, || format!("{} calls beside another", world.tally.doubles))
}

fn alone_each_replica_makes_its_own() -> Result<(), String> {
    let (_, sum) = ran(&quiet(), false);
    holds(sum.calls == 180, || format!("60 tokens on 3 replicas: {sum:?}"))?;
    holds(sum.of(Outcome::Exchanged) == 180, || format!("each for a request: {sum:?}"))
}

fn a_restart_costs_nothing_where_all_share() -> Result<(), String> {
    let settings = Settings { restart_at: minute(5), minutes: 20, ..quiet() };
    let (_, shared) = ran(&settings, true);
    holds(shared.calls == 60, || format!("60 tokens: {shared:?}"))?;
    holds(shared.of(Outcome::Failed) == 0, || format!("none fails: {shared:?}"))?;
    let (_, alone) = ran(&settings, false);
    holds(alone.calls == 360, || format!("60 tokens on 3 replicas, twice: {alone:?}"))
}

fn one_replica_renews_for_all() -> Result<(), String> {
    let settings = Settings { token_life: Duration::from_mins(20), minutes: 120, ..quiet() };
    let ((world, shared), (_, alone)) = (ran(&settings, true), ran(&settings, false));
    holds(world.tally.doubles == 0, || format!("{} calls beside another", world.tally.doubles))?;
    // Each token is renewed at about three quarters of its life, so eight times, and no sooner than
    // at two thirds: nine times.
    let each = shared.calls as f64 / 60.0;
    holds((7.0..=10.0).contains(&each), || format!("{each} exchanges for each token in 6 lives"))?;
    holds(alone.calls as f64 > 2.5 * shared.calls as f64, || {
        format!("{} alone, {} shared", alone.calls, shared.calls)
    })?;
    // Nobody waits for a renewal.
    holds(shared.of(Outcome::Exchanged) == 60, || format!("first ones only: {shared:?}"))
}

fn the_provider_grants_no_more_than_its_rate() -> Result<(), String> {
    let settings = Settings { outage_at: When(None), ..rough() };
    for shares in [false, true] {
        let (_, sum) = ran(&settings, shares);
        // One a second for each of three upstreams, and one that was left from before.
        let most = 3 * (30 * 60 + 15 + 1);
        holds(sum.granted <= most, || format!("{} granted of {most}", sum.granted))?;
        holds(sum.throttled > 0, || format!("it never throttles: {sum:?}"))?;
        holds(sum.granted + sum.throttled <= sum.calls, || format!("answers to no call: {sum:?}"))?;
    }
    Ok(())
}

fn an_outage_is_over_when_it_is_over() -> Result<(), String> {
    let settings = Settings {
        users: 400,
        rate: 200.0,
        inbound_life: Duration::from_mins(20),
        minutes: 30,
        outage_at: minute(10),
        // Of no good to those who keep their tokens for themselves.
        restart_at: minute(10),
        ..quiet()
    };
    let failed = |world: &World, from, to| world.tally.sum(from, to).of(Outcome::Failed);
    let ((shared, _), (alone, _)) = (ran(&settings, true), ran(&settings, false));
    for world in [&shared, &alone] {
        holds(failed(world, 0, 10) == 0 && failed(world, 14, 30) == 0, || {
            "some fail before or after it".to_owned()
        })?;
    }
    let (of_shared, of_alone) = (failed(&shared, 10, 14), failed(&alone, 10, 14));
    holds(of_shared * 2 < of_alone, || format!("{of_shared} failed shared, {of_alone} alone"))?;
    // Breakers: of three replicas and three scopes, each of which asks every five seconds at most, once
    // enough different callers have failed.
    let calls = alone.tally.sum(12, 13).calls;
    let most = 9 * 60 / 5;
    holds(calls > 0 && calls <= most, || {
        format!("{calls} calls of {most} to a provider that is down")
    })
}

fn without_redis_nothing_fails_and_it_is_left_alone() -> Result<(), String> {
    let settings = Settings {
        users: 2000,
        rate: 100.0,
        redis_down_at: minute(4),
        restart_at: minute(5),
        minutes: 20,
        ..quiet()
    };
    let (world, sum) = ran(&settings, true);
    holds(sum.of(Outcome::Failed) == 0, || format!("none fails: {sum:?}"))?;
    // Each token at most once more for each replica and its successor.
    let tokens = world.asked_for.len() as u64;
    holds(sum.calls > tokens && sum.calls <= tokens * 7, || format!("{tokens} tokens: {sum:?}"))?;
    // Thousands ask for tokens meanwhile. Each of six replicas fails a few times, with what is under way
    // then, and tries to connect after 0.1 s to 5 s.
    let down = world.tally.sum(4, 7);
    let (asked, operations) = (down.of(Outcome::Exchanged), down.all_operations());
    let most = 6 * (20 + 6 + 180 / 2);
    holds(asked > 2000 && operations > 0 && operations <= most, || {
        format!("{operations} operations of {most} while it is down, {asked} exchanges")
    })?;
    let most = settings.redis_timeout + settings.latency * 20;
    holds(down.longest < most, || format!("somebody waited for {:?}", down.longest))
}

fn a_seed_is_a_run() -> Result<(), String> {
    let tally = |seed| ran(&Settings { seed, ..rough() }, true).0.tally;
    holds(tally(7) == tally(7), || "two runs of one seed differ".to_owned())?;
    holds(tally(7) != tally(8), || "two seeds give the same run".to_owned())
}
