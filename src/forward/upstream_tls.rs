//! TLS towards an upstream: whom the gateway believes, which certificate of its own it shows,
//! which HTTP it offers (ALPN), and what a server said of that certificate. What the operator can do
//! where it comes to nothing is `advice.rs`'s.
//!
//! There is no way to turn verification off.

mod advice;

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, SignatureScheme};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::advice::Own;
use super::moving::Moving;
use super::overheard::{Ear, Overheard};
use super::upstream::{Protocol, UpstreamSettings};
use crate::trust::TrustError;

/// How an upstream is spoken to over TLS.
pub(super) struct Tls {
    connector: TlsConnector,
    shown: Arc<Shown>,
}

impl Tls {
    /// As `settings` say.
    ///
    /// # Errors
    ///
    /// Roots that can't be used.
    pub(super) fn new(settings: &UpstreamSettings) -> Result<Self, TrustError> {
        let own = settings.own_certificate.as_ref();
        let mut config = settings.roots.client_config()?;
        config.alpn_protocols = match settings.protocol {
            Protocol::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        let shown = Arc::new(Shown {
            certified: own.map(|own| Arc::clone(&own.certified)),
            asked: AtomicBool::new(false),
            refused: AtomicU8::new(NOT_REFUSED),
        });
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
        tcp: Moving,
    ) -> io::Result<Secured> {
        let stream = self.connector.connect(name, tcp).await?;
        Ok(self.secured(stream))
    }

    /// The same, offering this protocol alone.
    pub(super) async fn connect_for(
        &self,
        protocol: &[u8],
        name: ServerName<'static>,
        tcp: Moving,
    ) -> io::Result<Secured> {
        let connector = self.connector.with_alpn(vec![protocol.to_vec()]);
        let stream = connector.connect(name, tcp).await?;
        Ok(self.secured(stream))
    }

    fn secured(&self, stream: TlsStream<Moving>) -> Secured {
        Secured { stream, ear: Unheard(Some(Arc::clone(&self.shown))) }
    }

    /// Whether the server asked for the gateway's certificate, and was not heard since.
    pub(super) fn was_asked(&self) -> bool {
        self.shown.asked.load(Ordering::Relaxed)
    }

    /// What the operator can do about `error`, where TLS is what failed. `None` for an error of
    /// another kind.
    pub(super) fn advice(&self, error: &(dyn Error + 'static)) -> Option<String> {
        let asked = self.shown.asked.load(Ordering::Relaxed);
        let own = match (asked, &self.shown.certified) {
            (false, _) => Own::NotAsked,
            (true, Some(_)) => Own::Shown,
            (true, None) => Own::Missing,
        };
        // The alert was read by the connection; the request only sees that it is gone.
        let alert = match self.shown.refused.load(Ordering::Relaxed) {
            NOT_REFUSED => None,
            alert => Some(alert.into()),
        };
        advice::on(error, own, alert)
    }
}

/// A stream to an upstream behind TLS.
pub(super) type Secured = Overheard<TlsStream<Moving>, Unheard>;

impl Secured {
    /// Whether HTTP/2 was agreed on.
    pub(super) fn is_http2(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(b"h2")
    }

    /// What the handshake came to, for `trial.rs`: the version of TLS, the protocol that was agreed on by
    /// ALPN, and the server's own certificate, DER.
    pub(super) fn agreed(&self) -> (Option<ProtocolVersion>, Option<&[u8]>, Option<&[u8]>) {
        let tls = self.stream.get_ref().1;
        let leaf = tls.peer_certificates().and_then(<[_]>::first).map(AsRef::as_ref);
        (tls.protocol_version(), tls.alpn_protocol(), leaf)
    }
}

/// Who is to be told what comes first over a connection, data or an alert; nobody once that came.
pub(super) struct Unheard(Option<Arc<Shown>>);

impl Ear for Unheard {
    fn heard(&mut self, came: Result<&[u8], &io::Error>) {
        if came.is_ok_and(<[u8]>::is_empty) {
            return;
        }
        if let Some(shown) = self.0.take() {
            shown.heard(came.err());
        }
    }
}

/// The name that a certificate must have: a DNS name or an address, IPv6 with or without
/// brackets. `None` for what is neither.
pub(super) fn server_name(name: &str) -> Option<ServerName<'static>> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(bare.to_owned()).ok()
}

/// The gateway's certificate for servers that ask, and what came of the last time that one did.
/// With TLS 1.3 the gateway's side of the handshake ends before the server has judged the
/// certificate: what is wrong with it, or that there is none, comes as an alert over what looks
/// like a good connection.
#[derive(Debug)]
pub(super) struct Shown {
    certified: Option<Arc<CertifiedKey>>,
    /// It was asked for, and nothing came since.
    asked: AtomicBool,
    /// The alert that came in place of data.
    refused: AtomicU8,
}

/// `close_notify`, which refuses nobody.
const NOT_REFUSED: u8 = 0;

impl Shown {
    /// Takes note of what came first over a connection: data, or this error.
    fn heard(&self, error: Option<&io::Error>) {
        let Some(error) = error else {
            self.asked.store(false, Ordering::Relaxed);
            self.refused.store(NOT_REFUSED, Ordering::Relaxed);
            return;
        };
        if let Some(rustls::Error::AlertReceived(alert)) = advice::inside(error) {
            self.refused.store((*alert).into(), Ordering::Relaxed);
        }
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{
        HostHeader, LoadBalancing, OwnCertificate, Patience, RetryOn, RetryPolicy, Timeouts,
    };
    use rustls::AlertDescription;

    use super::advice::MISSING;
    use super::*;
    use crate::trust::Roots;

    fn tls(own_certificate: Option<OwnCertificate>) -> Tls {
        let patience = Patience::Set(None);
        let (connect, idle) = (Duration::from_secs(5), Duration::from_secs(90));
        Tls::new(&UpstreamSettings {
            name: "up".into(),
            tls: true,
            places: Vec::new(),
            base_path: String::new(),
            protocol: Protocol::Auto,
            host_header: HostHeader::Upstream,
            timeouts: Timeouts { connect, response: patience, stream: patience, idle },
            retry: RetryPolicy { attempts: 1, on: RetryOn::default(), budget_percent: 0 },
            max_connections: 1,
            max_pending: 0,
            roots: Roots::Only(Vec::new()),
            own_certificate,
            server_name: None,
            load_balancing: LoadBalancing::default(),
            health_check: None,
            outlier_ejection: None,
        })
        .unwrap()
    }

    #[test]
    fn a_server_is_named_by_dns_or_address() {
        for name in ["api.internal", "localhost", "10.0.0.1", "::1", "[::1]"] {
            assert!(server_name(name).is_some(), "{name}");
        }
        for name in ["", "a b", "a/b", "a:443", "[a]:1", "-", "*.example.com"] {
            assert!(server_name(name).is_none(), "{name}");
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    fn alert(alert: AlertDescription) -> io::Error {
        io::Error::other(rustls::Error::AlertReceived(alert))
    }

    #[test]
    fn advice_is_found_however_deep_the_error_is() {
        let tls = tls(None);
        let advice = |error: io::Error| tls.advice(&Outer(error));
        let lost = || advice(io::ErrorKind::UnexpectedEof.into());
        let required = || alert(AlertDescription::CertificateRequired);
        assert_eq!(lost(), None);
        let none = advice(alert(AlertDescription::NoApplicationProtocol)).unwrap();
        assert!(none.contains("`protocol`"), "{none}");
        // Once it asked, what breaks is explained by that …
        assert!(tls.shown.resolve(&[], &[]).is_none());
        for said in [lost(), advice(required()), advice(alert(AlertDescription::HandshakeFailure))]
        {
            assert_eq!(said.as_deref(), Some(MISSING));
        }
        // … until it turns out to do without.
        tls.shown.heard(None);
        assert_eq!(lost(), None);
        assert_eq!(tls.advice(&std::fmt::Error), None);
    }

    #[test]
    fn an_alert_that_only_the_connection_saw_is_remembered_until_one_succeeds() {
        let made = rcgen::generate_simple_self_signed(["gateway".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let own = OwnCertificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        let tls = tls(Some(own));
        let lost = || tls.advice(&Outer(io::ErrorKind::BrokenPipe.into()));
        assert_eq!(lost(), None);
        assert!(tls.shown.resolve(&[], &[]).is_some());
        assert!(lost().unwrap().starts_with("it was shown the certificate"));
        tls.shown.heard(Some(&alert(AlertDescription::UnknownCA)));
        let said = lost().unwrap();
        assert!(said.starts_with("it refuses the certificate in `tls.cert_file` (UnknownCA)"));
        tls.shown.heard(None);
        assert_eq!(lost(), None);
    }
}
