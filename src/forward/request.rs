//! From the caller's request to the one that the upstream gets: which fields, path and body it has.
//! How it is put over HTTP/1.1 or HTTP/2 is `head.rs`'s.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version};
use hyper::body::Incoming;

use super::claims::{self, ForwardedClaim};
use super::expect::{self, Hold};
use super::head::{Head, declared_length};
use super::headers::{self, Asserted, Downstream, HeaderRules, Told};
use super::interim::Listener;
use super::links::{Linking, Links, Way};
use super::token_end::StreamEnd;
use super::upgrade::{Asked, Upgrades};
use super::upload::{Pace, Progress, Upload};
use super::upstream::{HostHeader, Patience, Upstream, is_grpc};
use crate::authn::{Caller, TokenEnd};
use crate::authz::Permit;
use crate::body::Body;
use crate::exchange::UpstreamCredential;
use crate::identity::Identity;
use crate::interim::Interim;
use crate::observe::access_log::ByteCounter;
use crate::peer::{Peer, TrustedProxies};
use crate::rejection::{Code, Rejection};
use crate::route::{Captures, Rewrite, Target};

/// What a route says of forwarding.
#[derive(Debug)]
pub struct Forwarding {
    /// Where requests go.
    pub upstream: Arc<Upstream>,
    /// How the path changes.
    pub rewrite: Rewrite,
    /// Claims that become header fields.
    pub forward_claims: Vec<ForwardedClaim>,
    /// Fields that a caller can't send: those of `forward_claims` and of the credential.
    pub asserted: Arc<Asserted>,
    /// The way that the route is, where the links of its upstream come to lead here.
    pub links: Option<Arc<Way>>,
    /// Changes to the request's fields.
    pub request_headers: Arc<HeaderRules>,
    /// Changes to the answer's fields.
    pub response_headers: Arc<HeaderRules>,
    /// From the end of the request to the head of the answer.
    pub response_timeout: Patience,
    /// Largest request body in bytes; `None` is any.
    pub max_body_bytes: Option<u64>,
    /// Longest pause in a request body.
    pub body_idle_timeout: Duration,
    /// What the caller's connection may become.
    pub upgrades: Upgrades,
    /// Whether a stream ends with the caller's token.
    pub at_token_end: AtTokenEnd,
}

/// What becomes of a stream when the token that it began with ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtTokenEnd {
    /// It ends too.
    #[default]
    Ends,
    /// It goes on: `outlive_token: true`.
    GoesOn,
}

/// A caller's request with what was found out about it on the way.
pub struct Inbound<'a> {
    /// Its head.
    pub parts: Parts,
    /// Its body, and what counts it; `None`: there is none.
    pub body: Option<(Incoming, ByteCounter)>,
    /// Canonical host and path.
    pub target: &'a Target,
    /// What the route's pattern captured.
    pub captures: &'a Captures,
    /// Who sent it.
    pub peer: &'a Peer,
    /// Where links lead, if any are replaced.
    pub links: Option<&'a Arc<Links>>,
    /// Who is believed about whom they speak for.
    pub trusted: &'a TrustedProxies,
    /// The id that it and its answer carry.
    pub request_id: &'a HeaderValue,
    /// The way for informational answers, to a caller who can be told.
    pub interim: Option<Interim>,
    /// The end of its token; `None` on an open route.
    pub token_end: Option<TokenEnd>,
    /// What its connection is to become.
    pub upgrade: Option<Box<Asked>>,
}

/// A request that is ready to be sent. Only [`prepare`] makes one, and only with a [`Permit`].
#[derive(Debug)]
pub struct UpstreamRequest<'a> {
    pub(super) plan: &'a Forwarding,
    pub(super) head: Head,
    pub(super) body: Body,
    /// `None`: there is no body.
    pub(super) upload: Option<Arc<Progress>>,
    /// Where it carries a token that a provider gave: the upstream may ask for another.
    pub(super) exchanged: Option<Exchanged>,
    /// Where the links of its answer are replaced.
    pub(super) links: Option<Box<Linking>>,
    /// What streams that come of it end with; `None`: they may go on.
    pub(super) token_end: Option<TokenEnd>,
    /// What its connection is to become.
    pub(super) upgrade: Option<Box<Asked>>,
}

/// What it takes to send a request again with another token.
#[derive(Debug)]
pub(super) struct Exchanged {
    /// Whose request it is; `None` on an open route.
    pub(super) caller: Option<Caller>,
    /// Its body as it goes by.
    pub(super) body: KeptBody,
}

/// A body that may be asked for again.
#[derive(Debug)]
pub(super) enum KeptBody {
    /// There is none.
    Empty,
    /// It is kept on its way.
    Replay(Arc<Progress>),
    /// It can't be sent again.
    Gone,
}

/// Makes the upstream's request of the caller's.
///
/// The permit is used up here: what was not authorised can't be forwarded. The caller's fields
/// are cleaned before any of the gateway's own are added; the credential goes in last, so that
/// no rule of the route can change it.
///
/// ```compile_fail
/// // A permit can't be made by hand: its field is private, and `authz::authorize` judges first.
/// let permit = obo_gateway::authz::Permit { caller: None };
/// ```
///
/// # Errors
///
/// A body that is declared larger than the route takes (413), a path that can't be sent (400),
/// a credential for another upstream (500).
pub fn prepare<'a>(
    plan: &'a Forwarding,
    inbound: Inbound<'_>,
    permit: Permit,
    credential: &UpstreamCredential,
) -> Result<UpstreamRequest<'a>, Rejection> {
    let Inbound { parts, body, target, captures, links, peer, trusted, request_id, .. } = inbound;
    let (interim, token_end, upgrade) = (inbound.interim, inbound.token_end, inbound.upgrade);
    let upstream = &plan.upstream;
    check_upstream(plan, credential)?;
    refuse_declared_size(plan, &parts.headers)?;

    let path = path_and_query(plan, &parts.uri, target, captures)?;
    let mut headers = parts.headers;
    let expects = body.is_some() && expect::asks_for_continue(parts.version, &mut headers);
    let caller = permit.into_caller();
    let from = From { target, captures, peer, links, trusted, request_id };
    let identity = caller.as_ref().map(|caller| &**caller.identity());
    let links = change_fields(plan, &mut headers, &from, identity, credential.header());
    let authority = told_host(plan, target);
    let token_end = token_end.filter(|_| plan.at_token_end == AtTokenEnd::Ends);
    let (method, scheme) = (parts.method, upstream.scheme());
    let mut head = Head { method, scheme, authority, path, headers, listener: None };
    let exchanged = |body| credential.is_exchanged().then_some(Exchanged { caller, body });
    let Some((body, bytes_in)) = body else {
        head.listener = Listener::new(interim, None, &head.headers);
        let (body, exchanged) = (Body::empty(), exchanged(KeptBody::Empty));
        return Ok(UpstreamRequest {
            plan,
            head,
            body,
            upload: None,
            exchanged,
            links,
            token_end,
            upgrade,
        });
    };
    // gRPC is HTTP/2, where pings find out whether the caller is still there.
    let grpc = parts.version == Version::HTTP_2 && head.content_type().is_some_and(is_grpc);
    let pace = if grpc { Pace::Unhurried } else { Pace::Steady };
    let (asserted, rules) = (Arc::clone(&plan.asserted), Arc::clone(&plan.request_headers));
    let (most, patience) = (plan.max_body_bytes, plan.body_idle_timeout);
    let end = token_end.clone().map(|token| StreamEnd { token, note: bytes_in.clone() });
    let upload = Upload::new(body, most, patience, pace, bytes_in, asserted, rules);
    let upload = upload.over(parts.version).until(end.as_ref());
    let progress = upload.progress();
    let mut kept = KeptBody::Gone;
    if credential.is_exchanged() && head.body_may_be_kept() {
        progress.keep();
        kept = KeptBody::Replay(Arc::clone(&progress));
    }
    let hold;
    let body = if expects {
        let unread = Hold::new(upload);
        progress.held_by(&unread);
        let body = Body::stream(unread.body());
        hold = Some(unread);
        body
    } else {
        hold = None;
        Body::stream(upload)
    };
    head.listener = Listener::new(interim, hold, &head.headers);
    let upload = Some(progress);
    let exchanged = exchanged(kept);
    Ok(UpstreamRequest { plan, head, body, upload, exchanged, links, token_end, upgrade })
}

/// What of a request decides about the fields that its upstream gets.
pub(super) struct From<'a> {
    pub(super) target: &'a Target,
    pub(super) captures: &'a Captures,
    pub(super) peer: &'a Peer,
    pub(super) links: Option<&'a Arc<Links>>,
    pub(super) trusted: &'a TrustedProxies,
    pub(super) request_id: &'a HeaderValue,
}

/// Makes of the caller's fields those of the upstream. The order is security: the caller's are
/// cleaned before any of the gateway's own are added; the credential goes in last.
pub(super) fn change_fields(
    plan: &Forwarding,
    headers: &mut HeaderMap,
    from: &From<'_>,
    identity: Option<&Identity>,
    credential: Option<(&HeaderName, &HeaderValue)>,
) -> Option<Box<Linking>> {
    let &From { target, captures, peer, links, trusted, request_id } = from;
    let told = Told::by(peer, trusted, headers);
    headers::clean_request(headers, &plan.asserted);
    let downstream = Downstream { peer, told, authority: target.host_field(), request_id };
    headers::assert_caller(headers, downstream);
    let links = plan.links.as_ref().zip(links);
    let links =
        links.and_then(|(way, links)| Linking::begin(links, way, target, captures, headers));
    if let Some(identity) = identity {
        claims::add(headers, &plan.forward_claims, identity);
    }
    plan.request_headers.apply(headers);
    if let Some((name, value)) = credential {
        headers.insert(name, value.clone());
    }
    links
}

/// The host that the upstream is told; `None` is the endpoint's own.
pub(super) fn told_host(plan: &Forwarding, target: &Target) -> Option<HeaderValue> {
    let is_callers = plan.upstream.settings.host_header == HostHeader::Client;
    if is_callers { target.host_field() } else { None }
}

/// A credential is for one upstream, and no other is shown it.
pub(super) fn check_upstream(
    plan: &Forwarding,
    credential: &UpstreamCredential,
) -> Result<(), Rejection> {
    let (own, met) = (credential.upstream(), plan.upstream.name());
    if own == met {
        return Ok(());
    }
    Err(Rejection::internal(format!("a credential for `{own}` met upstream `{met}`")))
}

pub(super) fn refuse_declared_size(
    plan: &Forwarding,
    headers: &HeaderMap,
) -> Result<(), Rejection> {
    match (declared_length(headers), plan.max_body_bytes) {
        (Some(declared), Some(most)) if declared > most => {
            let reason = format!(
                "the request body is declared as {declared} bytes; `max_body_bytes` is {most}"
            );
            Err(Rejection::new(
                Code::BodyTooLarge,
                "The request body is larger than this route takes.",
                reason,
            )
            .closing())
        }
        _ => Ok(()),
    }
}

/// The base path of the upstream, the path as the route rewrites it, the query byte for byte.
pub(super) fn path_and_query(
    plan: &Forwarding,
    uri: &Uri,
    target: &Target,
    captures: &Captures,
) -> Result<PathAndQuery, Rejection> {
    let base = &plan.upstream.settings.base_path;
    let path = plan.rewrite.apply(target.path(), captures);
    // The common case needs no new string: what came is already what goes on.
    if base.is_empty()
        && path == uri.path()
        && let Some(unchanged) = uri.path_and_query()
    {
        return Ok(unchanged.clone());
    }
    let mut text =
        String::with_capacity(base.len() + path.len() + 1 + target.query().map_or(0, str::len));
    text.push_str(base);
    text.push_str(&path);
    if let Some(query) = target.query() {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::try_from(text).map_err(|error| {
        Rejection::new(
            Code::BadRequest,
            "The request target can't be forwarded.",
            "the rewritten path is no valid request target",
        )
        .caused_by(error)
    })
}
