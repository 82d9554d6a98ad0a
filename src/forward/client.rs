//! Connections to an upstream: made, kept and lent out.
//!
//! HTTP/1.1 connections are lent to one request at a time and come back when its answer has
//! ended well; an HTTP/2 connection is shared. What is sent over them is decided elsewhere.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::Either;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::dial::{Dialled, Spoken, dial};
use super::endpoint::Endpoint;
use super::upstream::{Protocol, UpstreamSettings};
use crate::body::Body;
use crate::limits;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("can't connect")]
    Tcp(#[source] io::Error),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("the HTTP handshake failed")]
    Http(#[source] hyper::Error),
    #[error("`protocol: http2` is asked for, and the upstream does not speak it")]
    NoHttp2,
    #[error("no connection within {} ms", .0.as_millis())]
    Timeout(Duration),
}

/// The connections to one endpoint.
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    kept: Mutex<Kept>,
    http2: Mutex<Common>,
    /// Held while a connection is made that may turn out to be one that all share.
    making: tokio::sync::Mutex<()>,
    may_share: AtomicBool,
    patience: Duration,
}

/// The HTTP/2 connection that all share.
#[derive(Default)]
struct Common {
    open: Option<Open>,
    /// Counts those that were made: a higher one is newer. 0: there was none.
    number: u64,
}

struct Open {
    sender: http2::SendRequest<Body>,
    /// One more for each lease.
    in_use: Arc<()>,
    since: Instant,
}

#[derive(Default)]
struct Kept {
    /// Oldest first.
    idle: VecDeque<Idle>,
    /// Whether [`reap`] runs.
    reaped: bool,
}

struct Idle {
    exclusive: Exclusive,
    since: Instant,
}

/// An HTTP/1.1 connection. One that is dropped ends at once, even while an upstream that takes
/// nothing blocks it: nobody waits for what is on its way any more.
struct Exclusive {
    sender: http1::SendRequest<Body>,
    task: Option<AbortHandle>,
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// A connection, lent to one request.
pub(super) struct Lease {
    connection: Connection,
    /// Whether it carried a request before: then it may be stale.
    pub(super) reused: bool,
}

enum Connection {
    Http1 { exclusive: Exclusive, pool: Weak<Shared> },
    Http2 { sender: http2::SendRequest<Body>, number: u64, _in_use: Arc<()> },
}

impl Lease {
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.connection, Connection::Http2 { .. })
    }

    /// What to ask for when this one has failed.
    pub(super) fn newer(&self) -> Wanted {
        match self.connection {
            // Had there been a shared one, it would have been lent: any is newer than this.
            Connection::Http1 { .. } => Wanted::NewerThan(0),
            Connection::Http2 { number, .. } => Wanted::NewerThan(number),
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
            Connection::Http2 { sender, .. } => Either::Right(sender.try_send_request(request)),
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

    /// The lease of a connection of HTTP/1.1 that no pool knows, and of the task that runs it.
    pub(super) fn of_http1(sender: http1::SendRequest<Body>, task: AbortHandle) -> Self {
        let exclusive = Exclusive { sender, task: Some(task) };
        Self { connection: Connection::Http1 { exclusive, pool: Weak::new() }, reused: false }
    }

    /// The lease of a connection of HTTP/2 that no pool knows.
    pub(super) fn of_http2(sender: http2::SendRequest<Body>) -> Self {
        let connection = Connection::Http2 { sender, number: 0, _in_use: Arc::default() };
        Self { connection, reused: false }
    }

    /// Leaves the connection to itself: the answer has ended, and the request is still on its
    /// way. It closes behind that.
    pub(super) fn leave(self) {
        if let Connection::Http1 { mut exclusive, .. } = self.connection {
            exclusive.task = None;
        }
    }
}

impl Pool {
    pub(super) fn new(settings: &UpstreamSettings) -> Self {
        let may_share = match settings.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => settings.tls,
        };
        Self(Arc::new(Shared {
            kept: Mutex::default(),
            http2: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            may_share: AtomicBool::new(may_share),
            patience: settings.timeouts.idle,
        }))
    }
}

/// Lends a connection: a kept one, if that will do, or a new one.
///
/// # Cancel safety
///
/// A connection that is being made is dropped; a kept one that was taken is closed.
pub(super) async fn lease(endpoint: &Endpoint, wanted: Wanted) -> Result<Lease, ConnectError> {
    let pool = &endpoint.pool.0;
    if wanted == Wanted::Any
        && let Some(lease) = pool.take().await
    {
        return Ok(lease);
    }
    // Rare, and its state is ten times that of all else: it is not to be part of every request.
    Box::pin(async {
        // Waiting for somebody else's attempt is part of it: one that hangs holds up those
        // behind it no longer than itself.
        let patience = endpoint.origin.settings.timeouts.connect;
        let made = timeout(patience, make(endpoint, wanted)).await;
        made.map_err(|_elapsed| ConnectError::Timeout(patience))?
    })
    .await
}

/// A new connection, or one that somebody else just made for all.
async fn make(endpoint: &Endpoint, wanted: Wanted) -> Result<Lease, ConnectError> {
    let pool = &endpoint.pool.0;
    let mut making = None;
    if pool.may_share.load(Ordering::Relaxed) {
        let guard = pool.making.lock().await;
        // While we waited, somebody else may have made the one that all share, or found out
        // that there will be none.
        if let Some(lease) = pool.shared(wanted) {
            return Ok(lease);
        }
        making = Some(guard).filter(|_| pool.may_share.load(Ordering::Relaxed));
    }
    let connection = connect(endpoint).await?;
    drop(making);
    Ok(Lease { connection, reused: false })
}

/// Which connection will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A kept one or a new one.
    Any,
    /// A new one, or a shared one that is newer than this.
    NewerThan(u64),
}

impl Shared {
    /// A kept connection that is still good.
    async fn take(self: &Arc<Self>) -> Option<Lease> {
        if let Some(lease) = self.shared(Wanted::Any) {
            return Some(lease);
        }
        loop {
            // The one used last is the one least likely to have been closed.
            let Idle { mut exclusive, since } = lock(&self.kept).idle.pop_back()?;
            if since.elapsed() < self.patience && exclusive.sender.ready().await.is_ok() {
                let connection = Connection::Http1 { exclusive, pool: Arc::downgrade(self) };
                return Some(Lease { connection, reused: true });
            }
        }
    }

    /// The HTTP/2 connection, if there is one, it is open and it will do.
    fn shared(&self, wanted: Wanted) -> Option<Lease> {
        let mut common = lock(&self.http2);
        let number = common.number;
        let will_do = match wanted {
            Wanted::Any => true,
            Wanted::NewerThan(failed) => number > failed,
        };
        let open = common.open.as_mut().filter(|open| will_do && open.sender.is_ready())?;
        open.since = Instant::now();
        Some(Lease { connection: open.lend(number), reused: true })
    }

    /// Shares a connection that was just made.
    fn share(self: &Arc<Self>, sender: http2::SendRequest<Body>) -> Connection {
        let connection = {
            let mut common = lock(&self.http2);
            common.number += 1;
            let number = common.number;
            let open = Open { sender, in_use: Arc::default(), since: Instant::now() };
            common.open.insert(open).lend(number)
        };
        self.see_to_reaping(&mut lock(&self.kept));
        connection
    }

    fn keep(self: &Arc<Self>, exclusive: Exclusive) {
        let mut kept = lock(&self.kept);
        if kept.idle.len() >= limits::MAX_IDLE_UPSTREAM_CONNECTIONS {
            return;
        }
        kept.idle.push_back(Idle { exclusive, since: Instant::now() });
        self.see_to_reaping(&mut kept);
    }

    fn see_to_reaping(self: &Arc<Self>, kept: &mut Kept) {
        if !kept.reaped {
            kept.reaped = true;
            tokio::spawn(reap(Arc::downgrade(self), self.patience));
        }
    }
}

impl Open {
    fn lend(&self, number: u64) -> Connection {
        let sender = self.sender.clone();
        Connection::Http2 { sender, number, _in_use: Arc::clone(&self.in_use) }
    }
}

impl Common {
    /// Lets go of the connection if nobody used it for `patience`: without a sender it ends.
    fn reap(&mut self, patience: Duration) {
        let Some(open) = &mut self.open else { return };
        if Arc::strong_count(&open.in_use) > 1 {
            open.since = Instant::now();
        } else if open.since.elapsed() >= patience {
            self.open = None;
        }
    }
}

/// Closes connections that nobody used for `patience`; ends when there are none.
async fn reap(pool: Weak<Shared>, patience: Duration) {
    loop {
        tokio::time::sleep(patience).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut kept = lock(&pool.kept);
        while kept.idle.front().is_some_and(|oldest| oldest.since.elapsed() >= patience) {
            kept.idle.pop_front();
        }
        let mut common = lock(&pool.http2);
        common.reap(patience);
        if kept.idle.is_empty() && common.open.is_none() {
            kept.reaped = false;
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn connect(endpoint: &Endpoint) -> Result<Connection, ConnectError> {
    let pool = &endpoint.pool.0;
    let (stream, spoken) = dial(endpoint).await?;
    if spoken == Spoken::Http1 {
        // It speaks HTTP/1.1: from now on connections are made side by side.
        pool.may_share.store(false, Ordering::Relaxed);
    }
    match (stream, spoken) {
        (Dialled::Clear(tcp), Spoken::Http1) => handshake_http1(pool, tcp).await,
        (Dialled::Clear(tcp), Spoken::Http2) => handshake_http2(pool, tcp).await,
        (Dialled::Tls(tls), Spoken::Http1) => handshake_http1(pool, *tls).await,
        (Dialled::Tls(tls), Spoken::Http2) => handshake_http2(pool, *tls).await,
    }
}

async fn handshake_http1<S>(pool: &Arc<Shared>, stream: S) -> Result<Connection, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(limits::CONNECTION_BUFFER_BYTES);
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(ConnectError::Http)?;
    let exclusive = Exclusive { sender, task: Some(drive(connection)) };
    Ok(Connection::Http1 { exclusive, pool: Arc::downgrade(pool) })
}

async fn handshake_http2<S>(pool: &Arc<Shared>, stream: S) -> Result<Connection, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2_connection(stream).await?;
    drive(connection);
    Ok(pool.share(sender))
}

type Http2<S> = http2::Connection<TokioIo<S>, Body, TokioExecutor>;

/// A connection of HTTP/2 that nobody runs yet.
pub(super) async fn http2_connection<S>(
    stream: S,
) -> Result<(http2::SendRequest<Body>, Http2<S>), ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW)
        .keep_alive_interval(Some(limits::H2_PING_INTERVAL))
        .keep_alive_timeout(limits::H2_PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await;
    handshake.map_err(ConnectError::Http)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn number(lease: Option<Lease>) -> Option<u64> {
        match lease?.newer() {
            Wanted::NewerThan(number) => Some(number),
            Wanted::Any => None,
        }
    }

    #[tokio::test]
    async fn a_shared_connection_will_do_if_it_is_newer_than_the_one_that_failed() {
        let shared = Arc::new(Shared {
            kept: Mutex::default(),
            http2: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            may_share: AtomicBool::new(true),
            patience: Duration::from_secs(90),
        });
        assert_eq!(number(shared.shared(Wanted::Any)), None);
        let mut peers = Vec::new();
        for made in 1..=2 {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            peers.push(theirs);
            let builder = http2::Builder::new(TokioExecutor::new());
            let (sender, connection) = builder.handshake(TokioIo::new(ours)).await.unwrap();
            drive(connection);
            drop(shared.share(sender));
            assert_eq!(number(shared.shared(Wanted::Any)), Some(made));
            assert_eq!(number(shared.shared(Wanted::NewerThan(made - 1))), Some(made));
            assert_eq!(number(shared.shared(Wanted::NewerThan(made))), None);
        }
    }
}
