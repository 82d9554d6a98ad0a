//! Connections to an upstream: made, kept and lent out.
//!
//! HTTP/1.1 connections are lent to one request at a time and come back when its answer has
//! ended well; HTTP/2 connections are shared (`shared.rs`). How many there may be is `limit.rs`'s;
//! what is sent over them is decided elsewhere.

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
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::dial::{Dialled, Spoken, dial};
use super::endpoint::{Endpoint, Origin};
use super::limit::{Admission, Limit, LineFull, Slot};
use super::shared::{self, Connections, Making, Stream};
use super::socket::Socket;
use super::upstream::Protocol;
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
    #[error(transparent)]
    LineFull(#[from] LineFull),
    #[error("no connection became free within {} ms (`max_connections`)", .0.as_millis())]
    NoRoom(Duration),
}

impl ConnectError {
    /// Whether it is a limit of ours, and nothing that an endpoint did.
    pub(super) fn is_our_limit(&self) -> bool {
        matches!(self, Self::LineFull(_) | Self::NoRoom(_))
    }

    /// Whether the address refused the connection, or can't be got to: nobody waited long.
    pub(super) fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }
}

/// The connections to one endpoint.
pub(super) struct Pool(Arc<Shared>);

pub(super) struct Shared {
    kept: Mutex<Kept>,
    http2: Mutex<Connections>,
    /// Held while a connection is made that may turn out to be one that others share.
    making: Arc<tokio::sync::Mutex<()>>,
    may_share: AtomicBool,
    patience: Duration,
    limit: Arc<Limit>,
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
    Http1 {
        exclusive: Exclusive,
        pool: Weak<Shared>,
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

    /// The lease of a connection of HTTP/1.1 that no pool knows, and of the task that runs it.
    pub(super) fn of_http1(sender: http1::SendRequest<Body>, task: AbortHandle) -> Self {
        let exclusive = Exclusive { sender, task: Some(task) };
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

impl Pool {
    pub(super) fn new(origin: &Origin) -> Self {
        let settings = &origin.settings;
        let may_share = match settings.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => settings.tls,
        };
        let shared = Arc::new(Shared {
            kept: Mutex::default(),
            http2: Mutex::default(),
            making: Arc::default(),
            may_share: AtomicBool::new(may_share),
            patience: settings.timeouts.idle,
            limit: Arc::clone(&origin.limit),
        });
        origin.limit.join(&shared);
        Self(shared)
    }
}

/// Lends a connection: a kept one, if that will do, or a new one; where there is no room for it,
/// when there is.
///
/// # Cancel safety
///
/// A connection that is being made is dropped; a kept one that was taken is closed; a place in
/// the line is left to the next.
pub(super) async fn lease(endpoint: &Endpoint, wanted: Wanted) -> Result<Lease, ConnectError> {
    let pool = &endpoint.pool.0;
    if wanted == Wanted::Any
        && !pool.limit.is_awaited()
        && let Some(lease) = pool.take().await
    {
        return Ok(lease);
    }
    // Rare, and its state is ten times that of all else: it is not to be part of every request.
    Box::pin(async {
        let patience = endpoint.origin.settings.timeouts.connect;
        let room = timeout(patience, pool.room(wanted)).await;
        let slot = match room.map_err(|_elapsed| ConnectError::NoRoom(patience))?? {
            Room::Lease(lease) => return Ok(lease),
            Room::Slot(slot) => slot,
        };
        // Waiting for somebody else's attempt is part of it: one that hangs holds up those
        // behind it no longer than itself.
        let made = timeout(patience, make(endpoint, wanted, slot)).await;
        made.map_err(|_elapsed| ConnectError::Timeout(patience))?
    })
    .await
}

/// Room for a connection that one request has for itself, when there is some.
///
/// # Cancel safety
///
/// A place in the line is left to the next.
pub(super) async fn slot(endpoint: &Endpoint) -> Result<Slot, ConnectError> {
    let patience = endpoint.origin.settings.timeouts.connect;
    let room = timeout(patience, endpoint.pool.0.limit.room()).await;
    Ok(room.map_err(|_elapsed| ConnectError::NoRoom(patience))??)
}

/// A new connection, or one that somebody else just made for all.
async fn make(endpoint: &Endpoint, wanted: Wanted, slot: Slot) -> Result<Lease, ConnectError> {
    let pool = &endpoint.pool.0;
    let mut making = None;
    if pool.may_share.load(Ordering::Relaxed) {
        let guard = Arc::clone(&pool.making).lock_owned().await;
        // While we waited, somebody else may have made one that we can share, or found out
        // that there will be none.
        if let Some(lease) = pool.shared(wanted) {
            return Ok(lease);
        }
        making = Some(guard).filter(|_| pool.may_share.load(Ordering::Relaxed));
    }
    let connection = connect(endpoint, slot, making).await?;
    Ok(Lease { connection, reused: false })
}

/// What there is for a request.
enum Room {
    /// A connection that is there.
    Lease(Lease),
    /// Room for a new one.
    Slot(Slot),
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
    /// A connection that is there, or room for a new one, in the order in which requests came.
    async fn room(self: &Arc<Self>, wanted: Wanted) -> Result<Room, LineFull> {
        if !self.limit.is_awaited()
            && let Some(room) = self.room_now(wanted).await
        {
            return Ok(room);
        }
        let admission = match wanted {
            Wanted::Any => Admission::New,
            Wanted::NewerThan(_) => Admission::Admitted,
        };
        let waiting = self.limit.queue(admission)?;
        let first = waiting.first().await;
        loop {
            if let Some(room) = self.room_now(wanted).await {
                return Ok(room);
            }
            first.room().await;
        }
    }

    async fn room_now(self: &Arc<Self>, wanted: Wanted) -> Option<Room> {
        let there = match wanted {
            Wanted::Any => self.take().await,
            Wanted::NewerThan(_) => self.shared(wanted),
        };
        match there {
            Some(lease) => Some(Room::Lease(lease)),
            None => self.limit.slot().map(Room::Slot),
        }
    }

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

    /// An HTTP/2 connection that is open, has room and will do.
    fn shared(&self, wanted: Wanted) -> Option<Lease> {
        let than = match wanted {
            Wanted::Any => None,
            Wanted::NewerThan(failed) => Some(failed),
        };
        let stream = lock(&self.http2).lend(than)?;
        Some(Lease { connection: Connection::Http2(stream), reused: true })
    }

    /// Closes a connection that nobody uses, so that there is room for another; whether there
    /// was one.
    pub(super) fn close_one_idle(&self) -> bool {
        let oldest = lock(&self.kept).idle.pop_front();
        oldest.is_some() || lock(&self.http2).close_one_idle()
    }

    fn keep(self: &Arc<Self>, exclusive: Exclusive) {
        let mut kept = lock(&self.kept);
        if kept.idle.len() >= limits::MAX_IDLE_UPSTREAM_CONNECTIONS {
            return;
        }
        kept.idle.push_back(Idle { exclusive, since: Instant::now() });
        self.see_to_reaping(&mut kept);
        drop(kept);
        self.limit.given_back();
    }

    fn see_to_reaping(self: &Arc<Self>, kept: &mut Kept) {
        if !kept.reaped {
            kept.reaped = true;
            tokio::spawn(reap(Arc::downgrade(self), self.patience));
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
        if kept.idle.is_empty() && common.is_empty() {
            kept.reaped = false;
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn connect(
    endpoint: &Endpoint,
    slot: Slot,
    making: Making,
) -> Result<Connection, ConnectError> {
    let pool = &endpoint.pool.0;
    let (stream, spoken) = dial(endpoint).await?;
    if spoken == Spoken::Http1 {
        // It speaks HTTP/1.1: from now on connections are made side by side.
        pool.may_share.store(false, Ordering::Relaxed);
        drop(making);
        return match stream {
            Dialled::Clear(tcp) => handshake_http1(pool, Socket::new(tcp, slot)).await,
            Dialled::Tls(tls) => handshake_http1(pool, Socket::new(*tls, slot)).await,
        };
    }
    let patience = endpoint.origin.settings.timeouts.connect;
    let limit = &pool.limit;
    let made = match stream {
        Dialled::Clear(tcp) => {
            shared::handshake(Socket::new(tcp, slot), limit, making, patience).await
        }
        Dialled::Tls(tls) => {
            shared::handshake(Socket::new(*tls, slot), limit, making, patience).await
        }
    };
    let stream = lock(&pool.http2).share(made.map_err(ConnectError::Http)?);
    pool.see_to_reaping(&mut lock(&pool.kept));
    Ok(Connection::Http2(stream))
}

async fn handshake_http1<S>(
    pool: &Arc<Shared>,
    socket: Socket<S>,
) -> Result<Connection, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(limits::CONNECTION_BUFFER_BYTES);
    let handshake = builder.handshake(TokioIo::new(socket)).await;
    let (sender, connection) = handshake.map_err(ConnectError::Http)?;
    let exclusive = Exclusive { sender, task: Some(drive(connection)) };
    Ok(Connection::Http1 { exclusive, pool: Arc::downgrade(pool) })
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
