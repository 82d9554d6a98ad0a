//! Whether the gateway is ready for callers, and if not, why.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// What `/readyz` says: ready when there is no reason not to be.
pub struct Readiness {
    missing: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    ending: AtomicBool,
}

impl Readiness {
    /// Ready when `missing` has nothing to say: a sentence for each thing that is not there yet,
    /// such as the keys of a provider that were never loaded. The sentences are public.
    pub fn new(missing: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        Self { missing: Box::new(missing), ending: AtomicBool::new(false) }
    }

    /// Not ready from now on: the process ends.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Whether the process ends.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Why the gateway is not ready; empty if it is.
    pub fn reasons(&self) -> Vec<String> {
        let ending = self.is_ending();
        let ending = ending.then(|| "the gateway is shutting down".to_owned());
        ending.into_iter().chain((self.missing)()).collect()
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("reasons", &self.reasons()).finish()
    }
}
