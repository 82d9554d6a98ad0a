//! What a connection takes in memory while nothing happens on it: growth of the resident size, divided.

use std::time::Duration;

use crate::case::{Case, Proxy};
use crate::contest::Contestant;
use crate::process;
use crate::report::{self, Bound, Section};
use crate::settings::Settings;
use crate::{Failure, World};

/// Open files of a process that are no idle connections: upstream connections, files, sockets.
const OTHER_FILES: usize = 500;
/// For what is given back a while after the last request.
const SETTLE: Duration = Duration::from_secs(3);

/// Runs the case.
pub(crate) async fn run(
    settings: &Settings,
    case: Case,
    world: &World,
) -> Result<Section, Failure> {
    let room = process::open_files_limit()?.saturating_sub(OTHER_FILES);
    let count = settings.idle.min(room);
    if count == 0 {
        return Err("the limit of open files leaves no room for connections (`ulimit -n`)".into());
    }
    let about = format!(
        "{count} connections with one request each, then nothing for {SETTLE:?}; the upstream \
         connections of that time are in it."
    );
    let head = vec!["proxy", "KiB each", "MiB before", "MiB with them", "wrong answers"];
    let mut section = Section::new(case, about, head);
    for proxy in settings.proxies(case) {
        report::progress(&format!("{}: {}: {count} connections", case.name(), proxy.name()));
        let contestant = Contestant::start(settings, case, proxy, 1, world).await?;
        // What is made once, however many there are.
        contestant.warm_up(settings, world).await?;
        let pid = contestant.seat.pid();
        let before = process::memory_kib_of(pid)?;
        let mut connections = contestant.load.hold(count).await?;
        tokio::time::sleep(SETTLE.min(settings.round * 5)).await;
        let after = process::memory_kib_of(pid)?;
        for (number, connection) in connections.iter_mut().enumerate() {
            if !connection.is_open().await {
                return Err(format!(
                    "`{}` did not keep idle connection {number} of {count}",
                    proxy.name()
                )
                .into());
            }
        }
        drop(connections);
        contestant.finish().await?;
        let each = to_float(after.saturating_sub(before)) / to_float(count as u64);
        section.rows.push(vec![
            proxy.name().to_owned(),
            format!("{each:.1}"),
            format!("{:.1}", to_float(before) / 1024.0),
            format!("{:.1}", to_float(after) / 1024.0),
            contestant.load.wrong().to_string(),
        ]);
        let bound = match (proxy, case) {
            (Proxy::Gateway, Case::IdleTls) => Bound::AtMost(32.0),
            (Proxy::Gateway, _) => Bound::AtMost(16.0),
            (Proxy::Bare | Proxy::Nginx | Proxy::Envoy, _) => Bound::None,
        };
        section.judge(format!("KiB of an idle connection, {}", proxy.name()), each, bound);
    }
    Ok(section)
}

#[expect(clippy::cast_precision_loss, reason = "KiB of a process are far below 2^52")]
fn to_float(count: u64) -> f64 {
    count as f64
}
