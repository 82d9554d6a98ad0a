//! The admin API: what is in force and how it goes, as JSON.
//!
//! | path | answer |
//! | --- | --- |
//! | `GET /api/v1/routes` | [`Routes`]: the route table, with what was counted |
//! | `GET /api/v1/upstreams` | [`Upstreams`]: endpoints and their health |
//! | `GET /api/v1/providers` | [`Providers`]: keys, breakers, exchanges |
//! | `GET /api/v1/cache` | [`Cache`]: the outbound tokens, in numbers |
//! | `DELETE /api/v1/cache` | [`Forgotten`], or 503 with [`ForgottenHereOnly`] |
//! | `GET /api/v1/config` | [`Config`]: the file without its secrets, and the last reload |
//! | `GET /api/v1/stats` | [`Stats`]: counters and histograms since the start |
//! | `GET /api/v1/refusals` | [`LastRefusals`]: the last refusals with their reasons |
//! | `GET /api/v1/schema` | the JSON Schema of all of these ([`mod@schema`]) |
//! | `POST /api/v1/reload` | [`Reloaded`], or 422 with [`ReloadRefused`] |
//!
//! `routes`, `upstreams` and `stats` take `limit` (1,000; at most 10,000), `after` (the `next` of
//! the answer before) and `name`; `refusals` takes `since` and `names=true`; `DELETE` of `cache`
//! forgets all tokens, or those of an `upstream`, of a user (`tenant` and `oid`, or `provider` and `user` where there are no
//! tenants), or of both. Errors are `application/problem+json`, as on the other ports.
//!
//! Times are RFC 3339 in UTC. Counts are since the start: rates and percentiles are made of the
//! difference of two answers. Members may be added; none is taken away or changes its meaning.
//!
//! An answer is made on a thread of its own, a few at a time, from what is shared without a lock or
//! with one that is held for a moment: those who serve callers never wait for it.

mod cache;
mod config;
mod forget;
mod providers;
mod refusals;
mod reload;
mod routes;
mod schema;
mod stats;
mod upstreams;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Response, StatusCode};
use serde::Serialize;

use crate::admin::problem::Problem;
use crate::admin::query::{Parameter, Query};
use crate::admin::{Shown, respond};
use crate::body::Body;
use crate::rejection::Rejection;
use crate::snapshot::Snapshot;

pub use cache::{Cache, UpstreamCache};
pub use config::Config;
pub(super) use forget::forget;
pub use forget::{Forgotten, ForgottenHereOnly, OtherReplicas};
pub use providers::{BreakerState, OpenBreaker, ProviderRow, Providers};
pub use refusals::LastRefusals;
pub use reload::{ReloadRefused, Reloaded};
pub use routes::{RouteRow, Routes};
pub use schema::schema;
pub use stats::{ProviderStats, RouteStats, Stats, UpstreamStats};
pub use upstreams::{Ejected, EndpointRow, Unhealthy, UpstreamRow, Upstreams};

/// A place below `/api/v1/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Routes,
    Upstreams,
    Providers,
    Cache,
    Config,
    Stats,
    Refusals,
    Schema,
    Reload,
}

impl Endpoint {
    pub(super) fn at(path: &str) -> Option<Self> {
        Some(match path.strip_prefix("/api/v1/")? {
            "routes" => Self::Routes,
            "upstreams" => Self::Upstreams,
            "providers" => Self::Providers,
            "cache" => Self::Cache,
            "config" => Self::Config,
            "stats" => Self::Stats,
            "refusals" => Self::Refusals,
            "schema" => Self::Schema,
            "reload" => Self::Reload,
            _ => return None,
        })
    }

    pub(super) fn methods(self) -> &'static [Method] {
        match self {
            Self::Reload => &[Method::POST],
            Self::Cache => &[Method::GET, Method::HEAD, Method::DELETE],
            Self::Routes
            | Self::Upstreams
            | Self::Providers
            | Self::Config
            | Self::Stats
            | Self::Refusals
            | Self::Schema => &[Method::GET, Method::HEAD],
        }
    }

    /// Whether a request by `method` changes something.
    pub(super) fn is_changed_by(self, method: &Method) -> bool {
        self == Self::Reload || *method == Method::DELETE
    }

    pub(super) fn parameters(self, method: &Method) -> &'static [Parameter] {
        match self {
            Self::Cache if self.is_changed_by(method) => &[
                Parameter::Upstream,
                Parameter::Tenant,
                Parameter::Oid,
                Parameter::Provider,
                Parameter::User,
            ],
            Self::Routes | Self::Upstreams | Self::Stats => {
                &[Parameter::Limit, Parameter::After, Parameter::Name]
            }
            Self::Refusals => &[Parameter::Since, Parameter::Names],
            Self::Providers | Self::Cache | Self::Config | Self::Schema | Self::Reload => &[],
        }
    }
}

/// The answer of `endpoint`, made beside the threads that serve.
pub(super) async fn answer(
    endpoint: Endpoint,
    query: Query,
    shown: &Arc<Shown>,
) -> Result<Response<Body>, Rejection> {
    let Some(gateway) = shown.gateway.upgrade() else { return Ok(shutting_down()) };
    let of = Arc::clone(shown);
    let made = shown.beside(move || make(endpoint, &query, &gateway.snapshot(), &of)).await?;
    Ok(respond(StatusCode::OK, "application/json", made?))
}

fn make(
    endpoint: Endpoint,
    query: &Query,
    snapshot: &Snapshot,
    shown: &Shown,
) -> Result<Vec<u8>, Rejection> {
    match endpoint {
        Endpoint::Routes => json(&Routes::of(snapshot, query)),
        Endpoint::Upstreams => json(&Upstreams::of(snapshot, query)),
        Endpoint::Providers => json(&Providers::of(snapshot, shown)),
        Endpoint::Cache => json(&Cache::of(snapshot, shown)),
        Endpoint::Config => json(&Config::of(snapshot, shown)),
        Endpoint::Stats => json(&Stats::of(snapshot, shown, query)),
        Endpoint::Refusals => json(&LastRefusals::of(shown, query)),
        Endpoint::Schema => json(schema().as_value()),
        Endpoint::Reload => Err(Rejection::internal("a reload is no answer to be made")),
    }
}

/// There is nothing to ask or to change any more.
fn shutting_down() -> Response<Body> {
    Problem {
        code: "shutting_down",
        title: "The gateway is shutting down",
        detail: "Nothing is changed any more; ask the one that comes after it.",
        retry_after: Duration::from_secs(1),
    }
    .answer()
}

fn json(answer: &impl Serialize) -> Result<Vec<u8>, Rejection> {
    serde_json::to_vec(answer)
        .map_err(|error| Rejection::internal(format!("an answer can't be written: {error}")))
}
