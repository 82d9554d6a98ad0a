//! `token:` of an upstream or route where a provider gives it, resolved: which provider is
//! asked, as whom, in whose name and for what.
//!
//! Decides from the verified caller alone. It knows no cache and makes no call.

mod foreseen;
mod recent_terms;

use std::fmt;
use std::sync::Arc;

pub use self::foreseen::ForeseenExchange;
use self::recent_terms::{Particulars, RecentTerms};
use super::advice::Class;
use super::credential::ClientCredential;
use super::failure::ExchangeError;
use super::grant::{Grant, UserGrant};
use super::terms::{Key, Parts, Requested, Terms};
use super::trial::Trial;
use crate::authn::{Caller, NoEndpoints, Provider};
use crate::clock::UnixTime;
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
    /// How a user's token is exchanged there.
    pub user_grant: UserGrant,
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

/// In whose name a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InNameOf {
    /// Of the user who calls; `on_behalf_of`.
    Caller {
        /// What becomes of callers that are no user.
        apps: AppCallers,
    },
    /// Of the gateway itself; `client_credentials`.
    Gateway,
}

/// `app_callers`: what becomes of callers that are no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppCallers {
    /// They are refused.
    Reject,
    /// The gateway asks in its own name: the file says that its permissions are theirs. At Entra
    /// by the `.default` scope of the resource, whatever scopes users' tokens are asked with.
    ClientCredentials,
}

/// What [`ExchangePlan::new`] takes, from the routes file.
#[derive(Debug)]
pub struct ExchangeSettings {
    /// Who asks whom.
    pub clients: OAuthClients,
    /// In whose name.
    pub in_name_of: InNameOf,
    /// What is asked for.
    pub requested: Requested,
    /// The upstream whose requests get the tokens; no other can use this plan.
    pub upstream: Arc<str>,
}

/// How an upstream's token is had from a provider.
pub struct ExchangePlan {
    clients: Vec<Desk>,
    named: bool,
    in_name_of: InNameOf,
    requested: Arc<Requested>,
    upstream: Arc<str>,
}

/// One token that is wanted now: on which terms, from whom, and for whose token.
pub(super) struct TokenRequest<'a> {
    pub(super) client: &'a Arc<OAuthClient>,
    pub(super) terms: Arc<Terms>,
    /// Whose token is swapped; `None` for one in the gateway's own name.
    pub(super) subject: Option<&'a Caller>,
}

impl TokenRequest<'_> {
    /// Names the token in the cache.
    pub(super) fn key(&self) -> Key {
        self.terms.key(self.subject.map(|caller| caller.token().digest()))
    }

    /// The end of the token that it is swapped for: it is of no use to that caller after it.
    pub(super) fn subject_expires_at(&self) -> UnixTime {
        self.subject.map_or(UnixTime(u64::MAX), |caller| caller.identity().expires_at)
    }
}

/// Who is asked how, for the token of one caller.
struct Asked<'a> {
    desk: &'a Desk,
    /// Whose token is swapped; `None` if the gateway asks in its own name.
    subject: Option<&'a Identity>,
    particulars: Particulars<'a>,
}

/// A client, and the terms that its last requests had.
struct Desk {
    client: Arc<OAuthClient>,
    /// What is asked for in exchange for a caller's token.
    for_callers: Arc<Requested>,
    /// What is asked for in the gateway's own name.
    for_gateway: Arc<Requested>,
    recent: RecentTerms,
}

impl ExchangePlan {
    /// The plan that `settings` describe.
    pub fn new(settings: ExchangeSettings) -> Self {
        let ExchangeSettings { clients, in_name_of, requested, upstream } = settings;
        let (clients, named) = match clients {
            OAuthClients::Named(client) => (vec![client], true),
            OAuthClients::OfCaller(clients) => (clients, false),
        };
        let requested = Arc::new(requested);
        let desk = |client| Desk::new(client, in_name_of, &requested);
        Self {
            clients: clients.into_iter().map(desk).collect(),
            named,
            in_name_of,
            requested: Arc::clone(&requested),
            upstream,
        }
    }

    /// What is asked for.
    pub fn requested(&self) -> &Requested {
        &self.requested
    }

    /// The provider that the file names, if it does, so that the caller's own makes no difference.
    pub fn named_provider(&self) -> Option<&Arc<Provider>> {
        self.clients.first().filter(|_| self.named).map(|desk| &desk.client.provider)
    }

    /// In whose name it asks.
    pub fn in_name_of(&self) -> InNameOf {
        self.in_name_of
    }

    /// What of it can be tried without a caller, for routes that take tokens of `providers`.
    pub fn trials(&self, providers: &[Arc<Provider>]) -> Vec<Trial> {
        let asked = |desk: &&Desk| {
            let provider = desk.client.provider.name();
            self.named || providers.iter().any(|own| own.name() == provider)
        };
        let trials = |desk: &Desk| {
            let user = matches!(self.in_name_of, InNameOf::Caller { .. });
            let own = match self.in_name_of {
                InNameOf::Gateway => true,
                InNameOf::Caller { apps } => apps == AppCallers::ClientCredentials,
            };
            let for_users = user.then_some(()).and_then(|()| {
                Trial::for_users(&desk.client, &desk.for_callers, &desk.for_gateway, &self.upstream)
            });
            let own = own.then(|| Trial::own(&desk.client, &desk.for_gateway, &self.upstream));
            [for_users, own].into_iter().flatten()
        };
        self.clients.iter().filter(asked).flat_map(trials).collect()
    }

    /// The upstream that the tokens are for.
    pub(super) fn upstream(&self) -> &Arc<str> {
        &self.upstream
    }

    /// The token that `caller`'s request needs.
    ///
    /// # Errors
    ///
    /// A caller that is no user where one is needed; a provider that the gateway has no
    /// credential for, whose endpoints are not known yet, or that has no token endpoint.
    pub(super) fn request<'a>(
        &'a self,
        caller: Option<&'a Caller>,
    ) -> Result<TokenRequest<'a>, Rejection> {
        let identity = caller.map(|caller| &**caller.identity());
        let Asked { desk, subject, particulars } = self.asked(identity)?;
        let terms = desk.terms(particulars, &self.upstream)?;
        Ok(TokenRequest { client: &desk.client, terms, subject: subject.and(caller) })
    }

    /// Who is asked how for this caller, whoever says who that is.
    fn asked<'a>(&'a self, identity: Option<&'a Identity>) -> Result<Asked<'a>, Rejection> {
        let subject = self.subject(identity)?;
        let desk = self.desk(identity)?;
        let particulars = Particulars {
            grant: match subject {
                Some(_) => desk.client.user_grant.into(),
                None => Grant::ClientCredentials,
            },
            issuer: subject.map(|identity| &identity.issuer),
            tenant: desk.tenant(identity),
        };
        Ok(Asked { desk, subject, particulars })
    }

    /// Whose token is swapped; `None` if the gateway asks in its own name.
    fn subject<'a>(
        &self,
        identity: Option<&'a Identity>,
    ) -> Result<Option<&'a Identity>, Rejection> {
        match (self.in_name_of, identity) {
            (InNameOf::Gateway, _) => Ok(None),
            (InNameOf::Caller { apps }, Some(identity)) => match (identity.kind, apps) {
                (CallerKind::User, _) => Ok(Some(identity)),
                (CallerKind::App, AppCallers::ClientCredentials) => Ok(None),
                (CallerKind::App, AppCallers::Reject) => Err(no_user(identity)),
            },
            (InNameOf::Caller { .. }, None) => Err(Rejection::internal(
                "`on_behalf_of` on an open route, which the configuration refuses",
            )),
        }
    }

    fn desk(&self, identity: Option<&Identity>) -> Result<&Desk, Rejection> {
        let provider = identity.map(|identity| &*identity.provider);
        let fits = |desk: &&Desk| {
            self.named
                || provider.is_some_and(|provider| **desk.client.provider.name() == *provider)
        };
        let desk = self.clients.iter().find(fits);
        desk.ok_or_else(|| no_client(provider, &self.upstream).rejection())
    }
}

impl Desk {
    fn new(client: OAuthClient, in_name_of: InNameOf, requested: &Arc<Requested>) -> Self {
        let for_gateway = match (in_name_of, client.user_grant) {
            // The file has scopes for users; an application gets tokens by other ones.
            (InNameOf::Caller { .. }, UserGrant::EntraOnBehalfOf) => {
                Arc::new(requested.by_default_scopes())
            }
            (InNameOf::Caller { .. }, UserGrant::TokenExchange | UserGrant::JwtBearer)
            | (InNameOf::Gateway, _) => Arc::clone(requested),
        };
        Self {
            client: Arc::new(client),
            for_callers: Arc::clone(requested),
            for_gateway,
            recent: RecentTerms::default(),
        }
    }

    /// The tenant that is asked: the caller's. To a provider of one tenant it is nothing what
    /// another provider says of tenants.
    fn tenant<'i>(&self, identity: Option<&'i Identity>) -> Option<&'i str> {
        let provider = &self.client.provider;
        let own = |identity: &&Identity| {
            provider.has_several_tenants() || *identity.provider == **provider.name()
        };
        identity.filter(own).and_then(|identity| identity.tenant.as_deref())
    }

    fn requested(&self, grant: Grant) -> &Arc<Requested> {
        match grant {
            Grant::EntraOnBehalfOf | Grant::TokenExchange | Grant::JwtBearer => &self.for_callers,
            Grant::ClientCredentials => &self.for_gateway,
        }
    }

    fn terms(&self, particulars: Particulars<'_>, upstream: &str) -> Result<Arc<Terms>, Rejection> {
        let provider = &self.client.provider;
        let endpoints = provider
            .endpoints_for(particulars.tenant)
            .map_err(|lack| no_endpoints(&lack).rejection())?;
        self.recent.find_or_make(endpoints, particulars, |endpoints| {
            let token_endpoint = endpoints
                .token
                .as_deref()
                .ok_or_else(|| no_endpoint(provider.name()).rejection())?;
            Ok(Terms::new(&Parts {
                provider: provider.name(),
                grant: particulars.grant,
                issuer: particulars.issuer,
                tenant: particulars.tenant,
                client_id: &self.client.client_id,
                requested: self.requested(particulars.grant),
                upstream,
                token_endpoint,
                authorization_endpoint: endpoints.authorization.as_deref(),
            }))
        })
    }
}

/// An application has no user to act for, and must not get the gateway's own powers instead.
fn no_user(identity: &Identity) -> Rejection {
    Rejection::new(
        Code::CallerNotAllowed,
        "Only a user's token can be exchanged for this service.",
        format!(
            "the caller is an application ({}) and `on_behalf_of` needs a user; `app_callers` is `reject`: let the client sign a user in, or give applications a route with another `token`",
            identity.client_id.as_deref().unwrap_or("without a client id"),
        ),
    )
}

fn no_client(provider: Option<&str>, upstream: &str) -> ExchangeError {
    let (what, remedy) = match provider {
        Some(provider) => (
            format!(
                "provider `{provider}` validated the inbound token, but has no `client_id` and `credential` for the token of upstream `{upstream}`"
            ),
            "set both, or `provider` of the token",
        ),
        None => (
            format!(
                "no provider validated a token, and the token of upstream `{upstream}` names none"
            ),
            "set `provider` of the token",
        ),
    };
    ExchangeError::new(Class::Gateway, what).with_remedy(remedy)
}

pub(super) fn no_endpoints(lack: &NoEndpoints) -> ExchangeError {
    match lack {
        NoEndpoints::NotLoaded { .. } => ExchangeError::unavailable(lack.to_string(), None),
        NoEndpoints::NoTenant { .. } | NoEndpoints::Stranger { .. } => {
            ExchangeError::new(Class::Gateway, lack.to_string())
        }
    }
}

pub(super) fn no_endpoint(provider: &str) -> ExchangeError {
    let what = format!("the discovery document of provider `{provider}` names no `token_endpoint`");
    ExchangeError::new(Class::Gateway, what).with_remedy("set `token_endpoint` of the provider")
}

impl fmt::Debug for ExchangePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangePlan")
            .field("upstream", &self.upstream)
            .field("requested", &self.requested)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
