//! Certificates of callers (mutual TLS): which CAs are believed, and whether a caller must have
//! one.
//!
//! What a certificate is worth is not decided here: that it is verified means that somebody whom
//! one of these CAs certified is on the connection. Tokens that are bound to it are judged in
//! `authn/`. Revocation lists are not looked at.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::accept::tls::TlsError;

/// Whether a caller must have a certificate. One that is shown has to be good in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Callers are asked for one and may have none.
    Optional,
    /// Without one there is no connection.
    Required,
}

/// How certificates of callers are verified.
#[derive(Clone, Debug)]
pub struct CallerCertificates {
    verifier: Arc<dyn ClientCertVerifier>,
    cas: Vec<CertificateDer<'static>>,
    auth: ClientAuth,
}

impl CallerCertificates {
    /// Believes the CAs of `pem`, and no others; the name of the file is for errors.
    ///
    /// # Errors
    ///
    /// There is no certificate in it, or one that can't be used as a CA.
    pub fn from_pem(pem: &[u8], file: &Path, auth: ClientAuth) -> Result<Self, TlsError> {
        let unusable = |source| TlsError::CallerCas { file: file.into(), source };
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| TlsError::Pem { file: file.into(), source })?;
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate { file: file.into() });
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|error| unusable(error.into()))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match auth {
            ClientAuth::Optional => builder.allow_unauthenticated(),
            ClientAuth::Required => builder,
        };
        let verifier = builder.build().map_err(|error| unusable(error.into()))?;
        Ok(Self { verifier, cas: certificates, auth })
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// The CAs that are believed, as the file has them.
    pub(super) fn cas(&self) -> &[CertificateDer<'static>] {
        &self.cas
    }

    /// Whether a caller must have a certificate.
    pub(super) fn auth(&self) -> ClientAuth {
        self.auth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_required_is_mandatory() {
        let ca = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap().cert.pem();
        for (auth, mandatory) in [(ClientAuth::Optional, false), (ClientAuth::Required, true)] {
            let made = CallerCertificates::from_pem(ca.as_bytes(), Path::new("ca.pem"), auth);
            let verifier = made.unwrap().verifier();
            assert!(verifier.offer_client_auth());
            assert_eq!(verifier.client_auth_mandatory(), mandatory);
        }
    }

    #[test]
    fn a_file_without_a_usable_ca_is_named() {
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (pem, said) in [
            ("", "`ca.pem` holds no certificate"),
            ("-----BEGIN CERTIFICATE-----\n*", "`ca.pem` is not valid PEM"),
            (no_certificate, "can't verify callers with `ca.pem`"),
        ] {
            let made = CallerCertificates::from_pem(
                pem.as_bytes(),
                Path::new("ca.pem"),
                ClientAuth::Optional,
            );
            let error = made.unwrap_err();
            assert!(error.to_string().starts_with(said), "{error}");
            assert_eq!(error.file().unwrap(), Path::new("ca.pem"));
        }
    }
}
