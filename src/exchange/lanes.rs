//! How many calls to a provider's token endpoint are under way.
//!
//! An exchange outlives the request that started it, so the limits on requests don't bound
//! exchanges. Each provider has lanes of its own: one that hangs costs the others nothing.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::limits;

/// The lanes of all providers, by their names in the routes file.
#[derive(Default)]
pub(super) struct Lanes {
    of: DashMap<Arc<str>, Arc<Lane>>,
}

struct Lane {
    calls: Arc<Semaphore>,
    queue: Semaphore,
}

/// The right to make one call; dropping it lets the next one go.
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Lanes {
    /// Waits for a turn to call `provider`; `None` if there is none in
    /// [`limits::EXCHANGE_QUEUE_WAIT`], or too many wait already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue.
    pub(super) async fn enter(&self, provider: &Arc<str>) -> Option<Turn> {
        let lane = self.lane(provider);
        if let Ok(permit) = Arc::clone(&lane.calls).try_acquire_owned() {
            return Some(Turn { _permit: permit });
        }
        let _place = lane.queue.try_acquire().ok()?;
        let turn = Arc::clone(&lane.calls).acquire_owned();
        let permit = timeout(limits::EXCHANGE_QUEUE_WAIT, turn).await.ok()?.ok()?;
        Some(Turn { _permit: permit })
    }

    fn lane(&self, provider: &Arc<str>) -> Arc<Lane> {
        if let Some(lane) = self.of.get(provider) {
            return Arc::clone(&lane);
        }
        let lane = self.of.entry(Arc::clone(provider)).or_insert_with(|| {
            Arc::new(Lane {
                calls: Arc::new(Semaphore::new(limits::MAX_EXCHANGES)),
                queue: Semaphore::new(limits::MAX_QUEUED_EXCHANGES),
            })
        });
        Arc::clone(&lane)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use tokio::time::Instant;

    use super::*;

    async fn all_lanes(lanes: &Lanes, provider: &Arc<str>) -> Vec<Turn> {
        let turns = join_all((0..limits::MAX_EXCHANGES).map(|_| lanes.enter(provider))).await;
        turns.into_iter().map(|turn| turn.expect("a free lane")).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_waits_for_a_turn_and_not_for_ever() {
        let (lanes, provider) = (Lanes::default(), Arc::from("entra"));
        let mut turns = all_lanes(&lanes, &provider).await;
        let started = Instant::now();
        assert!(lanes.enter(&provider).await.is_none());
        assert_eq!(started.elapsed(), limits::EXCHANGE_QUEUE_WAIT);

        let mut waiting = Box::pin(lanes.enter(&provider));
        assert!(waiting.as_mut().now_or_never().is_none());
        turns.pop();
        assert!(waiting.await.is_some());
        assert_eq!(started.elapsed(), limits::EXCHANGE_QUEUE_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn providers_have_lanes_of_their_own() {
        let (lanes, slow, other) = (Lanes::default(), Arc::from("slow"), Arc::from("other"));
        let _turns = all_lanes(&lanes, &slow).await;
        assert!(lanes.enter(&other).now_or_never().flatten().is_some());
        assert!(lanes.enter(&slow).now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded() {
        let (lanes, provider) = (Lanes::default(), Arc::from("entra"));
        let _turns = all_lanes(&lanes, &provider).await;
        let started = Instant::now();
        let waiting = join_all((0..limits::MAX_QUEUED_EXCHANGES).map(|_| lanes.enter(&provider)));
        let one_more = async {
            let turn = lanes.enter(&provider).await;
            (turn.is_none(), started.elapsed())
        };
        let (waited, one_more) = futures_util::future::join(waiting, one_more).await;
        assert_eq!(one_more, (true, Duration::ZERO));
        assert!(waited.iter().all(Option::is_none));
    }
}
