//! How long a reload of many routes takes, and how long requests wait meanwhile.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::case::{Case, Proxy, Transport};
use crate::load::{self, Asked, Lanes, Load, To};
use crate::report::{self, Bound, Section, median};
use crate::routes_file::{NEW_ONE_IN, Written};
use crate::seat::{Seat, Sitting};
use crate::settings::Settings;
use crate::{Failure, World};

/// Probes look in on so many connections, each once in [`PAUSE`].
const PROBES: usize = 4;
const PAUSE: Duration = Duration::from_millis(1);
/// A reload is asked for so long after the file was written, at most: the watch of the file, which
/// looks each second and reads it at the second look that finds it so, must not come first.
const ASKED_AFTER: Duration = Duration::from_millis(500);

/// Runs the case.
pub(crate) async fn run(settings: &Settings, world: &World) -> Result<Section, Failure> {
    let case = Case::Reload;
    report::progress("reload: starting");
    let mut written = Written {
        // With one, and its core to itself, the reload would have to take turns with the path.
        workers: 2,
        has_no_providers: true,
        more_routes: settings.routes,
        ..Written::default()
    };
    let sitting = Sitting { proxy: Proxy::Gateway, written: written.clone() };
    let seat = Seat::start(settings, &sitting, world.addresses, &world.users).await?;
    let asked = Asked::new(case.route(), case.payload(), case.transport());
    let to = To { address: seat.address, transport: Transport::Clear, tls: world.tls.clone() };
    let lanes = Lanes { connections: PROBES, streams: 1 };
    let load = Load::new(asked, world.users.iter().take(PROBES), to, lanes)?;

    let (mut took, mut quiet, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=settings.rounds {
        report::progress(&format!("reload: round {round} of {}", settings.rounds));
        let is_reloading = Rc::new(Cell::new(false));
        quiet.push(longest_ms(&load.probe(settings.round, PAUSE, &is_reloading).await?));
        written.generation = round;
        seat.rewrite(&written, world.addresses)?;
        is_reloading.set(true);
        let (latencies, time) = tokio::try_join!(
            load.probe(settings.round, PAUSE, &is_reloading),
            reload(settings, &seat, &is_reloading)
        )?;
        busy.push(longest_ms(&latencies));
        took.push(time.as_secs_f64() * 1e3);
    }
    seat.fail_if_miscounted(case.route(), load.answered()).await?;

    let about = format!(
        "{} routes, a tenth of them new each time; two workers on both cores, {PROBES} connections \
         with a request a millisecond each. The pause is how much longer the longest of them takes \
         in a time with a reload than in one without.",
        settings.routes
    );
    let head = vec![
        "reload, ms, median",
        "shortest",
        "longest",
        "longest request with it, ms, median",
        "without it",
    ];
    let mut section = Section::new(case, about, head);
    section.rows.push(vec![
        format!("{:.1}", median(took.clone())),
        format!("{:.1}", took.iter().copied().fold(f64::INFINITY, f64::min)),
        format!("{:.1}", took.iter().copied().fold(0.0, f64::max)),
        format!("{:.2}", median(busy.clone())),
        format!("{:.2}", median(quiet.clone())),
    ]);
    section.judge("ms of a reload", median(took), Bound::AtMost(100.0));
    section.judge("ms of the pause", median(busy) - median(quiet), Bound::AtMost(1.0));
    Ok(section)
}

/// Has the file read while probes are under way; gives how long that took.
async fn reload(
    settings: &Settings,
    seat: &Seat,
    is_reloading: &Cell<bool>,
) -> Result<Duration, Failure> {
    tokio::time::sleep(ASKED_AFTER.min(settings.round / 4)).await;
    let admin = seat.admin;
    let request = format!(
        "POST /api/v1/reload HTTP/1.1\r\nhost: {admin}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    let began = Instant::now();
    let answer = load::send(admin, &request).await;
    let took = began.elapsed();
    is_reloading.set(false);
    let (status, body) = answer?;
    if status != 200 {
        return Err(format!("a reload was answered with {status}: {body}").into());
    }
    let (read, due) = (new_routes(&body)?, settings.routes.div_ceil(NEW_ONE_IN));
    if read != due {
        return Err(format!("a reload found {read} new routes where {due} were due: {body}").into());
    }
    Ok(took)
}

/// How many routes the answer to a reload names that were not there before.
fn new_routes(body: &str) -> Result<usize, Failure> {
    let answer: Value = serde_json::from_str(body)?;
    let added = answer.pointer("/changes/routes/added").and_then(Value::as_array);
    Ok(added.ok_or_else(|| format!("no changes: {body}"))?.len())
}

fn longest_ms(latencies: &[Duration]) -> f64 {
    latencies.iter().max().map_or(f64::NAN, |longest| longest.as_secs_f64() * 1e3)
}
