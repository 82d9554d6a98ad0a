//! Memory while connections and tokens come and go: of a gateway under full load, whose callers stay for
//! a few requests and whose tokens expire, with room for a part of the outbound tokens only.
//!
//! Memory is flat when it is the same late in the run as in its middle, when the first tokens have
//! expired.

use std::time::Duration;

use crate::case::{Case, Proxy};
use crate::load::{Asked, Lanes, Load, To};
use crate::process;
use crate::report::{self, Bound, Section, median};
use crate::routes_file::Written;
use crate::seat::{Seat, Sitting};
use crate::settings::Settings;
use crate::{Failure, World};

/// Of all tokens, those that are in use at a time: 1 in so many.
const PARTS: usize = 6;
/// Outbound tokens that are kept: 1 in so many of those in use.
const KEPT: usize = 4;
/// How long a token is good after its last use, with time to sign and to start.
const SPARE_SECONDS: usize = 30;
/// Tokens that are signed in a second, on a slow machine.
const SIGNED_A_SECOND: usize = 1000;

/// Runs the case.
pub(crate) async fn run(settings: &Settings) -> Result<Section, Failure> {
    let tokens = settings.first_tokens * 2;
    let in_use = tokens / PARTS;
    let seconds = usize::try_from(settings.churn.as_secs())?;
    let spare = SPARE_SECONDS + tokens / SIGNED_A_SECOND;
    let last_use = |number: usize| seconds * number / (tokens - in_use);
    // Those of the last window are in use until the end.
    let lifetime = |number: usize| u64::try_from(last_use(number).min(seconds) + spare);
    let world = World::make(tokens, |number| lifetime(number).unwrap_or(u64::MAX)).await?;

    let written = Written { workers: 1, cache_entries: Some(in_use / KEPT), ..Written::default() };
    let sitting = Sitting { proxy: Proxy::Gateway, written };
    let seat = Seat::start(settings, &sitting, world.addresses, &world.users).await?;
    let case = Case::Churn;
    let asked = Asked::new(case.route(), case.payload(), case.transport());
    let to = To { address: seat.address, transport: case.transport(), tls: world.tls.clone() };
    let lanes = Lanes { connections: settings.connections, streams: 1 };
    let load = Load::new(asked, world.users.iter(), to, lanes)?;

    report::progress(&format!("churn: {:?}", settings.churn));
    let every =
        settings.churn.div_f64(100.0).clamp(Duration::from_millis(10), Duration::from_secs(10));
    let mut samples = Vec::new();
    let window = |over: f64| {
        let start = portion(tokens - in_use, over);
        start..start + in_use
    };
    load.come_and_go(settings.churn, window, every, || {
        samples.push(mib(process::memory_kib_of(seat.pid())?));
        Ok(())
    })
    .await?;
    seat.fail_if_miscounted(case.route(), load.answered()).await?;
    Ok(section(settings, &world, &load, &samples, in_use))
}

fn section(
    settings: &Settings,
    world: &World,
    load: &Load,
    samples: &[f64],
    in_use: usize,
) -> Section {
    let about = format!(
        "{:?} of full load: connections of 1 to 50 requests, {in_use} of {} tokens in use at a time, \
         room for {} outbound tokens. Resident MiB, median of a fifth of the time each.",
        settings.churn,
        world.users.iter().len(),
        in_use / KEPT,
    );
    let head =
        vec!["1st", "2nd", "3rd", "4th", "5th fifth", "requests", "exchanges", "wrong answers"];
    let mut section = Section::new(Case::Churn, about, head);
    let fifths: Vec<f64> = samples
        .chunks(samples.len().div_ceil(5).max(1))
        .map(|fifth| median(fifth.to_vec()))
        .collect();
    let mut row: Vec<String> = (0..5)
        .map(|number| fifths.get(number).map_or(String::new(), |mib| format!("{mib:.1}")))
        .collect();
    row.push(load.answered().to_string());
    row.push(world.provider.exchanges().to_string());
    row.push(load.wrong().to_string());
    section.rows.push(row);
    let growth = match fifths.as_slice() {
        [_, _, middle, _, last] => last / middle,
        _ => f64::NAN,
    };
    section.judge("memory, 5th fifth to 3rd", growth, Bound::AtMost(1.05));
    section
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a small number"
)]
fn portion(of: usize, part: f64) -> usize {
    (of as f64 * part) as usize
}

#[expect(clippy::cast_precision_loss, reason = "KiB of a process are far below 2^52")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
