//! Reads the PROXY header in front of a connection, and not a byte more: what is behind it is TLS
//! or a request.
//!
//! It knows nothing of the form of a header ([`super::proxy_protocol`]) nor of the time that it
//! may take.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::accept::proxy_protocol::{self, Parsed};
use crate::limits::MAX_PROXY_HEADER_BYTES;

/// Who connected to the load balancer at the other end of `stream`; `None` where it speaks for
/// itself, or does not know.
///
/// # Errors
///
/// What came is no header, or ended within one.
///
/// # Cancel safety
///
/// What was read is lost: the connection can't be used any more.
pub(super) async fn source<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    let mut header = Vec::new();
    loop {
        let parsed = proxy_protocol::parse(&header);
        match parsed.map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))? {
            Parsed::Header { source, .. } => return Ok(source),
            Parsed::Missing(bytes) => {
                // The parser refuses larger headers before they come; this is the belt.
                let room = MAX_PROXY_HEADER_BYTES.saturating_sub(header.len());
                let part = bytes.min(room) as u64;
                if (&mut *stream).take(part).read_buf(&mut header).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}
