//! A connection that is lent to one request: how it is sent over, and what becomes of it then.
//! Where it came from, and where it goes back to, is `pool.rs`'s.

use std::future::Future;
use std::sync::Weak;

use futures_util::future::Either;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Request, Response};
use tokio::task::AbortHandle;

use super::pool::Pool;
use super::shared::Stream;
use crate::body::Body;

/// Which connection will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A kept one or a new one.
    Any,
    /// A new one, or a shared one that is newer than this.
    NewerThan(u64),
}

/// A connection, lent to one request.
pub(super) struct Lease {
    pub(super) connection: Connection,
    /// Whether it carried a request before: then it may be stale.
    pub(super) reused: bool,
}

pub(super) enum Connection {
    Http1 {
        exclusive: Exclusive,
        pool: Weak<Pool>,
    },
    Http2(Stream),
    /// HTTP/2, and no pool knows it.
    Alone(http2::SendRequest<Body>),
}

impl Lease {
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.connection, Connection::Http2(_) | Connection::Alone(_))
    }

    /// What to ask for when this one has failed.
    pub(super) fn newer(&self) -> Wanted {
        match &self.connection {
            // Had there been a shared one, it would have been lent: any is newer than this.
            Connection::Http1 { .. } | Connection::Alone(_) => Wanted::NewerThan(0),
            Connection::Http2(stream) => Wanted::NewerThan(stream.newest),
        }
    }

    /// Sends a request. The error gives it back if nothing of it was sent.
    pub(super) fn send(
        &mut self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>> + Send + use<>
    {
        match &mut self.connection {
            Connection::Http1 { exclusive, .. } => {
                Either::Left(exclusive.sender.try_send_request(request))
            }
            Connection::Http2(Stream { sender, .. }) | Connection::Alone(sender) => {
                Either::Right(sender.try_send_request(request))
            }
        }
    }

    /// No answer came in time.
    pub(super) fn timed_out(&self) {
        match &self.connection {
            Connection::Http2(stream) => stream.timed_out(),
            // They carry nothing else, and go with this.
            Connection::Http1 { .. } | Connection::Alone(_) => {}
        }
    }

    /// Gives the connection back: the request and its answer have ended well.
    pub(super) fn give_back(self) {
        if let Connection::Http1 { exclusive, pool } = self.connection
            && let Some(pool) = pool.upgrade()
            && !exclusive.sender.is_closed()
        {
            pool.keep(exclusive);
        }
    }

    /// The lease of a connection of HTTP/1.1 that no pool knows.
    pub(super) fn of_http1(exclusive: Exclusive) -> Self {
        Self { connection: Connection::Http1 { exclusive, pool: Weak::new() }, reused: false }
    }

    /// The lease of a connection of HTTP/2 that no pool knows.
    pub(super) fn of_http2(sender: http2::SendRequest<Body>) -> Self {
        Self { connection: Connection::Alone(sender), reused: false }
    }

    /// Leaves the connection to itself: the answer has ended, and the request is still on its
    /// way. It closes behind that.
    pub(super) fn leave(self) {
        if let Connection::Http1 { mut exclusive, .. } = self.connection {
            exclusive.task = None;
        }
    }
}

/// An HTTP/1.1 connection. One that is dropped ends at once, even while an upstream that takes
/// nothing blocks it: nobody waits for what is on its way any more.
pub(super) struct Exclusive {
    pub(super) sender: http1::SendRequest<Body>,
    /// What runs it.
    task: Option<AbortHandle>,
}

impl Exclusive {
    /// Runs `connection`, over which `sender` sends, for as long as this is held.
    pub(super) fn new(
        sender: http1::SendRequest<Body>,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
    ) -> Self {
        Self { sender, task: Some(drive(connection)) }
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// Runs a connection until it ends. Its errors reach those who use it.
pub(super) fn drive(
    connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
) -> AbortHandle {
    let driving = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to an upstream ended");
        }
    });
    driving.abort_handle()
}
