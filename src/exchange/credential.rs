//! How the gateway proves to a token endpoint that it is its client (RFC 6749 §2.3).
//!
//! A proof is made for each try: one that is signed must not be used twice.

use super::failure::ExchangeError;
use super::terms::Terms;
use crate::clock::UnixTime;
use crate::secret::{Secret, SecretHeader};

/// `credential` of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCredential {
    /// A shared secret, sent in the form (`client_secret_post`), as Entra's documents have it.
    ClientSecret(Secret),
}

/// What proves, in one request, who asks.
#[derive(Debug)]
pub(super) struct Proof {
    /// Fields of the form.
    pub(super) fields: Vec<(&'static str, Secret)>,
    /// The value of `Authorization`, where it stands there.
    pub(super) authorization: Option<SecretHeader>,
}

impl ClientCredential {
    /// A proof for one request on these `terms`, made at `now`.
    ///
    /// # Errors
    ///
    /// What the proof is made of can't be had.
    #[allow(clippy::unused_async, reason = "credentials to come ask a file or a host")]
    pub(super) async fn prove(
        &self,
        _terms: &Terms,
        _now: UnixTime,
    ) -> Result<Proof, ExchangeError> {
        match self {
            Self::ClientSecret(secret) => {
                Ok(Proof { fields: vec![("client_secret", secret.clone())], authorization: None })
            }
        }
    }
}
