//! An upstream as the routes file names it: where it is and how it is spoken to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::Scheme;

use super::balance::{Endpoints, LoadBalancing};
use super::endpoint::{EndpointStatus, Origin};
use super::health::{self, HealthCheck};
use super::limit::Limit;
use super::names::SharedResolver;
use super::outlier::OutlierEjection;
use super::own_certificate::OwnCertificate;
use super::retry::{Budget, RetryPolicy};
use super::upstream_tls::Tls;
use crate::observe::endpoint_health::EndpointHealth;
use crate::trust::{Roots, TrustError};

/// Which HTTP is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What TLS negotiates (ALPN); HTTP/1.1 without TLS.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; without TLS with prior knowledge (RFC 9113 §3.3).
    Http2,
}

/// Which host the upstream is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostHeader {
    /// The upstream's own, from its URL.
    #[default]
    Upstream,
    /// The one that the caller asked for.
    Client,
}

/// How long an upstream may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect, TLS included.
    pub connect: Duration,
    /// From the end of the request to the head of the answer.
    pub response: Patience,
    /// Without a byte of the answer's body.
    pub stream: Patience,
    /// That a pooled connection is kept unused.
    pub idle: Duration,
}

/// A time limit that knows whether somebody asked for it: event streams and gRPC are silent for
/// as long as they like, unless the file says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// The file says nothing.
    Default(Duration),
    /// The file says this; `None` is for ever.
    Set(Option<Duration>),
}

impl Patience {
    /// For a request or an answer of this media type.
    pub(super) fn with(self, content_type: Option<&HeaderValue>) -> Option<Duration> {
        match self {
            Self::Set(limit) => limit,
            Self::Default(_) if content_type.is_some_and(is_stream) => None,
            Self::Default(limit) => Some(limit),
        }
    }
}

fn is_stream(content_type: &HeaderValue) -> bool {
    is_grpc(content_type) || starts_with(content_type, b"text/event-stream")
}

/// Whether this is the media type of a gRPC call, whatever its messages are made of.
pub(super) fn is_grpc(content_type: &HeaderValue) -> bool {
    starts_with(content_type, b"application/grpc")
}

fn starts_with(content_type: &HeaderValue, start: &[u8]) -> bool {
    let text = content_type.as_bytes().get(..start.len());
    text.is_some_and(|text| text.eq_ignore_ascii_case(start))
}

/// The host and port of a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A DNS name or an address; IPv6 without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// What the routes file says of an upstream. Two that are equal may share connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Its name in the routes file.
    pub name: Arc<str>,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// Where it is: one host and port for each of its URLs; one at least.
    pub places: Vec<HostPort>,
    /// The path that all its URLs have, without a slash at its end: what is put before each path.
    pub base_path: String,
    /// Which HTTP is spoken.
    pub protocol: Protocol,
    /// Which host it is told.
    pub host_header: HostHeader,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// When a request is tried again.
    pub retry: RetryPolicy,
    /// Most connections, over all its endpoints.
    pub max_connections: usize,
    /// Most requests that wait for one.
    pub max_pending: usize,
    /// Whose certificates are believed.
    pub roots: Roots,
    /// What is shown to it, should it ask who calls.
    pub own_certificate: Option<OwnCertificate>,
    /// The name its certificates must have, where that is not the host.
    pub server_name: Option<String>,
    /// How its endpoints share the requests.
    pub load_balancing: LoadBalancing,
    /// How their health is found out, if it is.
    pub health_check: Option<HealthCheck>,
    /// When one that fails is left alone, if ever.
    pub outlier_ejection: Option<OutlierEjection>,
}

impl UpstreamSettings {
    /// Its URLs.
    pub fn urls(&self) -> impl Iterator<Item = String> {
        let scheme = if self.tls { "https" } else { "http" };
        self.places.iter().map(move |place| {
            let brackets = if place.host.contains(':') { ["[", "]"] } else { ["", ""] };
            let [open, close] = brackets;
            format!("{scheme}://{open}{}{close}:{}{}", place.host, place.port, self.base_path)
        })
    }
}

/// An upstream with its endpoints and their connections.
pub struct Upstream {
    pub(super) settings: Arc<UpstreamSettings>,
    pub(super) endpoints: Endpoints,
    pub(super) budget: Budget,
    /// What TLS is spoken with, to all endpoints.
    pub(super) tls: Option<Arc<Tls>>,
}

/// Why an upstream of the file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The host can't stand in a `Host` header or a certificate.
    #[error("`{0}` is not a host name or address")]
    Host(String),
    /// The roots can't be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Upstream {
    /// Makes ready to speak to an upstream, whose names `resolver` knows; connects to nothing.
    ///
    /// # Errors
    ///
    /// A host or roots that can't be used.
    pub fn new(
        settings: UpstreamSettings,
        resolver: SharedResolver,
    ) -> Result<Arc<Self>, UpstreamError> {
        let settings = Arc::new(settings);
        let tls = if settings.tls { Some(Arc::new(Tls::new(&settings)?)) } else { None };
        let limit = Limit::new(settings.max_connections, settings.max_pending);
        let origin = |place: &HostPort| Origin::new(&settings, place, tls.as_ref(), &limit);
        let origins = settings.places.iter().map(origin).collect::<Result<_, _>>()?;
        let endpoints = Endpoints::new(Arc::clone(&settings), origins, resolver);
        let budget = Budget::new(settings.retry.budget_percent);
        Ok(Arc::new(Self { settings, endpoints, budget, tls }))
    }

    /// Its name in the routes file.
    pub fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// What the routes file says of it.
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// How each of its endpoints is: of the addresses that its names have, as far as they are known.
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.endpoints.status()
    }

    /// Checks the health of its endpoints for ever, if the file asks for that. The caller spawns
    /// it, once.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends all checks; what they found out stays.
    pub async fn keep_health(self: Arc<Self>) {
        if let Some(check) = &self.settings.health_check {
            health::keep(&self.endpoints, check).await;
        }
    }

    pub(super) fn scheme(&self) -> Scheme {
        if self.settings.tls { Scheme::HTTPS } else { Scheme::HTTP }
    }
}

impl EndpointHealth for Upstream {
    fn upstream(&self) -> Arc<str> {
        Arc::clone(self.name())
    }

    fn health(&self) -> Vec<(Arc<str>, bool)> {
        self.endpoints.origins()
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("settings", &self.settings).finish_non_exhaustive()
    }
}
