//! TLS towards an upstream: whom the gateway believes, which certificate of its own it shows,
//! which HTTP it offers (ALPN), and, where it comes to nothing, what the operator can do about it.
//!
//! There is no way to turn verification off.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, CertificateError, PeerMisbehaved, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::own_certificate::OwnCertificate;
use super::upstream::Protocol;
use crate::trust::{Roots, TrustError};

/// How an upstream is spoken to over TLS.
pub(super) struct Tls {
    connector: TlsConnector,
    shown: Arc<Shown>,
}

impl Tls {
    /// Offers `protocol` to a server that `roots` know, and shows `own` to one that asks.
    pub(super) fn new(
        roots: &Roots,
        own: Option<&OwnCertificate>,
        protocol: Protocol,
    ) -> Result<Self, TrustError> {
        let mut config = roots.client_config()?;
        config.alpn_protocols = match protocol {
            Protocol::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        let certified = own.map(|own| Arc::clone(&own.certified));
        let shown = Arc::new(Shown { certified, asked: AtomicBool::new(false) });
        let resolver: Arc<dyn ResolvesClientCert> = Arc::<Shown>::clone(&shown);
        config.client_auth_cert_resolver = resolver;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), shown })
    }

    /// The handshake.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection.
    pub(super) async fn connect(
        &self,
        name: ServerName<'static>,
        tcp: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(name, tcp).await
    }

    /// What the operator can do about `error`, where TLS is what failed. `None` for an error of
    /// another kind.
    pub(super) fn advice(&self, error: &(dyn Error + 'static)) -> Option<String> {
        let found = find(error)?;
        let asked = self.shown.asked.load(Ordering::Relaxed);
        found.advice(if self.shown.certified.is_some() {
            Own::Shown
        } else if asked {
            Own::Missing
        } else {
            Own::NotAsked
        })
    }
}

/// The name that a certificate must have: a DNS name or an address, IPv6 with or without
/// brackets. `None` for what is neither.
pub(super) fn server_name(name: &str) -> Option<ServerName<'static>> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(bare.to_owned()).ok()
}

/// The gateway's certificate for servers that ask, and whether one did: TLS 1.3 learns that it
/// was missed only after its handshake, over what looks like a connection that broke.
#[derive(Debug)]
struct Shown {
    certified: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl ResolvesClientCert for Shown {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.certified.clone()
    }

    fn has_certs(&self) -> bool {
        self.certified.is_some()
    }
}

/// How the gateway stands with its own certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    /// It has one for those who ask.
    Shown,
    /// It has none, and was asked.
    Missing,
    /// It has none, and was not asked.
    NotAsked,
}

/// What failed, as far as it is known.
#[derive(Debug)]
enum Found<'e> {
    Rustls(&'e rustls::Error),
    /// An alert of which only the text is left: HTTP/2 keeps no more of it.
    Alert(&'static str),
    /// The connection ended without a word.
    Lost,
}

/// What of TLS is in the chain of an error.
fn find<'e>(error: &'e (dyn Error + 'static)) -> Option<Found<'e>> {
    let mut next = Some(error);
    let mut found = None;
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(Found::Rustls(tls));
        }
        if let Some(broken) = error.downcast_ref::<io::Error>() {
            // The error inside one of these is not its source, but that one's source is.
            let inner = broken.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            if let Some(tls) = inner {
                return Some(Found::Rustls(tls));
            }
            let text = broken.to_string();
            found = OF_OWN_CERTIFICATE.into_iter().find(|name| text.ends_with(name));
            found.get_or_insert("");
        }
        next = error.source();
    }
    found.map(|name| if name.is_empty() { Found::Lost } else { Found::Alert(name) })
}

/// The alerts by which a server refuses the gateway's certificate, as rustls names them.
const OF_OWN_CERTIFICATE: [&str; 8] = [
    "CertificateRequired",
    "UnknownCA",
    "BadCertificate",
    "UnsupportedCertificate",
    "CertificateExpired",
    "CertificateRevoked",
    "CertificateUnknown",
    "AccessDenied",
];

const MISSING: &str = "it asks the gateway for a certificate: set `tls.cert_file` and `tls.key_file` to one that it takes";

impl Found<'_> {
    fn advice(&self, own: Own) -> Option<String> {
        match self {
            Self::Rustls(rustls::Error::AlertReceived(alert)) => Some(of_alert(*alert, own)),
            Self::Rustls(rustls::Error::InvalidCertificate(fault)) => Some(of_certificate(fault)),
            Self::Rustls(rustls::Error::InvalidMessage(_)) => Some(
                "what it sends is not TLS: check the port, or write `http://` in its `url`".into(),
            ),
            Self::Rustls(rustls::Error::PeerMisbehaved(
                PeerMisbehaved::SelectedUnofferedApplicationProtocol,
            )) => Some(
                "it chose a protocol by ALPN that was not offered: mend its TLS settings".into(),
            ),
            Self::Rustls(rustls::Error::PeerIncompatible(_)) => {
                Some("the gateway speaks TLS 1.2 and 1.3, and it does not".into())
            }
            Self::Rustls(_) => None,
            Self::Alert(name) => Some(refused(name, own)),
            // A server that asked and got nothing may close without an alert, or before the
            // alert is read.
            Self::Lost => (own == Own::Missing).then(|| MISSING.to_owned()),
        }
    }
}

/// The server refuses the gateway's certificate, or that there is none.
fn refused(alert: &str, own: Own) -> String {
    match own {
        Own::Shown => format!(
            "it refuses the certificate in `tls.cert_file` ({alert}): it must be one of a CA that it knows, for client authentication, and not expired"
        ),
        Own::Missing | Own::NotAsked => MISSING.to_owned(),
    }
}

fn of_alert(alert: AlertDescription, own: Own) -> String {
    let name = format!("{alert:?}");
    if OF_OWN_CERTIFICATE.contains(&&*name) {
        return refused(&name, own);
    }
    match (alert, own) {
        (AlertDescription::HandshakeFailure, Own::Missing) => MISSING.to_owned(),
        (AlertDescription::NoApplicationProtocol, _) => {
            "it speaks none of the HTTP versions that were offered: change `protocol`".to_owned()
        }
        (AlertDescription::UnrecognisedName, _) => {
            "it knows no host of that name: set `tls.server_name` to the one it has".to_owned()
        }
        (AlertDescription::ProtocolVersion, _) => {
            "the gateway speaks TLS 1.2 and 1.3, and it does not".to_owned()
        }
        _ => "its own log may say why it refused the handshake".to_owned(),
    }
}

fn of_certificate(fault: &CertificateError) -> String {
    match fault {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is of no CA that is believed: set `tls.ca_file` to the one that issued it, and see that it sends those in between".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate has another name: set `tls.server_name` to the one it has, if that is the right server".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: it needs a new one, if the gateway's clock is right".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: compare its clock and the gateway's".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for servers: it needs one for server authentication".to_owned()
        }
        _ => "its certificate can't be used: it needs another".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_dns_or_address() {
        for name in ["api.internal", "localhost", "10.0.0.1", "::1", "[::1]"] {
            assert!(server_name(name).is_some(), "{name}");
        }
        for name in ["", "a b", "a/b", "a:443", "[a]:1", "-", "*.example.com"] {
            assert!(server_name(name).is_none(), "{name}");
        }
    }

    #[test]
    fn advice_is_found_however_deep_the_error_is() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);

        let tls = Tls::new(&Roots::Only(Vec::new()), None, Protocol::Auto).unwrap();
        let advice = |error: io::Error| tls.advice(&Outer(error));
        let alert = |alert| io::Error::other(rustls::Error::AlertReceived(alert));
        let required = || alert(AlertDescription::CertificateRequired);
        assert_eq!(advice(required()).as_deref(), Some(MISSING));
        // As HTTP/2 hands it on.
        assert_eq!(advice(io::Error::other(required().to_string())).as_deref(), Some(MISSING));
        assert_eq!(advice(io::ErrorKind::UnexpectedEof.into()), None);
        let none = advice(alert(AlertDescription::NoApplicationProtocol)).unwrap();
        assert!(none.contains("`protocol`"), "{none}");
        // Once it asked, what breaks without a word is explained by that.
        assert!(tls.shown.resolve(&[], &[]).is_none());
        assert_eq!(advice(io::ErrorKind::UnexpectedEof.into()).as_deref(), Some(MISSING));
        let refused = advice(alert(AlertDescription::HandshakeFailure));
        assert_eq!(refused.as_deref(), Some(MISSING));
        assert_eq!(tls.advice(&std::fmt::Error), None);
    }
}
