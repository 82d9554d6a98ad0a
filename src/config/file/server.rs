//! `listeners`, `admin` and `server`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::spanned::Spanned;
use super::super::value::{
    Address, AdminAddress, Count, HeadBytes, HttpUrl, Network, Period, PeriodOrZero, SizeLimit,
    Workers,
};
use crate::secret::Secret;

/// An element of `listeners`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Listener {
    /// IP address and port. Required.
    pub address: Spanned<Address>,
    /// The certificate that it shows. Default: none, cleartext HTTP/1.1 and HTTP/2.
    pub tls: Option<Spanned<ListenerTls>>,
    /// Whether each connection begins with a PROXY header (version 1 or 2) that says who the caller
    /// is; one that does not is closed. Whoever reaches the port is believed, so only load balancers
    /// may; `trusted_proxies` is then asked about the address in the header. Default: `false`.
    #[serde(default)]
    pub proxy_protocol: bool,
}

impl Listener {
    /// Where callers connect if the file has no `listeners`: reachable from this machine only.
    pub const DEFAULT_ADDRESS: &'static str = "127.0.0.1:8080";
}

/// `tls` of a listener.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct ListenerTls {
    /// The certificate and its chain, PEM. Required.
    pub cert_file: Spanned<PathBuf>,
    /// The certificate's private key, PEM. Required.
    pub key_file: Spanned<PathBuf>,
    /// The CAs that issue certificates to callers, PEM. Callers are asked for one, and one that
    /// they show must be good. Default: nobody is asked.
    pub client_ca_file: Option<Spanned<PathBuf>>,
    /// Whether callers must show a certificate. Default: `optional`.
    #[serde(default)]
    pub client_auth: ClientAuth,
}

/// `client_auth`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// A caller without a certificate is served too; a token that is bound to one is not
    /// accepted from it.
    #[default]
    Optional,
    /// The TLS handshake fails without a certificate.
    Required,
}

/// `admin`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Admin {
    /// Where health, metrics and the admin API are, or `off`. Default: [`Admin::DEFAULT_ADDRESS`].
    pub address: Option<Spanned<AdminAddress>>,
    /// What is asked for as `Authorization: Bearer`; required off loopback, for all but health
    /// and metrics. Default: nothing is asked for.
    pub token: Option<Spanned<Secret>>,
}

impl Admin {
    /// Where the admin port is if the file does not say: reachable from this machine only.
    pub const DEFAULT_ADDRESS: &'static str = "127.0.0.1:9901";
}

#[allow(clippy::derivable_impls, reason = "the defaults stand together, as in the other sections")]
impl Default for Admin {
    fn default() -> Self {
        Self { address: None, token: None }
    }
}

/// `server`: what holds for all listeners.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Server {
    /// What callers call the gateway: scheme, host, port, and a path where a proxy in front strips
    /// one. With it the metadata of protected resources (RFC 9728) is served and every 401 names it.
    /// Default: none; what a request says of its host is never used for either.
    pub public_url: Option<Spanned<HttpUrl>>,
    /// Whose `X-Forwarded-*` and `X-Request-Id` are believed. Default: nobody's.
    pub trusted_proxies: Vec<Spanned<Network>>,
    /// Time to send a complete request head, the TLS handshake included. Default:
    /// [`Server::DEFAULT_HEADER_TIMEOUT`].
    pub header_timeout: Period,
    /// How long a connection is kept between two requests. Default:
    /// [`Server::DEFAULT_IDLE_TIMEOUT`].
    pub idle_timeout: Period,
    /// How long a caller may send, or take, no byte of a body that is due, and either side of an
    /// upgraded connection take none. Default:
    /// [`Server::DEFAULT_BODY_IDLE_TIMEOUT`].
    pub body_idle_timeout: Period,
    /// Largest request head, `4KiB` to `1MiB`; it has at most
    /// [`MAX_HEADER_FIELDS`](crate::limits::MAX_HEADER_FIELDS) fields in any case. Default: [`Server::DEFAULT_MAX_HEADER_BYTES`].
    pub max_header_bytes: Spanned<HeadBytes>,
    /// Largest request body, where the route does not say. Default: `unlimited`.
    pub max_body_bytes: SizeLimit,
    /// Most connections of callers; more wait in the backlog. Default:
    /// [`Server::DEFAULT_MAX_CONNECTIONS`].
    pub max_connections: Count,
    /// Most requests at a time on one HTTP/2 connection. Default:
    /// [`Server::DEFAULT_MAX_CONCURRENT_STREAMS`].
    pub max_concurrent_streams: Count,
    /// How long the gateway says it is not ready, and still accepts, before it drains.
    /// Default: `0s`.
    pub shutdown_delay: PeriodOrZero,
    /// How long requests may take to end while it drains. Default:
    /// [`Server::DEFAULT_SHUTDOWN_GRACE`].
    pub shutdown_grace: PeriodOrZero,
    /// Threads that serve requests. Default: `auto`, one for each CPU.
    pub workers: Workers,
}

impl Server {
    /// 10 s: a slow phone needs two, and an attacker's half-open heads must not pile up.
    pub const DEFAULT_HEADER_TIMEOUT: Period = Period(Duration::from_secs(10));
    /// 75 s: longer than the 60 s of common load balancers, so that they close first.
    pub const DEFAULT_IDLE_TIMEOUT: Period = Period(Duration::from_secs(75));
    /// 30 s without a byte is a caller who has gone.
    pub const DEFAULT_BODY_IDLE_TIMEOUT: Period = Period(Duration::from_secs(30));
    /// 64 KiB: four tokens of the largest size that is accepted.
    pub const DEFAULT_MAX_HEADER_BYTES: HeadBytes = HeadBytes(64 * 1024);
    /// 10,000: about 1 GB of memory at worst.
    pub const DEFAULT_MAX_CONNECTIONS: Count = count(10_000);
    /// 128: above the 100 that RFC 9113 §6.5.2 asks for at least.
    pub const DEFAULT_MAX_CONCURRENT_STREAMS: Count = count(128);
    /// 30 s: what Kubernetes gives a container before it kills it.
    pub const DEFAULT_SHUTDOWN_GRACE: PeriodOrZero = PeriodOrZero(Duration::from_secs(30));
}

impl Default for Server {
    fn default() -> Self {
        Self {
            public_url: None,
            trusted_proxies: Vec::new(),
            header_timeout: Self::DEFAULT_HEADER_TIMEOUT,
            idle_timeout: Self::DEFAULT_IDLE_TIMEOUT,
            body_idle_timeout: Self::DEFAULT_BODY_IDLE_TIMEOUT,
            max_header_bytes: Spanned::default_of(Self::DEFAULT_MAX_HEADER_BYTES),
            max_body_bytes: SizeLimit::Unlimited,
            max_connections: Self::DEFAULT_MAX_CONNECTIONS,
            max_concurrent_streams: Self::DEFAULT_MAX_CONCURRENT_STREAMS,
            shutdown_delay: PeriodOrZero(Duration::ZERO),
            shutdown_grace: Self::DEFAULT_SHUTDOWN_GRACE,
            workers: Workers::Auto,
        }
    }
}

/// A default that counts something; 0 is read as 1.
pub(super) const fn count(number: u32) -> Count {
    match NonZeroU32::new(number) {
        Some(number) => Count(number),
        None => Count(NonZeroU32::MIN),
    }
}
