//! How many calls to a provider's token endpoint are under way.
//!
//! An exchange outlives the request that started it, so the limits on requests don't bound
//! exchanges. Each provider has lanes of its own, `max_in_flight` of them: one that hangs costs
//! the others nothing. Who finds none free waits in a queue, first come first served; renewals
//! that nobody waits for keep out of the last quarter, and out altogether while somebody queues.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::authn::ProviderSettings;
use crate::limits;

/// The lanes of all providers, by their names in the routes file.
#[derive(Default)]
pub(super) struct Lanes {
    of: DashMap<Arc<str>, Arc<Lane>>,
}

struct Lane {
    calls: Arc<Semaphore>,
    width: Mutex<Width>,
}

#[derive(Debug, Default)]
struct Width {
    max: usize,
    /// Calls under way that are too many since `max` was lowered: their lanes close behind them.
    closing: usize,
    queued: usize,
    renewals: usize,
}

/// How busy a provider's token endpoint is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProviderLoad {
    /// Calls under way.
    pub in_flight: usize,
    /// Most of them.
    pub max_in_flight: usize,
    /// Calls that wait for their turn.
    pub queued: usize,
}

/// The right to make one call; dropping it lets the next one go.
pub(super) struct Turn {
    lane: Arc<Lane>,
    permit: Option<OwnedSemaphorePermit>,
}

/// A place among the renewals of a provider; dropping it gives it up.
pub(super) struct Room(Arc<Lane>);

/// A place in a queue.
struct Place<'a>(&'a Lane);

impl Lanes {
    /// Waits for a turn to call `provider`; `None` if there is none in
    /// [`limits::EXCHANGE_QUEUE_WAIT`], or too many wait already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue.
    pub(super) async fn enter(&self, provider: &Arc<str>) -> Option<Turn> {
        let lane = self.lane(provider);
        let calls = Arc::clone(&lane.calls);
        let permit = if let Ok(permit) = Arc::clone(&calls).try_acquire_owned() {
            permit
        } else {
            let _place = lane.queue()?;
            timeout(limits::EXCHANGE_QUEUE_WAIT, calls.acquire_owned()).await.ok()?.ok()?
        };
        Some(Turn { lane, permit: Some(permit) })
    }

    /// A place for a renewal at `provider`, if it has lanes to spare.
    pub(super) fn room_for_renewal(&self, provider: &Arc<str>) -> Option<Room> {
        let lane = self.lane(provider);
        {
            let mut width = lane.lock();
            let kept_free = width.max / 4;
            if width.queued > 0
                || lane.calls.available_permits() <= kept_free
                || width.renewals >= width.max - kept_free
            {
                return None;
            }
            width.renewals += 1;
        }
        Some(Room(lane))
    }

    /// Sets how many calls to `provider` may be under way.
    pub(super) fn set(&self, provider: &Arc<str>, max: usize) {
        self.lane(provider).resize(max.clamp(1, Semaphore::MAX_PERMITS));
    }

    /// How busy `provider` is; `None` if nobody ever asked it.
    pub(super) fn load(&self, provider: &str) -> Option<ProviderLoad> {
        let lane = Arc::clone(&*self.of.get(provider)?);
        let width = lane.lock();
        let free = lane.calls.available_permits();
        Some(ProviderLoad {
            in_flight: (width.max + width.closing).saturating_sub(free),
            max_in_flight: width.max,
            queued: width.queued,
        })
    }

    /// How many calls to `provider` may be under way.
    pub(super) fn max(&self, provider: &Arc<str>) -> usize {
        self.lane(provider).lock().max
    }

    fn lane(&self, provider: &Arc<str>) -> Arc<Lane> {
        if let Some(lane) = self.of.get(provider) {
            return Arc::clone(&lane);
        }
        let new = || Arc::new(Lane::new(ProviderSettings::DEFAULT_MAX_IN_FLIGHT));
        Arc::clone(&self.of.entry(Arc::clone(provider)).or_insert_with(new))
    }
}

impl Lane {
    fn new(max: usize) -> Self {
        Self {
            calls: Arc::new(Semaphore::new(max)),
            width: Mutex::new(Width { max, ..Width::default() }),
        }
    }

    fn queue(&self) -> Option<Place<'_>> {
        let mut width = self.lock();
        if width.queued >= width.max.saturating_mul(limits::MAX_QUEUED_PER_EXCHANGE) {
            return None;
        }
        width.queued += 1;
        Some(Place(self))
    }

    fn resize(&self, max: usize) {
        let mut width = self.lock();
        if max > width.max {
            let more = max - width.max;
            let reopened = more.min(width.closing);
            width.closing -= reopened;
            self.calls.add_permits(more - reopened);
        } else {
            let fewer = width.max - max;
            width.closing += fewer - self.calls.forget_permits(fewer);
        }
        width.max = max;
    }

    fn lock(&self) -> MutexGuard<'_, Width> {
        self.width.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut width = self.lane.lock();
        if width.closing > 0 {
            width.closing -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.lock().renewals -= 1;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.lock().queued -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use tokio::time::Instant;

    use super::*;

    const MAX: usize = ProviderSettings::DEFAULT_MAX_IN_FLIGHT;

    async fn all_lanes(lanes: &Lanes, provider: &Arc<str>) -> Vec<Turn> {
        let turns = join_all((0..MAX).map(|_| lanes.enter(provider))).await;
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
        let full = ProviderLoad { in_flight: MAX, max_in_flight: MAX, queued: 1 };
        assert_eq!(lanes.load("entra"), Some(full));
        turns.pop();
        assert!(waiting.await.is_some());
        let one_less = ProviderLoad { in_flight: MAX - 1, max_in_flight: MAX, queued: 0 };
        assert_eq!(lanes.load("entra"), Some(one_less));
        assert_eq!(lanes.load("other"), None);
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
        let waiting =
            join_all((0..MAX * limits::MAX_QUEUED_PER_EXCHANGE).map(|_| lanes.enter(&provider)));
        let one_more = async {
            let turn = lanes.enter(&provider).await;
            (turn.is_none(), started.elapsed())
        };
        let (waited, one_more) = futures_util::future::join(waiting, one_more).await;
        assert_eq!(one_more, (true, Duration::ZERO));
        assert!(waited.iter().all(Option::is_none));
    }

    fn enter_now(lanes: &Lanes, provider: &Arc<str>) -> Option<Turn> {
        lanes.enter(provider).now_or_never().flatten()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_longest_goes_first() {
        let (lanes, provider) = (Lanes::default(), Arc::from("entra"));
        lanes.set(&provider, 1);
        let turn = enter_now(&lanes, &provider);
        let mut first = Box::pin(lanes.enter(&provider));
        let mut second = Box::pin(lanes.enter(&provider));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        drop(turn);
        assert!(enter_now(&lanes, &provider).is_none(), "nobody overtakes");
        assert!(second.as_mut().now_or_never().is_none());
        assert!(first.await.is_some());
        assert!(second.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_changes_how_many_go_at_once() {
        let (lanes, provider) = (Lanes::default(), Arc::from("entra"));
        lanes.set(&provider, 3);
        let mut turns: Vec<Turn> = (0..3).map_while(|_| enter_now(&lanes, &provider)).collect();
        assert_eq!(turns.len(), 3);
        lanes.set(&provider, 1);
        turns.pop();
        turns.pop();
        assert!(enter_now(&lanes, &provider).is_none(), "one is still under way");
        turns.pop();
        turns.extend(enter_now(&lanes, &provider));
        assert_eq!((turns.len(), enter_now(&lanes, &provider).is_none()), (1, true));

        lanes.set(&provider, 2);
        turns.extend(enter_now(&lanes, &provider));
        assert_eq!((turns.len(), enter_now(&lanes, &provider).is_none()), (2, true));
        // Lowered and raised again while both are under way.
        lanes.set(&provider, 1);
        lanes.set(&provider, 2);
        turns.clear();
        turns.extend((0..3).map_while(|_| enter_now(&lanes, &provider)));
        assert_eq!((turns.len(), lanes.max(&provider)), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_leave_the_last_quarter_to_requests() {
        let (lanes, provider) = (Lanes::default(), Arc::from("entra"));
        lanes.set(&provider, 8);
        let rooms: Vec<Room> = (0..8).map_while(|_| lanes.room_for_renewal(&provider)).collect();
        assert_eq!(rooms.len(), 6, "before one of them has its turn");
        drop(rooms);
        let turns: Vec<Turn> = (0..5).map_while(|_| enter_now(&lanes, &provider)).collect();
        assert!(lanes.room_for_renewal(&provider).is_some());
        let _sixth = enter_now(&lanes, &provider);
        assert!(lanes.room_for_renewal(&provider).is_none());
        drop(turns);
        assert!(lanes.room_for_renewal(&provider).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_lane_is_lent_to_a_renewal_when_nobody_wants_it() {
        let (lanes, provider) = (Lanes::default(), Arc::from("entra"));
        lanes.set(&provider, 1);
        let room = lanes.room_for_renewal(&provider);
        assert!(room.is_some() && lanes.room_for_renewal(&provider).is_none());
        drop(room);
        let turn = enter_now(&lanes, &provider);
        assert!(lanes.room_for_renewal(&provider).is_none());
        drop(turn);
        assert!(lanes.room_for_renewal(&provider).is_some());
    }
}
