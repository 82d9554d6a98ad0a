//! A managed identity as federated credential: its token for Entra's exchange is the client
//! assertion of the gateway's application, so that there is no secret at all.
//!
//! How such a token is had is `managed_identity/`; here it is kept until shortly before its
//! end, and asked for by one exchange at a time.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::cache::Granted;
use super::failure::ExchangeError;
use super::managed_identity::ManagedIdentity;
use super::terms::Terms;
use crate::clock::UnixTime;
use crate::limits;
use crate::secret::Secret;

/// `managed_identity` of a credential.
#[derive(Debug)]
pub struct FederatedIdentity {
    identity: ManagedIdentity,
    /// The audience that the application's federated credential names; one for each cloud.
    resource: &'static str,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    token: Option<Granted>,
    /// What the last call came to if it failed, and when: those who waited for it meanwhile
    /// share it, and do not call one after the other.
    failure: Option<(Instant, Arc<ExchangeError>)>,
}

impl FederatedIdentity {
    /// Tokens of `identity` for `resource`.
    pub fn new(identity: ManagedIdentity, resource: &'static str) -> Self {
        Self { identity, resource, kept: Mutex::default() }
    }

    /// The identity's token, for an exchange on these `terms`.
    ///
    /// # Errors
    ///
    /// The machine gives none, or not in time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the call; the next one asks anew.
    pub(super) async fn token(
        &self,
        terms: &Terms,
        now: UnixTime,
    ) -> Result<Secret, Arc<ExchangeError>> {
        let came = Instant::now();
        let waited = timeout(limits::MANAGED_IDENTITY_WAIT, async {
            let mut kept = self.kept.lock().await;
            self.renewed(&mut kept, came, terms, now).await
        });
        waited.await.unwrap_or_else(|_elapsed| Err(Arc::new(too_late(terms))))
    }

    async fn renewed(
        &self,
        kept: &mut Kept,
        came: Instant,
        terms: &Terms,
        now: UnixTime,
    ) -> Result<Secret, Arc<ExchangeError>> {
        if let Some(token) = kept.token.as_ref().filter(|token| token.is_usable(now)) {
            return bare(token).map_err(Arc::new);
        }
        if let Some((_, failure)) = kept.failure.as_ref().filter(|(at, _)| *at >= came) {
            return Err(Arc::clone(failure));
        }
        match self.identity.token(self.resource, &terms.provider).await {
            Ok(token) => {
                let bare = bare(&token).map_err(Arc::new);
                *kept = Kept { token: Some(token), failure: None };
                bare
            }
            Err(error) => {
                kept.failure = Some((Instant::now(), Arc::clone(&error)));
                Err(error)
            }
        }
    }
}

/// The token without its scheme.
fn bare(token: &Granted) -> Result<Secret, ExchangeError> {
    let header = token.header.expose().to_str().ok();
    let bare = header.and_then(|header| header.strip_prefix("Bearer "));
    bare.map(|token| Secret::new(token.to_owned())).ok_or_else(|| {
        ExchangeError::internal("the token of a managed identity is no bearer token")
    })
}

fn too_late(terms: &Terms) -> ExchangeError {
    ExchangeError::unavailable(
        format!(
            "the managed identity that is the credential of provider `{}` gave no token within {} s",
            terms.provider,
            limits::MANAGED_IDENTITY_WAIT.as_secs(),
        ),
        None,
    )
}
