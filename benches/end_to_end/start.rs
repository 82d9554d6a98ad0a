//! How long the gateway takes from nothing to ready, without providers.

use crate::case::{Case, Proxy};
use crate::report::{self, Bound, Section, median};
use crate::routes_file::Written;
use crate::seat::{Seat, Sitting};
use crate::settings::Settings;
use crate::{Failure, World};

/// Starts of a round: each takes no time worth speaking of.
const STARTS: usize = 4;

/// Runs the case.
pub(crate) async fn run(settings: &Settings, world: &World) -> Result<Section, Failure> {
    report::progress("start");
    let written = Written { workers: 1, has_no_providers: true, ..Written::default() };
    let sitting = Sitting { proxy: Proxy::Gateway, written };
    let mut times = Vec::new();
    for _ in 0..settings.rounds * STARTS {
        let seat = Seat::start(settings, &sitting, world.addresses, &world.users).await?;
        times.push(seat.ready_after.as_secs_f64() * 1e3);
    }
    let about = "From before the process was made (`setpriv` and `taskset`, which become it, \
                 included) to the first 200 of `/readyz`, asked every millisecond or two."
        .to_owned();
    let head = vec!["starts", "ms, median", "shortest", "longest"];
    let mut section = Section::new(Case::Start, about, head);
    section.rows.push(vec![
        times.len().to_string(),
        format!("{:.1}", median(times.clone())),
        format!("{:.1}", times.iter().copied().fold(f64::INFINITY, f64::min)),
        format!("{:.1}", times.iter().copied().fold(0.0, f64::max)),
    ]);
    section.judge("ms from start to ready", median(times), Bound::AtMost(50.0));
    Ok(section)
}
