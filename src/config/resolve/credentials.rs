//! `credential` of a provider: files are read, keys parsed, and what does not fit is said.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::file::{
    Certificate, Cloud, Entra, EntraCredential, Oidc, OidcCredential, PrivateKey,
};
use super::super::spanned::Spanned;
use super::super::value;
use super::{Finding, managed_identity, providers};
use crate::accept::expiry;
use crate::chain::with_sources;
use crate::clock::UnixTime;
use crate::exchange::{
    ClientCertificate, ClientCredential, FederatedFile, FederatedIdentity, KeyError, KeyFile,
    SigningKey,
};

/// A certificate by which the gateway proves who it is, for those who watch its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialCertificate {
    /// Whom it tells that.
    pub shown_to: ShownTo,
    /// Its file.
    pub file: PathBuf,
    /// Its SHA-256, base64url.
    pub thumbprint: Arc<str>,
    /// Its last second.
    pub expires_at: UnixTime,
}

/// Whom the gateway proves with a certificate who it is, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ShownTo {
    /// A provider: it is the `credential` there.
    Provider(Arc<str>),
    /// An upstream: it is shown in the handshake.
    Upstream(Arc<str>),
    /// The callers of the listener at this address, as the file has it.
    Callers(Arc<str>),
}

/// The credential of an Entra provider called `name`.
pub(super) fn entra(
    name: &str,
    entra: &Entra,
    finding: &mut Finding<'_>,
) -> Option<ClientCredential> {
    let credential = entra.credential.as_ref()?;
    match &credential.value {
        EntraCredential::ClientSecret(secret) => {
            finding.warn_of_literal("the client secret", secret);
            Some(ClientCredential::ClientSecret(secret.value.clone()))
        }
        EntraCredential::Certificate(files) => certificate(name, files, finding),
        EntraCredential::FederatedTokenFile(path) => {
            // It need not be there yet: `check` runs elsewhere than in the pod.
            let file = FederatedFile::new(finding.environment.path(&path.value));
            Some(ClientCredential::FederatedFile(Arc::new(file)))
        }
        EntraCredential::ManagedIdentity(identity) => {
            let place = credential.key_place();
            let identity = managed_identity::identity(Some(&identity.client_id), place, finding)?;
            let federated = FederatedIdentity::new(identity, exchange_audience(entra.cloud));
            Some(ClientCredential::FederatedIdentity(Arc::new(federated)))
        }
    }
}

/// The credential of a provider of OpenID Connect.
pub(super) fn oidc(oidc: &Oidc, finding: &mut Finding<'_>) -> Option<ClientCredential> {
    match &oidc.credential.as_ref()?.value {
        OidcCredential::ClientSecret(secret) => {
            finding.warn_of_literal("the client secret", secret);
            Some(ClientCredential::ClientSecretBasic(secret.value.clone()))
        }
        OidcCredential::ClientSecretPost(secret) => {
            finding.warn_of_literal("the client secret", secret);
            Some(ClientCredential::ClientSecret(secret.value.clone()))
        }
        OidcCredential::PrivateKey(key) => private_key(key, finding),
    }
}

/// What a federated credential of an application has as its audience, by cloud.
fn exchange_audience(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::Public => "api://AzureADTokenExchange",
        Cloud::UsGov => "api://AzureADTokenExchangeUSGov",
        Cloud::China => "api://AzureADTokenExchangeChina",
    }
}

fn certificate(
    provider: &str,
    files: &Certificate,
    finding: &mut Finding<'_>,
) -> Option<ClientCredential> {
    // Both, so that both problems are said.
    let (certificates, key) = (finding.read(&files.cert_file), finding.read(&files.key_file));
    let certificate = match ClientCertificate::from_pem(&certificates?, &key?) {
        Ok(certificate) => certificate,
        Err(error) => {
            let file = match error.file() {
                KeyFile::Certificate => &files.cert_file,
                KeyFile::Key => &files.key_file,
            };
            unusable(file, &error, finding);
            return None;
        }
    };
    if let Some(expires_at) = expiry::not_after(certificate.der()) {
        let now = finding.lasting.clock.now();
        if expires_at < now {
            let hours = now.since(expires_at).as_secs() / 3600;
            finding.warning(
                files.cert_file.place,
                format!(
                    "the certificate in `{}` expired {hours} hours ago",
                    files.cert_file.display()
                ),
                "make a new one and upload it to the application: the provider refuses this one",
            );
        }
        finding.certificates.push(CredentialCertificate {
            shown_to: ShownTo::Provider(Arc::from(provider)),
            file: finding.environment.path(&files.cert_file.value),
            thumbprint: Arc::clone(certificate.thumbprint()),
            expires_at,
        });
    }
    Some(ClientCredential::SigningKey(Arc::new(certificate.into_key())))
}

fn private_key(key: &PrivateKey, finding: &mut Finding<'_>) -> Option<ClientCredential> {
    let algorithm = key.algorithm.as_ref().map_or(value::Algorithm::RS256, |it| it.value.0);
    let pem = finding.read(&key.key_file)?;
    match SigningKey::from_pem(&pem, &key.key_id.value.0, providers::signature(algorithm)) {
        Ok(key) => Some(ClientCredential::SigningKey(Arc::new(key))),
        Err(error) => {
            unusable(&key.key_file, &error, finding);
            None
        }
    }
}

fn unusable(file: &Spanned<PathBuf>, error: &KeyError, finding: &mut Finding<'_>) {
    let message = format!("`{}` {}", file.value.display(), with_sources(error));
    finding.error(file.place, message, error.hint());
}
