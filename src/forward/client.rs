//! How a request gets a connection to an endpoint: one that is there (`pool.rs`), or a new one, made
//! one at a time while it may turn out to be one that others share. How many there may be is
//! `limit.rs`'s; what is sent over them is decided elsewhere.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::dial::{Dialled, Spoken, dial};
use super::endpoint::Endpoint;
use super::exclusive::Exclusive;
use super::lease::{Connection, Lease, Wanted};
use super::limit::{LineFull, Slot};
use super::pool::{Pool, Room};
use super::shared::{self, Making};
use super::socket::Socket;

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

/// Lends a kept connection, if one will do and nobody waits for one.
pub(super) fn at_hand(endpoint: &Endpoint, wanted: Wanted) -> Option<Lease> {
    let pool = &endpoint.pool;
    if wanted == Wanted::Any && !pool.limit().is_awaited() { pool.take() } else { None }
}

/// Lends a connection where none is at hand: a new one; or, where there is no room for it, whichever
/// there is first.
///
/// # Cancel safety
///
/// A connection that is being made is dropped; a kept one that was taken is closed; a place in
/// the line is left to the next.
pub(super) async fn lease(endpoint: &Endpoint, wanted: Wanted) -> Result<Lease, ConnectError> {
    let patience = endpoint.origin.settings.timeouts.connect;
    let room = timeout(patience, endpoint.pool.room(wanted)).await;
    let slot = match room.map_err(|_elapsed| ConnectError::NoRoom(patience))?? {
        Room::Lease(lease) => return Ok(lease),
        Room::Slot(slot) => slot,
    };
    // Waiting for somebody else's attempt is part of it: one that hangs holds up those
    // behind it no longer than itself.
    let made = timeout(patience, make(endpoint, wanted, slot)).await;
    made.map_err(|_elapsed| ConnectError::Timeout(patience))?
}

/// Room for a connection that one request has for itself, when there is some.
///
/// # Cancel safety
///
/// A place in the line is left to the next.
pub(super) async fn slot(endpoint: &Endpoint) -> Result<Slot, ConnectError> {
    let patience = endpoint.origin.settings.timeouts.connect;
    let room = timeout(patience, endpoint.pool.limit().room()).await;
    Ok(room.map_err(|_elapsed| ConnectError::NoRoom(patience))??)
}

/// A new connection, or one that somebody else just made for all.
async fn make(endpoint: &Endpoint, wanted: Wanted, slot: Slot) -> Result<Lease, ConnectError> {
    let pool = &endpoint.pool;
    let mut making = None;
    if pool.may_share() {
        let guard = pool.making().await;
        // While we waited, somebody else may have made one that we can share, or found out
        // that there will be none.
        if let Some(lease) = pool.shared(wanted) {
            return Ok(lease);
        }
        making = Some(guard).filter(|_| pool.may_share());
    }
    connect(endpoint, slot, making).await
}

async fn connect(endpoint: &Endpoint, slot: Slot, making: Making) -> Result<Lease, ConnectError> {
    let pool = &endpoint.pool;
    let (stream, spoken) = dial(endpoint).await?;
    if spoken == Spoken::Http1 {
        pool.shares_nothing();
        drop(making);
        return match stream {
            Dialled::Clear(tcp) => handshake_http1(pool, Socket::new(tcp, slot)).await,
            Dialled::Tls(tls) => handshake_http1(pool, Socket::new(*tls, slot)).await,
        };
    }
    let patience = endpoint.origin.settings.timeouts.connect;
    let limit = pool.limit();
    let made = match stream {
        Dialled::Clear(tcp) => {
            shared::handshake(Socket::new(tcp, slot), limit, making, patience).await
        }
        Dialled::Tls(tls) => {
            shared::handshake(Socket::new(*tls, slot), limit, making, patience).await
        }
    };
    Ok(pool.share(made.map_err(ConnectError::Http)?))
}

async fn handshake_http1<S>(pool: &Arc<Pool>, socket: Socket<S>) -> Result<Lease, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (socket, held_up) = socket.watched();
    let exclusive = Exclusive::new(socket, held_up).await.map_err(ConnectError::Http)?;
    let connection = Connection::Http1 { exclusive, pool: Arc::downgrade(pool) };
    Ok(Lease::new(connection))
}
