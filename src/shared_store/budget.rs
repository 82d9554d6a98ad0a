//! How long one request has waited for the store, and may still wait.

use std::time::Duration;

use tokio::time::{Instant, timeout};

/// How long a request has waited for the store so far, at most: of an exchange that it waited for, which may
/// be another request's, all counts. Nothing unless it asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited(Duration);

impl Waited {
    /// The same, and so much more.
    #[must_use]
    pub fn and(self, more: Duration) -> Self {
        Self(self.0.saturating_add(more))
    }
}

/// What is left of `cache.redis.timeout`: all that the store may add to one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    all: Duration,
    left: Duration,
}

impl Budget {
    pub(super) fn new(all: Duration) -> Self {
        Self { all, left: all }
    }

    /// That of a request which `waited` before.
    pub(super) fn after(all: Duration, Waited(waited): Waited) -> Self {
        Self { all, left: all.saturating_sub(waited) }
    }

    /// How much of it was used.
    pub(super) fn waited(self) -> Waited {
        Waited(self.all.saturating_sub(self.left))
    }

    /// Whether half of it is left, or more: who is late for that is slow.
    pub(super) fn is_ample(self) -> bool {
        self.left * 2 >= self.all
    }

    /// Whether nothing is left.
    pub(super) fn is_spent(self) -> bool {
        self.left.is_zero()
    }

    /// What is left of it when all that was begun then has been waited for at once.
    pub(super) fn since(self, began: Instant) -> Self {
        Self { left: self.left.saturating_sub(began.elapsed()), ..self }
    }

    /// Waits for `what` as long as anything is left; `None` if that was not enough.
    ///
    /// # Cancel safety
    ///
    /// That of `what`; dropping it charges nothing.
    pub(super) async fn spend<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let began = Instant::now();
        let came = timeout(self.left, what).await.ok();
        self.left = self.left.saturating_sub(began.elapsed());
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

    #[tokio::test(start_paused = true)]
    async fn what_a_request_waited_before_is_part_of_it() {
        let all = Duration::from_millis(50);
        let mut first = Budget::new(all);
        assert!(first.is_ample() && first.waited() == Waited::default());
        first.spend(sleep(Duration::from_millis(30))).await.unwrap();
        let (began, mut second) = (Instant::now(), Budget::after(all, first.waited()));
        assert!(!second.is_ample() && !second.is_spent());
        assert!(second.spend(pending::<()>()).await.is_none());
        assert_eq!(began.elapsed(), Duration::from_millis(20));
        assert!(second.is_spent());
        let late = Waited::default().and(all).and(all);
        assert!(Budget::after(all, late).is_spent());
    }
}
