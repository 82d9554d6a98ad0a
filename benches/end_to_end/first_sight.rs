//! What the first sight of a token costs: each round has fresh proxies, who see each token once, and
//! then again, so that what is the check's (and the exchange's) can be told from the request's.

use crate::case::{Case, Proxy};
use crate::contest::{Contestant, say_round};
use crate::report::{Bound, Round, Rounds, Section, median};
use crate::settings::Settings;
use crate::{Failure, World};

/// Of the tokens, those that only make connections, to the provider too: 1 in this many.
const WARMING: usize = 10;

#[derive(Default)]
struct Row {
    first: Rounds,
    again: Rounds,
    /// CPU microseconds that first sight adds, of each round.
    added: Vec<f64>,
}

/// Runs one case; as many rounds as settings say, each with new processes.
pub(crate) async fn run(
    settings: &Settings,
    case: Case,
    world: &World,
) -> Result<Section, Failure> {
    let proxies = settings.proxies(case);
    let mut rows: Vec<(Proxy, Row)> =
        proxies.iter().map(|proxy| (*proxy, Row::default())).collect();
    for number in 1..=settings.rounds {
        for (proxy, row) in &mut rows {
            let contestant = Contestant::start(settings, case, *proxy, 1, world).await?;
            let users = contestant.load.users();
            let exchanged = |tokens: usize| if case == Case::FirstSight { tokens } else { 0 };
            let warming = users / WARMING;
            contestant.once(world, 0..warming, exchanged(warming)).await?;
            let first = contestant.once(world, warming..users, exchanged(users - warming)).await?;
            say_round(settings, &contestant, number, &first);
            let again = contestant.round(settings, world).await?;
            contestant.finish().await?;
            row.added.push(first.cpu_us() - again.cpu_us());
            row.first.push(first);
            row.again.push(again);
        }
    }
    let about = if case == Case::FirstSight {
        "A token is checked and exchanged"
    } else {
        "A token is checked"
    };
    let head = vec!["proxy", "CPU us/req, first", "min-max", "again", "added", "req/s, first"];
    let about = format!(
        "{about} where it is first seen; `again` is the same load with all of them cached. Medians of \
         rounds, each with fresh proxies."
    );
    let mut section = Section::new(case, about, head);
    for (proxy, row) in &rows {
        let (least, most) = row.first.range(Round::cpu_us);
        section.rows.push(vec![
            proxy.name().to_owned(),
            format!("{:.2}", row.first.median(Round::cpu_us)),
            format!("{least:.2}-{most:.2}"),
            format!("{:.2}", row.again.median(Round::cpu_us)),
            format!("{:.2}", median(row.added.clone())),
            format!("{:.0}", row.first.median(Round::per_second)),
        ]);
    }
    if let [(first, one), .., (last, other)] = rows.as_slice() {
        let ratio = median(one.added.clone()) / median(other.added.clone());
        let what = format!("CPU that first sight adds, {} to {}", first.name(), last.name());
        section.judge(what, ratio, Bound::AtMost(1.1));
    }
    Ok(section)
}
