//! Which certificates of servers the gateway believes: the system's web roots, or a CA file
//! and nothing else. There is no way to turn verification off.

use std::error::Error;
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};

/// The roots that a connection to a provider or an upstream trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// The system's web roots.
    #[default]
    System,
    /// The certificates of a `ca_file`, in place of the system's.
    Only(Vec<CertificateDer<'static>>),
}

/// Why no TLS configuration could be made.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file is not PEM.
    #[error("the CA file is not valid PEM: {0}")]
    Pem(rustls::pki_types::pem::Error),
    /// There is PEM, but no certificate in it.
    #[error("the CA file holds no certificate (`-----BEGIN CERTIFICATE-----`)")]
    Empty,
    /// A certificate that rustls can't use as a root.
    #[error("a certificate of the CA file can't be used as a root")]
    Certificate(#[source] rustls::Error),
    /// The crypto provider refuses the defaults.
    #[error("TLS can't be set up")]
    Setup(#[source] rustls::Error),
}

impl Roots {
    /// Reads the certificates of a `ca_file`.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TrustError> {
        let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(TrustError::Pem)?;
        if certificates.is_empty() {
            return Err(TrustError::Empty);
        }
        Ok(Self::Only(certificates))
    }

    /// A TLS client that trusts these roots; ALPN is left to the caller.
    pub fn client_config(&self) -> Result<ClientConfig, TrustError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(TrustError::Setup)?;
        Ok(builder.with_root_certificates(self.store()?).with_no_client_auth())
    }

    fn store(&self) -> Result<Arc<RootCertStore>, TrustError> {
        match self {
            Self::System => Ok(system_store()),
            Self::Only(certificates) => {
                let mut store = RootCertStore::empty();
                for certificate in certificates {
                    store.add(certificate.clone()).map_err(TrustError::Certificate)?;
                }
                Ok(Arc::new(store))
            }
        }
    }
}

/// The system's roots, read once: they are about 140 certificates in one file.
fn system_store() -> Arc<RootCertStore> {
    static STORE: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let store = STORE.get_or_init(|| {
        let mut store = RootCertStore::empty();
        // Single roots that rustls can't read are left out, as every other program does.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        // Not an error: what is all on loopback needs none, and without them nothing is believed.
        if store.is_empty() {
            tracing::warn!("the system has no web roots, so no https can be called: install `ca-certificates`, or set `ca_file`");
        }
        Arc::new(store)
    });
    Arc::clone(store)
}

/// What is wrong with the certificate of a server, if that is why `error` came.
pub fn certificate_fault<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e CertificateError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(fault)) = error.downcast_ref() {
            return Some(fault);
        }
        // What the system's error holds is not its source, but that one's source is.
        next = match error.downcast_ref::<io::Error>() {
            Some(outer) => outer.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_a_certificate_is_refused() {
        assert!(matches!(Roots::from_pem(b""), Err(TrustError::Empty)));
        assert!(matches!(
            Roots::from_pem(b"-----BEGIN CERTIFICATE-----\n*"),
            Err(TrustError::Pem(_))
        ));
    }

    #[test]
    fn a_ca_file_is_trusted_alone() {
        let ca = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let roots = Roots::from_pem(ca.cert.pem().as_bytes()).unwrap();
        assert!(matches!(&roots, Roots::Only(certificates) if certificates.len() == 1));
        roots.client_config().unwrap();
    }
}
