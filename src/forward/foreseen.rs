//! What an upstream would get of a request, for dry runs: made by the steps that [`prepare`](super::prepare)
//! makes it by, and nothing that [`send`](super::send) takes.
//!
//! ```compile_fail,E0308
//! # use obo_gateway::forward::{self, Foreseen, Trail};
//! // What was foreseen, without a permit, can't be sent.
//! async fn send(foreseen: Foreseen, trail: Trail<'_>) {
//!     forward::send(foreseen, trail).await.unwrap();
//! }
//! ```

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::links::Links;
use super::request::{
    Forwarding, From, change_fields, path_and_query, refuse_declared_size, told_host,
};
use crate::exchange;
use crate::identity::Identity;
use crate::peer::{Peer, TrustedProxies};
use crate::rejection::Rejection;
use crate::route::{Captures, Target};

/// What stands for a value that is not shown.
const HIDDEN: HeaderValue = HeaderValue::from_static("***");

/// A request of which it is to be said what its upstream would get.
pub struct Asking<'a> {
    /// Its head.
    pub parts: &'a Parts,
    /// Canonical host and path.
    pub target: &'a Target,
    /// What the route's pattern captured.
    pub captures: &'a Captures,
    /// Who would send it.
    pub peer: &'a Peer,
    /// Where links lead, if any are replaced.
    pub links: Option<&'a Arc<Links>>,
    /// Who is believed about whom they speak for.
    pub trusted: &'a TrustedProxies,
    /// What stands for its id.
    pub request_id: &'a HeaderValue,
}

/// What an upstream would get.
#[derive(Debug)]
pub struct Foreseen {
    /// The path, and the query as it came.
    pub path: PathAndQuery,
    /// The host that it is told; `None` is the endpoint's own.
    pub host: Option<HeaderValue>,
    /// The fields; `***` in place of the credential, whether it came with the request or not.
    pub headers: HeaderMap,
    /// The fields whose values the file or the caller may mean as secrets.
    pub hidden: Vec<HeaderName>,
}

/// What the upstream of `plan` would get of a request by this caller, whoever says who that is.
///
/// # Errors
///
/// As of [`prepare`](super::prepare).
pub fn foresee(
    plan: &Forwarding,
    asking: &Asking<'_>,
    identity: Option<&Identity>,
    credential: &exchange::Foreseen,
) -> Result<Foreseen, Rejection> {
    let &Asking { parts, target, captures, peer, links, trusted, request_id } = asking;
    refuse_declared_size(plan, &parts.headers)?;
    let path = path_and_query(plan, &parts.uri, target, captures)?;
    let mut headers = parts.headers.clone();
    let from = From { target, captures, peer, links, trusted, request_id };
    let shown = match credential {
        exchange::Foreseen::None => None,
        exchange::Foreseen::Passthrough => identity.map(|_| (AUTHORIZATION, bearer())),
        exchange::Foreseen::Exchange(_) | exchange::Foreseen::ManagedIdentity(_) => {
            Some((AUTHORIZATION, bearer()))
        }
        exchange::Foreseen::Header(name) => {
            HeaderName::try_from(name.as_str()).ok().map(|name| (name, HIDDEN))
        }
    };
    let shown = shown.as_ref().map(|(name, value)| (name, value));
    change_fields(plan, &mut headers, &from, identity, shown);
    let rules = &plan.request_headers;
    let hidden = rules.set.iter().chain(&rules.add).map(|(name, _)| name.clone());
    let hidden = hidden.chain([http::header::COOKIE]).collect();
    Ok(Foreseen { path, host: told_host(plan, target), headers, hidden })
}

fn bearer() -> HeaderValue {
    HeaderValue::from_static("Bearer ***")
}
