//! A connection of HTTP/1.1, which one request has at a time, and who runs it: its user, in the task
//! that waits for what comes over it. A task of its own would cost two wake-ups a request. It gets one
//! where the request and its answer go on side by side.
//!
//! Between requests nobody runs it: the pool looks, now and then and before it is lent, whether it
//! was closed.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper::{Request, Response};
use tokio::task::{AbortHandle, unconstrained};
use tokio::time::timeout;

use super::own_task;
use super::socket::HeldUp;
use crate::body::Body;
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
    /// Its user.
    User(Running, Arc<Bell>),
    /// A task, as long as this is held.
    Task(AbortHandle),
    /// Nobody: it has ended, or was left to its task.
    Nobody,
}

type Running = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// What the connection wakes: its user, while that waits. What the user itself does to it, by taking what
/// came or by sending, would wake it for nothing; and between requests nobody is woken or held.
#[derive(Default)]
struct Bell {
    rang: AtomicBool,
    user: AtomicWaker,
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
    /// `connection`, over which `sender` sends; `held_up` is of its socket.
    pub(super) fn new(
        sender: http1::SendRequest<Body>,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
        held_up: Arc<HeldUp>,
    ) -> Self {
        Self { sender, run: Run::User(Box::pin(connection), Arc::default()), held_up }
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
        let Run::User(connection, bell) = &mut self.run else { return coming(cx) };
        bell.user.take();
        // It comes when the connection is run, which is done here.
        let mut silent = Context::from_waker(Waker::noop());
        let came = coming(&mut silent);
        if came.is_ready() {
            return came;
        }
        // Who takes a ring back sees what it was rung for.
        bell.rang.swap(false, Ordering::AcqRel);
        let bell = Arc::clone(bell);
        let waker = Waker::from(Arc::clone(&bell));
        if let Poll::Ready(outcome) = connection.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.run = Run::Nobody;
            own_task::ended(outcome);
        }
        let came = coming(&mut silent);
        if came.is_pending() {
            bell.user.register(cx.waker());
            // Before somebody was there to hear it.
            if bell.rang.load(Ordering::Acquire) {
                cx.waker().wake_by_ref();
            }
        }
        came
    }

    /// Whether it can be lent: it is open, and done with the request before, as far as can be seen now.
    pub(super) fn takes_request(&mut self) -> bool {
        if let Run::User(connection, bell) = &mut self.run {
            let waker = Waker::from(Arc::clone(bell));
            // It has a look in any case, whatever else this task has done.
            let looked = pin!(unconstrained(connection)).poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(outcome) = looked {
                self.run = Run::Nobody;
                own_task::ended(outcome);
            }
        }
        self.is_done()
    }

    /// What can be lent again of one whose answer has just ended. One that is open, and has bytes of the
    /// request left which the other side does not take yet, is run until they are gone, and closed.
    pub(super) fn freed(mut self) -> Option<Self> {
        // As a rule nothing is new to be seen.
        if self.is_done() || self.takes_request() {
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
            let Run::User(connection, _bell) = &mut self.run else { return Poll::Ready(()) };
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
            Run::User(connection, _bell) => Run::Task(own_task::run(connection)),
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncRead, AsyncWrite};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufStream, DuplexStream};

    use super::super::limit::Limit;
    use super::super::socket::Socket;
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
    const BODY: &[u8] = &[b'x'; 1000];

    async fn connection() -> (Exclusive, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        (over(ours).await, theirs)
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Exclusive {
        let socket = Socket::new(stream, Limit::new(1, 0).slot().unwrap());
        let (socket, held_up) = socket.watched();
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        Exclusive::new(sender, connection, held_up)
    }

    async fn head(theirs: &mut DuplexStream) -> Vec<u8> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(theirs.read_u8().await.unwrap());
        }
        head
    }

    #[tokio::test]
    async fn its_user_runs_it_and_it_is_lent_until_the_other_side_closes_it() {
        let (mut exclusive, mut theirs) = connection().await;
        for _ in 0..2 {
            let mut answer = pin!(exclusive.send(Request::new(Body::empty())));
            let mut answer =
                pin!(poll_fn(|cx| { exclusive.poll_for(cx, |cx| answer.as_mut().poll(cx)) }));
            assert!(answer.as_mut().now_or_never().is_none());
            assert!(head(&mut theirs).await.starts_with(b"GET / HTTP/1.1\r\n"));
            theirs.write_all(ANSWER).await.unwrap();
            answer.await.unwrap();
            exclusive = exclusive.freed().unwrap();
            assert!(exclusive.takes_request());
        }
        drop(theirs);
        assert!(!exclusive.takes_request());
    }

    #[tokio::test]
    async fn a_connection_whose_answer_is_due_is_not_lent() {
        let (mut exclusive, _theirs) = connection().await;
        let _answer = exclusive.send(Request::new(Body::empty()));
        assert!(!exclusive.takes_request() && exclusive.freed().is_none());
    }

    /// A request with a body, all of which the connection has taken, and its answer, while the other
    /// side has read nothing.
    async fn answered_early(mut exclusive: Exclusive, theirs: &mut DuplexStream) -> Exclusive {
        let request = Request::post("/").body(Body::full(BODY)).unwrap();
        let mut answer = pin!(exclusive.send(request));
        let mut answer =
            pin!(poll_fn(|cx| { exclusive.poll_for(cx, |cx| answer.as_mut().poll(cx)) }));
        assert!(answer.as_mut().now_or_never().is_none());
        theirs.write_all(ANSWER).await.unwrap();
        answer.await.unwrap();
        exclusive
    }

    #[tokio::test]
    async fn one_whose_request_is_held_up_is_not_lent_and_the_request_goes_out_whole() {
        let little = ANSWER.len();
        let (ours, mut theirs) = tokio::io::duplex(little);
        // TLS holds bytes that were written until they are flushed, as this does.
        let (behind, mut theirs_behind) = tokio::io::duplex(little);
        for (exclusive, theirs) in [
            (over(ours).await, &mut theirs),
            (over(BufStream::with_capacity(64, 4 * BODY.len(), behind)).await, &mut theirs_behind),
        ] {
            let exclusive = answered_early(exclusive, theirs).await;
            assert!(exclusive.freed().is_none());
            let mut heard = Vec::new();
            // It is closed behind the last byte.
            theirs.read_to_end(&mut heard).await.unwrap();
            assert!(heard.starts_with(b"POST / HTTP/1.1\r\n"));
            assert!(heard.ends_with(BODY), "{} bytes", heard.len());
        }
    }

    #[tokio::test]
    async fn one_whose_request_is_held_up_no_more_is_lent() {
        let (ours, mut theirs) = tokio::io::duplex(ANSWER.len());
        let exclusive = answered_early(over(ours).await, &mut theirs).await;
        let mut exclusive = Some(exclusive);
        let head = b"POST / HTTP/1.1\r\ncontent-length: 1000\r\n\r\n".len();
        for _ in 0..head + BODY.len() {
            theirs.read_u8().await.unwrap();
            exclusive.as_mut().unwrap().takes_request();
        }
        exclusive = exclusive.and_then(Exclusive::freed);
        assert!(exclusive.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_takes_the_rest_of_a_request_holds_it_for_a_while() {
        let (ours, mut theirs) = tokio::io::duplex(ANSWER.len());
        let exclusive = answered_early(over(ours).await, &mut theirs).await;
        assert!(exclusive.freed().is_none());
        let begun = tokio::time::Instant::now();
        tokio::time::sleep(limits::REQUEST_TAIL_TIMEOUT * 2).await;
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard.len(), ANSWER.len());
        assert_eq!(begun.elapsed(), limits::REQUEST_TAIL_TIMEOUT * 2);
    }

    #[tokio::test]
    async fn a_task_runs_it_where_nobody_polls_and_ends_when_it_is_dropped() {
        let (mut exclusive, mut theirs) = connection().await;
        let _answer = exclusive.send(Request::new(Body::empty()));
        assert!(head(&mut theirs).now_or_never().is_none(), "nobody runs it");
        exclusive.run_by_itself();
        head(&mut theirs).await;
        drop(exclusive);
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn one_that_was_left_ends_behind_its_answer() {
        let (mut exclusive, mut theirs) = connection().await;
        let answer = exclusive.send(Request::new(Body::empty()));
        exclusive.leave();
        head(&mut theirs).await;
        theirs.write_all(ANSWER).await.unwrap();
        answer.await.unwrap();
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
    }
}
