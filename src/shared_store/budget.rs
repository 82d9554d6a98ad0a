//! How long one request has waited for the store, and may still wait.

use std::time::Duration;

use tokio::time::{Instant, timeout};

/// What is left of `cache.redis.timeout`: all that the store may add to one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget(Duration);

impl Budget {
    pub(super) fn new(all: Duration) -> Self {
        Self(all)
    }

    /// What is left of it when all that was begun then has been waited for at once.
    pub(super) fn since(self, began: Instant) -> Self {
        Self(self.0.saturating_sub(began.elapsed()))
    }

    /// Waits for `what` as long as anything is left; `None` if that was not enough.
    ///
    /// # Cancel safety
    ///
    /// That of `what`; dropping it charges nothing.
    pub(super) async fn spend<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let began = Instant::now();
        let came = timeout(self.0, what).await.ok();
        self.0 = self.0.saturating_sub(began.elapsed());
        came
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_waits_together_have_one_limit() {
        let began = Instant::now();
        let mut budget = Budget::new(Duration::from_millis(50));
        assert!(budget.spend(sleep(Duration::from_millis(30))).await.is_some());
        assert!(budget.spend(pending::<()>()).await.is_none());
        assert!(budget.spend(pending::<()>()).await.is_none());
        assert_eq!(began.elapsed(), Duration::from_millis(50));
        assert_eq!(budget.spend(ready(1)).await, Some(1), "what is there needs no time");
    }
}
