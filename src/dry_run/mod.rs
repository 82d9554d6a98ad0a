//! What a request would meet, without meeting it: for `explain`, and for the `tests:` of a routes file.
//!
//! [`walk`] takes the steps of `gateway.rs`, in its order, by the same functions: there is no second
//! implementation of a rule here. Two steps are left out, and one is another one:
//! - Nothing is counted (`rate_limit` is named), nothing exchanged and nothing sent.
//! - Where claims stand for a token, its signature is supposed to be good.
//!
//! It can't be misused to let a request pass. What comes of supposed claims is an
//! [`Identity`], and no [`Authenticated`](crate::authn::Authenticated); of
//! that no [`Permit`](crate::authz::Permit) can be made, and without one neither an
//! [`UpstreamCredential`](crate::exchange::UpstreamCredential) nor an
//! [`UpstreamRequest`](crate::forward::UpstreamRequest). What a dry run foresees is data of other types,
//! with `***` where a token or secret would be.

mod asking;
mod conditions;
mod expectation;
mod explanation;
mod hidden;
mod policy;
mod run;
mod text;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value};

use crate::authn::supposition::{self, Check};
use crate::authn::{self, Presented, Requirement};
use crate::authz;
use crate::body::Body;
use crate::exchange;
use crate::forward;
use crate::forward::upgrade::Asked;
use crate::identity::Identity;
use crate::preflight;
use crate::public_url::PublicUrl;
use crate::rejection::Rejection;
use crate::route::{Considered, Found, Target};
use crate::snapshot::{Action, Forward, Route, Snapshot};

pub use self::asking::{Asking, Bearer, Unaskable};
pub use self::expectation::{At, ClaimedToken, Expectation, Expected, ExpectedToken, PolicyTest};
pub use self::explanation::{Explanation, explain};
pub use self::run::{Failure, Outcome, Report, Unreached, run};
pub use self::text::harmless;

/// What stands for the id of a request that is never made.
const NEW_ID: HeaderValue = HeaderValue::from_static("(new)");

/// What a request met, as far as it would get.
#[derive(Debug)]
pub(crate) struct Walk<'s> {
    /// What it is aimed at; `None` if that can't be said.
    pub(crate) target: Option<Target>,
    /// All routes, as they stand to it.
    pub(crate) considered: Vec<Considered<'s, Route>>,
    /// The one it takes.
    pub(crate) route: Option<&'s Route>,
    /// What its token says, of whatever worth that is.
    pub(crate) claims: Option<Map<String, Value>>,
    /// The provider that its token names.
    pub(crate) provider: Option<String>,
    /// Each check of its token.
    pub(crate) checks: Vec<Check>,
    /// Each rule of `auth`.
    pub(crate) rules: Vec<Check>,
    /// Whom what follows is for.
    pub(crate) whose: Whose,
    /// The credential that its upstream would be shown.
    pub(crate) credential: Option<exchange::Foreseen>,
    /// What its upstream would get.
    pub(crate) sent: Option<(&'s Forward, forward::Foreseen)>,
    /// How it ends.
    pub(crate) end: End,
}

/// For whom a credential, and what an upstream gets, is foreseen.
#[derive(Clone, Debug)]
pub(crate) enum Whose {
    /// For nobody: an open route, or a token that says too little.
    Nobody,
    /// For the one whom the token, or the claims in its place, speak of.
    Caller(Box<Identity>),
    /// For a user as there may be one: no token was given.
    AnyUser(Box<Identity>),
}

/// How a request ends.
#[derive(Debug)]
pub(crate) enum End {
    /// At the upstream.
    Forwarded,
    /// With an answer of the route's own.
    Answered(Answered),
    /// With a refusal.
    Refused(Rejection),
}

/// An answer of the gateway's own that is no refusal.
#[derive(Debug)]
pub(crate) struct Answered {
    /// What it is: the key of the route.
    pub(crate) kind: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) location: Option<String>,
    /// Why a preflight grants nothing.
    pub(crate) why_not: Option<&'static str>,
}

impl Whose {
    pub(crate) fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Nobody => None,
            Self::Caller(identity) | Self::AnyUser(identity) => Some(identity),
        }
    }
}

/// Takes a request through `snapshot`, step by step as `Gateway::proxy` does. The steps behind a
/// refusal of its caller are taken too, where something can be said of them.
///
/// Asks a provider for a key that its token names and that is not known, and nobody else anything;
/// claims in place of a token ask nobody.
pub(crate) async fn walk<'s>(snapshot: &'s Snapshot, asking: &Asking) -> Walk<'s> {
    let mut walk = Walk {
        target: None,
        considered: Vec::new(),
        route: None,
        claims: None,
        provider: None,
        checks: Vec::new(),
        rules: Vec::new(),
        whose: Whose::Nobody,
        credential: None,
        sent: None,
        end: End::Forwarded,
    };
    if let Err(rejection) = walk.take(snapshot, asking).await {
        walk.end = End::Refused(rejection);
    }
    walk
}

impl<'s> Walk<'s> {
    /// The identity behind the claims or the token; nobody's if that is only supposed for lack of one.
    pub(crate) fn caller(&self) -> Option<&Identity> {
        match &self.whose {
            Whose::Caller(identity) => Some(identity),
            Whose::AnyUser(_) | Whose::Nobody => None,
        }
    }

    /// Whether it is the question of a browser, which shows nothing of who the route lets in.
    pub(crate) fn is_preflight(&self) -> bool {
        matches!(&self.end, End::Answered(answered) if answered.kind == "preflight")
    }

    /// Whether its caller met every rule of the route.
    pub(crate) fn passes_rules(&self) -> bool {
        self.rules.iter().all(Check::has_passed)
    }

    async fn take(&mut self, snapshot: &'s Snapshot, asking: &Asking) -> Result<(), Rejection> {
        let request = asking.request();
        let headers = request.headers();
        let target = Target::parse(&request)?;
        self.considered = snapshot.routes.consider(&target, headers);
        let target = &*self.target.insert(target);
        if let Some(preflight) = preflight::answer(snapshot, target, headers) {
            self.route = Some(preflight.route());
            let mut answered = Answered::new("preflight", preflight.response());
            answered.why_not = preflight.why_not();
            self.end = End::Answered(answered);
            return Ok(());
        }
        let found = snapshot.routes.find(target, headers)?;
        let route = found.route;
        self.route = Some(route);
        let presented = Presented {
            target,
            headers,
            peer: asking.peer(),
            public_url: snapshot.public_url.as_deref().map(PublicUrl::url),
        };
        let met = match &asking.bearer {
            Bearer::Claims(claims) => Met::supposed(route, claims),
            Bearer::AsItCame => Met::real(route, presented).await,
        };
        let Met { claims, provider, checks, whose, verdict } = met;
        (self.claims, self.provider, self.checks, self.whose) = (claims, provider, checks, whose);
        if let Some(caller) = self.caller() {
            self.rules = policy::checks(&route.policy, caller);
        }
        let verdict = verdict.and_then(|()| authz::judge(&route.policy, self.caller()));
        // What is behind a refusal is foreseen too, as far as it can be.
        let ahead = self.foresee(snapshot, asking, &found);
        verdict.and(ahead)
    }

    fn foresee(
        &mut self,
        snapshot: &'s Snapshot,
        asking: &Asking,
        found: &Found<'s, Route>,
    ) -> Result<(), Rejection> {
        let Some(target) = &self.target else { return Ok(()) };
        let forward = match &found.route.action {
            Action::Forward(forward) => forward.as_ref(),
            Action::Respond(canned) => {
                self.end = End::Answered(Answered::new("respond", &canned.response()));
                return Ok(());
            }
            Action::Redirect(redirect) => {
                let response = redirect.response(target, &found.captures)?;
                self.end = End::Answered(Answered::new("redirect", &response));
                return Ok(());
            }
            Action::Describe(resources) => {
                let response = resources.answer(target, |of| snapshot.resource(of))?;
                self.end = End::Answered(Answered::new("metadata", &response));
                return Ok(());
            }
        };
        let identity = self.whose.identity();
        if identity.is_none() && !matches!(found.route.requirement, Requirement::Open) {
            return Ok(());
        }
        Asked::judge(&asking.request(), &forward.forwarding.upgrades)?;
        let credential = exchange::foresee(&forward.token, identity)?;
        let credential = &*self.credential.insert(credential);
        let of = forward::Asking {
            parts: asking.parts(),
            target,
            captures: &found.captures,
            peer: asking.peer(),
            links: snapshot.links.as_ref(),
            trusted: &snapshot.trusted_proxies,
            request_id: &NEW_ID,
        };
        let sent = forward::foresee(&forward.forwarding, &of, identity, credential)?;
        self.sent = Some((forward, sent));
        Ok(())
    }
}

/// What is found out about a caller.
struct Met {
    claims: Option<Map<String, Value>>,
    provider: Option<String>,
    checks: Vec<Check>,
    whose: Whose,
    verdict: Result<(), Rejection>,
}

impl Met {
    /// The caller of a request with claims in place of a token.
    fn supposed(route: &Route, claims: &Map<String, Value>) -> Self {
        let (whose, verdict) = match supposition::suppose(&route.requirement, claims) {
            Ok(Some(identity)) => (Whose::Caller(Box::new(identity)), Ok(())),
            Ok(None) => (Whose::Nobody, Ok(())),
            Err(rejection) => (Whose::Nobody, Err(rejection)),
        };
        let claims = Some(claims.clone());
        Self { claims, provider: None, checks: Vec::new(), whose, verdict }
    }

    /// The caller of a request with its own token, or none. The verdict is that of
    /// [`authn::authenticate`]; the checks say how it came to it.
    async fn real(route: &Route, presented: Presented<'_>) -> Self {
        let examined = supposition::examine(&route.requirement, presented).await;
        let provider = examined.provider.as_ref().map(|own| own.name().to_string());
        let mut checks = examined.checks;
        let (whose, verdict) = match authn::authenticate(&route.requirement, presented).await {
            Ok(authenticated) => {
                let identity = authenticated.identity().map(|it| Identity::clone(it));
                (identity.map_or(Whose::Nobody, |it| Whose::Caller(Box::new(it))), Ok(()))
            }
            Err(rejection) => {
                let whose = match examined.supposed {
                    Some(identity) => Whose::Caller(Box::new(identity)),
                    None if examined.claims.is_none() && checks.is_empty() => any_user(route),
                    None => Whose::Nobody,
                };
                let passed_all = checks.iter().all(Check::has_passed);
                if !checks.is_empty() && passed_all {
                    // What only the request as a whole shows: whether its caller holds what the
                    // token is bound to.
                    let reason = rejection.reason();
                    checks.push(Check::failed("presented", "by its holder", "otherwise", reason));
                }
                (whose, Err(rejection))
            }
        };
        Self { claims: examined.claims, provider, checks, whose, verdict }
    }
}

/// A user of the first provider of the route, for what can be said before there is a token.
fn any_user(route: &Route) -> Whose {
    let Requirement::Token { providers, .. } = &route.requirement else { return Whose::Nobody };
    let user = providers.first().and_then(|provider| {
        let scope_claim = provider.settings().scope_claims.first()?;
        // A scope claim makes it a user's token; which scope is in it makes no difference here.
        let given = Map::from_iter([(scope_claim.clone(), "any".into())]);
        let claims = supposition::with_defaults(provider, given);
        supposition::suppose(&route.requirement, &claims).ok().flatten()
    });
    user.map_or(Whose::Nobody, |identity| Whose::AnyUser(Box::new(identity)))
}

impl Answered {
    fn new(kind: &'static str, response: &Response<Body>) -> Self {
        let location = response.headers().get(header::LOCATION);
        let location = location.and_then(|it| it.to_str().ok()).map(str::to_owned);
        Self { kind, status: response.status(), location, why_not: None }
    }
}
