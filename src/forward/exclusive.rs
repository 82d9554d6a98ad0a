//! A connection of HTTP/1.1, which one request has at a time, and who runs it: its user, in the task
//! that waits for what comes over it. A task of its own would cost two wake-ups a request. It gets one
//! where the request and its answer go on side by side.
//!
//! Between requests nobody runs it: the pool looks, now and then and before it is lent, whether it
//! was closed. One that is there for longer rests: it lets go of its parser, and so of the buffers, which are
//! as large as the last bodies made them, and gets another with its next request.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::FutureExt as _;
use futures_util::task::AtomicWaker;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{AbortHandle, unconstrained};
use tokio::time::timeout;

use super::own_task;
use crate::body::Body;
use crate::held_up::HeldUp;
use crate::limits;

/// The connection. One that is dropped ends at once, even while an upstream that takes nothing blocks
/// it: nobody waits for what is on its way any more.
pub(super) struct Exclusive {
    sender: http1::SendRequest<Body>,
    run: Run,
    held_up: Arc<HeldUp>,
}

/// Who runs it.
enum Run {
    /// Its user, who hears the bell.
    User(Running, Hung),
    /// A task, as long as this is held.
    Task(AbortHandle),
    /// Nobody: it rests.
    Rests(Wire),
    /// Nobody: it has ended, or was left to its task.
    Nobody,
}

type Running = Pin<Box<http1::Connection<TokioIo<Wire>, Body>>>;

/// What a connection goes over.
type Wire = Box<dyn Stream>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What the connection wakes: its user, while that waits. What the user itself does to it, by taking what
/// came or by sending, would wake it for nothing; and between requests nobody is woken or held.
struct Bell {
    /// Whether there may be something new for the connection since it was last run.
    rang: AtomicBool,
    user: AtomicWaker,
}

/// The bell, and as the connection knows it.
struct Hung {
    bell: Arc<Bell>,
    rings: Waker,
    /// Whether the user waits for it.
    awaited: bool,
}

impl Hung {
    fn new() -> Self {
        // Nobody has run the connection yet.
        let bell = Arc::new(Bell { rang: AtomicBool::new(true), user: AtomicWaker::new() });
        Self { rings: Waker::from(Arc::clone(&bell)), bell, awaited: false }
    }

    /// Wakes `user` from now on.
    fn wakes(&mut self, user: &Waker) {
        self.awaited = true;
        self.bell.user.register(user);
        // Before somebody was there to hear it.
        if self.has_rung() {
            user.wake_by_ref();
        }
    }

    /// Wakes nobody, and holds nobody.
    fn wakes_nobody(&mut self) {
        if std::mem::take(&mut self.awaited) {
            self.bell.user.take();
        }
    }

    /// Runs `connection`, which sees all that was rung for until now.
    fn run<F: Future + ?Sized>(&self, connection: Pin<&mut F>) -> Poll<F::Output> {
        // Before it looks: who rings from now on is heard.
        self.bell.rang.swap(false, Ordering::AcqRel);
        connection.poll(&mut Context::from_waker(&self.rings))
    }

    fn has_rung(&self) -> bool {
        self.bell.rang.load(Ordering::Acquire)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        self.user.wake();
    }
}

impl Exclusive {
    /// A connection over `stream`; `held_up` is of its socket.
    pub(super) async fn new(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        held_up: Arc<HeldUp>,
    ) -> hyper::Result<Self> {
        let (sender, connection) = parser(Box::new(stream)).await?;
        Ok(Self { sender, run: Run::User(connection, Hung::new()), held_up })
    }

    /// `connection`, over which `sender` sends, run by a task of its own from the beginning.
    pub(super) fn in_task(
        sender: http1::SendRequest<Body>,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
        held_up: Arc<HeldUp>,
    ) -> Self {
        Self { sender, run: Run::Task(own_task::run(connection)), held_up }
    }

    /// Sends a request. The answer is polled with [`Self::poll_for`].
    pub(super) fn send(
        &mut self,
        mut request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>> + Send + use<>
    {
        request.body_mut().paced_by(&self.held_up);
        self.wake_up();
        self.sender.try_send_request(request)
    }

    /// Gives it a parser again, if it rests.
    fn wake_up(&mut self) {
        self.run = match std::mem::replace(&mut self.run, Run::Nobody) {
            Run::Rests(wire) => {
                // Nothing is waited for there. Whoever sends over one without a parser hears that it has ended.
                let Some(Ok((sender, connection))) = parser(wire).now_or_never() else { return };
                self.sender = sender;
                Run::User(connection, Hung::new())
            }
            other @ (Run::User(..) | Run::Task(_) | Run::Nobody) => other,
        };
    }

    /// Polls what comes over the connection.
    pub(super) fn poll_for<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut coming: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Run::User(connection, hung) = &mut self.run else { return coming(cx) };
        hung.wakes_nobody();
        // It comes when the connection is run, which is done here.
        let mut silent = Context::from_waker(Waker::noop());
        let had_rung = hung.has_rung();
        let came = coming(&mut silent);
        if came.is_ready() {
            if !had_rung {
                // To take what came rings, and is nothing new to a connection that is done. Should the other
                // side ring at this very moment, it is seen when the connection is next run.
                hung.bell.rang.store(false, Ordering::Release);
            }
            return came;
        }
        if let Poll::Ready(outcome) = hung.run(connection.as_mut()) {
            self.run = Run::Nobody;
            own_task::ended(outcome);
            return coming(cx);
        }
        let came = coming(&mut silent);
        if came.is_pending() {
            hung.wakes(cx.waker());
        }
        came
    }

    /// Whether it can be lent: it is open, and done with the request before, as far as can be seen now.
    pub(super) fn takes_request(&mut self) -> bool {
        if let Run::Rests(wire) = &mut self.run {
            if is_silent(wire) {
                return true;
            }
            self.run = Run::Nobody;
        }
        // Most times nothing has happened to it since it was last run.
        if let Run::User(_, hung) = &self.run
            && hung.has_rung()
        {
            self.look();
        }
        self.is_done()
    }

    /// Has the connection see what is new.
    fn look(&mut self) {
        let Run::User(connection, hung) = &mut self.run else { return };
        // It has a look in any case, whatever else this task has done.
        if let Poll::Ready(outcome) = hung.run(pin!(unconstrained(connection))) {
            self.run = Run::Nobody;
            own_task::ended(outcome);
        }
    }

    /// Lets it rest; whether it is there and can be lent.
    pub(super) fn rest(&mut self) -> bool {
        // One that rests already is looked at by this, too.
        if !self.takes_request() {
            return false;
        }
        self.run = match std::mem::replace(&mut self.run, Run::Nobody) {
            Run::User(connection, _hung) => {
                let parts = Pin::into_inner(connection).into_parts();
                // A byte that nobody asked for would be taken for the next answer.
                if parts.read_buf.is_empty() {
                    Run::Rests(parts.io.into_inner())
                } else {
                    Run::Nobody
                }
            }
            other @ (Run::Task(_) | Run::Rests(_) | Run::Nobody) => other,
        };
        matches!(self.run, Run::Rests(_))
    }

    /// What can be lent again of one whose answer has just ended. One that is open, and has bytes of the
    /// request left which the other side does not take yet, is run until they are gone, and closed.
    pub(super) fn freed(mut self) -> Option<Self> {
        // As a rule nothing is new to be seen. To take the end of the answer may have made room for more.
        if !self.is_done() {
            self.look();
        }
        if self.is_done() {
            return Some(self);
        }
        if matches!(self.run, Run::User(..)) && self.held_up.is_so() {
            tokio::spawn(timeout(limits::REQUEST_TAIL_TIMEOUT, self.gone()));
        }
        None
    }

    /// Whether it is done with the request before, to the last byte.
    fn is_done(&self) -> bool {
        self.sender.is_ready() && !self.held_up.is_so()
    }

    /// Waits until it is done with its request, or has ended.
    async fn gone(mut self) {
        poll_fn(|cx| {
            let Run::User(connection, _hung) = &mut self.run else { return Poll::Ready(()) };
            // It sees only at a second look that it is done.
            for _ in 0..2 {
                if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
                    own_task::ended(outcome);
                    return Poll::Ready(());
                }
                if self.held_up.is_so() {
                    return Poll::Pending;
                }
            }
            if self.sender.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Runs it by a task of its own from now on.
    pub(super) fn run_by_itself(&mut self) {
        self.run = match std::mem::replace(&mut self.run, Run::Nobody) {
            Run::User(connection, _hung) => Run::Task(own_task::run(connection)),
            other @ (Run::Task(_) | Run::Rests(_) | Run::Nobody) => other,
        };
    }

    /// The same, whoever lets go of it.
    pub(super) fn leave(mut self) {
        self.run_by_itself();
        self.run = Run::Nobody;
    }
}

async fn parser(wire: Wire) -> hyper::Result<(http1::SendRequest<Body>, Running)> {
    let mut builder = http1::Builder::new();
    builder.max_header_size(limits::MAX_ANSWER_HEAD_BYTES).max_buf_size(limits::HTTP1_BUFFER_BYTES);
    let (sender, connection) = builder.handshake(TokioIo::new(wire)).await?;
    Ok((sender, Box::pin(connection)))
}

/// Whether neither a byte nor the end has come over one that has no parser.
fn is_silent(wire: &mut Wire) -> bool {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    let read = poll_fn(|cx| Pin::new(&mut *wire).poll_read(cx, &mut buffer));
    // It has a look in any case, whatever else this task has done.
    unconstrained(read).now_or_never().is_none()
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        if let Run::Task(task) = &self.run {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
