//! HTTP/2 connections to one endpoint: each carries as many requests at a time as the other side
//! says that it takes, and a further one is made when all of them are full.
//!
//! A connection and what is sent over it are driven by one task. So a GOAWAY is known before the
//! next request is begun, never in its middle: an error that speaks of one means that the request
//! was not looked at.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep};

use super::limit::Limit;
use super::own_task;
use super::socket::{Heard, Socket};
use crate::body::Body;
use crate::limits;

/// The connections of one endpoint that take requests.
#[derive(Default)]
pub(super) struct Connections {
    open: Vec<Open>,
    /// Counts those that were made, also elsewhere: a higher one is newer. 0: there was none.
    newest: Arc<AtomicU64>,
}

struct Open {
    sender: http2::SendRequest<Body>,
    carried: Arc<Carried>,
    number: u64,
    since: Instant,
}

/// What one connection carries.
struct Carried {
    streams: AtomicUsize,
    /// How many the other side takes; one, as long as it has not said.
    most: AtomicUsize,
    heard: Arc<Heard>,
    /// How often the other side had been heard when a request waited in vain for a byte of it:
    /// one more than that; 0 for never.
    silent: AtomicU64,
    limit: Arc<Limit>,
}

/// A connection that carries one more request until this is dropped.
pub(super) struct Stream {
    pub(super) sender: http2::SendRequest<Body>,
    /// The newest connection that there was when this was lent.
    pub(super) newest: u64,
    carried: Arc<Carried>,
    /// How often the other side had been heard when this was lent.
    heard: u64,
}

impl Stream {
    /// The request waited for its answer for too long. Where not a byte came meanwhile, the other side
    /// may be gone: until it is heard again the connection takes no more requests.
    pub(super) fn timed_out(&self) {
        if self.carried.heard.times() == self.heard {
            self.carried.silent.store(self.heard.saturating_add(1), Ordering::SeqCst);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.carried.streams.fetch_sub(1, Ordering::SeqCst);
        self.carried.limit.given_back();
    }
}

/// A connection that was just made, and is not shared yet.
pub(super) struct Made {
    sender: http2::SendRequest<Body>,
    carried: Arc<Carried>,
}

impl Connections {
    /// Those of one worker, counted with all others of `newest`.
    pub(super) fn counted_by(newest: &Arc<AtomicU64>) -> Self {
        Self { open: Vec::new(), newest: Arc::clone(newest) }
    }

    /// The one with the fewest requests, of those that are newer than `than` and have room.
    pub(super) fn lend(&mut self, than: Option<u64>) -> Option<Stream> {
        self.lend_if(|open| than.is_none_or(|than| open.number > than))
    }

    /// One that carries nothing.
    pub(super) fn lend_idle(&mut self) -> Option<Stream> {
        self.lend_if(|open| open.carried.is_idle())
    }

    fn lend_if(&mut self, fits: impl Fn(&Open) -> bool) -> Option<Stream> {
        // One that is closing takes no more; what it carries, it carries to the end.
        // Nor does one that fell silent; it goes as soon as it carries nothing.
        self.open.retain(|open| {
            open.sender.is_ready() && !(open.carried.is_silent() && open.carried.is_idle())
        });
        let newest = self.newest.load(Ordering::Relaxed);
        let will_do =
            |open: &&mut Open| fits(open) && open.carried.has_room() && !open.carried.is_silent();
        let few = |open: &&mut Open| open.carried.streams.load(Ordering::SeqCst);
        self.open.iter_mut().filter(will_do).min_by_key(few).map(|open| open.lend(newest))
    }

    /// Takes up a connection, and lends it to who had it made.
    pub(super) fn share(&mut self, made: Made) -> Stream {
        let Made { sender, carried } = made;
        let number = self.newest.fetch_add(1, Ordering::Relaxed) + 1;
        let mut open = Open { sender, carried, number, since: Instant::now() };
        let stream = open.lend(number);
        self.open.push(open);
        stream
    }

    /// Lets go of those that nobody used for `patience`: without a sender they end.
    pub(super) fn reap(&mut self, patience: Duration) {
        for open in self.open.iter_mut().filter(|open| !open.carried.is_idle()) {
            open.since = Instant::now();
        }
        self.open.retain(|open| open.since.elapsed() < patience);
    }

    /// Lets go of one that carries nothing.
    pub(super) fn close_one_idle(&mut self) -> bool {
        let idle = self.open.iter().position(|open| open.carried.is_idle());
        idle.map(|at| self.open.swap_remove(at)).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl Open {
    fn lend(&mut self, newest: u64) -> Stream {
        self.since = Instant::now();
        self.carried.streams.fetch_add(1, Ordering::SeqCst);
        let (sender, carried) = (self.sender.clone(), Arc::clone(&self.carried));
        let heard = carried.heard.times();
        Stream { sender, newest, carried, heard }
    }
}

impl Carried {
    fn is_idle(&self) -> bool {
        self.streams.load(Ordering::SeqCst) == 0
    }

    fn has_room(&self) -> bool {
        self.streams.load(Ordering::SeqCst) < self.most.load(Ordering::SeqCst)
    }

    /// Whether a request waited in vain for a byte of the other side, and none came since.
    fn is_silent(&self) -> bool {
        self.silent.load(Ordering::SeqCst) == self.heard.times().saturating_add(1)
    }

    /// The other side takes `most`. One that takes none now is given one, which waits there.
    fn takes(&self, most: usize) {
        if self.most.swap(most.max(1), Ordering::SeqCst) != most.max(1) {
            self.limit.given_back();
        }
    }
}

/// Held by whoever makes a connection that others may share, until it is known how many it takes.
pub(super) type Making = Option<OwnedMutexGuard<()>>;

/// Begins HTTP/2. The others wait until the other side has said how many requests it takes,
/// `patience` at most; who has the connection made does not.
pub(super) async fn handshake<S>(
    socket: Socket<S>,
    limit: &Arc<Limit>,
    making: Making,
    patience: Duration,
) -> hyper::Result<Made>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (socket, heard) = socket.listening();
    let first = First::default();
    let (sender, requests) = http2::Builder::new(first.clone())
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
        .keep_alive_interval(Some(limits::H2_PING_INTERVAL))
        .keep_alive_timeout(limits::H2_PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(socket))
        .await?;
    let (streams, most) = (AtomicUsize::new(0), AtomicUsize::new(1));
    let (silent, limit) = (AtomicU64::new(0), Arc::clone(limit));
    let carried = Arc::new(Carried { streams, most, heard, silent, limit });
    let connection = first.take();
    tokio::spawn(drive(connection, requests, Arc::clone(&carried), making, patience));
    Ok(Made { sender, carried })
}

/// Runs a connection until it ends. Its errors reach those who use it.
fn drive<S>(
    mut connection: Task,
    requests: http2::Connection<TokioIo<Socket<S>>, Body, First>,
    carried: Arc<Carried>,
    mut making: Making,
    patience: Duration,
) -> impl Future<Output = ()> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut requests = Some(Box::pin(requests));
    let mut too_long = Box::pin(sleep(patience));
    poll_fn(move |cx| {
        let mut ended = connection.as_mut().poll(cx).is_ready();
        if let Some(running) = &mut requests {
            if let Poll::Ready(outcome) = running.as_mut().poll(cx) {
                own_task::ended(outcome);
                // No more requests; those that it has go on.
                requests = None;
                ended = ended || connection.as_mut().poll(cx).is_ready();
            } else if carried.heard.times() > 0 {
                carried.takes(running.current_max_send_streams());
            }
        }
        if making.is_some()
            && (ended
                || requests.is_none()
                || carried.heard.times() > 0
                || too_long.as_mut().poll(cx).is_ready())
        {
            making = None;
        }
        if ended { Poll::Ready(()) } else { Poll::Pending }
    })
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Keeps the first task that it is given, which is the connection's own; others run by themselves.
#[derive(Clone, Default)]
struct First(Arc<Mutex<Kept>>);

#[derive(Default)]
enum Kept {
    #[default]
    Nothing,
    Task(Task),
    Taken,
}

impl First {
    fn take(&self) -> Task {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *kept, Kept::Taken) {
            Kept::Task(task) => task,
            // A library that drives its connection in another way: then nothing is left to do.
            Kept::Nothing | Kept::Taken => Box::pin(std::future::pending()),
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for First {
    fn execute(&self, task: F) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Kept::Nothing => *kept = Kept::Task(Box::pin(task)),
            Kept::Task(_) | Kept::Taken => {
                drop(kept);
                tokio::spawn(task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn made(peers: &mut Vec<tokio::io::DuplexStream>, limit: &Arc<Limit>) -> Made {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        peers.push(theirs);
        let socket = Socket::new(ours, limit.slot().unwrap());
        handshake(socket, limit, None, Duration::from_secs(5)).await.unwrap()
    }

    #[tokio::test]
    async fn a_connection_will_do_if_it_is_newer_than_the_one_that_failed() {
        let (limit, mut peers) = (Limit::new(8, 8), Vec::new());
        let mut connections = Connections::default();
        assert!(connections.lend(None).is_none());
        for number in 1..=2 {
            drop(connections.share(made(&mut peers, &limit).await));
            assert_eq!(connections.lend(None).map(|stream| stream.newest), Some(number));
            assert!(connections.lend(Some(number - 1)).is_some());
            assert!(connections.lend(Some(number)).is_none());
        }
    }

    #[tokio::test]
    async fn requests_are_spread_and_a_full_connection_takes_no_more() {
        let (limit, mut peers) = (Limit::new(8, 8), Vec::new());
        let mut connections = Connections::default();
        let mut lent = vec![connections.share(made(&mut peers, &limit).await)];
        assert!(connections.lend(None).is_none(), "it has not said that it takes a second one");
        lent.push(connections.share(made(&mut peers, &limit).await));
        connections.open.iter().for_each(|open| open.carried.takes(2));
        lent.extend([connections.lend(None).unwrap(), connections.lend(None).unwrap()]);
        let carried: Vec<_> = connections
            .open
            .iter()
            .map(|open| open.carried.streams.load(Ordering::SeqCst))
            .collect();
        assert_eq!(carried, [2, 2]);
        assert!(connections.lend(None).is_none());
        assert!(!connections.close_one_idle());
        lent.clear();
        assert!(connections.close_one_idle() && connections.close_one_idle());
        assert!(connections.is_empty());
    }

    #[tokio::test]
    async fn a_silent_connection_takes_no_more_until_it_is_heard() {
        let (limit, mut peers) = (Limit::new(8, 8), Vec::new());
        let mut connections = Connections::default();
        let first = connections.share(made(&mut peers, &limit).await);
        let carried = Arc::clone(&first.carried);
        carried.takes(8);
        let timed_out = connections.lend(None).unwrap();
        timed_out.timed_out();
        drop(timed_out);
        assert!(connections.lend(None).is_none());

        // Settings that say nothing (RFC 9113 §6.5).
        peers[0].write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        while carried.heard.times() == 0 {
            tokio::task::yield_now().await;
        }
        carried.takes(8);
        let timed_out = connections.lend(None).expect("it was heard");
        first.timed_out();
        assert!(connections.lend(None).is_some(), "it was heard after that one was lent");
        timed_out.timed_out();
        drop((timed_out, first));
        assert!(connections.lend(None).is_none());
        assert!(connections.is_empty(), "it carries nothing");
    }
}
