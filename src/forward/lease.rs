//! A connection that is lent to one request: how it is sent over, and what becomes of it then.
//! Where it came from, and where it goes back to, is `pool.rs`'s; who runs it, `exclusive.rs`'s.

use std::future::Future;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll};

use futures_util::future::Either;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper::{Request, Response};
use tokio::task::unconstrained;

use super::alarm::Alarm;
use super::exclusive::Exclusive;
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

impl Wanted {
    /// The number that a shared one has to be above.
    pub(super) fn than(self) -> Option<u64> {
        match self {
            Self::Any => None,
            Self::NewerThan(failed) => Some(failed),
        }
    }
}

/// A connection, lent to one request.
pub(super) struct Lease {
    pub(super) connection: Connection,
    /// Whether it carried a request before: then it may be stale.
    pub(super) reused: bool,
    /// Of whoever waits for an answer over it.
    pub(super) alarm: Alarm,
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

pin_project_lite::pin_project! {
    /// Waits for the head of an answer. Not an `async` block: that would have a second place for
    /// the wait, in which there is room for a request.
    struct Sending<'l, A> {
        lease: &'l mut Lease,
        #[pin]
        answer: A,
    }
}

impl<A: Future> Future for Sending<'_, A> {
    type Output = A::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A::Output> {
        let mut this = self.project();
        this.lease.poll_for(cx, |cx| this.answer.as_mut().poll(cx))
    }
}

impl Lease {
    /// That of a new connection.
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, reused: false, alarm: Alarm::default() }
    }

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

    /// Sends a request, and waits for the head of its answer. The error gives it back if nothing of
    /// it was sent.
    pub(super) fn send(
        &mut self,
        mut request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>> {
        let answer = match &mut self.connection {
            Connection::Http1 { exclusive, .. } => Either::Left(exclusive.send(request)),
            Connection::Http2(Stream { sender, .. }) | Connection::Alone(sender) => {
                request.body_mut().unpaced();
                Either::Right(sender.try_send_request(request))
            }
        };
        Sending { lease: self, answer: unconstrained(answer) }
    }

    /// Polls what comes over the connection. It has to be ready as soon as it is there, whatever
    /// else its task has done.
    pub(super) fn poll_for<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut coming: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match &mut self.connection {
            Connection::Http1 { exclusive, .. } => exclusive.poll_for(cx, coming),
            Connection::Http2(_) | Connection::Alone(_) => coming(cx),
        }
    }

    /// The request is still on its way while its answer comes: neither waits for the other.
    pub(super) fn run_by_itself(&mut self) {
        match &mut self.connection {
            Connection::Http1 { exclusive, .. } => exclusive.run_by_itself(),
            Connection::Http2(_) | Connection::Alone(_) => {}
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
            && let Some(exclusive) = exclusive.freed()
            && let Some(pool) = pool.upgrade()
        {
            pool.keep(exclusive, self.alarm);
        }
    }

    /// The lease of a connection of HTTP/1.1 that no pool knows.
    pub(super) fn of_http1(exclusive: Exclusive) -> Self {
        Self::new(Connection::Http1 { exclusive, pool: Weak::new() })
    }

    /// The lease of a connection of HTTP/2 that no pool knows.
    pub(super) fn of_http2(sender: http2::SendRequest<Body>) -> Self {
        Self::new(Connection::Alone(sender))
    }

    /// Leaves the connection to itself: the answer has ended, and the request is still on its
    /// way. It closes behind that.
    pub(super) fn leave(self) {
        if let Connection::Http1 { exclusive, .. } = self.connection {
            exclusive.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use bytes::Bytes;
    use http::HeaderValue;
    use http_body_util::{BodyExt as _, Empty, StreamBody};
    use hyper::body::Frame;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    use super::*;
    use crate::body::BoxError;
    use crate::held_up::HeldUp;
    use crate::limits;

    #[tokio::test]
    async fn a_body_that_was_meant_for_another_connection_is_not_held_up_with_that() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            let taken = service_fn(async |request: Request<Incoming>| {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let length = HeaderValue::from(body.len());
                let mut response = Response::new(Empty::<Bytes>::new());
                response.headers_mut().insert("x-length", length);
                Ok::<_, Infallible>(response)
            });
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(theirs), taken)
                .await
        });
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(ours)).await.unwrap();
        tokio::spawn(connection);
        let frames = [limits::HTTP1_GATHERED_BYTES, 1]
            .map(|bytes| Ok::<_, BoxError>(Frame::data(Bytes::from(vec![b'x'; bytes]))));
        let mut body = Body::stream(StreamBody::new(futures_util::stream::iter(frames)));
        // It was given to a connection of HTTP/1.1, which turned out to be closed.
        body.paced_by(&Arc::new(HeldUp::default()));
        let mut lease = Lease::of_http2(sender);
        let response = lease.send(Request::post("http://a.x/").body(body).unwrap());
        let response = tokio::time::timeout(std::time::Duration::from_mins(1), response).await;
        let length = response.expect("the body is given").unwrap().headers()["x-length"].clone();
        assert_eq!(length, (limits::HTTP1_GATHERED_BYTES + 1).to_string());
    }
}
