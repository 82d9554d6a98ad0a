//! What an exchange would ask for, by the very decisions that make it, and without making it.

use serde::Serialize;

use super::{Asked, Desk, ExchangePlan, no_endpoint, no_endpoints};
use crate::authn::NoEndpoints;
use crate::identity::Identity;
use crate::rejection::Rejection;

/// An exchange that would be made: nothing in it is secret, and nothing can be asked for by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForeseenExchange {
    /// The provider that is asked: its name in the routes file.
    pub provider: String,
    /// Whether it is asked in the name of the caller (`on_behalf_of`), or of the gateway itself
    /// (`client_credentials`).
    pub kind: &'static str,
    /// `grant_type` of the form.
    pub grant_type: &'static str,
    /// The gateway's application there.
    pub client_id: String,
    /// How the gateway proves to be that: the name of the key in `credential`.
    pub credential: &'static str,
    /// The scopes that are asked for.
    pub scopes: Vec<String>,
    /// The logical names of services that are asked for.
    pub audiences: Vec<String>,
    /// The URIs of services that are asked for.
    pub resources: Vec<String>,
    /// The names of further parameters.
    pub extra_parameters: Vec<String>,
    /// Where it would be sent; `None` while the provider's metadata, which names it, is not loaded.
    pub token_endpoint: Option<String>,
}

impl ExchangePlan {
    /// The exchange that this caller's request would need if nothing is cached.
    ///
    /// # Errors
    ///
    /// As of a real one before it is sent; endpoints that are not loaded yet are none.
    pub(in crate::exchange) fn foresee(
        &self,
        identity: Option<&Identity>,
    ) -> Result<ForeseenExchange, Rejection> {
        let Asked { desk, subject, particulars } = self.asked(identity)?;
        let token_endpoint = desk.endpoint(particulars.tenant)?;
        let (client, requested) = (&desk.client, desk.requested(particulars.grant));
        Ok(ForeseenExchange {
            provider: client.provider.name().to_string(),
            kind: if subject.is_some() { "on_behalf_of" } else { "client_credentials" },
            grant_type: particulars.grant.grant_type(),
            client_id: client.client_id.clone(),
            credential: client.credential.sent_as(),
            scopes: requested.scopes.clone(),
            audiences: requested.audiences.clone(),
            resources: requested.resources.clone(),
            extra_parameters: requested.extra_parameters.iter().map(|it| it.0.clone()).collect(),
            token_endpoint,
        })
    }
}

impl Desk {
    fn endpoint(&self, tenant: Option<&str>) -> Result<Option<String>, Rejection> {
        let provider = &self.client.provider;
        match provider.endpoints_for(tenant) {
            Ok(endpoints) if endpoints.token.is_none() => {
                Err(no_endpoint(provider.name()).rejection())
            }
            Ok(endpoints) => Ok(endpoints.token.clone()),
            Err(NoEndpoints::NotLoaded { .. }) => Ok(None),
            Err(lack @ (NoEndpoints::NoTenant { .. } | NoEndpoints::Stranger { .. })) => {
                Err(no_endpoints(&lack).rejection())
            }
        }
    }
}
