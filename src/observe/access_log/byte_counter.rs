//! How many bytes of a request's body came, counted by whoever reads it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::rejection::Code;

/// Counts bytes that pass, and remembers why a stream of the request was ended before its time;
/// clones are of the same request.
#[derive(Clone, Debug, Default)]
pub struct ByteCounter(Arc<Tally>);

#[derive(Debug, Default)]
struct Tally {
    bytes: AtomicU64,
    cut_short: OnceLock<(Code, String)>,
}

impl ByteCounter {
    /// Adds `bytes`.
    pub fn add(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many have passed.
    pub fn total(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// So many have passed; they were counted elsewhere.
    pub(super) fn set(&self, bytes: u64) {
        self.0.bytes.store(bytes, Ordering::Relaxed);
    }

    /// A stream was ended by the gateway, behind an answer that had begun: the log says why.
    pub fn cut_short(&self, code: Code, reason: String) {
        self.0.cut_short.get_or_init(|| (code, reason));
    }

    /// Why a stream was ended before its time, if one was.
    pub(super) fn why_cut_short(&self) -> Option<&(Code, String)> {
        self.0.cut_short.get()
    }
}
