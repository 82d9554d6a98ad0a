//! TLS of the listeners under test: a certificate made for the run, and who believes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::Failure;
use crate::case::Transport;

const NAME: &str = "localhost";

/// The files of a listener: ECDSA P-256.
#[derive(Clone)]
pub(crate) struct CertificateFiles {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// The client's side: TLS 1.3, AES-256-GCM first, as rustls has it.
#[derive(Clone)]
pub(crate) struct TlsClient {
    http1: TlsConnector,
    http2: TlsConnector,
}

/// Makes a certificate in `dir` and a client that believes in it.
pub(crate) fn make(dir: &Path) -> Result<(CertificateFiles, TlsClient), Failure> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let files = CertificateFiles { chain: dir.join("tls.crt"), key: dir.join("tls.key") };
    std::fs::write(&files.chain, made.cert.pem())?;
    std::fs::write(&files.key, made.signing_key.serialize_pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    let connector = |alpn: &[u8]| -> Result<TlsConnector, Failure> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    };
    let client = TlsClient { http1: connector(b"http/1.1")?, http2: connector(b"h2")? };
    Ok((files, client))
}

impl TlsClient {
    /// A connection over `stream` that speaks what `transport` says.
    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
        transport: Transport,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        let connector = match transport {
            Transport::Clear | Transport::TlsHttp1 => &self.http1,
            Transport::TlsHttp2 => &self.http2,
        };
        Ok(connector.connect(ServerName::try_from(NAME)?, stream).await?)
    }
}

/// The bare proxy's side: what the gateway's listeners have, setting for setting.
pub(crate) fn acceptor(chain: &str, key: &str) -> Result<TlsAcceptor, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
