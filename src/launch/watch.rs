//! Files that the configuration was made of are read again when they change: secrets,
//! certificates, keys, the routes file itself. Kubernetes, certbot and their kin replace them
//! while the gateway runs, and nobody sends a signal.
//!
//! It asks the disk from time to time rather than the system for events: those don't come from
//! network file systems, and get lost where a folder is swapped as a whole.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Running;
use crate::config::FilesRead;

impl Running {
    /// Looks at the files of the configuration in force, and at the ends of certificates, `every`
    /// so often, until the gateway is dropped. What changed is read with all the rest, so that a
    /// certificate goes with its key; what can't be used changes nothing, is said once, and is
    /// tried again when a file changes again.
    ///
    /// # Cancel safety
    ///
    /// A reload that has begun goes on.
    pub fn watch(self: &Arc<Self>, every: Duration) -> impl Future<Output = ()> + Send + 'static {
        watch(Arc::downgrade(self), every)
    }
}

async fn watch(running: Weak<Running>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A change that the last look saw.
    let mut pending = None;
    loop {
        ticks.tick().await;
        let Some(running) = running.upgrade() else { return };
        // A disk that hangs must not hold up those who serve.
        let look = tokio::task::spawn_blocking(move || look(&running, pending.as_ref()));
        pending = look.await.unwrap_or_default();
    }
}

/// Acts on a change, if it is the one that is `pending`; else gives it back.
fn look(running: &Running, pending: Option<&FilesRead>) -> Option<FilesRead> {
    if running.readiness.is_ending() {
        // What drains is not changed any more.
        return None;
    }
    running.warn_of_ends();
    let known = running.files();
    let now = known.now();
    let changed: Vec<_> = known.changed(&now).map(Path::display).collect();
    if changed.is_empty() {
        return None;
    }
    if pending != Some(&now) {
        // Somebody may be writing still.
        return Some(now);
    }
    let changed = changed.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
    // What became of it is said there, and tried again when a file changes again.
    running.reload_after(&format!("{changed} changed")).map_or_else(drop, drop);
    None
}
