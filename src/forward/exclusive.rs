//! A connection of HTTP/1.1, which one request has at a time, and who runs it: its user, in the task
//! that waits for what comes over it. A task of its own would cost two wake-ups a request. It gets one
//! where the request and its answer go on side by side.
//!
//! Between requests nobody runs it: the pool looks, now and then and before it is lent, whether it
//! was closed.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper::{Request, Response};
use tokio::task::{AbortHandle, unconstrained};

use crate::body::Body;

/// The connection. One that is dropped ends at once, even while an upstream that takes nothing blocks
/// it: nobody waits for what is on its way any more.
pub(super) struct Exclusive {
    sender: http1::SendRequest<Body>,
    run: Run,
}

/// Who runs it.
enum Run {
    /// Its user.
    User(Running),
    /// A task, as long as this is held.
    Task(AbortHandle),
    /// Nobody: it has ended, or was left to its task.
    Nobody,
}

type Running = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

impl Exclusive {
    /// `connection`, over which `sender` sends.
    pub(super) fn new(
        sender: http1::SendRequest<Body>,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
    ) -> Self {
        Self { sender, run: Run::User(Box::pin(connection)) }
    }

    /// Sends a request. The answer is polled with [`Self::poll_for`].
    pub(super) fn send(
        &mut self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>> + Send + use<>
    {
        self.sender.try_send_request(request)
    }

    /// Polls what comes over the connection.
    pub(super) fn poll_for<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut coming: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Run::User(connection) = &mut self.run else { return coming(cx) };
        // It comes when the connection is run, which is done here: that would only wake ourselves.
        let mut silent = Context::from_waker(Waker::noop());
        let came = coming(&mut silent);
        if came.is_ready() {
            return came;
        }
        if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
            self.run = Run::Nobody;
            tell(outcome);
        }
        coming(&mut silent)
    }

    /// Whether it can be lent: it is open, and done with the request before, as far as can be seen now.
    pub(super) fn takes_request(&mut self) -> bool {
        if let Run::User(connection) = &mut self.run {
            // Nobody waits for it. It has a look in any case, whatever else this task has done.
            let mut silent = Context::from_waker(Waker::noop());
            if let Poll::Ready(outcome) = pin!(unconstrained(connection)).poll(&mut silent) {
                self.run = Run::Nobody;
                tell(outcome);
            }
        }
        self.sender.is_ready()
    }

    /// Runs it by a task of its own from now on.
    pub(super) fn run_by_itself(&mut self) {
        self.run = match std::mem::replace(&mut self.run, Run::Nobody) {
            Run::User(connection) => Run::Task(spawn(connection)),
            other @ (Run::Task(_) | Run::Nobody) => other,
        };
    }

    /// The same, whoever lets go of it.
    pub(super) fn leave(mut self) {
        self.run_by_itself();
        self.run = Run::Nobody;
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        if let Run::Task(task) = &self.run {
            task.abort();
        }
    }
}

/// Runs a connection until it ends. Its errors reach those who use it.
pub(super) fn spawn(
    connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
) -> AbortHandle {
    tokio::spawn(async move { tell(connection.await) }).abort_handle()
}

fn tell(outcome: hyper::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection to an upstream ended");
    }
}
