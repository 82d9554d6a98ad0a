//! A credential of the gateway, and the tokens it is to get, tried at their provider: for
//! `check --online`.
//!
//! Decides which request shows the most without a consequence, and what its answer shows of the
//! credential. No caller is there, so no caller's token is swapped:
//!
//! - In the gateway's own name a token is asked for as it is for requests, and dropped. That shows
//!   everything.
//! - At Entra the credential is shown by a token for the application itself, which is good for nothing
//!   else, and whether a resource is known by a token of the gateway's own for it. What users consented
//!   to shows only with a user.
//! - Elsewhere what is no token at all is shown in place of a user's. A provider judges its client
//!   first (RFC 6749 §3.2.1), so that one which refuses only the token has taken the credential,
//!   and lets it exchange.
//!
//! The request is made as those for callers are (`client.rs`), and its answer is read and worded by
//! the same tables.

use std::sync::Arc;

use http::HeaderValue;

use super::advice::{self, Class};
use super::answer::{self, Signs};
use super::client::Call;
use super::failure::ExchangeError;
use super::grant::Grant;
use super::plan::{self, OAuthClient};
use super::refusal::Refusal;
use super::terms::{Parts, Requested, Terms};
use crate::authn::{Issuing, Provider};
use crate::clock::Clock;
use crate::secret::InboundToken;

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The credential alone.
    Credential,
    /// The token that requests get, in the gateway's own name.
    Own,
    /// What a user's token is swapped for, as far as that shows without a user.
    ForUsers,
}

/// A request that is to be tried.
#[derive(Clone, Debug)]
pub struct Trial {
    client: Arc<OAuthClient>,
    purpose: Purpose,
    grant: Grant,
    requested: Arc<Requested>,
    upstream: Arc<str>,
}

/// What a trial came to.
#[derive(Debug)]
pub struct Tried {
    /// What it shows of the credential.
    pub standing: Standing,
    /// What came.
    pub came: Came,
}

/// What an answer shows of the gateway's credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The provider knows the client, and took its credential.
    Accepted,
    /// It did not.
    Refused,
    /// Neither can be said.
    Unknown,
}

/// What came of a trial.
#[derive(Debug)]
pub enum Came {
    /// A token, which was dropped.
    Token,
    /// A token, in exchange for what is none: whoever gives it looks at nothing, and shows nothing.
    TokenForNothing,
    /// A refusal of nothing but what was shown in place of a user's token.
    OnlySubjectRefused,
    /// A refusal that concerns applications by themselves, and no user: Entra gives a token of the
    /// resource to assigned applications only.
    NotAssigned,
    /// No token for the application itself, which users' need not share.
    Doubtful(Told),
    /// No token.
    Nothing(Told),
}

/// Why there is no token.
#[derive(Debug)]
pub struct Told {
    /// What came, and why.
    pub what: String,
    /// What to do, where that is known.
    pub hint: Option<String>,
}

/// "The application is not assigned to a role for the resource", which is judged behind the credential.
const NOT_ASSIGNED: u64 = 501_051;

/// What is shown in place of a user's token.
const NO_TOKEN: HeaderValue = HeaderValue::from_static("Bearer not.a.token");

impl Trial {
    /// The credential of `client` alone.
    pub fn of_credential(client: &Arc<OAuthClient>) -> Self {
        let (grant, requested) = match &client.provider.settings().kind {
            Issuing::Entra { .. } => {
                let own = format!("{}/.default", client.client_id);
                (Grant::ClientCredentials, Requested::scopes(vec![own]))
            }
            Issuing::Oidc { .. } => (client.user_grant.into(), Requested::default()),
        };
        Self::new(client, Purpose::Credential, grant, &Arc::new(requested), &Arc::from(""))
    }

    /// What requests to `upstream` get in the gateway's own name.
    pub(super) fn own(
        client: &Arc<OAuthClient>,
        requested: &Arc<Requested>,
        upstream: &Arc<str>,
    ) -> Self {
        Self::new(client, Purpose::Own, Grant::ClientCredentials, requested, upstream)
    }

    /// What users' requests to `upstream` get; `None` where the scopes name no resource to be tried.
    pub(super) fn for_users(
        client: &Arc<OAuthClient>,
        for_users: &Arc<Requested>,
        by_default_scopes: &Arc<Requested>,
        upstream: &Arc<str>,
    ) -> Option<Self> {
        let (grant, requested) = match client.user_grant.into() {
            Grant::EntraOnBehalfOf if by_default_scopes.scopes.is_empty() => return None,
            Grant::EntraOnBehalfOf => (Grant::ClientCredentials, by_default_scopes),
            other @ (Grant::TokenExchange | Grant::JwtBearer | Grant::ClientCredentials) => {
                (other, for_users)
            }
        };
        Some(Self::new(client, Purpose::ForUsers, grant, requested, upstream))
    }

    fn new(
        client: &Arc<OAuthClient>,
        purpose: Purpose,
        grant: Grant,
        requested: &Arc<Requested>,
        upstream: &Arc<str>,
    ) -> Self {
        let (client, requested) = (Arc::clone(client), Arc::clone(requested));
        Self { client, purpose, grant, requested, upstream: Arc::clone(upstream) }
    }

    /// The provider that is asked.
    pub fn provider(&self) -> &Arc<Provider> {
        &self.client.provider
    }

    /// Whose requests the token is for; empty where it is for none.
    pub fn upstream(&self) -> &Arc<str> {
        &self.upstream
    }

    /// What is tried.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// What is asked for.
    pub fn requested(&self) -> &Requested {
        &self.requested
    }

    /// Whether it would show the same as `other`.
    pub fn is_same(&self, other: &Self) -> bool {
        let of = |it: &Self| (Arc::clone(it.provider().name()), it.purpose, it.grant);
        of(self) == of(other)
            && self.upstream == other.upstream
            && self.requested == other.requested
    }

    /// Makes the request once; at Entra in `tenant`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the call.
    pub async fn make(&self, tenant: Option<&str>, clock: &dyn Clock) -> Tried {
        let terms = match self.terms(tenant) {
            Ok(terms) => terms,
            Err(error) => return Tried::unasked(&error),
        };
        let subject = match self.grant {
            Grant::ClientCredentials => None,
            Grant::EntraOnBehalfOf | Grant::TokenExchange | Grant::JwtBearer => {
                InboundToken::new(NO_TOKEN, "Bearer ".len())
            }
        };
        let call = Call {
            terms: Arc::clone(&terms),
            client: Arc::clone(&self.client),
            subject,
            claims: None,
            anchor: None,
            upstream: Arc::clone(&self.upstream),
        };
        let fetched = match call.once(clock).await {
            Ok(fetched) => fetched,
            Err(error) => return Tried::unasked(&error),
        };
        match answer::read(fetched.status, &fetched.body) {
            Ok(_dropped) if self.grant == Grant::ClientCredentials => {
                Tried { standing: Standing::Accepted, came: Came::Token }
            }
            Ok(_dropped) => Tried { standing: Standing::Unknown, came: Came::TokenForNothing },
            Err(refusal) => self.judge(refusal, &answer::signs(&fetched.body), &terms),
        }
    }

    fn terms(&self, tenant: Option<&str>) -> Result<Arc<Terms>, ExchangeError> {
        let provider = self.provider();
        let endpoints = provider.endpoints_for(tenant).map_err(|lack| plan::no_endpoints(&lack))?;
        let token_endpoint =
            endpoints.token.as_deref().ok_or_else(|| plan::no_endpoint(provider.name()))?;
        Ok(Arc::new(Terms::new(&Parts {
            provider: provider.name(),
            grant: self.grant,
            issuer: None,
            tenant,
            client_id: &self.client.client_id,
            requested: &self.requested,
            upstream: &self.upstream,
            token_endpoint,
            authorization_endpoint: endpoints.authorization.as_deref(),
        })))
    }

    fn judge(&self, refusal: Refusal, signs: &Signs, terms: &Terms) -> Tried {
        let standing = match &self.provider().settings().kind {
            _ if refusal.class() == Class::Unavailable => Standing::Unknown,
            Issuing::Entra { .. } => of_entra(signs),
            Issuing::Oidc { .. } => of_others(signs),
        };
        let came = if signs.numbers.contains(&NOT_ASSIGNED) && self.purpose != Purpose::Own {
            Came::NotAssigned
        } else if self.grant != Grant::ClientCredentials && of_subject(&refusal, signs) {
            Came::OnlySubjectRefused
        } else {
            // What a policy refuses an application is not refused users by it.
            let concerns_users = matches!(refusal.class(), Class::Gateway | Class::Unavailable);
            let in_own_name = self.grant == Grant::ClientCredentials;
            let doubtful = self.purpose == Purpose::ForUsers && in_own_name && !concerns_users;
            let (what, hint) = refusal.in_parts(terms);
            let told = Told { what, hint };
            if doubtful { Came::Doubtful(told) } else { Came::Nothing(told) }
        };
        Tried { standing, came }
    }
}

impl Tried {
    fn unasked(error: &ExchangeError) -> Self {
        Self { standing: Standing::Unknown, came: Came::Nothing(error.into()) }
    }
}

impl From<&ExchangeError> for Told {
    fn from(error: &ExchangeError) -> Self {
        Self { what: error.what().to_owned(), hint: error.remedy().map(str::to_owned) }
    }
}

/// Nobody says in which order Entra judges; what it says of clients it says by `error`.
fn of_entra(signs: &Signs) -> Standing {
    match signs.error.as_deref() {
        _ if signs.numbers.contains(&NOT_ASSIGNED) => Standing::Accepted,
        Some("invalid_client" | "unauthorized_client") => Standing::Refused,
        Some(_) | None => Standing::Unknown,
    }
}

fn of_others(signs: &Signs) -> Standing {
    let error = signs.error.as_deref();
    match error.and_then(|error| advice::took_credential(error, signs.description.as_deref())) {
        Some(true) => Standing::Accepted,
        Some(false) => Standing::Refused,
        None => Standing::Unknown,
    }
}

/// Whether only what was shown in place of a user's token is refused. `invalid_request` is what RFC 8693 §2.2.2
/// asks for then, unless the words tell of something else.
fn of_subject(refusal: &Refusal, signs: &Signs) -> bool {
    let described = |error| advice::described(error, signs.description.as_deref()?);
    match (refusal.class(), signs.error.as_deref()) {
        (Class::Invalid | Class::Expired, _) => true,
        (_, Some(error)) => error == "invalid_request" && described(error).is_none(),
        (_, None) => false,
    }
}
