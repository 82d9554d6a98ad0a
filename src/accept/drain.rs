//! The end: no new connections, the requests in flight are answered, and what is not answered
//! in time is cut off and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

use crate::limits::CLOSING_TIMEOUT;

/// Ends what serves connections; clones end the same.
#[derive(Clone, Debug, Default)]
pub struct Drain(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    closing: CancellationToken,
    cutting: CancellationToken,
    tasks: TaskTracker,
    connections: AtomicUsize,
    requests: AtomicUsize,
}

/// What did not end in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutOff {
    /// Connections that were closed before they were done.
    pub connections: usize,
    /// Requests on them that were being answered.
    pub requests: usize,
}

impl Drain {
    /// Nothing new is accepted from now on, connections are told to end (`Connection: close`,
    /// GOAWAY), and those without a request close.
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

    /// What is waited for.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// A connection with so many requests in flight was cut off.
    pub(crate) fn cut_off(&self, requests: usize) {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        self.0.requests.fetch_add(requests, Ordering::Relaxed);
    }
}
