//! Who is calling: takes the bearer token out of a request and verifies it.
//!
//! The witness is [`Authenticated`]: only [`authenticate`] makes one. What a caller may do is
//! not decided here (`authz/`).

pub mod fetch;

use std::sync::Arc;

use http::HeaderMap;

use crate::identity::Identity;
use crate::rejection::Rejection;
use crate::secret::InboundToken;

/// A caller whose token was verified.
#[derive(Clone, Debug)]
pub struct Caller {
    token: InboundToken,
    identity: Arc<Identity>,
}

impl Caller {
    /// The token as it came.
    pub fn token(&self) -> &InboundToken {
        &self.token
    }

    /// What it says.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }
}

/// The outcome of authentication: a verified caller, or nobody on an open route.
#[derive(Debug)]
pub struct Authenticated {
    caller: Option<Caller>,
}

impl Authenticated {
    /// The verified caller; `None` on an open route.
    pub fn into_caller(self) -> Option<Caller> {
        self.caller
    }
}

/// An identity provider, as the routes file names it.
#[derive(Debug)]
pub struct Provider {
    name: Arc<str>,
    fetcher: fetch::Fetcher,
}

/// Where a provider takes requests, from its discovery document or from the routes file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// The token endpoint (RFC 6749 §3.2).
    pub token: Option<String>,
    /// The authorization endpoint, for claims challenges.
    pub authorization: Option<String>,
}

impl Provider {
    /// Its name in the routes file.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The client for calls to it.
    pub fn fetcher(&self) -> &fetch::Fetcher {
        &self.fetcher
    }

    /// Its endpoints; `None` until discovery has succeeded once.
    pub fn endpoints(&self) -> Option<Arc<Endpoints>> {
        None
    }
}

/// What a route asks of the caller's token before its policy is looked at.
#[derive(Debug)]
pub enum Requirement {
    /// `auth: none`: a token that comes is removed unread.
    Open,
}

/// Verifies the caller of a request with these `headers`.
pub async fn authenticate(
    requirement: &Requirement,
    _headers: &HeaderMap,
) -> Result<Authenticated, Rejection> {
    match requirement {
        Requirement::Open => Ok(Authenticated { caller: None }),
    }
}
