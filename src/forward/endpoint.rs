//! Where an upstream is: its origins, one for each URL of the file, and their endpoints, one for
//! each address that an origin's name has.
//!
//! It knows how one of them is reached. Which of them a request goes to is `balance.rs`'s.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::HeaderValue;
use rustls::pki_types::ServerName;

use super::client::Pool;
use super::upstream::{HostPort, UpstreamError, UpstreamSettings};
use super::upstream_tls::{self, Tls};

/// One URL of an upstream.
pub(super) struct Origin {
    /// What the file says of the upstream.
    pub(super) settings: Arc<UpstreamSettings>,
    /// A DNS name or an address; IPv6 without brackets.
    pub(super) place: HostPort,
    /// `host[:port]`, the port left out where it is the scheme's own: the `Host` of requests.
    pub(super) authority: HeaderValue,
    /// The same as text, for logs and metrics.
    pub(super) label: Arc<str>,
    /// What TLS is spoken with, and the name that the certificate must have.
    pub(super) tls: Option<(Arc<Tls>, ServerName<'static>)>,
}

impl Origin {
    pub(super) fn new(
        settings: &Arc<UpstreamSettings>,
        place: &HostPort,
        tls: Option<&Arc<Tls>>,
    ) -> Result<Arc<Self>, UpstreamError> {
        let label = authority(settings.tls, place);
        let bad_host = |name: &str| UpstreamError::Host(name.to_owned());
        let authority = HeaderValue::from_str(&label).map_err(|_invalid| bad_host(&place.host))?;
        let name = settings.server_name.as_ref().unwrap_or(&place.host);
        let tls = match tls {
            Some(tls) => {
                let name = upstream_tls::server_name(name).ok_or_else(|| bad_host(name))?;
                Some((Arc::clone(tls), name))
            }
            None => None,
        };
        Ok(Arc::new(Self {
            settings: Arc::clone(settings),
            place: place.clone(),
            authority,
            label: label.into(),
            tls,
        }))
    }
}

fn authority(tls: bool, place: &HostPort) -> String {
    let HostPort { host, port } = place;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    match (tls, port) {
        (true, 443) | (false, 80) => host,
        (_, port) => format!("{host}:{port}"),
    }
}

/// One address of an origin, with the connections to it.
pub(super) struct Endpoint {
    pub(super) origin: Arc<Origin>,
    pub(super) address: SocketAddr,
    pub(super) pool: Pool,
    /// Requests on their way to it, until their answers have ended.
    pub(super) requests: AtomicUsize,
}

impl Endpoint {
    pub(super) fn new(origin: Arc<Origin>, address: SocketAddr) -> Arc<Self> {
        let pool = Pool::new(&origin.settings);
        Arc::new(Self { origin, address, pool, requests: AtomicUsize::new(0) })
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.origin.label, self.address)
    }
}
