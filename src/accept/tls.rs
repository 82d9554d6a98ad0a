//! TLS towards callers: a certificate chain and its key from PEM files, TLS 1.2 and 1.3,
//! HTTP/2 and HTTP/1.1 by ALPN; and, where the file says so, a certificate of the caller's.
//!
//! Each configuration has its own memory of sessions, so none is resumed that was begun with
//! certificates, or under CAs of callers, that were replaced since. One that would be made of the
//! same is not put in place of another, so that a reload costs nobody a whole handshake.
//!
//! It decides what can be served with; when files are read again is decided by the reload.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{self, Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{InconsistentKeys, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::accept::client_auth::{CallerCertificates, ClientAuth};
use crate::accept::expiry;
use crate::body::BoxError;
use crate::clock::UnixTime;

/// What a listener serves TLS with; can be replaced while it serves.
#[derive(Debug)]
pub struct Tls(ArcSwap<Certified>);

/// A chain with its key, checked to belong together.
#[derive(Debug)]
pub struct Certified {
    config: Arc<ServerConfig>,
    expires_at: Option<UnixTime>,
    thumbprint: Arc<str>,
    made_of: MadeOf,
}

/// SHA-256 of all that a configuration is made of. It has no `Debug` that shows it: the private
/// key is in it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct MadeOf([u8; 32]);

/// Why a listener can't serve TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is not PEM.
    #[error("`{}` is not valid PEM: {source}", file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// There is no certificate in it.
    #[error("`{}` holds no certificate (`-----BEGIN CERTIFICATE-----`)", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// There is no key in it.
    #[error(
        "`{}` holds no private key (`-----BEGIN PRIVATE KEY-----`); a key with a passphrase \
         must be decrypted first", file.display()
    )]
    NoKey {
        /// The file.
        file: PathBuf,
    },
    /// Each is good, but not with the other.
    #[error(
        "the key in `{}` does not belong to the first certificate in `{}`: the server's own \
         certificate comes first, then those that signed it",
        key_file.display(), cert_file.display()
    )]
    Mismatch {
        /// The file of the chain.
        cert_file: PathBuf,
        /// The file of the key.
        key_file: PathBuf,
    },
    /// rustls can't use one of them.
    #[error("can't serve TLS with `{}` and `{}`", cert_file.display(), key_file.display())]
    Unusable {
        /// The file of the chain.
        cert_file: PathBuf,
        /// The file of the key.
        key_file: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The callers' CAs can't be used.
    #[error("can't verify callers with `{}`", file.display())]
    CallerCas {
        /// The file of the CAs.
        file: PathBuf,
        /// What is wrong.
        #[source]
        source: BoxError,
    },
}

impl TlsError {
    /// The file that is to blame; `None` for the two together.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::Pem { file, .. }
            | Self::NoCertificate { file }
            | Self::NoKey { file }
            | Self::CallerCas { file, .. } => Some(file),
            Self::Mismatch { .. } | Self::Unusable { .. } => None,
        }
    }
}

impl Tls {
    /// Serves with `certified`.
    pub fn new(certified: Certified) -> Self {
        Self(ArcSwap::from_pointee(certified))
    }

    /// Serves new connections with `certified` from now on; sessions are forgotten if anything
    /// about it is new. Gives whether anything is.
    pub fn replace(&self, certified: Certified) -> bool {
        let is_new = self.0.load().made_of != certified.made_of;
        if is_new {
            self.0.store(Arc::new(certified));
        }
        is_new
    }

    /// For one connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.load().config))
    }
}

impl Certified {
    /// The chain and the key, both PEM, and how callers are asked for a certificate, if they
    /// are; the names of the files are for errors.
    ///
    /// # Errors
    ///
    /// Names the file and what is wrong with it.
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        cert_file: &Path,
        key_file: &Path,
        callers: Option<&CallerCertificates>,
    ) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| TlsError::Pem { file: cert_file.into(), source })?;
        let Some(leaf) = chain.first() else {
            return Err(TlsError::NoCertificate { file: cert_file.into() });
        };
        let expires_at = expiry::not_after(leaf);
        let thumbprint = URL_SAFE_NO_PAD.encode(digest::digest(&SHA256, leaf)).into();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| {
            let file = key_file.into();
            if matches!(source, pem::Error::NoItemsFound) {
                TlsError::NoKey { file }
            } else {
                TlsError::Pem { file, source }
            }
        })?;
        let made_of = MadeOf::of(&chain, &key, callers);
        let config = server_config(chain, key, callers).map_err(|source| {
            let (cert_file, key_file) = (cert_file.into(), key_file.into());
            if source == InconsistentKeys::KeyMismatch.into() {
                TlsError::Mismatch { cert_file, key_file }
            } else {
                TlsError::Unusable { cert_file, key_file, source }
            }
        })?;
        Ok(Self { config: Arc::new(config), expires_at, thumbprint, made_of })
    }

    /// When the server's own certificate expires, if that can be read from it.
    pub fn expires_at(&self) -> Option<UnixTime> {
        self.expires_at
    }

    /// SHA-256 of the server's own certificate, base64url.
    pub fn thumbprint(&self) -> &Arc<str> {
        &self.thumbprint
    }
}

impl MadeOf {
    fn of(
        chain: &[CertificateDer<'_>],
        key: &PrivateKeyDer<'_>,
        callers: Option<&CallerCertificates>,
    ) -> Self {
        let mut context = Context::new(&SHA256);
        // Each with its length, and lists with theirs, so that nothing reads as something else.
        let mut add = |bytes: &[u8]| {
            context.update(&bytes.len().to_be_bytes());
            context.update(bytes);
        };
        let mut add_all = |certificates: &[CertificateDer<'_>]| {
            add(&certificates.len().to_be_bytes());
            for certificate in certificates {
                add(certificate);
            }
        };
        add_all(chain);
        add_all(callers.map_or(&[], CallerCertificates::cas));
        add(match callers.map(CallerCertificates::auth) {
            None => b"not asked",
            Some(ClientAuth::Optional) => b"optional",
            Some(ClientAuth::Required) => b"required",
        });
        add(key.secret_der());
        let mut digest = [0; 32];
        // SHA-256 has 32 bytes.
        digest.copy_from_slice(context.finish().as_ref());
        Self(digest)
    }
}

impl fmt::Debug for MadeOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MadeOf(..)")
    }
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    callers: Option<&CallerCertificates>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match callers {
        Some(callers) => builder.with_client_cert_verifier(callers.verifier()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn load(chain: &str, key: &str) -> Result<Certified, TlsError> {
        let files = (Path::new("tls.crt"), Path::new("tls.key"));
        Certified::from_pem(chain.as_bytes(), key.as_bytes(), files.0, files.1, None)
    }

    #[test]
    fn a_chain_with_its_key_serves() {
        let (chain, key) = pair();
        assert!(load(&chain, &key).unwrap().expires_at().is_some());
    }

    #[test]
    fn what_is_the_same_is_not_replaced_and_anything_new_is() {
        let ((chain, key), (other_chain, other_key), ca, two) =
            (pair(), pair(), pair().0, pair().0);
        let asking = |pem: &str, auth| {
            CallerCertificates::from_pem(pem.as_bytes(), Path::new("ca.pem"), auth).unwrap()
        };
        let load = |chain: &str, key: &str, callers: Option<CallerCertificates>| {
            let files = (Path::new("tls.crt"), Path::new("tls.key"));
            let (chain, key) = (chain.as_bytes(), key.as_bytes());
            Certified::from_pem(chain, key, files.0, files.1, callers.as_ref()).unwrap()
        };
        let longer = format!("{chain}{other_chain}");
        let cas = format!("{ca}{two}");
        let callers = [
            None,
            Some((&ca, ClientAuth::Optional)),
            Some((&ca, ClientAuth::Required)),
            Some((&two, ClientAuth::Required)),
            Some((&cas, ClientAuth::Required)),
        ];
        let tls = Tls::new(load(&other_chain, &other_key, None));
        for callers in callers {
            for chain in [&chain, &longer] {
                let certified = || {
                    let callers = callers.map(|(pem, auth)| asking(pem, auth));
                    load(chain, &key, callers)
                };
                let before = tls.0.load_full();
                tls.replace(certified());
                let now = tls.0.load_full();
                assert!(!Arc::ptr_eq(&before, &now), "{callers:?}");
                tls.replace(certified());
                assert!(Arc::ptr_eq(&now, &tls.0.load_full()), "{callers:?}");
            }
        }
        assert!(!format!("{tls:?}").contains("MadeOf(["));
    }

    #[test]
    fn each_mistake_names_its_file() {
        let (chain, key) = pair();
        let (_, other_key) = pair();
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        for (chain, key, said) in [
            ("", &*key, "`tls.crt` holds no certificate"),
            (&*key, &*key, "`tls.crt` holds no certificate"),
            ("-----BEGIN CERTIFICATE-----\n*", &*key, "`tls.crt` is not valid PEM"),
            (&*chain, "", "`tls.key` holds no private key"),
            (&*chain, &*chain, "`tls.key` holds no private key"),
            (&*chain, &*encrypted, "`tls.key` holds no private key"),
            (&*chain, &*other_key, "the key in `tls.key` does not belong to the first"),
        ] {
            let error = load(chain, key).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
