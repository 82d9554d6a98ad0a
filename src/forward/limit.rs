//! How many connections an upstream has, over all its endpoints, and who waits for one.
//!
//! A connection counts from before it is made until its socket is closed, whatever is spoken over
//! it by then. Those who find no room wait in one line, first come first served; only the first
//! of them looks for room, when something was given back. Where there is room, and nobody waits,
//! all of this costs the load of one atomic.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::pool::Pool;

/// The limits of one upstream, and how far they are used.
pub(super) struct Limit {
    most_open: usize,
    most_waiting: usize,
    open: AtomicUsize,
    /// In both lines.
    waiting: AtomicUsize,
    /// Of requests, which any connection will do for.
    requests: Line,
    /// Of those who need a connection for themselves.
    alone: Line,
    /// Whose idle connections can make room.
    pools: Mutex<Vec<Weak<Pool>>>,
}

/// A line of those who wait.
struct Line {
    waiting: AtomicUsize,
    /// Who has it is the first of the line; the others wait for it in their order.
    first: Semaphore,
    /// Something was given back while somebody waited.
    freed: Notify,
}

impl Line {
    fn new() -> Self {
        Self { waiting: AtomicUsize::new(0), first: Semaphore::new(1), freed: Notify::new() }
    }

    fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }
}

/// So many wait already.
#[derive(Debug, thiserror::Error)]
#[error("{0} requests wait for a connection already (`max_pending`)")]
pub(super) struct LineFull(usize);

/// Whether a request may be turned away at the end of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may.
    New,
    /// It was let in before, and comes back because its connection was stale.
    Admitted,
}

impl Limit {
    pub(super) fn new(most_open: usize, most_waiting: usize) -> Arc<Self> {
        Arc::new(Self {
            most_open,
            most_waiting,
            open: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            requests: Line::new(),
            alone: Line::new(),
            pools: Mutex::default(),
        })
    }

    /// A pool whose connections count here.
    pub(super) fn join(&self, pool: &Arc<Pool>) {
        let mut pools = self.pools();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// Room for one more connection, if there is some.
    pub(super) fn slot(self: &Arc<Self>) -> Option<Slot> {
        let more = |open| (open < self.most_open).then_some(open + 1);
        let taken = self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        taken.ok().map(|_before| Slot(Arc::clone(self)))
    }

    /// The same when there is some, for one who needs the connection for itself. Nobody is
    /// overtaken, and those who share come first.
    pub(super) async fn room(self: &Arc<Self>) -> Result<Slot, LineFull> {
        if self.waiting.load(Ordering::SeqCst) == 0
            && let Some(slot) = self.slot()
        {
            return Ok(slot);
        }
        let waiting = self.queue_in(&self.alone, Admission::New)?;
        let first = waiting.first().await;
        loop {
            if let Some(slot) = self.slot() {
                return Ok(slot);
            }
            first.room(None).await;
        }
    }

    /// Whether requests wait: whichever comes now comes behind them.
    pub(super) fn is_awaited(&self) -> bool {
        self.requests.is_awaited()
    }

    /// Goes to the end of the line of requests.
    pub(super) fn queue(&self, admission: Admission) -> Result<Waiting<'_>, LineFull> {
        self.queue_in(&self.requests, admission)
    }

    fn queue_in<'l>(
        &'l self,
        line: &'l Line,
        admission: Admission,
    ) -> Result<Waiting<'l>, LineFull> {
        let before = self.waiting.fetch_add(1, Ordering::SeqCst);
        line.waiting.fetch_add(1, Ordering::SeqCst);
        // Made at once: from here on it counts down by itself.
        let waiting = Waiting { limit: self, line };
        match admission {
            Admission::New if before >= self.most_waiting => Err(LineFull(before)),
            Admission::New | Admission::Admitted => Ok(waiting),
        }
    }

    /// Something was given back. Called after it was: whoever waits by then finds it, and who
    /// comes later finds it too.
    pub(super) fn given_back(&self) {
        for line in [&self.requests, &self.alone] {
            if line.is_awaited() {
                line.freed.notify_one();
            }
        }
    }

    fn pools(&self) -> MutexGuard<'_, Vec<Weak<Pool>>> {
        // Nothing that holds this lock can panic half-way through a change.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line; dropping it leaves.
pub(super) struct Waiting<'l> {
    limit: &'l Limit,
    line: &'l Line,
}

impl<'l> Waiting<'l> {
    /// Waits until all who came before are served or gone.
    pub(super) async fn first(&self) -> First<'l> {
        // The semaphore is never closed.
        First { limit: self.limit, line: self.line, _turn: self.line.first.acquire().await.ok() }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.line.waiting.fetch_sub(1, Ordering::SeqCst);
        self.limit.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The first of a line.
pub(super) struct First<'l> {
    limit: &'l Limit,
    line: &'l Line,
    _turn: Option<SemaphorePermit<'l>>,
}

impl First<'_> {
    /// Has an idle connection closed, and waits until something was given back.
    ///
    /// `takes` is the pool whose idle connections the waiter may have itself. Its HTTP/1.1 ones are not
    /// closed: one that came back since the waiter looked is taken next, not made anew.
    ///
    /// # Cancel safety
    ///
    /// What was given back meanwhile is found by the next of the line, who looks first.
    pub(super) async fn room(&self, takes: Option<&Arc<Pool>>) {
        let pools: Vec<_> = self.limit.pools().iter().filter_map(Weak::upgrade).collect();
        for pool in pools {
            let may_take = takes.is_some_and(|own| Arc::ptr_eq(own, &pool));
            if !may_take && pool.close_one_exclusive() || pool.close_one_shared() {
                break;
            }
        }
        self.line.freed.notified().await;
    }
}

/// Room for one connection; it goes with the socket.
pub(super) struct Slot(Arc<Limit>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.given_back();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn so_many_are_open_and_no_more() {
        let limit = Limit::new(2, 0);
        let (first, second) = (limit.slot().unwrap(), limit.slot());
        assert!(second.is_some() && limit.slot().is_none());
        drop(first);
        let third = limit.slot();
        assert!(third.is_some() && limit.slot().is_none());
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let limit = Limit::new(1, 2);
        let first = limit.queue(Admission::New).unwrap();
        let second = limit.queue(Admission::New);
        assert!(second.is_ok());
        assert!(limit.queue(Admission::New).is_err());
        // One that was let in before is not turned away, and counts.
        let back = limit.queue(Admission::Admitted);
        assert!(back.is_ok());
        drop(first);
        assert!(limit.queue(Admission::New).is_err());
        drop(back);
        assert!(limit.queue(Admission::New).is_ok());
        drop(second);
        assert!(!limit.is_awaited());
        assert!(Limit::new(1, 0).queue(Admission::New).is_err());
    }

    #[tokio::test]
    async fn the_line_is_served_in_order_and_a_gap_closes() {
        let limit = Limit::new(1, 8);
        let slot = limit.slot().unwrap();
        let places: Vec<_> = (0..3).map(|_| limit.queue(Admission::New).unwrap()).collect();
        let [a, b, c] = &places[..] else { panic!("there are three") };
        let first = a.first().await;
        let mut second = Box::pin(b.first());
        let mut third = Box::pin(c.first());
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        // The first is told, and leaves without a look: the next finds the room by itself.
        let mut told = Box::pin(first.room(None));
        assert!(told.as_mut().now_or_never().is_none());
        drop(slot);
        drop(told);
        drop(first);
        drop(second);
        let third = third.now_or_never().expect("the second has left");
        assert!(limit.slot().is_some());
        drop(third);
    }

    #[tokio::test]
    async fn who_wants_a_connection_for_itself_holds_up_no_requests() {
        let limit = Limit::new(1, 2);
        let slot = limit.slot().unwrap();
        let mut alone = Box::pin(limit.room());
        assert!(alone.as_mut().now_or_never().is_none());
        assert!(!limit.is_awaited());
        let request = limit.queue(Admission::New).unwrap();
        assert!(limit.queue(Admission::New).is_err(), "both lines count");
        let first = request.first().now_or_never().expect("its line is its own");
        let mut told = Box::pin(first.room(None));
        assert!(told.as_mut().now_or_never().is_none());
        drop(slot);
        told.await;
        assert!(alone.await.is_ok(), "both were told");
    }

    #[tokio::test]
    async fn what_is_given_back_before_somebody_listens_is_not_lost() {
        let limit = Limit::new(1, 8);
        let slot = limit.slot().unwrap();
        let place = limit.queue(Admission::New).unwrap();
        let first = place.first().await;
        assert!(limit.slot().is_none());
        drop(slot);
        first.room(None).now_or_never().expect("told before it asked");
        assert!(limit.slot().is_some());
    }
}
