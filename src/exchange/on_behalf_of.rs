//! `on_behalf_of` of an upstream or route, resolved: which provider is asked, and as whom.
//!
//! Decides from the verified caller alone. It knows no cache and makes no call.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::advice::Class;
use super::failure::ExchangeError;
use super::grant::ClientCredential;
use super::terms::{Parts, Terms};
use crate::authn::{Endpoints, NoEndpoints, Provider};
use crate::identity::{CallerKind, Identity};
use crate::rejection::{Code, Rejection};

/// The gateway as the OAuth client of one provider: `client_id` and `credential` of `providers`.
#[derive(Debug)]
pub struct OAuthClient {
    /// The provider whose token endpoint is asked.
    pub provider: Arc<Provider>,
    /// The gateway's application at that provider.
    pub client_id: String,
    /// How the gateway proves to be that application.
    pub credential: ClientCredential,
}

/// Which provider an exchange asks.
#[derive(Debug)]
pub enum OAuthClients {
    /// The file says `provider:`; that one is asked whoever validated the inbound token.
    Named(OAuthClient),
    /// The one that validated the inbound token: one for each provider that the routes of the
    /// upstream accept.
    OfCaller(Vec<OAuthClient>),
}

/// What [`OnBehalfOf::new`] takes, from the routes file.
#[derive(Debug)]
pub struct OnBehalfOfSettings {
    /// Who asks whom.
    pub clients: OAuthClients,
    /// The scopes of one resource, at least one, as they stand in the file.
    pub scopes: Vec<String>,
    /// The upstream whose requests get the tokens; no other can use this plan.
    pub upstream: Arc<str>,
}

/// `on_behalf_of`, resolved.
pub struct OnBehalfOf {
    clients: Vec<Desk>,
    named: bool,
    scopes: Vec<String>,
    upstream: Arc<str>,
}

/// Most terms that a client remembers: v1 and v2 tokens of a few tenants.
const REMEMBERED_TERMS: usize = 8;

/// A client, and the terms that its last requests had: most requests have the same, and their
/// digest need not be made again.
struct Desk {
    client: OAuthClient,
    memory: Memory,
}

/// At most [`REMEMBERED_TERMS`], the newest first.
#[derive(Default)]
struct Memory(ArcSwap<Vec<Remembered>>);

#[derive(Clone)]
struct Remembered {
    endpoints: Arc<Endpoints>,
    terms: Arc<Terms>,
}

impl OnBehalfOf {
    /// The plan that `settings` describe.
    pub fn new(settings: OnBehalfOfSettings) -> Self {
        let (clients, named) = match settings.clients {
            OAuthClients::Named(client) => (vec![client], true),
            OAuthClients::OfCaller(clients) => (clients, false),
        };
        Self {
            clients: clients
                .into_iter()
                .map(|client| Desk { client, memory: Memory::default() })
                .collect(),
            named,
            scopes: settings.scopes,
            upstream: settings.upstream,
        }
    }

    /// The provider that the file names, if it does, so that the caller's own makes no difference.
    pub fn named_provider(&self) -> Option<&Arc<Provider>> {
        self.clients.first().filter(|_| self.named).map(|desk| &desk.client.provider)
    }

    /// The upstream that the tokens are for.
    pub(super) fn upstream(&self) -> &Arc<str> {
        &self.upstream
    }

    /// Who asks for a token for `identity`, and on which terms.
    ///
    /// # Errors
    ///
    /// A caller that is no user; a provider that the gateway has no credential for, whose
    /// endpoints are not known yet, or that has no token endpoint.
    pub(super) fn terms(
        &self,
        identity: &Identity,
    ) -> Result<(&OAuthClient, Arc<Terms>), Rejection> {
        users_only(identity)?;
        let desk = self
            .clients
            .iter()
            .find(|desk| self.named || **desk.client.provider.name() == *identity.provider)
            .ok_or_else(|| no_client(&identity.provider, &self.upstream).rejection())?;
        let provider = &desk.client.provider;
        let endpoints = provider
            .endpoints_for(identity.tenant.as_deref())
            .map_err(|lack| no_endpoints(&lack).rejection())?;
        if let Some(terms) = desk.memory.find(&endpoints, identity) {
            return Ok((&desk.client, terms));
        }
        let token_endpoint =
            endpoints.token.as_deref().ok_or_else(|| no_endpoint(provider.name()).rejection())?;
        let terms = Arc::new(Terms::new(&Parts {
            provider: provider.name(),
            issuer: &identity.issuer,
            tenant: identity.tenant.as_deref(),
            client_id: &desk.client.client_id,
            scopes: &self.scopes,
            upstream: &self.upstream,
            token_endpoint,
            authorization_endpoint: endpoints.authorization.as_deref(),
        }));
        desk.memory.add(Remembered { endpoints, terms: Arc::clone(&terms) });
        Ok((&desk.client, terms))
    }
}

impl Memory {
    fn find(&self, endpoints: &Arc<Endpoints>, identity: &Identity) -> Option<Arc<Terms>> {
        let remembered = self.0.load();
        let found = remembered.iter().find(|one| one.fits(endpoints, identity))?;
        Some(Arc::clone(&found.terms))
    }

    /// Two who remember at once may lose one of theirs, which is then made again.
    fn add(&self, new: Remembered) {
        let old = self.0.load();
        let kept = old.iter().take(REMEMBERED_TERMS - 1).cloned();
        self.0.store(Arc::new(std::iter::once(new).chain(kept).collect()));
    }
}

impl Remembered {
    /// Whether a request of `identity` by way of `endpoints` has these terms: all that is not
    /// fixed by the routes file is compared.
    fn fits(&self, endpoints: &Arc<Endpoints>, identity: &Identity) -> bool {
        (Arc::ptr_eq(&self.endpoints, endpoints) || self.endpoints == *endpoints)
            && *self.terms.issuer == *identity.issuer
            && self.terms.tenant == identity.tenant
    }
}

/// An application has no user to act for, and must not get the gateway's own powers instead.
fn users_only(identity: &Identity) -> Result<(), Rejection> {
    match identity.kind {
        CallerKind::User => Ok(()),
        CallerKind::App => Err(Rejection::new(
            Code::CallerNotAllowed,
            "Only a user's token can be exchanged for this service.",
            format!(
                "the caller is an application ({}) and `on_behalf_of` needs a user; `app_callers` is `reject`: let the client sign a user in, or give applications a route with another `token`",
                identity.client_id.as_deref().unwrap_or("without a client id"),
            ),
        )),
    }
}

fn no_client(provider: &str, upstream: &str) -> ExchangeError {
    ExchangeError::new(
        Class::Gateway,
        format!(
            "provider `{provider}` validated the inbound token, but has no `client_id` and `credential` for `on_behalf_of` of upstream `{upstream}`; set both, or `on_behalf_of.provider`"
        ),
    )
}

fn no_endpoints(lack: &NoEndpoints) -> ExchangeError {
    match lack {
        NoEndpoints::NotLoaded { .. } => ExchangeError::unavailable(lack.to_string(), None),
        NoEndpoints::NoTenant { .. } | NoEndpoints::Stranger { .. } => {
            ExchangeError::new(Class::Gateway, lack.to_string())
        }
    }
}

fn no_endpoint(provider: &str) -> ExchangeError {
    ExchangeError::new(
        Class::Gateway,
        format!(
            "the discovery document of provider `{provider}` names no `token_endpoint`; set `token_endpoint` of the provider"
        ),
    )
}

impl fmt::Debug for OnBehalfOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnBehalfOf")
            .field("upstream", &self.upstream)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::clock::UnixTime;

    fn identity(kind: CallerKind) -> Identity {
        Identity {
            provider: Arc::from("entra"),
            issuer: Arc::from("https://login.example/t1/v2.0"),
            tenant: Some("t1".into()),
            user: Some("u1".into()),
            client_id: Some("daemon".into()),
            kind,
            scopes: Vec::new(),
            roles: Vec::new(),
            claims: Map::new(),
            expires_at: UnixTime(1),
        }
    }

    fn plan() -> OnBehalfOf {
        OnBehalfOf::new(OnBehalfOfSettings {
            clients: OAuthClients::OfCaller(Vec::new()),
            scopes: vec!["api://x/.default".into()],
            upstream: Arc::from("graph"),
        })
    }

    #[test]
    fn an_application_never_goes_on_behalf_of() {
        let rejection = plan().terms(&identity(CallerKind::App)).unwrap_err();
        assert_eq!(rejection.code(), Code::CallerNotAllowed);
        assert!(rejection.reason().contains("`app_callers`"), "{}", rejection.reason());
        assert!(rejection.reason().contains("daemon"), "{}", rejection.reason());
        users_only(&identity(CallerKind::User)).unwrap();
    }

    #[test]
    fn a_provider_without_credential_is_our_fault() {
        let rejection = plan().terms(&identity(CallerKind::User)).unwrap_err();
        assert_eq!(rejection.code(), Code::ExchangeFailed);
        assert!(rejection.reason().contains("provider `entra`"), "{}", rejection.reason());
    }

    #[test]
    fn terms_are_used_again_only_for_the_same_issuer_tenant_and_endpoints() {
        let terms = super::super::terms::tests::terms("c", &["s"]);
        let endpoints = Arc::new(Endpoints {
            token: Some(terms.token_endpoint.clone()),
            authorization: terms.authorization_endpoint.clone(),
        });
        let last = Remembered { endpoints: Arc::clone(&endpoints), terms: Arc::new(terms) };
        let user = identity(CallerKind::User);
        assert!(last.fits(&endpoints, &user));
        assert!(last.fits(&Arc::new(Endpoints::clone(&endpoints)), &user));

        let mut other = identity(CallerKind::User);
        other.tenant = Some("t2".into());
        assert!(!last.fits(&endpoints, &other));
        other = identity(CallerKind::User);
        other.issuer = Arc::from("https://sts.example/t1/");
        assert!(!last.fits(&endpoints, &other));
        assert!(!last.fits(&Arc::default(), &user));
    }
    #[test]
    fn issuers_that_take_turns_keep_their_terms() {
        let endpoints = Arc::new(Endpoints::default());
        let terms_of = |issuer: usize| {
            let issuer = Arc::from(format!("https://login.example/{issuer}"));
            let mut terms = super::super::terms::tests::terms("c", &["s"]);
            terms.issuer = issuer;
            Arc::new(terms)
        };
        let memory = Memory::default();
        for issuer in 0..=REMEMBERED_TERMS {
            let terms = terms_of(issuer);
            memory.add(Remembered { endpoints: Arc::clone(&endpoints), terms });
        }
        let found = |issuer: usize| {
            let issuer = terms_of(issuer).issuer.clone();
            memory.find(&endpoints, &Identity { issuer, ..identity(CallerKind::User) })
        };
        assert!(found(0).is_none(), "one more than are remembered");
        assert!((1..=REMEMBERED_TERMS).all(|issuer| found(issuer).is_some()));
        assert_eq!(memory.0.load().len(), REMEMBERED_TERMS);
    }
}
