//! The tasks that keep the keys of the providers fresh: one for each provider of the
//! configuration in force, and none for one that it no longer has.
//!
//! When keys are fetched is decided by the provider.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;

use crate::authn::Provider;
use crate::snapshot::Snapshot;

/// The tasks; they end with it.
#[derive(Default)]
pub(super) struct Keepers(Mutex<Vec<(Arc<Provider>, AbortHandle)>>);

impl Keepers {
    /// Starts those that are missing for `snapshot`, which is in force, and ends those of
    /// providers that it does not have.
    pub(super) fn keep(&self, snapshot: &Snapshot) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(provider, task)| {
            let stays = snapshot.providers.iter().any(|other| Arc::ptr_eq(other, provider));
            if !stays {
                task.abort();
            }
            stays
        });
        for provider in &snapshot.providers {
            if !kept.iter().any(|(other, _)| Arc::ptr_eq(other, provider)) {
                let task = tokio::spawn(Arc::clone(provider).keep_keys()).abort_handle();
                kept.push((Arc::clone(provider), task));
            }
        }
    }
}

impl Drop for Keepers {
    fn drop(&mut self) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, task) in kept.iter() {
            task.abort();
        }
    }
}
