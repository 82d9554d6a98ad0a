//! Upstreams behind TLS, with certificates that tests make up: of which CA, for which names, until
//! when, and whether callers must show one, too.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use obo_gateway::clock::{Clock as _, SystemClock};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use super::registry;
use super::servers::{Handled, Server};

/// One that issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A chain and its key.
pub struct Issued {
    pub chain: String,
    pub key: String,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    Server,
    Client,
}

impl Authority {
    /// One of a name of its own.
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let mut params = CertificateParams::default();
        let name = format!("CA {}", NUMBER.fetch_add(1, Ordering::SeqCst));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `name` that is valid in these years.
    pub fn issue_in(&self, purpose: Purpose, name: &str, years: (i32, i32)) -> Issued {
        self.issue_with(purpose, name, |params| {
            params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        })
    }

    /// A certificate for `name` that ends so long from now.
    pub fn issue_for(&self, purpose: Purpose, name: &str, life: Duration) -> Issued {
        self.issue_with(purpose, name, |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after =
                (UNIX_EPOCH + Duration::from_secs(SystemClock.now().plus(life).0)).into();
        })
    }

    fn issue_with(
        &self,
        purpose: Purpose,
        name: &str,
        validity: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        validity(&mut params);
        let chain = params.signed_by(&key, &self.0).unwrap().pem();
        let key = key.serialize_pem();
        for line in key.lines().filter(|line| line.len() >= 32 && !line.contains('-')) {
            registry::secret(line);
        }
        Issued { chain, key }
    }

    /// A certificate for `name` that is valid now.
    pub fn issue(&self, purpose: Purpose, name: &str) -> Issued {
        self.issue_in(purpose, name, (2020, 2099))
    }
}

impl Issued {
    /// Writes both to files of `folder`, which begin with `name`.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let files = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&files.0, &self.chain).unwrap();
        std::fs::write(&files.1, &self.key).unwrap();
        files
    }
}

/// How a server speaks TLS.
pub struct Settings<'a> {
    pub versions: &'a [&'static SupportedProtocolVersion],
    pub alpn: &'a [&'a str],
    /// Who must have issued the caller's certificate; without it nobody is asked.
    pub callers: Option<&'a Authority>,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Self { versions: rustls::ALL_VERSIONS, alpn: &["h2", "http/1.1"], callers: None }
    }
}

/// A server with `issued` that answers `VERSION PATH CALLER`, where `CALLER` tells the caller's
/// certificate from others, or is `nobody`.
pub fn start(issued: &Issued, settings: &Settings<'_>) -> Server {
    let acceptor = acceptor(issued, settings);
    Server::start(Arc::new(move |stream| {
        let acceptor = acceptor.clone();
        Box::pin(async move {
            // A handshake that fails is part of what is tested.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let caller = stream
                .get_ref()
                .1
                .peer_certificates()
                .map_or_else(|| "nobody".to_owned(), |chain| shown(chain[0].as_ref()));
            let service = service_fn(move |request: Request<Incoming>| {
                let text = format!("{:?} {} {caller}", request.version(), request.uri().path());
                async move { Ok::<_, Infallible>(Response::new(text)) }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            builder.serve_connection(TokioIo::new(stream), service).await.ok();
        })
    }))
}

/// A server with `issued` that answers with `handler`.
pub fn start_with(issued: &Issued, settings: &Settings<'_>, handler: Handler) -> Server {
    let acceptor = acceptor(issued, settings);
    Server::start(Arc::new(move |stream| {
        let (acceptor, handler) = (acceptor.clone(), Arc::clone(&handler));
        Box::pin(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| handler(request));
            let builder = auto::Builder::new(TokioExecutor::new());
            builder.serve_connection(TokioIo::new(stream), service).await.ok();
        })
    }))
}

/// What answers a request, whatever connection it came over.
pub type Handler = Arc<dyn Fn(Request<Incoming>) -> Handled + Send + Sync>;

fn acceptor(issued: &Issued, settings: &Settings<'_>) -> TlsAcceptor {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(issued.chain.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(settings.versions)
        .unwrap();
    let builder = match settings.callers {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain.unwrap(), key).unwrap();
    config.alpn_protocols = settings.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// What [`start`] says of a caller with this certificate.
pub fn shown_of(issued: &Issued) -> String {
    shown(CertificateDer::from_pem_slice(issued.chain.as_bytes()).unwrap().as_ref())
}

fn shown(der: &[u8]) -> String {
    // The signature at the end is another in each.
    URL_SAFE_NO_PAD.encode(&der[der.len() - 8..])
}
