//! The certificate that the gateway shows to an upstream which asks for one: read from PEM,
//! checked to go with its key.
//!
//! The private key stays inside rustls; for comparing, a digest stands in for it. When the files
//! are read again is decided by the reload.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::InconsistentKeys;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// A chain with its key. Two that are equal were made of the same bytes.
#[derive(Clone)]
pub struct OwnCertificate {
    pub(super) certified: Arc<CertifiedKey>,
    leaf: CertificateDer<'static>,
    /// SHA-256 of chain and key. It has no `Debug` that shows it: the key is in it.
    made_of: [u8; 32],
}

/// Why a pair can't be used. What it says stands behind the name of a file.
#[derive(Debug, thiserror::Error)]
pub enum OwnCertificateError {
    /// The chain is not PEM.
    #[error("is not valid PEM: {0}")]
    CertificatePem(pem::Error),
    /// There is PEM, but no certificate in it.
    #[error("holds no certificate (`-----BEGIN CERTIFICATE-----`)")]
    NoCertificate,
    /// The key is not PEM.
    #[error("is not valid PEM: {0}")]
    KeyPem(pem::Error),
    /// There is no key in it.
    #[error(
        "holds no private key (`-----BEGIN PRIVATE KEY-----`); a key with a passphrase must be \
         decrypted first"
    )]
    NoKey,
    /// Each is good, but not with the other.
    #[error(
        "does not belong to the first certificate in `cert_file`: the gateway's own certificate \
         comes first, then those that signed it"
    )]
    Mismatch,
    /// rustls can't use the certificate.
    #[error("can't be shown to an upstream")]
    Certificate(#[source] rustls::Error),
    /// rustls can't use the key.
    #[error("can't prove a certificate")]
    Key(#[source] rustls::Error),
}

impl OwnCertificateError {
    /// Whether `key_file` is to blame, not `cert_file`.
    pub fn is_of_key(&self) -> bool {
        match self {
            Self::CertificatePem(_) | Self::NoCertificate | Self::Certificate(_) => false,
            Self::KeyPem(_) | Self::NoKey | Self::Mismatch | Self::Key(_) => true,
        }
    }
}

impl OwnCertificate {
    /// The chain, the gateway's own certificate first, and its key, both PEM.
    ///
    /// # Errors
    ///
    /// Says what is wrong with one of them, or with the two together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, OwnCertificateError> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(OwnCertificateError::CertificatePem)?;
        let leaf = chain.first().cloned().ok_or(OwnCertificateError::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            if matches!(error, pem::Error::NoItemsFound) {
                OwnCertificateError::NoKey
            } else {
                OwnCertificateError::KeyPem(error)
            }
        })?;
        let made_of = made_of(&chain, &key);
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider.key_provider.load_private_key(key).map_err(OwnCertificateError::Key)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => {}
            Err(error) if error == InconsistentKeys::KeyMismatch.into() => {
                return Err(OwnCertificateError::Mismatch);
            }
            Err(error) => return Err(OwnCertificateError::Certificate(error)),
        }
        Ok(Self { certified: Arc::new(certified), leaf, made_of })
    }

    /// The gateway's own certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.leaf
    }

    /// Its SHA-256, base64url.
    pub fn thumbprint(&self) -> Arc<str> {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, &self.leaf)).into()
    }
}

impl PartialEq for OwnCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.made_of == other.made_of
    }
}

impl Eq for OwnCertificate {}

impl fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCertificate").field("x5t#S256", &self.thumbprint()).finish()
    }
}

fn made_of(chain: &[CertificateDer<'_>], key: &PrivateKeyDer<'_>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    // Each with its length, so that nothing reads as something else.
    for part in chain.iter().map(AsRef::as_ref).chain([key.secret_der()]) {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    // SHA-256 has 32 bytes.
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["gateway".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn load(chain: &str, key: &str) -> Result<OwnCertificate, OwnCertificateError> {
        OwnCertificate::from_pem(chain.as_bytes(), key.as_bytes())
    }

    #[test]
    fn those_of_the_same_bytes_are_equal_and_none_shows_its_key() {
        let ((chain, key), (other_chain, other_key)) = (pair(), pair());
        let made = load(&chain, &key).unwrap();
        assert_eq!(made, load(&chain, &key).unwrap());
        assert_ne!(made, load(&other_chain, &other_key).unwrap());
        assert_ne!(made, load(&format!("{chain}{other_chain}"), &key).unwrap());
        let shown = format!("{made:?}");
        assert!(shown.contains(&*made.thumbprint()) && shown.len() < 100, "{shown}");
    }

    #[test]
    fn each_mistake_is_told_and_blamed_on_its_file() {
        let ((chain, key), (_, other_key)) = (pair(), pair());
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let broken = "-----BEGIN CERTIFICATE-----\n*";
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (chain, key, of_key, said) in [
            ("", &*key, false, "holds no certificate"),
            (&*key, &*key, false, "holds no certificate"),
            (broken, &*key, false, "is not valid PEM"),
            (no_certificate, &*key, false, "can't be shown"),
            (&*chain, "", true, "holds no private key"),
            (&*chain, &*chain, true, "holds no private key"),
            (&*chain, &*encrypted, true, "holds no private key"),
            (&*chain, "-----BEGIN PRIVATE KEY-----\n*", true, "is not valid PEM"),
            (&*chain, no_key, true, "can't prove"),
            (&*chain, &*other_key, true, "does not belong to the first certificate"),
        ] {
            let error = load(chain, key).unwrap_err();
            assert!(error.to_string().starts_with(said), "{said}: {error}");
            assert_eq!(error.is_of_key(), of_key, "{error}");
        }
    }
}
