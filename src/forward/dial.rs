//! A new connection to an endpoint: TCP, TLS where it is asked for, and which HTTP is spoken.
//!
//! What is done with it is decided elsewhere: the pool (`client.rs`) keeps it, a health check
//! uses it once.

use tokio::net::TcpStream;

use super::client::ConnectError;
use super::endpoint::Endpoint;
use super::upstream::Protocol;
use super::upstream_tls::Secured;

/// A connection on which nothing was said yet.
pub(super) enum Dialled {
    Clear(TcpStream),
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
    let tcp = TcpStream::connect(endpoint.address).await.map_err(ConnectError::Tcp)?;
    tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
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
