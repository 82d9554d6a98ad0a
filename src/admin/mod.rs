//! The admin port: its own listener, for probes, scrapers and operators.
//!
//! Health and metrics are open; everything else asks for `admin.token`. Whether the gateway is
//! ready is asked of [`Readiness`], which is told from outside.

mod readiness;
mod gate;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use serde_json::json;

use crate::accept::answer::answer;
use crate::accept::{self, BoundListener, Drain, Server, Settings};
use crate::admin::gate::Gate;
use crate::body::Body;
use crate::limits;
use crate::observe::Metrics;
use crate::observe::exposition::Exposition;
use crate::observe::request_id::{RequestId, X_REQUEST_ID};
use crate::rejection::{Code, Rejection};
use crate::secret::Secret;

pub use readiness::Readiness;

/// What the admin port shows.
#[derive(Debug)]
pub struct Admin {
    gate: Gate,
    readiness: Arc<Readiness>,
    metrics: Metrics,
}

/// Serves the admin port until `drain` begins: not the drain of the gateway, which the admin
/// port outlives to say that the gateway is not ready.
pub async fn serve(
    listener: BoundListener,
    token: Option<Secret>,
    readiness: Arc<Readiness>,
    metrics: Metrics,
    drain: Drain,
) {
    let gate = Gate::new(token, listener.address().ip());
    let admin = Arc::new(Admin { gate, readiness, metrics });
    // Its connections are no callers': they are counted where nobody looks.
    let server = Server::new(settings(), drain, Metrics::default());
    let handler = move |request: Request<hyper::body::Incoming>, _peer| {
        let admin = Arc::clone(&admin);
        async move { admin.answer(request.method(), request.uri().path(), request.headers()) }
    };
    accept::serve(Arc::new(server), listener, None, handler).await;
}

fn settings() -> Settings {
    Settings {
        header_timeout: limits::ADMIN_HEADER_TIMEOUT,
        idle_timeout: limits::ADMIN_IDLE_TIMEOUT,
        body_idle_timeout: limits::ADMIN_HEADER_TIMEOUT,
        max_header_bytes: limits::MAX_ADMIN_HEADER_BYTES,
        max_concurrent_streams: 16,
        max_connections: limits::MAX_ADMIN_CONNECTIONS,
    }
}

/// What anybody may ask for.
#[derive(Clone, Copy)]
enum Open {
    Livez,
    Readyz,
    Metrics,
}

impl Admin {
    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<Body> {
        let open = match path {
            "/livez" => Open::Livez,
            "/readyz" => Open::Readyz,
            "/metrics" => Open::Metrics,
            _ => {
                return self.gate.refusal(headers).unwrap_or_else(|| {
                    refuse(Code::RouteNotFound, "The admin port has no such page.")
                });
            }
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = refuse(Code::MethodNotAllowed, "Only GET and HEAD are allowed.");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match open {
            Open::Livez => json_answer(StatusCode::OK, &json!({ "status": "alive" })),
            Open::Readyz => self.readyz(),
            Open::Metrics => self.metrics(headers),
        }
    }

    fn readyz(&self) -> Response<Body> {
        let reasons = self.readiness.reasons();
        if reasons.is_empty() {
            return json_answer(StatusCode::OK, &json!({ "status": "ready" }));
        }
        let body = json!({ "status": "not_ready", "reasons": reasons });
        json_answer(StatusCode::SERVICE_UNAVAILABLE, &body)
    }

    fn metrics(&self, headers: &HeaderMap) -> Response<Body> {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let exposition = Exposition::negotiate(accept);
        let body = exposition.encode(&self.metrics);
        respond(StatusCode::OK, exposition.content_type(), body)
    }
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    respond(status, "application/json", body.to_string())
}

fn respond(status: StatusCode, media_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, RequestId::new().header().clone());
    response
}

fn refuse(code: Code, detail: &'static str) -> Response<Body> {
    // The connection goes on, so the version makes no difference.
    answer(&Rejection::new(code, detail, ""), Version::HTTP_11)
}

#[cfg(test)]
mod tests;
