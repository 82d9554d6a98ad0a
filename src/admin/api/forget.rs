//! `DELETE /api/v1/cache`: forgets outbound tokens, on all replicas that share them.

use std::sync::Arc;

use http::header::RETRY_AFTER;
use http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::query::Query;
use crate::admin::{Shown, respond};
use crate::authn::{Issuing, is_guid};
use crate::body::Body;
use crate::exchange::{Forgetting, Forgot, Others, Whose};
use crate::limits;
use crate::observe::request_id::{RequestId, X_REQUEST_ID};
use crate::rejection::{Code, Rejection};
use crate::snapshot::Snapshot;

use super::{json, shutting_down};

/// The answer of `DELETE /api/v1/cache`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Forgotten {
    /// How many tokens were dropped from the memory of the replica that was asked.
    pub dropped: usize,
    /// Whether the other replicas hear of it.
    pub replicas: OtherReplicas,
    /// What that means.
    pub detail: &'static str,
}

/// Whether other replicas hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtherReplicas {
    /// They do, at once or when they reach the shared cache again.
    Told,
    /// There is no shared cache (`cache.redis`): each has to be asked itself.
    ShareNothing,
}

/// The answer with status 503 when the other replicas could not be told: a problem document
/// (RFC 9457). In the memory of the replica that was asked all is forgotten.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ForgottenHereOnly {
    /// `urn:obo-gateway:problem:replicas_not_told`.
    pub r#type: &'static str,
    /// What is wrong, in short.
    pub title: &'static str,
    /// 503.
    pub status: u16,
    /// What to do.
    pub detail: &'static str,
    /// `replicas_not_told`.
    pub code: &'static str,
    /// The `x-request-id` of the answer.
    pub request_id: String,
    /// How many tokens were dropped from the memory of the replica that was asked.
    pub dropped: usize,
}

const TOLD: &str = "The other replicas are told: each drops what it holds in memory at once, or when it reaches the shared cache again; and none takes from the shared cache what was asked for before.";

const SHARE_NOTHING: &str =
    "Without `cache.redis` replicas know nothing of each other: ask the admin port of each.";

const NOT_TOLD: &str = "The shared cache did not take it, so the other replicas may go on with what they hold. Ask again when `shared_cache_up` is 1 in the metrics; until then ask the admin port of each replica.";

/// Forgets what `query` names.
///
/// # Cancel safety
///
/// A forgetting that was asked for is done.
pub(in crate::admin) async fn forget(
    query: &Query,
    shown: &Arc<Shown>,
) -> Result<Response<Body>, Rejection> {
    let Some(gateway) = shown.gateway.upgrade() else { return Ok(shutting_down()) };
    let forgetting = forgetting(query, &gateway.snapshot())?;
    let Forgot { dropped, others } = shown.exchanger.forget_tokens(&forgetting).await;
    let what = said(&forgetting);
    let (replicas, detail) = match others {
        Others::Told => {
            tracing::info!(
                "the admin API: outbound tokens {what} are forgotten: {dropped} here, and the other replicas are told"
            );
            (OtherReplicas::Told, TOLD)
        }
        Others::ShareNothing => {
            tracing::info!("the admin API: outbound tokens {what} are forgotten: {dropped} here");
            (OtherReplicas::ShareNothing, SHARE_NOTHING)
        }
        Others::NotTold(failure) => {
            tracing::warn!(
                "the admin API: outbound tokens {what} are forgotten here ({dropped}), and the other replicas were not told; ask again when the shared cache answers: {failure}"
            );
            return not_told(dropped);
        }
    };
    let answer = json(&Forgotten { dropped, replicas, detail })?;
    Ok(respond(StatusCode::OK, "application/json", answer))
}

/// What `query` names, if there can be tokens of it.
fn forgetting(query: &Query, snapshot: &Snapshot) -> Result<Forgetting, Rejection> {
    let Query { upstream, tenant, oid, provider, user, .. } = query;
    for (name, value) in [
        ("upstream", upstream),
        ("tenant", tenant),
        ("oid", oid),
        ("provider", provider),
        ("user", user),
    ] {
        if value.as_ref().is_some_and(String::is_empty) {
            return Err(bad(format!("`{name}` is empty: name one, or leave it out.")));
        }
    }
    if let Some(name) = upstream
        && !snapshot.upstreams.iter().any(|upstream| **upstream.name() == **name)
    {
        return Err(bad(
            "The routes file has no upstream of that name; `/api/v1/upstreams` lists them.",
        ));
    }
    let whose = match (tenant, oid, provider, user) {
        (None, None, None, None) => None,
        (Some(tenant), Some(oid), None, None) => Some(of_tenant(tenant, oid)?),
        (None, None, Some(provider), Some(user)) => Some(of_provider(provider, user, snapshot)?),
        _ => {
            return Err(bad(
                "A user is named by `tenant` and `oid`, or where the provider has no tenants, by `provider` and `user`; both together, and no others.",
            ));
        }
    };
    Ok(Forgetting { upstream: upstream.clone(), whose })
}

fn of_tenant(tenant: &str, oid: &str) -> Result<Whose, Rejection> {
    if !is_guid(tenant) {
        return Err(bad(
            "`tenant` is the id of a tenant, a GUID, as the access log has it; a domain names it for people only.",
        ));
    }
    Ok(Whose::OfTenant { tenant: tenant.to_owned(), oid: oid.to_owned() })
}

fn of_provider(name: &str, user: &str, snapshot: &Snapshot) -> Result<Whose, Rejection> {
    let provider = snapshot.providers.iter().find(|provider| **provider.name() == *name);
    let Some(provider) = provider else {
        return Err(bad(
            "The routes file has no provider of that name; `/api/v1/providers` lists them.",
        ));
    };
    match provider.settings().kind {
        Issuing::Oidc { .. } => {
            Ok(Whose::OfProvider { provider: name.to_owned(), user: user.to_owned() })
        }
        Issuing::Entra { .. } => Err(bad(
            "That provider has tenants: name the user by `tenant` and `oid`, as the access log has them.",
        )),
    }
}

/// For the log: names are of whoever asked, and may hold anything.
fn said(forgetting: &Forgetting) -> String {
    let at = match &forgetting.upstream {
        Some(upstream) => format!("for upstream {upstream:?}"),
        None => "for all upstreams".to_owned(),
    };
    match &forgetting.whose {
        Some(Whose::OfTenant { tenant, oid }) => {
            format!("of user {oid:?} of tenant {tenant:?} {at}")
        }
        Some(Whose::OfProvider { provider, user }) => {
            format!("of user {user:?} of provider {provider:?} {at}")
        }
        None => format!("of everybody {at}"),
    }
}

fn not_told(dropped: usize) -> Result<Response<Body>, Rejection> {
    let id = RequestId::new();
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let problem = ForgottenHereOnly {
        r#type: "urn:obo-gateway:problem:replicas_not_told",
        title: "The other replicas were not told",
        status: status.as_u16(),
        detail: NOT_TOLD,
        code: "replicas_not_told",
        request_id: id.as_str().to_owned(),
        dropped,
    };
    let mut response = respond(status, "application/problem+json", json(&problem)?);
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, id.header().clone());
    headers.insert(RETRY_AFTER, limits::SHARED_STORE_PAUSE_MAX.as_secs().into());
    Ok(response)
}

fn bad(detail: impl Into<String>) -> Rejection {
    Rejection::new(Code::BadRequest, detail.into(), "")
}
