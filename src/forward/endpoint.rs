//! Where an upstream is: its origins, one for each URL of the file, and their endpoints, one for
//! each address that an origin's name has.
//!
//! It knows how one of them is reached. Which of them a request goes to is `balance.rs`'s.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderValue;
use rustls::pki_types::ServerName;
use tokio::time::Instant;

use super::health::{Checked, Unhealthy};
use super::limit::Limit;
use super::moment::Moment;
use super::names::Names;
use super::outlier::Ejection;
use super::pool::Pool;
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
    /// How many connections there may be, to all origins of the upstream.
    pub(super) limit: Arc<Limit>,
}

impl Origin {
    pub(super) fn new(
        settings: &Arc<UpstreamSettings>,
        place: &HostPort,
        tls: Option<&Arc<Tls>>,
        limit: &Arc<Limit>,
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
            limit: Arc::clone(limit),
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
    /// All endpoints of the upstream.
    pub(super) siblings: Weak<Names>,
    pub(super) pool: Arc<Pool>,
    /// Requests on their way to it, until their answers have ended.
    pub(super) requests: AtomicUsize,
    /// What its health checks say.
    pub(super) checked: Checked,
    /// What requests to it say.
    pub(super) ejection: Ejection,
    /// Until when others are asked first, since no connection to it could be made.
    pub(super) shunned: Moment,
}

impl Endpoint {
    pub(super) fn new(
        origin: Arc<Origin>,
        address: SocketAddr,
        siblings: Weak<Names>,
    ) -> Arc<Self> {
        let pool = Pool::new(&origin);
        Arc::new(Self {
            origin,
            address,
            siblings,
            pool,
            requests: AtomicUsize::new(0),
            checked: Checked::unknown(),
            ejection: Ejection::none(),
            shunned: Moment::none(),
        })
    }

    /// Whether it is sent requests at all.
    pub(super) fn takes_requests(&self) -> bool {
        self.checked.is_healthy() && !self.ejection.is_on()
    }

    /// What is known of it, for people.
    pub(super) fn status(&self) -> EndpointStatus {
        EndpointStatus {
            endpoint: Arc::clone(&self.origin.label),
            address: self.address,
            unhealthy: self.checked.unhealthy(),
            ejected: self.ejection.now().map(|(since, until)| Ejected {
                since: since.elapsed(),
                left: until.saturating_duration_since(Instant::now()),
            }),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.origin.label, self.address)
    }
}

/// How an endpoint is.
#[derive(Clone, Debug)]
pub struct EndpointStatus {
    /// `host[:port]`, as the routes file names it.
    pub endpoint: Arc<str>,
    /// One of the addresses that has.
    pub address: SocketAddr,
    /// Why and since when its health checks fail, if they do.
    pub unhealthy: Option<Unhealthy>,
    /// Since when it is left alone because requests to it failed, if it is.
    pub ejected: Option<Ejected>,
    /// Requests on their way to it, until their answers have ended.
    pub requests: usize,
}

impl EndpointStatus {
    /// Whether it is sent requests.
    pub fn takes_requests(&self) -> bool {
        self.unhealthy.is_none() && self.ejected.is_none()
    }
}

/// Names the endpoint and, where it takes no requests, why and since when.
impl fmt::Display for EndpointStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.endpoint, self.address)?;
        if let Some(Unhealthy { why, since }) = &self.unhealthy {
            write!(f, " unhealthy for {} s ({why})", since.as_secs())?;
        }
        if let Some(Ejected { since, left }) = &self.ejected {
            let (since, left) = (since.as_secs(), left.as_secs_f64().ceil());
            write!(f, " ejected {since} s ago for failed requests, for {left} s more")?;
        }
        Ok(())
    }
}

/// An endpoint that is left alone for a while.
#[derive(Clone, Copy, Debug)]
pub struct Ejected {
    /// For how long it has been.
    pub since: Duration,
    /// For how long it still will be.
    pub left: Duration,
}
