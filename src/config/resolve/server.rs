//! `listeners`, `admin` and `server`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::super::file::{self, RoutesFile};
use super::super::problem::{Place, Problem};
use super::super::spanned::Spanned;
use super::super::value::{AdminAddress, Workers};
use super::{CredentialCertificate, Finding, ShownTo};
use crate::accept;
use crate::authn::may_be_called;
use crate::chain::with_sources;
use crate::peer::TrustedProxies;
use crate::public_url::{PublicUrl, PublicUrlError};
use crate::route::HostPattern;
use crate::secret::Secret;

/// Where callers connect.
#[derive(Debug)]
pub struct Listener {
    /// Address and port.
    pub address: SocketAddr,
    /// Certificate and key, for TLS.
    pub tls: Option<accept::Certified>,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: bool,
    /// Where its address stands; nowhere for the default.
    pub place: Place,
}

/// The admin port.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Address and port.
    pub address: SocketAddr,
    /// What is asked for, for all but health and metrics.
    pub token: Option<Secret>,
    /// Where its address stands; nowhere for the default.
    pub place: Place,
}

/// What holds for all listeners.
#[derive(Clone, Debug)]
pub struct Server {
    /// The limits of connections.
    pub accept: accept::Settings,
    /// Not ready, but still accepting.
    pub shutdown_delay: Duration,
    /// For requests in flight.
    pub shutdown_grace: Duration,
    /// Threads; `None` is one for each CPU.
    pub workers: Option<usize>,
}

pub(super) fn listeners(file: &RoutesFile, finding: &mut Finding<'_>) -> Vec<Listener> {
    let Some(listeners) = &file.listeners else {
        return file::Listener::DEFAULT_ADDRESS
            .parse()
            .map(|address| Listener {
                address,
                tls: None,
                proxy_protocol: false,
                place: Place::default(),
            })
            .into_iter()
            .collect();
    };
    let mut taken: Vec<(SocketAddr, Place)> = Vec::new();
    let mut resolved = Vec::new();
    for listener in &listeners.0 {
        let address = listener.address.value.0;
        if let Some((other, first)) = taken.iter().find(|(other, _)| overlap(*other, address)) {
            let message = if *other == address {
                format!("`{address}` is listened on twice")
            } else {
                format!(
                    "`{address}` and `{other}` can't both be listened on: one has the other in it"
                )
            };
            let problem = Problem::error(listener.address.place, message);
            finding
                .problems
                .push(problem.related(*first, "first here").hint("remove one, or change its port"));
        }
        taken.push((address, listener.address.place));
        let tls = listener.tls.as_ref().and_then(|tls| certificate(address, tls, finding));
        let place = listener.address.place;
        resolved.push(Listener { address, tls, proxy_protocol: listener.proxy_protocol, place });
    }
    resolved
}

/// Whether only one of the two can be had: an address of all interfaces takes its port on each of
/// them, and that of IPv6 on those of IPv4 too.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let takes = |all: IpAddr, one: IpAddr| match all {
        IpAddr::V4(all) => all.is_unspecified() && one.is_ipv4(),
        IpAddr::V6(all) => all.is_unspecified(),
    };
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && one.port() != 0 && (a == b || takes(a, b) || takes(b, a))
}

fn certificate(
    address: SocketAddr,
    tls: &Spanned<file::ListenerTls>,
    finding: &mut Finding<'_>,
) -> Option<accept::Certified> {
    let chain = finding.read(&tls.cert_file);
    let key = finding.read(&tls.key_file);
    let cert_file = finding.environment.path(&tls.cert_file.value);
    let key_file = finding.environment.path(&tls.key_file.value);
    // `Some(None)` where there are CAs that can't be used: the rest is judged all the same.
    let callers =
        tls.client_ca_file.as_ref().map(|ca_file| callers(ca_file, tls.client_auth, finding));
    let asked = callers.as_ref().and_then(Option::as_ref);
    match accept::Certified::from_pem(&chain?, &key?, &cert_file, &key_file, asked) {
        Ok(certified) => {
            note_end(address, &certified, tls, cert_file, finding);
            (callers.is_none() || asked.is_some()).then_some(certified)
        }
        Err(error) => {
            let of_key = error.file() == Some(&key_file) && key_file != cert_file;
            let place = if of_key { tls.key_file.place } else { tls.cert_file.place };
            let hint = "`cert_file` is the chain, the server's own certificate first, and `key_file` the private key of that one, both PEM; relative paths are relative to the routes file";
            finding.error(place, with_sources(&error), hint);
            None
        }
    }
}

/// Notes when the certificate ends that callers of the listener at `address` are shown; says so if
/// it has.
fn note_end(
    address: SocketAddr,
    certified: &accept::Certified,
    tls: &file::ListenerTls,
    file: PathBuf,
    finding: &mut Finding<'_>,
) {
    let Some(expires_at) = certified.expires_at() else { return };
    let now = finding.lasting.clock.now();
    if expires_at < now {
        let hours = now.since(expires_at).as_secs() / 3600;
        let file = tls.cert_file.display();
        finding.warning(
            tls.cert_file.place,
            format!("the certificate in `{file}` expired {hours} hours ago"),
            "have a new one issued: callers refuse this one",
        );
    }
    finding.certificates.push(CredentialCertificate {
        shown_to: ShownTo::Callers(Arc::from(address.to_string())),
        file,
        thumbprint: Arc::clone(certified.thumbprint()),
        expires_at,
    });
}

/// How callers are asked for certificates.
fn callers(
    ca_file: &Spanned<PathBuf>,
    auth: file::ClientAuth,
    finding: &mut Finding<'_>,
) -> Option<accept::CallerCertificates> {
    let auth = match auth {
        file::ClientAuth::Optional => accept::ClientAuth::Optional,
        file::ClientAuth::Required => accept::ClientAuth::Required,
    };
    let pem = finding.read(ca_file)?;
    let path = finding.environment.path(&ca_file.value);
    let made = accept::CallerCertificates::from_pem(&pem, &path, auth);
    made.map_err(|error| {
        let hint = "name a PEM file with the CAs that issue certificates to callers";
        finding.error(ca_file.place, with_sources(&error), hint);
    })
    .ok()
}

pub(super) fn admin(file: &RoutesFile, finding: &mut Finding<'_>) -> Option<Admin> {
    let token = file.admin.token.as_ref();
    if let Some(token) = token {
        finding.warn_of_literal("`admin.token`", token);
    }
    let address = admin_address(file)?;
    let place = file.admin.address.as_ref().map(|address| address.place);
    refuse_callers(address, place, file, finding);
    let token = token.map(|token| token.value.clone());
    Some(Admin { address, token, place: place.unwrap_or_default() })
}

/// Where the admin port is; `None` for `off`.
pub fn admin_address(file: &RoutesFile) -> Option<SocketAddr> {
    match file.admin.address.as_ref().map(|address| address.value) {
        None => file::Admin::DEFAULT_ADDRESS.parse().ok(),
        Some(AdminAddress::Off) => None,
        Some(AdminAddress::At(at)) => Some(at),
    }
}

/// Says that callers would reach the admin port: it is a listener too. `place` is that of its
/// address, if the file has one.
fn refuse_callers(
    address: SocketAddr,
    place: Option<Place>,
    file: &RoutesFile,
    finding: &mut Finding<'_>,
) {
    let hint = "give the admin port an address of its own, so that callers can't reach it";
    let by_default = file::Listener::DEFAULT_ADDRESS.parse().ok();
    if let (None, Some(place), Some(listener)) = (&file.listeners, place, by_default)
        && overlap(listener, address)
    {
        let message = format!("`{address}` is where callers are listened to by default");
        finding.problems.push(Problem::error(place, message).hint(hint));
    }
    let mut listeners = file.listeners.iter().flat_map(|listeners| &listeners.0);
    let Some(listener) = listeners.find(|it| overlap(it.address.value.0, address)) else { return };
    let at = listener.address.place;
    let problem = match place {
        Some(place) => {
            Problem::error(place, format!("`{address}` is the address of a listener too"))
                .related(at, "the listener")
        }
        None => Problem::error(at, format!("`{address}` is where the admin port is by default")),
    };
    finding.problems.push(problem.hint(hint));
}

/// `server.public_url`, if there is one.
pub(super) fn public_url(file: &RoutesFile, finding: &mut Finding<'_>) -> Option<Arc<PublicUrl>> {
    let written = file.server.public_url.as_ref()?;
    let made = PublicUrl::new(&written.url).and_then(|url| {
        // One that no request could name would be in no route's `hosts`.
        HostPattern::parse(url.host()).map(|_valid| url).map_err(|_invalid| PublicUrlError::Host)
    });
    let url = made
        .map_err(|error| {
            let message =
                format!("`{}` can't be what callers call the gateway: {error}", written.text);
            let hint = "write scheme, host and, where needed, port: `https://api.example.com`";
            finding.error(written.place, message, hint);
        })
        .ok()?;
    // No error: it is only told to callers and compared, and nothing is sent there.
    if !may_be_called(&written.text) {
        let message = format!("`{}` is plain http beyond loopback", written.text);
        let hint = "callers send their tokens there for everybody on the way to read, and RFC 9728 clients refuse it: use https";
        finding.warning(written.place, message, hint);
    }
    Some(Arc::new(url))
}

/// `server.trusted_proxies`.
pub(super) fn trusted_proxies(file: &RoutesFile, finding: &mut Finding<'_>) -> TrustedProxies {
    let networks = &file.server.trusted_proxies;
    for network in networks.iter().filter(|network| network.value.0.prefix_len() == 0) {
        let message = format!("`{}` is every address: everybody is believed", network.value.0);
        let hint = "any caller may say with `X-Forwarded-For` who it is, and rate limits and the log go by that: name the networks of your proxies";
        finding.warning(network.place, message, hint);
    }
    TrustedProxies::new(networks.iter().map(|network| network.value.0).collect())
}

pub(super) fn server(file: &RoutesFile) -> Server {
    let server = &file.server;
    Server {
        accept: accept::Settings {
            header_timeout: server.header_timeout.0,
            idle_timeout: server.idle_timeout.0,
            body_idle_timeout: server.body_idle_timeout.0,
            max_header_bytes: server.max_header_bytes.value.0,
            max_concurrent_streams: server.max_concurrent_streams.0.get(),
            max_connections: server.max_connections.0.get() as usize,
        },
        shutdown_delay: server.shutdown_delay.0,
        shutdown_grace: server.shutdown_grace.0,
        workers: match server.workers {
            Workers::Auto => None,
            Workers::Count(count) => Some(count.get()),
        },
    }
}
