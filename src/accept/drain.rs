//! The end: no new connections, the requests in flight are answered, and what is not answered
//! in time is cut off and counted.
//!
//! A listener that goes while others stay has an end of its own, which is a part of the whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::limits::{CLOSING_TIMEOUT, DRAIN_MOMENT};

/// Ends what serves connections; clones end the same.
#[derive(Clone, Debug, Default)]
pub struct Drain(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    haste: Haste,
    closing: CancellationToken,
    cutting: CancellationToken,
    tasks: TaskTracker,
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// What this is a part of; there what happens here is waited for and counted too.
    whole: Option<Drain>,
}

/// What those are given who are connected when the end begins and have no request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Haste {
    /// A moment: a request may be on its way.
    #[default]
    None,
    /// Nothing: who was let in once is to be out.
    AtOnce,
}

/// What did not end in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutOff {
    /// Connections that were closed before they were done.
    pub connections: usize,
    /// Requests on them that were being answered.
    pub requests: usize,
}

/// Something that is waited for until it is dropped.
#[derive(Debug)]
pub(crate) struct Awaited {
    _here: TaskTrackerToken,
    _in_whole: Option<Box<Self>>,
}

impl Drain {
    /// One that gives connections without a request no time, also not for one on its way.
    pub fn at_once() -> Self {
        Self(Arc::new(Inner { haste: Haste::AtOnce, ..Inner::default() }))
    }

    /// The end of a part, which may come before that of the whole, and not after it.
    #[must_use]
    pub fn part(&self) -> Self {
        Self(Arc::new(Inner {
            haste: self.0.haste,
            closing: self.0.closing.child_token(),
            cutting: self.0.cutting.child_token(),
            whole: Some(self.clone()),
            ..Inner::default()
        }))
    }

    /// Nothing new is accepted from now on, connections are told to end (`Connection: close`,
    /// GOAWAY), and those without a request close after a moment.
    pub fn begin(&self) {
        self.0.closing.cancel();
    }

    /// Whether the end has begun.
    pub fn has_begun(&self) -> bool {
        self.0.closing.is_cancelled()
    }

    /// Ends, gives the requests in flight `grace`, and cuts off the rest.
    pub async fn finish(&self, grace: Duration) -> CutOff {
        self.begin();
        self.0.tasks.close();
        if timeout(grace, self.0.tasks.wait()).await.is_err() {
            self.0.cutting.cancel();
            // They only have to notice; who does not notice by then is stuck in its own code.
            if timeout(CLOSING_TIMEOUT, self.0.tasks.wait()).await.is_err() {
                tracing::warn!(tasks = self.0.tasks.len(), "connections did not end when cut off");
            }
        }
        CutOff {
            connections: self.0.connections.load(Ordering::Relaxed),
            requests: self.0.requests.load(Ordering::Relaxed),
        }
    }

    /// Waits for [`Drain::begin`].
    pub(crate) fn closing(&self) -> WaitForCancellationFuture<'_> {
        self.0.closing.cancelled()
    }

    /// Waits for the end of the grace.
    pub(crate) fn cutting(&self) -> WaitForCancellationFuture<'_> {
        self.0.cutting.cancelled()
    }

    /// What a connection without a request has, once the end has begun.
    pub(crate) fn moment(&self) -> Duration {
        match self.0.haste {
            Haste::None => DRAIN_MOMENT,
            Haste::AtOnce => Duration::ZERO,
        }
    }

    /// Waits until the end has begun and that moment is over, or the grace.
    pub(crate) async fn leaving(&self) {
        self.closing().await;
        if self.moment().is_zero() {
            return;
        }
        tokio::select! {
            () = sleep(self.moment()) => {}
            () = self.cutting() => {}
        }
    }

    /// From now on the end waits for what holds this.
    pub(crate) fn awaits(&self) -> Awaited {
        let in_whole = self.0.whole.as_ref().map(|whole| Box::new(whole.awaits()));
        Awaited { _here: self.0.tasks.token(), _in_whole: in_whole }
    }

    /// Runs a task that the end waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(&Handle::current(), task);
    }

    /// The same, elsewhere.
    pub(crate) fn spawn_on(
        &self,
        runtime: &Handle,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let awaited = self.awaits();
        // Not an `async` block: that holds what it captured and what it awaits, which is the task twice.
        runtime.spawn(task.map(move |()| drop(awaited)));
    }

    /// A connection with so many requests in flight was cut off.
    pub(crate) fn cut_off(&self, requests: usize) {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        self.0.requests.fetch_add(requests, Ordering::Relaxed);
        if let Some(whole) = &self.0.whole {
            whole.cut_off(requests);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// A connection that goes on until it is cut off.
    fn busy(drain: &Drain) {
        let of_connection = drain.clone();
        drain.spawn(async move {
            of_connection.cutting().await;
            of_connection.cut_off(2);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_ends_without_the_others_and_counts_in_the_whole() {
        let whole = Drain::default();
        let (first, second) = (whole.part(), whole.part());
        busy(&first);
        busy(&second);
        assert_eq!(first.finish(S).await, CutOff { connections: 1, requests: 2 });
        assert!(first.has_begun() && !second.has_begun() && !whole.has_begun());
        assert_eq!(whole.finish(S).await, CutOff { connections: 2, requests: 4 });
        assert!(second.has_begun());
        assert_eq!(second.finish(S).await, CutOff { connections: 1, requests: 2 });
    }

    #[tokio::test(start_paused = true)]
    async fn the_whole_waits_for_its_parts_and_not_longer() {
        let whole = Drain::default();
        let part = whole.part();
        let awaited = part.awaits();
        let begun = tokio::time::Instant::now();
        tokio::spawn(async move {
            sleep(5 * S).await;
            drop(awaited);
        });
        assert_eq!(whole.finish(30 * S).await, CutOff::default());
        assert_eq!(begun.elapsed(), 5 * S);
    }

    #[tokio::test(start_paused = true)]
    async fn the_moment_is_short_and_the_grace_may_be_shorter() {
        for (drain, grace, moment) in [
            (Drain::default(), 30 * S, DRAIN_MOMENT),
            (Drain::default(), S / 10, S / 10),
            (Drain::at_once().part(), 30 * S, Duration::ZERO),
        ] {
            let begun = tokio::time::Instant::now();
            let leaves = drain.clone();
            drain.spawn(async move { leaves.leaving().await });
            assert_eq!(drain.finish(grace).await, CutOff::default());
            assert_eq!(begun.elapsed(), moment);
        }
    }
}
