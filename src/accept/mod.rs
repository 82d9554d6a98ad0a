//! Sockets in: listens, accepts, speaks TLS and HTTP/1.1 or HTTP/2, and ends.
//!
//! It decides which connections live and for how long. What a request means is decided by the
//! handler that is passed in.

pub mod listener;
pub(crate) mod expiry;
pub mod client_auth;
pub mod tls;
pub mod door;
pub mod drain;
mod proxy_protocol;
mod proxied;
mod slots;
mod streams;
mod activity;
mod framing;
mod frames;
mod interim;
pub(crate) mod answer;
mod seldom;
mod watched;
mod upgrade;
mod service;
mod http1;
mod drive;
mod connection;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::accept::connection::{Accepted, Front};
use crate::accept::door::Manner;
use crate::accept::slots::Slots;
use crate::limits::{ACCEPT_FAILURE_PAUSE, LISTEN_BACKLOG};
use crate::observe::Metrics;
use crate::peer::Peer;
use crate::workers::Seats;

pub use answer::Unread;
pub use client_auth::{CallerCertificates, ClientAuth};
pub use door::Door;
pub use drain::{CutOff, Drain};
pub use listener::{BindError, BoundListener, OthersListener};
pub use service::Handler;
pub use tls::{Certified, Tls, TlsError};

/// The limits of `server` in the routes file; those of a connection are the ones at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// To send a complete request head, the TLS handshake included.
    pub header_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// For a caller to take a byte of an answer that is due to it.
    pub body_idle_timeout: Duration,
    /// Size of a request's head.
    pub max_header_bytes: usize,
    /// Requests at a time on one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// Connections at a time, of all listeners; more wait in the backlog.
    pub max_connections: usize,
}

/// What serves the connections of a listener; all but its end is shared with the others.
#[derive(Debug)]
pub struct Server {
    settings: Arc<ArcSwap<Settings>>,
    slots: Arc<Slots>,
    drain: Drain,
    metrics: Metrics,
    /// Whose threads serve what was accepted.
    seats: Seats,
}

impl Server {
    /// Serves within `settings` until `drain` begins, on the runtime that accepts.
    pub fn new(settings: Settings, drain: Drain, metrics: Metrics) -> Self {
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        Self { settings, slots: Arc::default(), drain, metrics, seats: Seats::default() }
    }

    /// The same on other threads, if there are any at `seats`.
    #[must_use]
    pub fn at(self, seats: &Seats) -> Self {
        Self { seats: seats.clone(), ..self }
    }

    /// The same for one listener, which may end before the others.
    #[must_use]
    pub fn part(&self) -> Self {
        Self {
            settings: Arc::clone(&self.settings),
            slots: Arc::clone(&self.slots),
            drain: self.drain.part(),
            metrics: self.metrics.clone(),
            seats: self.seats.clone(),
        }
    }

    /// What ends it.
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Sets the limits for new connections.
    pub fn set(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
        self.slots.limit_changed();
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }
}

/// Accepts connections of `listener` until the drain begins, with TLS if `tls` is there; see
/// [`serve_through`].
pub async fn serve<H: Handler>(
    server: Arc<Server>,
    listener: BoundListener,
    tls: Option<Arc<Tls>>,
    handler: H,
) {
    let door = Arc::new(Door::of(tls, Front::Caller));
    serve_through(server, listener, door, handler).await;
}

/// Accepts connections of `listener` until the drain begins, and those that wait then; after that the
/// socket is closed. The connections go on by themselves: [`Drain::finish`] waits for them.
pub async fn serve_through<H: Handler>(
    server: Arc<Server>,
    listener: BoundListener,
    door: Arc<Door>,
    handler: H,
) {
    // The drain must not think that all is over while a connection is between accept and spawn.
    let _accepting = server.drain.awaits();
    let mut last_said: Option<Instant> = None;
    loop {
        let next = async {
            server.slots.room(|| server.settings.load().max_connections).await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            biased;
            () = server.drain.closing() => break,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, address)) => spawn(&server, stream, address, &door, handler.clone()),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                let pause_over = |said: Instant| said.elapsed() >= Duration::from_secs(10);
                if last_said.is_none_or(pause_over) {
                    last_said = Some(Instant::now());
                    tracing::warn!(
                        listener = %listener.address(), %error,
                        "can't accept connections; trying again. Too many open files: raise \
                         the limit (`ulimit -n`) or lower `server.max_connections`"
                    );
                }
                sleep(ACCEPT_FAILURE_PAUSE).await;
            }
        }
    }
    if !server.drain.moment().is_zero() {
        tokio::select! {
            () = accept_rest(&server, listener.address(), || listener.accept_waiting(), |waiting| {
                let (stream, address) = waiting;
                spawn(&server, stream, address, &door, handler.clone());
            }) => {}
            // Those without a request leave within one moment; they make room in the next one.
            () = sleep(2 * server.drain.moment()) => {}
            () = server.drain.cutting() => {}
        }
    }
}

/// Accepts those who wait already: for them the connection is there, and their first request may be on
/// its way. Who comes on and on is not waited for.
async fn accept_rest<T>(
    server: &Server,
    listener: SocketAddr,
    mut accept: impl FnMut() -> io::Result<Option<T>>,
    mut take: impl FnMut(T),
) {
    let mut is_said = false;
    for _waiting in 0..LISTEN_BACKLOG {
        server.slots.room(|| server.settings.load().max_connections).await;
        match accept() {
            Ok(Some(accepted)) => take(accepted),
            Err(error) if is_of_one_connection(&error) => {}
            Ok(None) => return,
            Err(error) => {
                if !is_said {
                    is_said = true;
                    tracing::warn!(
                        %listener, %error,
                        "can't accept a connection that waited when the end began; trying again \
                         for a moment"
                    );
                }
                // Those who leave give back what this one lacks.
                sleep(ACCEPT_FAILURE_PAUSE).await;
            }
        }
    }
}

fn spawn<H: Handler>(
    server: &Arc<Server>,
    stream: TcpStream,
    address: SocketAddr,
    door: &Door,
    handler: H,
) {
    let Manner { tls, front } = door.manner().as_ref().clone();
    let peer = Peer { address, tls: tls.is_some(), certificate: None };
    let seat = server.seats.take();
    let stream = match seat.bring(stream) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(peer = %address, %error, "a connection could not be handed over");
            return;
        }
    };
    let runtime = seat.runtime();
    let slot = server.slots.take(&server.metrics, seat);
    let accepted = Accepted { stream, peer, front, slot };
    let of_connection = Arc::clone(server);
    server.drain.spawn_on(&runtime, async move {
        connection::serve(&of_connection, tls.as_deref(), accepted, handler).await;
    });
}

/// The caller gave up before it was accepted; the next one may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests;
