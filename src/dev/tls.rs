//! TLS for the development servers: a CA made at start, and one certificate for `localhost`.
//!
//! The CA's private key is dropped once it has signed: whoever trusts the CA's file trusts
//! this one certificate and nothing that could be made later.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::dev::DevError;
use crate::secret::Secret;

/// A certificate for `localhost`, `127.0.0.1` and `::1`, and the CA that signed it.
#[derive(Clone, Debug)]
pub struct DevTls {
    ca_pem: String,
    certificate_pem: String,
    private_key_pem: Secret,
    server_config: Arc<ServerConfig>,
}

impl DevTls {
    /// Makes a CA and a certificate.
    pub fn generate() -> Result<Self, DevError> {
        let ca = certificate_authority()?;
        let key = KeyPair::generate()?;
        let certificate = localhost()?.signed_by(&key, &ca)?;
        let chain = vec![certificate.der().clone()];
        let private_key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok(Self {
            ca_pem: ca.pem(),
            certificate_pem: certificate.pem(),
            private_key_pem: Secret::new(key.serialize_pem()),
            server_config: Arc::new(server_config(chain, private_key.into())?),
        })
    }

    /// The CA's certificate, PEM: what clients are told to trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The certificate for `localhost`, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key of [`Self::certificate_pem`], PKCS#8 PEM.
    pub fn private_key_pem(&self) -> &Secret {
        &self.private_key_pem
    }

    /// A TLS server with this certificate that speaks HTTP/2 and HTTP/1.1.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server_config)
    }

    /// Writes the CA's certificate to `path`, in place of what is there.
    pub async fn write_ca_file(&self, path: &Path) -> Result<(), DevError> {
        let failed = |source| DevError::CaFile { path: path.to_owned(), source };
        tokio::fs::write(path, &self.ca_pem).await.map_err(failed)
    }
}

fn certificate_authority() -> Result<CertifiedIssuer<'static, KeyPair>, DevError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "obo-gateway development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn localhost() -> Result<CertificateParams, DevError> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Strict verifiers, Python's since 3.13, insist on it.
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    private_key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, DevError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private_key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ca_of_the_same_start_is_trusted() {
        let (tls, other) = (DevTls::generate().unwrap(), DevTls::generate().unwrap());
        assert!(handshake(&tls, tls.ca_pem(), "localhost"));
        assert!(handshake(&tls, tls.ca_pem(), "127.0.0.1"));
        assert!(!handshake(&tls, tls.ca_pem(), "example.com"));
        assert!(!handshake(&tls, other.ca_pem(), "localhost"));
        assert!(!format!("{tls:?}").contains("PRIVATE KEY"));
    }

    /// Whether a client that trusts `ca_pem` alone finishes a handshake, in memory.
    fn handshake(tls: &DevTls, ca_pem: &str, name: &str) -> bool {
        let config = crate::trust::Roots::from_pem(ca_pem.as_bytes()).unwrap().client_config();
        let name = name.to_owned().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config.unwrap()), name).unwrap();
        let mut server = rustls::ServerConnection::new(tls.server_config()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            if server.process_new_packets().is_err() {
                return false;
            }
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
        true
    }
}
