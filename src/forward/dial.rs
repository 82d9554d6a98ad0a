//! A new connection to an endpoint: TCP, TLS where it is asked for, and which HTTP is spoken.
//!
//! What is done with it is decided elsewhere: the pool (`pool.rs`) keeps it, a health check
//! uses it once.

use std::io;

use tokio::net::TcpStream;

use super::client::ConnectError;
use super::endpoint::Endpoint;
use super::moving::Moving;
use super::upstream::Protocol;
use super::upstream_tls::Secured;

/// A connection on which nothing was said yet.
pub(super) enum Dialled {
    Clear(Moving),
    Tls(Box<Secured>),
}

/// Which HTTP the other side takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http1,
    Http2,
}

/// Connects; takes as long as it takes.
///
/// # Cancel safety
///
/// What was begun is closed.
pub(super) async fn dial(endpoint: &Endpoint) -> Result<(Dialled, Spoken), ConnectError> {
    let protocol = endpoint.origin.settings.protocol;
    let tcp = connect(endpoint).await?;
    let Some((tls, name)) = &endpoint.origin.tls else {
        let spoken = match protocol {
            Protocol::Http2 => Spoken::Http2,
            Protocol::Auto | Protocol::Http1 => Spoken::Http1,
        };
        return Ok((Dialled::Clear(tcp), spoken));
    };
    let stream = tls.connect(name.clone(), tcp).await.map_err(ConnectError::Tls)?;
    let spoken = if stream.is_http2() {
        Spoken::Http2
    } else if protocol == Protocol::Http2 {
        return Err(ConnectError::NoHttp2);
    } else {
        Spoken::Http1
    };
    Ok((Dialled::Tls(Box::new(stream)), spoken))
}

/// The same for a connection that is to be upgraded: HTTP/1.1 where TLS leaves the choice, since what
/// speaks WebSocket at all speaks it there.
///
/// # Cancel safety
///
/// What was begun is closed.
pub(super) async fn for_upgrade(endpoint: &Endpoint) -> Result<(Dialled, Spoken), ConnectError> {
    let Some((tls, name)) = endpoint.origin.tls.as_ref() else { return dial(endpoint).await };
    let protocol = endpoint.origin.settings.protocol;
    if protocol != Protocol::Http2 {
        let tcp = connect(endpoint).await?;
        match tls.connect_for(b"http/1.1", name.clone(), tcp).await {
            Ok(stream) => return Ok((Dialled::Tls(Box::new(stream)), Spoken::Http1)),
            Err(error) if protocol == Protocol::Auto && speaks_no_http1(&error) => {}
            Err(error) => return Err(ConnectError::Tls(error)),
        }
    }
    let tcp = connect(endpoint).await?;
    let stream = tls.connect_for(b"h2", name.clone(), tcp).await;
    let stream = stream.map_err(ConnectError::Tls)?;
    if !stream.is_http2() {
        return Err(ConnectError::NoHttp2);
    }
    Ok((Dialled::Tls(Box::new(stream)), Spoken::Http2))
}

async fn connect(endpoint: &Endpoint) -> Result<Moving, ConnectError> {
    let tcp = TcpStream::connect(endpoint.address).await.map_err(ConnectError::Tcp)?;
    tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
    Ok(Moving::new(tcp))
}

/// The server found nothing among what it was offered (RFC 7301 §3.2).
fn speaks_no_http1(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(
        error,
        Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol))
    )
}
