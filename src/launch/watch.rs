//! Files that the configuration was made of are read again when they change: secrets,
//! certificates, keys, the routes file itself. Kubernetes, certbot and their kin replace them
//! while the gateway runs, and nobody sends a signal.
//!
//! It asks the disk from time to time rather than the system for events: those don't come from
//! network file systems, and get lost where a folder is swapped as a whole.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Running;
use crate::config::FilesRead;
use crate::limits::RELOAD_PATIENCE;

impl Running {
    /// Looks at the files of the configuration in force, and at the ends of certificates, `every`
    /// so often, until the gateway ends. What changed is read with all the rest, so that a
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
        let Some(known) = running.upgrade().and_then(|running| running.to_look_at()) else {
            return;
        };
        // Nothing is held meanwhile: a disk that hangs holds up nobody else, those included who ask for
        // a reload.
        let Some(now) = look(known.clone(), FilesRead::now).await else { continue };
        let changed: Vec<_> = known.changed(&now).map(Path::display).collect();
        if changed.is_empty() {
            pending = None;
            continue;
        }
        if pending.as_ref() != Some(&now) {
            // Somebody may be writing still.
            pending = Some(now);
            continue;
        }
        pending = None;
        let changed = changed.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
        let Some(running) = running.upgrade() else { return };
        let reloaded = running.ask(&format!("{changed} changed"));
        drop(running);
        // What became of it is said there, and tried again when a file changes again.
        reloaded.await;
    }
}

impl Running {
    /// The files of the configuration in force; `None` once it ends, when nothing is changed any more.
    fn to_look_at(&self) -> Option<FilesRead> {
        if self.readiness.is_ending() {
            return None;
        }
        self.warn_of_ends();
        Some(self.files())
    }
}

/// The `known` files as they look now to `stat`, on a thread of its own. One that hangs is said once,
/// and waited for: more of them would each take a thread.
async fn look(
    known: FilesRead,
    stat: impl FnOnce(&FilesRead) -> FilesRead + Send + 'static,
) -> Option<FilesRead> {
    let mut looks = tokio::task::spawn_blocking(move || stat(&known));
    if let Ok(now) = timeout(RELOAD_PATIENCE, &mut looks).await {
        return now.ok();
    }
    tracing::error!(
        "to look at the files of the configuration has taken {} s: mend what they are on. Until it ends no change of a file is seen; SIGHUP and the admin API have them read all the same",
        RELOAD_PATIENCE.as_secs()
    );
    looks.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Look;

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_is_waited_for_and_is_the_only_one() {
        let mut known = FilesRead::default();
        known.note("/".into(), Look::at(Path::new("/")));
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let mut hangs = Box::pin(look(known.clone(), move |known| {
            assert!(ended.recv().is_err(), "told by the other end that is dropped");
            known.clone()
        }));
        assert!(futures_util::poll!(&mut hangs).is_pending());
        tokio::time::advance(10 * RELOAD_PATIENCE).await;
        assert!(futures_util::poll!(&mut hangs).is_pending());
        drop(end);
        assert_eq!(hangs.await, Some(known));
    }
}
