//! A connection for one request alone, as an upgrade needs it: over HTTP/1.1 it uses one up, and
//! over HTTP/2 it would hold a shared one for hours.

use std::sync::Arc;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::Trail;
use super::balance::Chosen;
use super::client::{self, ConnectError};
use super::dial::{self, Dialled, Spoken};
use super::exclusive::Exclusive;
use super::first_frame;
use super::lease::Lease;
use super::limit::Slot;
use super::own_task;
use super::request::Forwarding;
use super::send_error::SendError;
use super::socket::Socket;
use crate::body::Body;
use crate::limits;

/// The connection, and what can be asked over it.
pub(super) enum Alone {
    /// HTTP/1.1.
    Http1(Lease),
    /// HTTP/2.
    Http2(Lease, ExtendedConnect),
}

/// Whether a server takes extended CONNECT (RFC 8441 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtendedConnect {
    /// Its settings say so.
    Allowed,
    /// They don't.
    Refused,
}

/// An endpoint that can be reached, and a new connection to it: HTTP/1.1 where TLS leaves the choice.
/// Nothing was said over those that failed. It is gone on to further endpoints as for any request
/// (`attempt.rs`): over the addresses of one name, and to others as `retry` and its budget allow; to
/// none of them twice. The connection counts among the upstream's until it is closed.
///
/// # Cancel safety
///
/// The connection that is being made is dropped.
pub(super) async fn connected(
    plan: &Forwarding,
    trail: &mut Trail<'_>,
) -> Result<(Chosen, Alone), SendError> {
    let upstream = &plan.upstream;
    let patience = upstream.settings.timeouts.connect;
    let mut tried = Vec::new();
    let (mut begun, mut walked) = (1, 0);
    let mut endpoint = upstream.endpoints.choose(&[]).await.map_err(SendError::Nowhere)?;
    loop {
        trail.at(&endpoint);
        let slot = client::slot(&endpoint).await.map_err(SendError::Connect)?;
        let connected = timeout(patience, connect(&endpoint, slot)).await;
        let error = match connected.unwrap_or(Err(ConnectError::Timeout(patience))) {
            Ok(alone) => {
                upstream.budget.request(Instant::now());
                return Ok((endpoint, alone));
            }
            Err(error) => error,
        };
        endpoint.connect_failed();
        tried.push(Arc::clone(endpoint.endpoint()));
        let Ok(next) = upstream.endpoints.choose(&tried).await else {
            return Err(SendError::Connect(error));
        };
        let same_name = Arc::ptr_eq(&next.origin, &endpoint.origin);
        if same_name && error.is_tcp() && walked < limits::MAX_ADDRESSES_WALKED {
            walked += 1;
        } else {
            if !upstream.settings.retry.after(begun).connect_failure {
                return Err(SendError::Connect(error));
            }
            if let Err(over) = upstream.budget.retry(Instant::now()) {
                *trail.reason = Some(over.to_string().into());
                return Err(SendError::Connect(error));
            }
            begun += 1;
            trail.retried();
        }
        endpoint = next;
    }
}

async fn connect(endpoint: &Chosen, slot: Slot) -> Result<Alone, ConnectError> {
    match dial::for_upgrade(endpoint).await? {
        (Dialled::Clear(tcp), Spoken::Http1) => over_http1(Socket::new(tcp, slot)).await,
        (Dialled::Clear(tcp), Spoken::Http2) => over_http2(Socket::new(tcp, slot)).await,
        (Dialled::Tls(tls), Spoken::Http1) => over_http1(Socket::new(*tls, slot)).await,
        (Dialled::Tls(tls), Spoken::Http2) => over_http2(Socket::new(*tls, slot)).await,
    }
}

async fn over_http1<S>(socket: Socket<S>) -> Result<Alone, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(limits::MAX_ANSWER_HEAD_BYTES);
    let (socket, held_up) = socket.watched();
    let handshake = builder.handshake(TokioIo::new(socket)).await;
    let (sender, connection) = handshake.map_err(ConnectError::Http)?;
    let exclusive = Exclusive::in_task(sender, connection.with_upgrades(), held_up);
    Ok(Alone::Http1(Lease::of_http1(exclusive)))
}

async fn over_http2<S>(stream: S) -> Result<Alone, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, understood) = first_frame::listen(stream);
    let (sender, mut connection) = http2_connection(stream).await?;
    // What the server allows is in its first frame (RFC 9113 §3.4).
    tokio::select! {
        biased;
        ended = &mut connection => ended.map_err(ConnectError::Http)?,
        // Not ready, it broke: who sends a request hears why.
        _understood = understood => {}
    }
    let extended = if connection.is_extended_connect_protocol_enabled() {
        ExtendedConnect::Allowed
    } else {
        ExtendedConnect::Refused
    };
    own_task::run(connection);
    Ok(Alone::Http2(Lease::of_http2(sender), extended))
}

type Http2<S> = http2::Connection<TokioIo<S>, Body, TokioExecutor>;

/// A connection of HTTP/2 that nobody runs yet.
async fn http2_connection<S>(
    stream: S,
) -> Result<(http2::SendRequest<Body>, Http2<S>), ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(limits::HTTP2_STREAM_WINDOW)
        .keep_alive_interval(Some(limits::H2_PING_INTERVAL))
        .keep_alive_timeout(limits::H2_PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await;
    handshake.map_err(ConnectError::Http)
}
