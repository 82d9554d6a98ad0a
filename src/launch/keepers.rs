//! The tasks that keep what is known of others fresh: one for each provider of the configuration
//! in force (its keys), one for each upstream whose health is checked, and none for those that it
//! no longer has.
//!
//! When keys are fetched is decided by the provider, when health is checked by the upstream.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;

use crate::authn::Provider;
use crate::forward::Upstream;
use crate::snapshot::Snapshot;

/// The tasks; they end with it.
#[derive(Default)]
pub(super) struct Keepers {
    keys: Tasks<Provider>,
    health: Tasks<Upstream>,
}

impl Keepers {
    /// Starts those that are missing for `snapshot`, which is in force, and ends those of
    /// providers and upstreams that it does not have.
    pub(super) fn keep(&self, snapshot: &Snapshot) {
        self.keys.keep(&snapshot.providers, |provider| {
            tokio::spawn(Arc::clone(provider).keep_keys()).abort_handle()
        });
        let checked = |upstream: &&Arc<Upstream>| upstream.settings().health_check.is_some();
        let checked: Vec<_> = snapshot.upstreams.iter().filter(checked).cloned().collect();
        self.health.keep(&checked, |upstream| {
            tokio::spawn(Arc::clone(upstream).keep_health()).abort_handle()
        });
    }

    /// Ends all health checks.
    pub(super) fn end_health(&self) {
        self.health.end();
    }
}

/// A task for each of some `T`.
struct Tasks<T>(Mutex<Vec<(Arc<T>, AbortHandle)>>);

impl<T> Tasks<T> {
    /// Ends those of others than `wanted`, and starts those that are missing.
    fn keep(&self, wanted: &[Arc<T>], start: impl Fn(&Arc<T>) -> AbortHandle) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: HashSet<_> = wanted.iter().map(Arc::as_ptr).collect();
        kept.retain(|(known, task)| {
            let stays = all.contains(&Arc::as_ptr(known));
            if !stays {
                task.abort();
            }
            stays
        });
        let there: HashSet<_> = kept.iter().map(|(known, _)| Arc::as_ptr(known)).collect();
        let missing = wanted.iter().filter(|one| !there.contains(&Arc::as_ptr(one)));
        kept.extend(missing.map(|one| (Arc::clone(one), start(one))));
    }

    fn end(&self) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, task) in kept.drain(..) {
            task.abort();
        }
    }
}

impl<T> Default for Tasks<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Drop for Tasks<T> {
    fn drop(&mut self) {
        self.end();
    }
}
