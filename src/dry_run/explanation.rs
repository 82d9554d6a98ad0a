//! What `explain` says of a request: a walk as plain data, in the stable form that programs read
//! (`docs/src/operations/explain.md`).

use futures_util::future::join_all;
use http::HeaderValue;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Asking, End, Walk, Whose, hidden, walk};
use crate::authn::Requirement;
use crate::authn::supposition::Check;
use crate::exchange;
use crate::outline::{Outline, RouteOutline};
use crate::route::{Considered, Lack, Target};
use crate::snapshot::{Forward, Route, Snapshot};

/// Most other routes that are shown.
const MAX_OTHERS: usize = 5;

/// All that can be said of a request. Holds no token and no secret; of claims, those of the token
/// that was given.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The request, as it is matched.
    pub(super) request: AskedFor,
    /// What becomes of it.
    pub(super) decision: Decision,
    /// The route that takes it.
    pub(super) route: Option<RouteOutline>,
    /// The nearest other routes, and why each does not take it.
    pub(super) others: Vec<Other>,
    /// The token that came with it, where the route asks for one.
    pub(super) token: Option<Token>,
    /// Each rule of the route's `auth`, for the caller of the token.
    pub(super) rules: Vec<Check>,
    /// For whom the rest is said: `caller`, `any_user` (a user of the route's first provider, where
    /// there is no token), or `nobody`.
    pub(super) foreseen_for: &'static str,
    /// The credential that the upstream would be shown.
    pub(super) credential: Option<exchange::Foreseen>,
    /// What the upstream would get.
    pub(super) upstream: Option<ToUpstream>,
}

/// A request.
#[derive(Debug, Serialize)]
pub(super) struct AskedFor {
    pub(super) method: String,
    /// In lower case, without port.
    pub(super) host: Option<String>,
    /// The canonical path; `None` if it has none.
    pub(super) path: Option<String>,
    /// The path as it came.
    pub(super) path_as_it_came: String,
    /// As it came, with `***` for values that may be secrets.
    pub(super) query: Option<String>,
}

/// What becomes of a request.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Decision {
    /// It reaches the upstream.
    Forward,
    /// The route answers: `respond`, `redirect`, `preflight` or `metadata`.
    Answer { by: &'static str, status: u16, location: Option<String>, reason: Option<String> },
    /// It is refused: with what the caller is told, and what the log says.
    Refuse { status: u16, code: &'static str, detail: String, reason: String },
}

/// A route that does not take the request.
#[derive(Debug, Serialize)]
pub(super) struct Other {
    pub(super) route: String,
    /// Its `match.path`.
    pub(super) path: String,
    /// Why not; values in backticks.
    pub(super) why_not: Vec<String>,
}

/// The token of a request.
#[derive(Debug, Serialize)]
pub(super) struct Token {
    /// The provider that its `iss` names.
    pub(super) provider: Option<String>,
    /// Its claims; nothing of them is true unless all checks passed.
    pub(super) claims: Option<Map<String, Value>>,
    pub(super) checks: Vec<Check>,
}

/// What an upstream would get.
#[derive(Debug, Serialize)]
pub(super) struct ToUpstream {
    pub(super) name: String,
    pub(super) urls: Vec<String>,
    pub(super) method: String,
    /// The path, with the query as it came.
    pub(super) path: String,
    /// What `Host` says; `None`: the host of its URL.
    pub(super) host: Option<String>,
    /// The fields by name; values that are secrets, or may be, are `***`.
    pub(super) headers: Vec<(String, String)>,
}

/// Says what `asking` would meet. Where it has a token, the keys (and endpoints) of the providers of its
/// route are loaded first, if they don't come from a file; nothing else is asked over the network.
pub async fn explain(snapshot: &Snapshot, asking: &Asking) -> Explanation {
    if asking.has_token() {
        load_keys(snapshot, asking).await;
    }
    let walk = walk(snapshot, asking).await;
    let outline = Outline::of(snapshot);
    let name = walk.route.map(|route| &**route.metrics.name());
    let route = outline.routes.iter().find(|route| Some(&*route.name) == name).cloned();
    let urls = |name: &str| {
        let known = outline.upstreams.iter().find(|upstream| upstream.name == name);
        known.map_or_else(Vec::new, |upstream| upstream.urls.clone())
    };
    let upstream = walk.sent.as_ref();
    let upstream = upstream.map(|(forward, sent)| to_upstream(forward, sent, asking, urls));
    let has_token = walk.claims.is_some() || !walk.checks.is_empty();
    Explanation {
        request: AskedFor::of(asking, walk.target.as_ref()),
        decision: Decision::of(&walk.end),
        others: others(&walk),
        route,
        foreseen_for: match &walk.whose {
            Whose::Nobody => "nobody",
            Whose::Caller(_) => "caller",
            Whose::AnyUser(_) => "any_user",
        },
        token: has_token.then_some(Token {
            provider: walk.provider,
            claims: walk.claims,
            checks: walk.checks,
        }),
        rules: walk.rules,
        credential: walk.credential,
        upstream,
    }
}

impl Explanation {
    /// Whether the gateway lets it pass: it is forwarded, or answered by the route itself. A preflight
    /// that grants nothing does not.
    pub fn passes(&self) -> bool {
        match &self.decision {
            Decision::Forward => true,
            Decision::Answer { reason, .. } => reason.is_none(),
            Decision::Refuse { .. } => false,
        }
    }
}

async fn load_keys(snapshot: &Snapshot, asking: &Asking) {
    let request = asking.request();
    let Ok(target) = Target::parse(&request) else { return };
    let Ok(found) = snapshot.routes.find(&target, request.headers()) else { return };
    if let Requirement::Token { providers, .. } = &found.route.requirement {
        join_all(providers.iter().map(|provider| provider.load_once())).await;
    }
}

impl AskedFor {
    fn of(asking: &Asking, target: Option<&Target>) -> Self {
        let parts = asking.parts();
        Self {
            method: parts.method.to_string(),
            host: target.and_then(|target| target.host()).map(str::to_owned),
            path: target.map(|target| target.path().to_owned()),
            path_as_it_came: parts.uri.path().to_owned(),
            query: parts.uri.query().map(hidden::query),
        }
    }
}

impl Decision {
    fn of(end: &End) -> Self {
        match end {
            End::Forwarded => Self::Forward,
            End::Answered(answered) => Self::Answer {
                by: answered.kind,
                status: answered.status.as_u16(),
                location: answered.location.as_deref().map(hidden::url),
                reason: answered.why_not.map(str::to_owned),
            },
            End::Refused(rejection) => {
                let answer = rejection.code().answer();
                Self::Refuse {
                    status: answer.status.as_u16(),
                    code: answer.name,
                    detail: rejection.detail().to_owned(),
                    reason: rejection.reason(),
                }
            }
        }
    }
}

fn others(walk: &Walk<'_>) -> Vec<Other> {
    let is_chosen =
        |it: &Considered<'_, Route>| walk.route.is_some_and(|route| std::ptr::eq(it.route, route));
    // Of another path, only those that begin alike are near; all are where nothing is nearer.
    let path = walk.target.as_ref().map_or("/", |target| target.path());
    let begins = |path: &str| path.split('/').nth(1).unwrap_or_default().to_ascii_lowercase();
    let is_near = |it: &Considered<'_, Route>| {
        !it.lacks.contains(&Lack::Path)
            || walk.route.is_none()
            || begins(it.matching.path.text()) == begins(path)
    };
    let own = walk.considered.iter().filter(|it| it.route.is_of_the_file() && !is_chosen(it));
    own.filter(|it| is_near(it))
        .take(MAX_OTHERS)
        .map(|considered| other(considered, walk.route))
        .collect()
}

fn other(considered: &Considered<'_, Route>, chosen: Option<&Route>) -> Other {
    let matching = considered.matching;
    let listed = |list: Vec<String>| format!("`{}`", list.join("`, `"));
    let why = |lack: &Lack| match lack {
        Lack::Path => "its path is another".to_owned(),
        Lack::Case => "its path has other upper and lower case letters".to_owned(),
        Lack::Host => format!("its `hosts` are {}", listed(texts(&matching.hosts))),
        Lack::Method => {
            format!("its `methods` are {}", listed(texts(&matching.methods)))
        }
        Lack::Headers => {
            let wanted = matching.headers.iter().map(|(name, value)| {
                format!("{name}: {}", hidden::value(name.as_str(), value.clone()))
            });
            format!("its `headers` ask for {}", listed(wanted.collect()))
        }
        Lack::Query => {
            let wanted = matching
                .query
                .iter()
                .map(|(name, value)| format!("{name}={}", hidden::value(name, value.clone())));
            format!("its `query` asks for {}", listed(wanted.collect()))
        }
    };
    let mut why_not: Vec<String> = considered.lacks.iter().map(why).collect();
    if why_not.is_empty() {
        why_not.push(match chosen {
            Some(_) => "it fits too, and is less specific".to_owned(),
            None => "it fits, but for what the refusal says".to_owned(),
        });
    }
    let route = considered.route.metrics.name().to_string();
    Other { route, path: matching.path.text().to_owned(), why_not }
}

fn texts(list: &[impl ToString]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn to_upstream(
    forward: &Forward,
    sent: &crate::forward::Foreseen,
    asking: &Asking,
    urls: impl FnOnce(&str) -> Vec<String>,
) -> ToUpstream {
    let name = forward.forwarding.upstream.name();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut headers: Vec<(String, String)> = Vec::new();
    for (field, value) in &sent.headers {
        let is_hidden = sent.hidden.contains(field);
        let value = if is_hidden {
            hidden::VALUE.to_owned()
        } else {
            hidden::value(field.as_str(), text(value))
        };
        headers.push((field.to_string(), value));
    }
    headers.sort();
    ToUpstream {
        name: name.to_string(),
        urls: urls(name),
        method: asking.parts().method.to_string(),
        path: hidden::url(sent.path.as_str()),
        host: sent.host.as_ref().map(text),
        headers,
    }
}
