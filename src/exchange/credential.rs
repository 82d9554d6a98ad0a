//! How the gateway proves to a token endpoint that it is its client (RFC 6749 §2.3).
//!
//! A proof is made for each try: one that is signed must not be used twice.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use url::form_urlencoded::byte_serialize;

use super::assertion::{self, ASSERTION_TYPE};
use super::failure::ExchangeError;
use super::federated_file::FederatedFile;
use super::federated_identity::FederatedIdentity;
use super::signing_key::{KeyName, SigningKey};
use super::terms::Terms;
use crate::clock::UnixTime;
use crate::secret::{Secret, SecretHeader};

/// `credential` of a provider.
#[derive(Clone, Debug)]
pub enum ClientCredential {
    /// A shared secret, sent in the form (`client_secret_post`), as Entra's documents have it.
    ClientSecret(Secret),
    /// A shared secret, sent as `Authorization: Basic` (`client_secret_basic`).
    ClientSecretBasic(Secret),
    /// An assertion that the gateway signs: with a certificate's key at Entra, else
    /// `private_key_jwt`.
    SigningKey(Arc<SigningKey>),
    /// A token of another issuer, as it stands in a file.
    FederatedFile(Arc<FederatedFile>),
    /// A token of a managed identity.
    FederatedIdentity(Arc<FederatedIdentity>),
}

/// What a proof is made of that may take long to get, and is had before a call takes the place of
/// others: the token of a managed identity, where that is the credential.
pub(super) struct Groundwork(Option<Secret>);

/// What proves, in one request, who asks.
#[derive(Debug)]
pub(super) struct Proof {
    /// Fields of the form.
    pub(super) fields: Vec<(&'static str, Secret)>,
    /// The value of `Authorization`, where it stands there.
    pub(super) authorization: Option<SecretHeader>,
}

impl ClientCredential {
    /// What of it is sent, in the words of the protocol.
    pub(super) fn sent_as(&self) -> &'static str {
        match self {
            Self::ClientSecret(_) => "client_secret",
            Self::ClientSecretBasic(_) => "client_secret_basic",
            Self::SigningKey(_) => "client_assertion, signed by the gateway",
            Self::FederatedFile(_) => "client_assertion, from a federated token file",
            Self::FederatedIdentity(_) => "client_assertion, of a managed identity",
        }
    }

    /// What it is, in words for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ClientSecret(_) | Self::ClientSecretBasic(_) => "client secret",
            Self::SigningKey(key) => match key.name() {
                KeyName::Id(_) => "private key",
                KeyName::Thumbprint(_) => "certificate",
            },
            Self::FederatedFile(_) => "federated token",
            Self::FederatedIdentity(_) => "managed identity",
        }
    }

    /// What a proof for a request on these `terms`, for `upstream`, is made of.
    ///
    /// # Errors
    ///
    /// It can't be had.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up waiting.
    pub(super) async fn prepare(
        &self,
        terms: &Terms,
        upstream: &Arc<str>,
        now: UnixTime,
    ) -> Result<Groundwork, Arc<ExchangeError>> {
        match self {
            Self::FederatedIdentity(identity) => {
                Ok(Groundwork(Some(identity.token(terms, upstream, now).await?)))
            }
            Self::ClientSecret(_)
            | Self::ClientSecretBasic(_)
            | Self::SigningKey(_)
            | Self::FederatedFile(_) => Ok(Groundwork(None)),
        }
    }

    /// A proof for one request on these `terms`, made at `now` of its `groundwork`.
    ///
    /// # Errors
    ///
    /// What the proof is made of can't be had.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up what it waits for; nothing is half made.
    pub(super) async fn prove(
        &self,
        terms: &Terms,
        groundwork: Groundwork,
        now: UnixTime,
    ) -> Result<Proof, Arc<ExchangeError>> {
        let assertion = match self {
            Self::ClientSecret(secret) => {
                let fields = vec![("client_secret", secret.clone())];
                return Ok(Proof { fields, authorization: None });
            }
            Self::ClientSecretBasic(secret) => {
                let authorization = Some(basic(&terms.client_id, secret)?);
                return Ok(Proof { fields: Vec::new(), authorization });
            }
            Self::SigningKey(key) => assertion::assert(key, terms, now).await?,
            Self::FederatedFile(file) => file.token(now).await?,
            Self::FederatedIdentity(_) => groundwork.0.ok_or_else(|| {
                ExchangeError::internal("a proof by a managed identity without its token")
            })?,
        };
        let fields = vec![
            ("client_assertion_type", Secret::new(ASSERTION_TYPE.to_owned())),
            ("client_assertion", assertion),
        ];
        Ok(Proof { fields, authorization: None })
    }
}

/// RFC 6749 §2.3.1: both are encoded as in a form before they are joined, so that a colon in an
/// id does not end it.
fn basic(client_id: &str, secret: &Secret) -> Result<SecretHeader, ExchangeError> {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(client_id), encoded(secret.expose()));
    HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))
        .map(SecretHeader::new)
        .map_err(|_impossible| ExchangeError::internal("base64 that no header can hold"))
}

#[cfg(test)]
mod tests {
    use super::super::terms::tests::terms;
    use super::*;

    async fn proof(credential: ClientCredential, client_id: &str) -> Proof {
        let terms = terms(client_id, &["s"]);
        let groundwork = credential.prepare(&terms, &Arc::from("u"), UnixTime(9)).await.unwrap();
        credential.prove(&terms, groundwork, UnixTime(9)).await.unwrap()
    }

    #[tokio::test]
    async fn basic_is_encoded_twice_and_leaves_the_form_alone() {
        let secret = Secret::new("p~s=w&d +%é:".into());
        let proof = proof(ClientCredential::ClientSecretBasic(secret), "id:with/colon").await;
        assert!(proof.fields.is_empty());
        let header = proof.authorization.unwrap().expose().to_str().unwrap().to_owned();
        let pair = STANDARD.decode(header.strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(
            String::from_utf8(pair).unwrap(),
            "id%3Awith%2Fcolon:p%7Es%3Dw%26d+%2B%25%C3%A9%3A"
        );
    }

    #[tokio::test]
    async fn a_secret_in_the_form_is_no_header() {
        let proof = proof(ClientCredential::ClientSecret(Secret::new("x".into())), "c").await;
        assert_eq!(proof.fields[0].0, "client_secret");
        assert!(proof.authorization.is_none() && proof.fields.len() == 1);
    }

    #[tokio::test]
    async fn each_proof_of_a_key_is_another_one() {
        let key = Arc::new(super::super::signing_key::tests::key_by_id("k"));
        let credential = ClientCredential::SigningKey(key);
        let (one, two) = (proof(credential.clone(), "c").await, proof(credential, "c").await);
        assert_eq!(one.fields[0].1.expose(), ASSERTION_TYPE);
        assert_eq!(one.fields[1].0, "client_assertion");
        assert_ne!(one.fields[1].1, two.fields[1].1);
    }
}
