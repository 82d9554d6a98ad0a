//! Whether the caller of an HTTP/2 connection takes the answers that are due to it.
//!
//! A caller who opens no window is never asked for by hyper: the body of its answer is not
//! polled, so no timer in the body could end it, and over HTTP/1 alone a write that stalls would
//! show. But a body that nobody asks for its next frame is one that is not taken: it is counted
//! here, and a connection on which no answer moves, though all are due, is ended as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The answers of one connection.
#[derive(Debug)]
pub(super) struct Taking {
    begun: Instant,
    /// Answers whose next frame is for the caller to ask for.
    due: AtomicUsize,
    /// When one of them last moved, in milliseconds after `begun`.
    moved: AtomicU64,
}

impl Taking {
    pub(super) fn new(begun: Instant) -> Self {
        Self { begun, due: AtomicUsize::new(0), moved: AtomicU64::new(0) }
    }

    /// An answer is there to be taken.
    pub(super) fn answer(self: &Arc<Self>) -> Turn {
        let mut turn = Turn { taking: Arc::clone(self), is_callers: false };
        turn.gave();
        turn
    }

    /// Whether all that is being answered, `requests` of them, has waited for the caller for so long.
    pub(super) fn has_stalled(&self, now: Instant, requests: usize, patience: Duration) -> bool {
        let moved = self.begun + Duration::from_millis(self.moved.load(Ordering::Relaxed));
        requests > 0 && self.due.load(Ordering::Relaxed) >= requests && moved + patience <= now
    }
}

/// Whose turn it is with one answer: the caller's, to take, or the upstream's, to give.
#[derive(Debug)]
pub(super) struct Turn {
    taking: Arc<Taking>,
    is_callers: bool,
}

impl Turn {
    /// The caller asked for a frame.
    pub(super) fn asked(&mut self) {
        if self.is_callers {
            self.is_callers = false;
            self.taking.due.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A frame is there for it.
    pub(super) fn gave(&mut self) {
        if !self.is_callers {
            self.is_callers = true;
            self.taking.due.fetch_add(1, Ordering::Relaxed);
        }
        let millis = self.taking.begun.elapsed().as_millis();
        self.taking.moved.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.asked();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn only_a_connection_on_which_nothing_moves_has_stalled() {
        let taking = Arc::new(Taking::new(Instant::now()));
        let stalled = |requests| taking.has_stalled(Instant::now(), requests, 30 * S);
        let mut first = taking.answer();
        tokio::time::advance(29 * S).await;
        assert!(!stalled(1), "not yet");
        tokio::time::advance(S).await;
        assert!(stalled(1));
        assert!(!stalled(2), "another request is still being answered");
        first.asked();
        assert!(!stalled(1), "it is the upstream's turn");
        first.gave();
        assert!(!stalled(1), "it moved");
        tokio::time::advance(30 * S).await;
        assert!(stalled(1));
        drop(first);
        assert!(!stalled(0), "nothing is being answered");
    }
}
