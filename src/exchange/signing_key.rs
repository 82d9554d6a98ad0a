//! Keys that client assertions are signed with: PEM in, checked to fit what they are for.
//!
//! It refuses to know files, their names and when they are read again.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::InconsistentKeys;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::authn::Algorithm;

/// A private key, how it signs, and what the provider knows it by. It is parsed once.
pub struct SigningKey {
    pair: Pair,
    algorithm: Algorithm,
    name: KeyName,
}

/// What a provider finds the public half by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyName {
    /// `kid`: the operator registered the key under it.
    Id(String),
    /// `x5t#S256`: the certificate's SHA-256, base64url (RFC 7515 §4.1.8).
    Thumbprint(Arc<str>),
}

/// A certificate of the gateway's application, with its key.
#[derive(Debug)]
pub struct ClientCertificate {
    key: SigningKey,
    leaf: CertificateDer<'static>,
    thumbprint: Arc<str>,
}

enum Pair {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Which of two files is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFile {
    /// That of the certificate.
    Certificate,
    /// That of the private key.
    Key,
}

/// Why nothing can be signed with what the files hold. Starts in the middle of a sentence whose
/// subject is the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is not PEM.
    #[error("is not valid PEM: {1}")]
    Pem(KeyFile, pem::Error),
    /// There is no certificate in it.
    #[error("holds no certificate (`-----BEGIN CERTIFICATE-----`)")]
    NoCertificate,
    /// There is no key in it.
    #[error("holds no private key (`-----BEGIN PRIVATE KEY-----`)")]
    NoKey,
    /// The key has a passphrase.
    #[error("holds a key with a passphrase")]
    Encrypted,
    /// The key is of another kind or size.
    #[error("holds no key that `{0}` signs with, which is {1}")]
    Unfit(Algorithm, &'static str),
    /// Each is good, but not with the other.
    #[error("does not belong to the first certificate of `cert_file`")]
    Mismatch,
    /// The certificate can't be read.
    #[error("holds a certificate that can't be used")]
    Certificate(#[source] rustls::Error),
}

impl KeyError {
    /// The file that is to blame.
    pub fn file(&self) -> KeyFile {
        match self {
            Self::Pem(file, _) => *file,
            Self::NoCertificate | Self::Certificate(_) => KeyFile::Certificate,
            Self::NoKey | Self::Encrypted | Self::Unfit(..) | Self::Mismatch => KeyFile::Key,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Pem(..) => {
                "name a PEM file: text between `-----BEGIN …-----` and `-----END …-----`"
            }
            Self::NoCertificate | Self::Certificate(_) => {
                "name the file with the certificate that was uploaded to the application, PEM"
            }
            Self::NoKey => "name the file with the private key, PEM: PKCS#8, or PKCS#1 for RSA",
            Self::Encrypted => {
                "decrypt it first (`openssl pkey -in app.key -out plain.key`), and let only this user read it"
            }
            Self::Unfit(..) => {
                "make a key of that kind, or name another `algorithm` (certificates are always used with PS256, as Entra has it)"
            }
            Self::Mismatch => {
                "the application's own certificate comes first in `cert_file`; are both files of the same renewal?"
            }
        }
    }
}

impl ClientCertificate {
    /// The first certificate of `certificates` and the first private key of `key`, both PEM,
    /// which may be the same file.
    ///
    /// # Errors
    ///
    /// Says which of the two is to blame, and for what.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, KeyError> {
        let leaf = CertificateDer::from_pem_slice(certificates).map_err(|error| {
            if matches!(error, pem::Error::NoItemsFound) {
                KeyError::NoCertificate
            } else {
                KeyError::Pem(KeyFile::Certificate, error)
            }
        })?;
        let der = private_key(key)?;
        // Before the pair is compared: an EC pair may match, and is of no use.
        let pair = Pair::new(&der, Algorithm::Ps256)?;
        belong_together(&leaf, &der)?;
        let thumbprint: Arc<str> = URL_SAFE_NO_PAD.encode(digest(&SHA256, &leaf)).into();
        let name = KeyName::Thumbprint(Arc::clone(&thumbprint));
        let key = SigningKey { pair, algorithm: Algorithm::Ps256, name };
        Ok(Self { key, leaf, thumbprint })
    }

    /// The certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.leaf
    }

    /// Its SHA-256, base64url: what it is found by at the provider.
    pub fn thumbprint(&self) -> &Arc<str> {
        &self.thumbprint
    }

    /// The key, which signs in the certificate's name.
    pub fn into_key(self) -> SigningKey {
        self.key
    }
}

impl SigningKey {
    /// The first private key of `pem`, known to the provider as `id`.
    ///
    /// # Errors
    ///
    /// There is none, or it does not fit `algorithm`.
    pub fn from_pem(pem: &[u8], id: &str, algorithm: Algorithm) -> Result<Self, KeyError> {
        let pair = Pair::new(&private_key(pem)?, algorithm)?;
        Ok(Self { pair, algorithm, name: KeyName::Id(id.to_owned()) })
    }

    pub(super) fn name(&self) -> &KeyName {
        &self.name
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The signature of `message`, in the form of RFC 7518 §3.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        match &self.pair {
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &SystemRandom::new(), message, &mut signature)?;
                Ok(signature)
            }
            Pair::Ec(pair) => Ok(pair.sign(&SystemRandom::new(), message)?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.try_sign(message)?.as_ref().to_vec()),
        }
    }
}

impl Pair {
    fn new(key: &PrivateKeyDer<'_>, algorithm: Algorithm) -> Result<Self, KeyError> {
        let pair = match algorithm {
            Algorithm::Rs256 => rsa(key, &signature::RSA_PKCS1_SHA256),
            Algorithm::Rs384 => rsa(key, &signature::RSA_PKCS1_SHA384),
            Algorithm::Rs512 => rsa(key, &signature::RSA_PKCS1_SHA512),
            Algorithm::Ps256 => rsa(key, &signature::RSA_PSS_SHA256),
            Algorithm::Ps384 => rsa(key, &signature::RSA_PSS_SHA384),
            Algorithm::Ps512 => rsa(key, &signature::RSA_PSS_SHA512),
            Algorithm::Es256 => ec(key, &ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => ec(key, &ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::EdDsa => {
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_der()).ok().map(Self::Ed25519)
            }
        };
        pair.ok_or_else(|| KeyError::Unfit(algorithm, needed(algorithm)))
    }
}

/// aws-lc takes 2,048 to 8,192 bits.
fn rsa(key: &PrivateKeyDer<'_>, encoding: &'static dyn RsaEncoding) -> Option<Pair> {
    let der = key.secret_der();
    let pair = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)).ok()?;
    Some(Pair::Rsa(pair, encoding))
}

fn ec(key: &PrivateKeyDer<'_>, algorithm: &'static EcdsaSigningAlgorithm) -> Option<Pair> {
    EcdsaKeyPair::from_private_key_der(algorithm, key.secret_der()).ok().map(Pair::Ec)
}

fn needed(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Rs256
        | Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512 => "an RSA key of 2,048 to 8,192 bits",
        Algorithm::Es256 => "an EC key on P-256",
        Algorithm::Es384 => "an EC key on P-384",
        Algorithm::EdDsa => "an Ed25519 key",
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, KeyError> {
    let key = PrivateKeyDer::from_pem_slice(pem);
    // PKCS#8 says it in the label, older files in a header (RFC 1421 §4.6.1.1): what is read of
    // those is not the key.
    let encrypted = [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"];
    let is_encrypted =
        encrypted.iter().any(|mark| pem.windows(mark.len()).any(|window| window == *mark));
    match key {
        Ok(_) | Err(_) if is_encrypted => Err(KeyError::Encrypted),
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(KeyError::NoKey),
        Err(error) => Err(KeyError::Pem(KeyFile::Key, error)),
    }
}

fn belong_together(
    leaf: &CertificateDer<'static>,
    key: &PrivateKeyDer<'_>,
) -> Result<(), KeyError> {
    let signer = any_supported_type(key).map_err(KeyError::Certificate)?;
    let matched = CertifiedKey::new(vec![leaf.clone()], signer).keys_match();
    matched.map_err(|error| {
        if error == InconsistentKeys::KeyMismatch.into() {
            KeyError::Mismatch
        } else {
            KeyError::Certificate(error)
        }
    })
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::LazyLock;

    use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};

    use super::*;

    /// Certificate and key, PEM. Made once: RSA keys take their time.
    static RSA: LazyLock<(String, String)> = LazyLock::new(|| {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    });

    fn ec() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["app".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    /// A certificate with an RSA key.
    pub(in crate::exchange) fn certificate() -> ClientCertificate {
        ClientCertificate::from_pem(RSA.0.as_bytes(), RSA.1.as_bytes()).unwrap()
    }

    /// An EC key known as `id`.
    pub(in crate::exchange) fn key_by_id(id: &str) -> SigningKey {
        SigningKey::from_pem(ec().1.as_bytes(), id, Algorithm::Es256).unwrap()
    }

    #[test]
    fn a_certificate_and_its_key_may_share_a_file() {
        let both = format!("{}{}", RSA.1, RSA.0);
        let made = ClientCertificate::from_pem(both.as_bytes(), both.as_bytes()).unwrap();
        assert_eq!(made.thumbprint(), certificate().thumbprint());
    }

    #[test]
    fn a_key_signs_only_as_its_kind_can() {
        let (ec, rsa) = (ec().1, RSA.1.as_str());
        let signs = |pem: &str, algorithm| {
            let key = SigningKey::from_pem(pem.as_bytes(), "k", algorithm);
            key.map(|key| key.sign(b"message").unwrap().len())
        };
        for algorithm in Algorithm::ALL {
            match algorithm {
                Algorithm::Es256 => {
                    assert_eq!(signs(&ec, algorithm).unwrap(), 64);
                    assert!(matches!(signs(rsa, algorithm), Err(KeyError::Unfit(..))));
                }
                Algorithm::Es384 | Algorithm::EdDsa => {
                    assert!(matches!(signs(&ec, algorithm), Err(KeyError::Unfit(..))));
                    assert!(matches!(signs(rsa, algorithm), Err(KeyError::Unfit(..))));
                }
                Algorithm::Rs256
                | Algorithm::Rs384
                | Algorithm::Rs512
                | Algorithm::Ps256
                | Algorithm::Ps384
                | Algorithm::Ps512 => {
                    assert_eq!(signs(rsa, algorithm).unwrap(), 256);
                    assert!(matches!(signs(&ec, algorithm), Err(KeyError::Unfit(..))));
                }
            }
        }
        let ed = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        assert_eq!(signs(&ed, Algorithm::EdDsa).unwrap(), 64);
    }

    #[test]
    fn each_mistake_has_its_file_and_its_sentence() {
        let (certificate, key) = (RSA.0.as_str(), RSA.1.as_str());
        let (ec_certificate, ec_key) = ec();
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
                     DEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        for (certificates, key, file, sign) in [
            ("", key, KeyFile::Certificate, "no certificate"),
            (key, key, KeyFile::Certificate, "no certificate"),
            ("-----BEGIN CERTIFICATE-----\n*", key, KeyFile::Certificate, "not valid PEM"),
            (certificate, "", KeyFile::Key, "no private key"),
            (certificate, certificate, KeyFile::Key, "no private key"),
            (certificate, &encrypted, KeyFile::Key, "passphrase"),
            (certificate, older, KeyFile::Key, "passphrase"),
            (&ec_certificate, &ec_key, KeyFile::Key, "an RSA key of 2,048 to 8,192 bits"),
            (&ec_certificate, key, KeyFile::Key, "does not belong"),
        ] {
            let error = ClientCertificate::from_pem(certificates.as_bytes(), key.as_bytes());
            let error = error.unwrap_err();
            assert_eq!(error.file(), file, "{error}");
            assert!(error.to_string().contains(sign), "{sign}: {error}");
        }
    }

    #[test]
    fn nothing_private_is_in_debug_output() {
        let shown = format!("{:?}", certificate().into_key());
        assert!(shown.starts_with("SigningKey { algorithm: Ps256, name: Thumbprint("), "{shown}");
        assert!(shown.len() < 150, "{shown}");
    }
}
