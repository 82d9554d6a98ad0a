//! One configuration, as a request meets it: data, and nothing of how it is walked over.
//!
//! Only `config::resolve` makes one; `gateway.rs` takes each request through one of them.

use std::sync::Arc;

use crate::authn::{Provider, Requirement};
use crate::authz::Policy;
use crate::cors::Cors;
use crate::exchange::TokenPlan;
use crate::forward::links::{Links, Way};
use crate::forward::{Forwarding, Upstream};
use crate::metadata::{ProtectedResource, Resources};
use crate::observe::handles::{RouteMetrics, UpstreamMetrics};
use crate::observe::tracer::Tracer;
use crate::own_answer::{Canned, Redirect};
use crate::peer::TrustedProxies;
use crate::public_url::PublicUrl;
use crate::rate_limit::RateLimit;
use crate::route::{RouteTable, Target};
use crate::written::Written;

/// One configuration, whole: what a request meets from its first byte to its last.
#[derive(Debug)]
pub struct Snapshot {
    /// The routes, most specific first.
    pub routes: RouteTable<Route>,
    /// All providers of the file, for readiness.
    pub providers: Vec<Arc<Provider>>,
    /// All upstreams of the file; the next configuration keeps those that did not change.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Whose `X-Forwarded-*` and `X-Request-Id` are believed.
    pub trusted_proxies: TrustedProxies,
    /// What callers call the gateway, if the file says so.
    pub public_url: Option<Arc<PublicUrl>>,
    /// Where the links of upstreams come to lead, if any are replaced.
    pub links: Option<Arc<Links>>,
    /// Which requests leave spans, if any do; the next configuration keeps it if it did not change.
    pub tracer: Option<Arc<Tracer>>,
    /// What the file says, to be looked at.
    pub written: Arc<Written>,
}

impl Snapshot {
    /// The protected resource that requests to `target` meet, whatever their method.
    pub fn resource(&self, target: &Target) -> Option<&Arc<ProtectedResource>> {
        self.routes.reachable(target).find_map(|route| route.resource.as_ref())
    }
}

/// One entry of `routes:`.
#[derive(Debug)]
pub struct Route {
    /// Its name, and what is counted under it.
    pub metrics: Arc<RouteMetrics>,
    /// The line of the routes file where its `match` is, from 1; 0 for what the gateway adds.
    pub line: u32,
    /// Whose tokens it takes.
    pub requirement: Requirement,
    /// What a caller must have.
    pub policy: Policy,
    /// What its challenges name, so that clients find the provider (RFC 9728 §5.1).
    pub resource: Option<Arc<ProtectedResource>>,
    /// Which pages may call it, and read its answers.
    pub cors: Option<Box<Cors>>,
    /// How often it may be called; the next configuration keeps it if it did not change.
    pub rate_limit: Option<Arc<RateLimit>>,
    /// Whether its answers say how long things took.
    pub server_timing: ServerTiming,
    /// What then happens.
    pub action: Action,
}

impl Route {
    /// The way that it is for the links of its upstream, where those are replaced.
    pub fn way(&self) -> Option<&Arc<Way>> {
        match &self.action {
            Action::Forward(forward) => forward.forwarding.links.as_ref(),
            Action::Respond(_) | Action::Redirect(_) | Action::Describe(_) => None,
        }
    }

    /// Whether the file has it; the gateway adds those that answer for others.
    pub fn is_of_the_file(&self) -> bool {
        match &self.action {
            Action::Forward(_) | Action::Respond(_) | Action::Redirect(_) => true,
            Action::Describe(_) => false,
        }
    }
}

/// `server_timing` of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerTiming {
    /// They say nothing.
    #[default]
    Off,
    /// They say it in `Server-Timing`.
    On,
}

/// What a route does with a request that may pass.
#[derive(Debug)]
pub enum Action {
    /// It goes to an upstream, with a credential of the upstream's own.
    Forward(Box<Forward>),
    /// The route's own answer.
    Respond(Canned),
    /// Another place.
    Redirect(Redirect),
    /// The metadata of the other routes, for clients.
    Describe(Arc<Resources>),
}

/// To an upstream.
#[derive(Debug)]
pub struct Forward {
    /// Which credential it gets.
    pub token: TokenPlan,
    /// Where to, and how.
    pub forwarding: Forwarding,
    /// The upstream's name, and what is counted under it.
    pub metrics: Arc<UpstreamMetrics>,
}
