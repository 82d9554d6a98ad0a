//! What proxies add to the latency at half load: an open loop with Poisson arrivals, against the
//! direct line to the upstream in the same run.

use crate::case::{Case, Transport};
use crate::contest::Contestant;
use crate::load::{Asked, Bearer, Lanes, Load, To};
use crate::process::CpuTime;
use crate::report::{self, Bound, Round, Rounds, Section};
use crate::settings::Settings;
use crate::{Failure, World};

/// The percentiles, per mille, that are compared.
const PERCENTILES: [(usize, &str); 3] = [(500, "p50"), (990, "p99"), (999, "p99.9")];

/// Runs the case.
pub(crate) async fn run(settings: &Settings, world: &World) -> Result<Section, Failure> {
    let case = Case::Latency;
    let mut contestants = Vec::new();
    let mut slowest = f64::INFINITY;
    for proxy in settings.proxies(case) {
        let contestant = Contestant::start(settings, case, proxy, 1, world).await?;
        contestant.warm_up(settings, world).await?;
        if settings.rate.is_none() {
            slowest = slowest.min(contestant.round(settings, world).await?.per_second());
        }
        contestants.push((contestant, Rounds::default()));
    }
    let rate = settings.rate.unwrap_or(slowest / 2.0);
    let direct = direct_line(settings, world)?;
    let mut direct_rounds = Rounds::default();
    for number in 1..=settings.rounds {
        report::progress(&format!("latency: round {number} of {}", settings.rounds));
        let latencies = direct.open_loop(rate, settings.ramp, settings.round).await?;
        direct.fail_if_wrong()?;
        let nothing = CpuTime::default();
        direct_rounds.push(Round::new(settings.round, nothing, nothing, latencies));
        for (contestant, rounds) in &mut contestants {
            rounds.push(contestant.open_loop(settings, world, rate).await?);
        }
    }
    let about = format!(
        "Open loop, {rate:.0} requests a second on average, Poisson, over {} connections; latencies \
         count from when a request was due. In microseconds, medians of the rounds.",
        settings.connections
    );
    let head = vec!["proxy", "p50", "p99", "p99.9", "+p50", "+p99", "+p99.9"];
    let mut section = Section::new(case, about, head);
    section.rows.push(row("direct", &direct_rounds, None));
    for (contestant, rounds) in &contestants {
        contestant.finish().await?;
        section.rows.push(row(&contestant.name(), rounds, Some(&direct_rounds)));
    }
    if let [(one, first), .., (other, last)] = contestants.as_slice() {
        for (per_mille, name) in PERCENTILES {
            let added = |rounds| at(rounds, per_mille) - at(&direct_rounds, per_mille);
            let what = format!("{name} added, {} to {}", one.name(), other.name());
            section.judge(what, added(first) / added(last), Bound::AtMost(1.2));
        }
    }
    Ok(section)
}

/// The same requests as a proxy would send them, to the upstream itself.
fn direct_line(settings: &Settings, world: &World) -> Result<Load, Failure> {
    let case = Case::Latency;
    let mut asked = Asked::new(case.route(), case.payload(), Transport::Clear);
    asked.bearer = Bearer::Outbound;
    let to = To {
        address: world.addresses.upstream,
        transport: Transport::Clear,
        tls: world.tls.clone(),
    };
    let lanes = Lanes { connections: settings.connections, streams: 1 };
    Load::new(asked, world.users.iter().take(settings.users_of(case)), to, lanes)
}

fn at(rounds: &Rounds, per_mille: usize) -> f64 {
    rounds.median(|round| round.latency_us(per_mille))
}

fn row(name: &str, rounds: &Rounds, direct: Option<&Rounds>) -> Vec<String> {
    let mut cells = vec![name.to_owned()];
    for (per_mille, _) in PERCENTILES {
        cells.push(format!("{:.0}", at(rounds, per_mille)));
    }
    for (per_mille, _) in PERCENTILES {
        cells.push(direct.map_or(String::new(), |direct| {
            format!("{:.0}", at(rounds, per_mille) - at(direct, per_mille))
        }));
    }
    cells
}
