//! The endpoints of an upstream tried once, for `check --online`: each name looked up, each address
//! connected to, TLS and all, as a request would be.
//!
//! Nothing is sent over these connections; where health is checked, a check is made as well, on a
//! connection of its own, as always. Nothing of it is kept: pools, names and health stay as they are.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::dial::{Dialled, dial};
use super::endpoint::{Endpoint, Origin};
use super::health;
use super::names::SharedResolver;
use super::upstream::{HostPort, Upstream};
use super::upstream_tls::{Secured, Tls};
use crate::chain::with_sources;
use crate::limits;

/// A name of an upstream, looked up.
pub struct NameTried {
    /// `host[:port]`, as the routes file has it.
    pub label: Arc<str>,
    /// Its addresses, or why there are none.
    pub addresses: Result<Vec<SocketAddr>, String>,
    origin: Arc<Origin>,
}

/// A connection that was made, and closed again.
#[derive(Debug)]
pub struct Connected {
    /// The handshake; `None` for an upstream without TLS.
    pub tls: Option<Handshake>,
}

/// What a handshake came to. The name that the certificate must have, and who issued it, are
/// verified by then.
#[derive(Debug)]
pub struct Handshake {
    /// The version, such as `TLS 1.3`.
    pub version: &'static str,
    /// What was agreed on by ALPN.
    pub alpn: Option<String>,
    /// The server's certificate, DER.
    pub certificate: Option<Vec<u8>>,
    /// The name that it was verified for.
    pub name: String,
    /// Whether the server asked for the gateway's certificate.
    pub asked_for_ours: bool,
}

/// Why an endpoint can't be used.
#[derive(Debug)]
pub struct Refused {
    /// Whether a connection was made, and it is the handshake that failed.
    pub in_handshake: bool,
    /// What happened.
    pub what: String,
    /// What to do about it, where TLS is what failed.
    pub hint: Option<String>,
}

impl NameTried {
    /// Whether it is an address, which needs no look-up.
    pub fn is_address(&self) -> bool {
        self.origin.place.host.parse::<IpAddr>().is_ok()
    }

    /// Connects to `address`, which is one of its, and closes the connection.
    ///
    /// # Errors
    ///
    /// It can't be connected to, or the handshake fails.
    ///
    /// # Cancel safety
    ///
    /// What was begun is closed.
    pub async fn connect(&self, address: SocketAddr) -> Result<Connected, Refused> {
        let endpoint = self.endpoint(address);
        let patience = self.origin.settings.timeouts.connect;
        let Ok(dialled) = timeout(patience, dial(&endpoint)).await else {
            return Err(too_slow(patience));
        };
        let dialled = match dialled {
            Ok((dialled, _spoken)) => dialled,
            Err(error) => {
                let in_handshake = !error.is_tcp();
                return Err(Refused { in_handshake, ..self.refused(&error) });
            }
        };
        match (dialled, &self.origin.tls) {
            (Dialled::Tls(stream), Some((tls, name))) => {
                let asked_for_ours = tls.was_asked();
                let tls = shaken(*stream, tls, &name.to_str(), asked_for_ours).await?;
                Ok(Connected { tls: Some(tls) })
            }
            (Dialled::Clear(_) | Dialled::Tls(_), _) => Ok(Connected { tls: None }),
        }
    }

    /// Makes the health check that the file asks for: the status of the answer. `None` if it asks
    /// for none.
    ///
    /// # Errors
    ///
    /// There is no answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn check_health(&self, address: SocketAddr) -> Option<Result<u16, Refused>> {
        let settings = self.origin.settings.health_check.as_ref()?;
        let endpoint = self.endpoint(address);
        let checked = timeout(settings.timeout, health::check(&endpoint, &settings.path)).await;
        Some(match checked {
            Ok(Ok(status)) => Ok(status.as_u16()),
            Ok(Err(error)) => Err(self.refused(&error)),
            Err(_elapsed) => Err(too_slow(settings.timeout)),
        })
    }

    fn endpoint(&self, address: SocketAddr) -> Arc<Endpoint> {
        Endpoint::new(Arc::clone(&self.origin), address, Weak::new())
    }

    fn refused(&self, error: &(dyn Error + 'static)) -> Refused {
        let hint = self.origin.tls.as_ref().and_then(|(tls, _)| tls.advice(error));
        Refused { in_handshake: false, what: with_sources(error), hint }
    }
}

impl fmt::Debug for NameTried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:?}", self.label, self.addresses)
    }
}

impl Upstream {
    /// Looks its names up, all at once, each within the time that a connection may take.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up waiting.
    pub async fn look_up(&self) -> Vec<NameTried> {
        let (origins, resolver) = self.endpoints.names().for_trial();
        let patience = self.settings.timeouts.connect;
        let looked_up = origins.into_iter().map(|origin| {
            let resolver = Arc::clone(&resolver);
            async move {
                let addresses = look_up(&origin.place, &resolver, patience).await;
                NameTried { label: Arc::clone(&origin.label), addresses, origin }
            }
        });
        futures_util::future::join_all(looked_up).await
    }
}

/// The addresses of `place`, or why there are none.
async fn look_up(
    place: &HostPort,
    resolver: &SharedResolver,
    patience: Duration,
) -> Result<Vec<SocketAddr>, String> {
    if let Ok(ip) = place.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, place.port)]);
    }
    match timeout(patience, resolver.resolve(&place.host, place.port)).await {
        Ok(Ok(none)) if none.is_empty() => Err("the resolver knows none".to_owned()),
        Ok(found) => found.map_err(|error| error.to_string()),
        Err(_elapsed) => Err(format!("no answer within {} ms", patience.as_millis())),
    }
}

/// The end of a handshake. With TLS 1.3 our side ends before the server has judged our certificate,
/// or missed it: then it says so behind the handshake.
async fn shaken(
    mut stream: Secured,
    tls: &Tls,
    name: &str,
    asked_for_ours: bool,
) -> Result<Handshake, Refused> {
    if asked_for_ours {
        let error = match timeout(limits::ALERT_PATIENCE, stream.read(&mut [0])).await {
            // It goes on to speak, or waits for us to: it is content.
            Ok(Ok(1..)) | Err(_) => None,
            Ok(Ok(0)) => Some(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(Err(error)) => Some(error),
        };
        if let Some(error) = error {
            let what = format!("the TLS handshake failed: {}", with_sources(&error));
            return Err(Refused { in_handshake: true, what, hint: tls.advice(&error) });
        }
    }
    let (version, alpn, certificate) = stream.agreed();
    Ok(Handshake {
        version: match version {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
            Some(_) | None => "TLS",
        },
        alpn: alpn.map(|name| String::from_utf8_lossy(name).into_owned()),
        certificate: certificate.map(<[u8]>::to_vec),
        name: name.to_owned(),
        asked_for_ours,
    })
}

fn too_slow(patience: Duration) -> Refused {
    let what = format!("no answer within {} ms", patience.as_millis());
    Refused { in_handshake: false, what, hint: None }
}
