//! Lines of the log that each request could be the cause of: one of a kind once in a while.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::limits;

/// When the last line of a kind was written.
#[derive(Default)]
pub(super) struct Complaints(Mutex<Option<Instant>>);

impl Complaints {
    /// Whether another one is due, which the asker then writes.
    pub(super) fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = limits::SHARED_STORE_COMPLAINT_PAUSE;
        let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= pause);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_is_due_once_in_a_while() {
        let complaints = Complaints::default();
        assert!(complaints.is_due());
        assert!(!complaints.is_due());
        tokio::time::advance(limits::SHARED_STORE_COMPLAINT_PAUSE).await;
        assert!(complaints.is_due());
        assert!(!complaints.is_due());
    }
}
