//! The cases of the closed loop: CPU per request, or per byte, of proxies that take turns.

use crate::case::{Case, Payload, Proxy};
use crate::contest::{Contestant, say_round};
use crate::process;
use crate::report::{self, Bound, Kind, Round, Rounds, Section, Verdict};
use crate::settings::Settings;
use crate::{Failure, World};

/// A core that is less busy than this had a reason to wait.
const BUSY_PERCENT: f64 = 90.0;

/// A contestant and what it gave.
struct Row {
    name: String,
    proxy: Proxy,
    rounds: Rounds,
    peak_mib: String,
    /// Of a user whose tokens are cached; only where there are many.
    kib_a_user: Option<f64>,
    wrong: u64,
}

/// Runs one case with fresh proxies.
pub(crate) async fn run(
    settings: &Settings,
    case: Case,
    world: &World,
) -> Result<Section, Failure> {
    let mut contestants = Vec::new();
    for (proxy, workers) in lineup(settings, case) {
        report::progress(&format!("{}: starting and warming up {}", case.name(), proxy.name()));
        let contestant = Contestant::start(settings, case, proxy, workers, world).await?;
        let before = process::memory_kib_of(contestant.seat.pid())?;
        contestant.warm_up(settings, world).await?;
        let grown = process::memory_kib_of(contestant.seat.pid())?.saturating_sub(before);
        contestants.push((contestant, Rounds::default(), grown));
    }
    for number in 1..=settings.rounds {
        for (contestant, rounds, _) in &mut contestants {
            let round = contestant.round(settings, world).await?;
            say_round(settings, contestant, number, &round);
            rounds.push(round);
        }
    }
    let mut rows = Vec::new();
    for (contestant, rounds, grown_kib) in contestants {
        contestant.finish().await?;
        let kib_a_user = (case == Case::Swap50000)
            .then(|| to_float(grown_kib) / to_float(contestant.load.users()));
        rows.push(Row {
            name: contestant.name(),
            proxy: contestant.proxy,
            rounds,
            peak_mib: contestant.peak_mib()?,
            kib_a_user,
            wrong: contestant.load.wrong(),
        });
    }
    Ok(section(case, world, &rows))
}

/// Who takes turns, with how many workers.
fn lineup(settings: &Settings, case: Case) -> Vec<(Proxy, usize)> {
    if case == Case::TwoWorkers {
        return vec![(Proxy::Gateway, 2), (Proxy::Gateway, 1)];
    }
    settings.proxies(case).into_iter().map(|proxy| (proxy, 1)).collect()
}

fn section(case: Case, world: &World, rows: &[Row]) -> Section {
    let mut section = match case.payload() {
        Payload::Small => per_request(case, rows),
        Payload::Down | Payload::Up => per_byte(case, rows),
    };
    if case.payload() == Payload::Small && case != Case::TwoWorkers {
        judge_ratios(&mut section, rows);
    }
    if case == Case::TwoWorkers {
        judge_two_workers(&mut section, rows);
    }
    let waited = |row: &Row| row.rounds.median(Round::proxy_percent) < BUSY_PERCENT;
    if case.payload() == Payload::Small && rows.iter().any(waited) {
        section.doubts.push(format!(
            "A proxy did not have its core to itself, or had too little to do: with the load's core \
             below {BUSY_PERCENT} % too, other work ran on this machine. Absolute figures are too \
             high then, and requests/s and latencies mean little."
        ));
    }
    judge_memory(&mut section, world, rows);
    section
}

fn per_request(case: Case, rows: &[Row]) -> Section {
    let about = "Closed loop; medians of the rounds.".to_owned();
    let head = vec![
        "proxy",
        "CPU us/req",
        "min-max",
        "user",
        "system",
        "req/s",
        "p50 us",
        "p99 us",
        "peak MiB",
        "proxy core %",
        "load core %",
        "wrong answers",
    ];
    let mut section = Section::new(case, about, head);
    for row in rows {
        let median = |figure: fn(&Round) -> f64| row.rounds.median(figure);
        let (least, most) = row.rounds.range(Round::cpu_us);
        section.rows.push(vec![
            row.name.clone(),
            format!("{:.2}", median(Round::cpu_us)),
            format!("{least:.2}-{most:.2}"),
            format!("{:.2}", median(Round::user_us)),
            format!("{:.2}", median(Round::system_us)),
            format!("{:.0}", median(Round::per_second)),
            format!("{:.0}", median(|round| round.latency_us(500))),
            format!("{:.0}", median(|round| round.latency_us(990))),
            row.peak_mib.clone(),
            format!("{:.0}", median(Round::proxy_percent)),
            format!("{:.0}", median(Round::load_percent)),
            row.wrong.to_string(),
        ]);
    }
    section
}

fn per_byte(case: Case, rows: &[Row]) -> Section {
    let bytes = case.payload().answer_bytes().max(case.payload().upload_bytes());
    let about = format!("Closed loop, {bytes} bytes each; medians of the rounds.");
    let head = vec![
        "proxy",
        "CPU s/GB",
        "Gbit/s",
        "peak MiB",
        "proxy core %",
        "load core %",
        "wrong answers",
    ];
    let mut section = Section::new(case, about, head);
    let speed = |row: &Row| row.rounds.median(|round| round.gigabits_per_second(bytes));
    let cost = |row: &Row| row.rounds.median(|round| round.cpu_seconds_per_gb(bytes));
    for row in rows {
        section.rows.push(vec![
            row.name.clone(),
            format!("{:.3}", cost(row)),
            format!("{:.2}", speed(row)),
            row.peak_mib.clone(),
            format!("{:.0}", row.rounds.median(Round::proxy_percent)),
            format!("{:.0}", row.rounds.median(Round::load_percent)),
            row.wrong.to_string(),
        ]);
    }
    if let [first, .., last] = rows {
        let names = format!("{} to {}", first.name, last.name);
        let ratio = speed(first) / speed(last);
        section.judge(format!("throughput, {names}"), ratio, Bound::AtLeast(0.95));
        section.judge(format!("CPU s/GB, {names}"), cost(first) / cost(last), Bound::None);
    }
    section
}

/// CPU per request of the first proxy to each of the others'.
fn judge_ratios(section: &mut Section, rows: &[Row]) {
    let Some((first, others)) = rows.split_first() else { return };
    for (index, other) in others.iter().enumerate() {
        let is_last = index + 1 == others.len();
        let bound = match (first.proxy, other.proxy) {
            (Proxy::Gateway, Proxy::Bare) => Bound::AtMost(1.15),
            (Proxy::Gateway, Proxy::Nginx) => Bound::Below(1.0),
            (Proxy::Gateway, Proxy::Envoy) => Bound::AtMost(0.45),
            (Proxy::Gateway, Proxy::Gateway) | (Proxy::Bare | Proxy::Nginx | Proxy::Envoy, _) => {
                Bound::None
            }
        };
        // Other work nearly always adds to the cost, so the best rounds are usually less disturbed.
        let best = |row: &Row| row.rounds.range(Round::cpu_us).0;
        section.verdicts.push(Verdict {
            what: format!("CPU per request, {} to {}", first.name, other.name),
            value: first.rounds.median(Round::cpu_us) / other.rounds.median(Round::cpu_us),
            bound,
            kind: if is_last { Kind::CpuRatio } else { Kind::Other },
            beside: format!("{:.3} of the best rounds", best(first) / best(other)),
        });
    }
}

fn judge_two_workers(section: &mut Section, rows: &[Row]) {
    if let [two, one] = rows {
        let cost = |row: &Row| row.rounds.median(Round::cpu_us);
        let times = 2.0 * cost(one) / cost(two);
        section.judge(
            "what two cores give, by CPU per request, times one",
            times,
            Bound::AtLeast(1.8),
        );
        "Two workers have both cores, one of them shared with the load; one worker has its own."
            .clone_into(&mut section.about);
    }
}

fn judge_memory(section: &mut Section, world: &World, rows: &[Row]) {
    let Some(user) = world.users.numbered(0) else { return };
    let outbound = to_float(user.outbound.len() as u64) / 1024.0;
    let inbound = to_float(user.inbound.len() as u64) / 1024.0;
    for row in rows {
        let Some(kib) = row.kib_a_user else { continue };
        let bound = if row.proxy == Proxy::Gateway { Bound::AtMost(3.0) } else { Bound::None };
        let beside = format!(
            "{kib:.2} in all, warm-up's connections included; tokens of {inbound:.2} in and {outbound:.2} out, of which the second is taken off"
        );
        section.verdicts.push(Verdict {
            what: format!("KiB of a cached user and upstream beside the token, {}", row.name),
            value: kib - outbound,
            bound,
            kind: Kind::Other,
            beside,
        });
    }
}

#[expect(clippy::cast_precision_loss, reason = "nothing that is counted here reaches 2^52")]
fn to_float(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or(0) as f64
}
