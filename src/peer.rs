//! Who is on the other end of the connection that reached us (the downstream).
//!
//! Facts of the socket only. Whether its `X-Forwarded-*` are believed is decided in
//! `forward/headers.rs`.

use std::net::SocketAddr;

/// The far end of a downstream connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address and port.
    pub address: SocketAddr,
    /// Whether the connection is TLS: `https` in `X-Forwarded-Proto` and `Forwarded`.
    pub tls: bool,
}
