//! What a configuration says, in short, for people and programs that look at it from outside:
//! the admin port, `routes` and `explain`.
//!
//! Plain data without secrets, made from what requests really meet and not from the file, so
//! that it can't say anything else. Nothing decides by it.

use std::collections::BTreeMap;

use http::HeaderName;
use schemars::JsonSchema;
use serde::Serialize;

use crate::authn::{Issuing, Provider, Requirement};
use crate::authz::{Callers, Policy};
use crate::exchange::{AppCallers, ExchangePlan, InNameOf, TokenPlan};
use crate::forward::{AtTokenEnd, Upstream};
use crate::rate_limit::Reach;
use crate::route::{EncodedSlashes, RouteMatch};
use crate::secret::names_a_credential;
use crate::snapshot::{Action, Forward, Route, Snapshot};

/// A configuration, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Outline {
    /// The routes, in the order of the file.
    pub routes: Vec<RouteOutline>,
    /// The upstreams, in the order of the file.
    pub upstreams: Vec<UpstreamOutline>,
    /// The providers, in the order of the file.
    pub providers: Vec<ProviderOutline>,
}

impl Outline {
    /// What `snapshot` says.
    pub fn of(snapshot: &Snapshot) -> Self {
        let routes = snapshot.routes.entries();
        Self {
            routes: routes
                .filter(|(_, route)| route.is_of_the_file())
                .map(|(matching, route)| RouteOutline::of(matching, route))
                .collect(),
            upstreams: snapshot.upstreams.iter().map(|it| UpstreamOutline::of(it)).collect(),
            providers: snapshot.providers.iter().map(|it| ProviderOutline::of(it)).collect(),
        }
    }
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RouteOutline {
    /// Its name in logs and metrics.
    pub name: String,
    /// The line of the routes file where its `match` is, from 1.
    pub line: u32,
    /// Which requests it takes.
    pub r#match: MatchOutline,
    /// Whose tokens it asks for, and what they must have.
    pub auth: AuthOutline,
    /// What becomes of a request that may pass.
    pub action: ActionOutline,
    /// How often it may be called, if that is limited.
    pub rate_limit: Option<RateLimitOutline>,
    /// The origins of web pages that may call it; empty for none.
    pub cors_origins: Vec<String>,
    /// Whether those pages may send cookies and client certificates.
    pub cors_credentials: bool,
}

/// Which requests a route takes; all that is there must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MatchOutline {
    /// The path, as the file has it.
    pub path: String,
    /// Any one of these hosts; empty for all.
    pub hosts: Vec<String>,
    /// Any one of these methods; empty for all. GET includes HEAD.
    pub methods: Vec<String>,
    /// All of these headers.
    pub headers: BTreeMap<String, String>,
    /// All of these query parameters.
    pub query: BTreeMap<String, String>,
    /// Whether the path's letters match in either case.
    pub ignore_case: bool,
    /// Whether `%2F` and `%5C` are kept rather than refused.
    pub keeps_encoded_slashes: bool,
}

/// Who may call a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AuthOutline {
    /// Everybody: `auth: none`.
    None,
    /// Whoever has a valid token of one of these providers: `auth: any`.
    Any {
        /// Names of providers.
        providers: Vec<String>,
    },
    /// Whoever has a valid token that has this too.
    Rules {
        /// Names of providers; one of these issued the token.
        providers: Vec<String>,
        /// Any one of these scopes …
        scopes: Vec<String>,
        /// … or any one of these roles.
        roles: Vec<String>,
        /// `any`, `users` or `apps`.
        callers: String,
        /// One of these client applications; empty for all.
        clients: Vec<String>,
        /// One of these tenants; empty for all that the provider takes.
        tenants: Vec<String>,
        /// For every claim, one of its values.
        claims: BTreeMap<String, Vec<String>>,
    },
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ActionOutline {
    /// It forwards.
    Forward {
        /// The upstream's name.
        upstream: String,
        /// The path that the upstream gets, before its base path, with the names of the match;
        /// absent where it is the caller's.
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// The credential that the upstream gets.
        token: TokenOutline,
        /// What connections may become: `websocket` for most.
        upgrades: Vec<String>,
        /// Whether streams go on when the caller's token has ended.
        outlives_token: bool,
    },
    /// It answers itself.
    Respond {
        /// The status.
        status: u16,
    },
    /// It sends callers elsewhere.
    Redirect {
        /// The status.
        status: u16,
        /// Where to, with the names of the match.
        to: String,
    },
}

/// Which credential an upstream gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TokenOutline {
    /// None.
    None,
    /// The caller's own token.
    Passthrough,
    /// A fixed header.
    Header {
        /// Its name.
        name: String,
    },
    /// One on behalf of the caller.
    OnBehalfOf {
        /// The provider that is asked; absent where it is the caller's own.
        #[serde(skip_serializing_if = "Option::is_none")]
        provider: Option<String>,
        /// The scopes that are asked for.
        scopes: Vec<String>,
        /// The audiences that are asked for (RFC 8693).
        audiences: Vec<String>,
        /// The resources that are asked for (RFC 8707).
        resources: Vec<String>,
        /// What callers get that are no user: `reject` or `client_credentials`.
        app_callers: String,
    },
    /// One in the gateway's own name.
    ClientCredentials {
        /// The provider that is asked; absent where it is the caller's own.
        #[serde(skip_serializing_if = "Option::is_none")]
        provider: Option<String>,
        /// The scopes that are asked for.
        scopes: Vec<String>,
        /// The audiences that are asked for.
        audiences: Vec<String>,
        /// The resources that are asked for.
        resources: Vec<String>,
    },
    /// One of the machine's managed identity.
    ManagedIdentity {
        /// The resource that it is for.
        resource: String,
    },
}

/// `rate_limit` of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RateLimitOutline {
    /// So many requests …
    pub requests: u32,
    /// … in so many milliseconds.
    pub per_ms: u64,
    /// Most at once.
    pub burst: u32,
    /// `user`, `client`, `ip` or `route`.
    pub by: String,
    /// Whether replicas count together.
    pub shared: bool,
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UpstreamOutline {
    /// Its name.
    pub name: String,
    /// Its URLs.
    pub urls: Vec<String>,
    /// Whether each of its endpoints is checked now and then.
    pub health_check: bool,
}

/// A provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProviderOutline {
    /// Its name.
    pub name: String,
    /// `entra` or `oidc`.
    pub kind: String,
    /// The issuer of its tokens; of several tenants with `{tenantid}` in it.
    pub issuer: String,
    /// What tokens have in `aud`.
    pub audiences: Vec<String>,
}

impl RouteOutline {
    fn of(matching: &RouteMatch, route: &Route) -> Self {
        Self {
            name: route.metrics.name().to_string(),
            line: route.line,
            r#match: MatchOutline::of(matching),
            auth: auth(&route.requirement, &route.policy),
            action: action(matching, &route.action),
            rate_limit: route.rate_limit.as_ref().map(|limit| {
                let allowance = limit.allowance();
                RateLimitOutline {
                    requests: allowance.requests.get(),
                    per_ms: u64::try_from(allowance.per.as_millis()).unwrap_or(u64::MAX),
                    burst: allowance.burst.get(),
                    by: allowance.by.to_string(),
                    shared: allowance.reach == Reach::Fleet,
                }
            }),
            cors_origins: route
                .cors
                .as_ref()
                .map_or_else(Vec::new, |cors| cors.policy().origins.texts()),
            cors_credentials: route.cors.as_ref().is_some_and(|cors| cors.policy().credentials),
        }
    }
}

impl MatchOutline {
    fn of(matching: &RouteMatch) -> Self {
        let shown = |name: &str, value: &str| {
            // Some callers are told apart by a key that they show.
            let value = if names_a_credential(name) { "***" } else { value };
            (name.to_owned(), value.to_owned())
        };
        let header = |(name, value): &(HeaderName, String)| shown(name.as_str(), value);
        let parameter = |(name, value): &(String, String)| shown(name, value);
        Self {
            path: matching.path.text().to_owned(),
            hosts: matching.hosts.iter().map(ToString::to_string).collect(),
            methods: matching.methods.iter().map(ToString::to_string).collect(),
            headers: matching.headers.iter().map(header).collect(),
            query: matching.query.iter().map(parameter).collect(),
            ignore_case: matching.ignore_case,
            keeps_encoded_slashes: matching.encoded_slashes == EncodedSlashes::Keep,
        }
    }
}

fn auth(requirement: &Requirement, policy: &Policy) -> AuthOutline {
    let Requirement::Token { providers, .. } = requirement else { return AuthOutline::None };
    let providers = providers.iter().map(|provider| provider.name().to_string()).collect();
    if *policy == Policy::default() {
        return AuthOutline::Any { providers };
    }
    let Policy { scopes, roles, callers, clients, tenants, claims } = policy.clone();
    let callers = match callers {
        Callers::Any => "any",
        Callers::Users => "users",
        Callers::Apps => "apps",
    };
    let callers = callers.to_owned();
    AuthOutline::Rules { providers, scopes, roles, callers, clients, tenants, claims }
}

fn action(matching: &RouteMatch, action: &Action) -> ActionOutline {
    match action {
        Action::Forward(forward) => self::forward(matching, forward),
        Action::Respond(canned) => ActionOutline::Respond { status: canned.status.as_u16() },
        Action::Redirect(redirect) => {
            let path = redirect.path.described(&matching.path);
            ActionOutline::Redirect {
                status: redirect.status.as_u16(),
                to: format!("{}{path}{}", redirect.origin, redirect.suffix),
            }
        }
        // Not in the file, and so in no outline.
        Action::Describe(_) => ActionOutline::Respond { status: 200 },
    }
}

fn forward(matching: &RouteMatch, forward: &Forward) -> ActionOutline {
    let forwarding = &forward.forwarding;
    let path = forwarding.rewrite.described(&matching.path);
    ActionOutline::Forward {
        upstream: forwarding.upstream.name().to_string(),
        path: (path != matching.path.text()).then_some(path),
        token: TokenOutline::of(&forward.token),
        upgrades: forwarding.upgrades.tokens().map(str::to_owned).collect(),
        outlives_token: forwarding.at_token_end == AtTokenEnd::GoesOn,
    }
}

impl TokenOutline {
    /// What `plan` gives.
    pub fn of(plan: &TokenPlan) -> Self {
        match plan {
            TokenPlan::None => Self::None,
            TokenPlan::Passthrough => Self::Passthrough,
            TokenPlan::Header { name, value: _ } => Self::Header { name: name.to_string() },
            TokenPlan::ManagedIdentity(plan) => {
                Self::ManagedIdentity { resource: plan.resource().to_owned() }
            }
            TokenPlan::Exchange(plan) => Self::of_exchange(plan),
        }
    }

    fn of_exchange(plan: &ExchangePlan) -> Self {
        let provider = plan.named_provider().map(|provider| provider.name().to_string());
        let requested = plan.requested();
        let (scopes, audiences, resources) =
            (requested.scopes.clone(), requested.audiences.clone(), requested.resources.clone());
        match plan.in_name_of() {
            InNameOf::Caller { apps } => {
                let app_callers = match apps {
                    AppCallers::Reject => "reject",
                    AppCallers::ClientCredentials => "client_credentials",
                };
                let app_callers = app_callers.to_owned();
                Self::OnBehalfOf { provider, scopes, audiences, resources, app_callers }
            }
            InNameOf::Gateway => Self::ClientCredentials { provider, scopes, audiences, resources },
        }
    }
}

impl UpstreamOutline {
    fn of(upstream: &Upstream) -> Self {
        let settings = upstream.settings();
        Self {
            name: upstream.name().to_string(),
            urls: settings.urls().collect(),
            health_check: settings.health_check.is_some(),
        }
    }
}

impl ProviderOutline {
    fn of(provider: &Provider) -> Self {
        let settings = provider.settings();
        let kind = match settings.kind {
            Issuing::Entra { .. } => "entra",
            Issuing::Oidc { .. } => "oidc",
        };
        Self {
            name: provider.name().to_string(),
            kind: kind.to_owned(),
            issuer: settings.kind.issuer(),
            audiences: settings.audiences.clone(),
        }
    }
}
