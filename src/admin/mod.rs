//! The admin port: its own listener, for probes, scrapers and operators.
//!
//! Health and metrics are open to whoever reaches the port; everything else is behind
//! `admin.token` ([`gate`]) and, where a browser might ask on behalf of somebody else's page,
//! behind [`browsers`]. What the API says is in [`api`]; nothing of it, nor of the metrics
//! ([`scrapes`]), is made on a thread that serves callers. Whether the gateway is ready is asked of [`Readiness`], which is told from
//! outside; what is done to the gateway as a whole, of [`Reloads`].
//!
//! A page for people is at `/` ([`page`]), open like health: it holds no data, and asks for the
//! token itself, because a browser sends none when it is pointed here. It calls the API with
//! `Authorization: Bearer`, and keeps the token no longer than its tab.

mod readiness;
mod gate;
mod browsers;
mod query;
pub mod api;
mod reloads;
mod scrapes;
mod problem;
mod page;

use std::sync::{Arc, Weak};

use http::header;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Limited};
use hyper::ext::Protocol;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::accept::answer::answer;
use crate::accept::{self, BoundListener, Drain, Server, Settings};
use crate::admin::api::Endpoint;
use crate::admin::gate::Gate;
use crate::admin::problem::Problem;
use crate::admin::query::Query;
use crate::admin::scrapes::Scraped;
use crate::body::{Body, BoxError};
use crate::exchange::Exchanger;
use crate::gateway::Gateway;
use crate::limits;
use crate::observe::exposition::Exposition;
use crate::observe::request_id::{RequestId, X_REQUEST_ID};
use crate::observe::timestamp::Timestamp;
use crate::observe::{Metrics, Observer};
use crate::rejection::{Code, Extra, Rejection};
use crate::route::Condemned;
use crate::secret::Secret;

pub use readiness::Readiness;
pub use reloads::{Reload, Reloads};
pub use scrapes::Scrapes;

/// What the admin port shows; shared by all that follow each other.
#[derive(Debug)]
pub struct Shown {
    /// Whether the gateway is ready.
    pub readiness: Arc<Readiness>,
    /// What was counted.
    pub metrics: Metrics,
    /// What serves callers.
    pub gateway: Weak<Gateway>,
    /// Outbound tokens, and calls to providers.
    pub exchanger: Arc<Exchanger>,
    /// The last refusals.
    pub observer: Arc<Observer>,
    /// Who can load another configuration.
    pub reloads: Arc<Reloads>,
    /// Since when there is something to show.
    pub started: Instant,
    /// The same by the clock on the wall.
    pub started_at: Timestamp,
    /// Answers of the API that are being made.
    pub making: Arc<Semaphore>,
    /// Renderings of the metrics.
    pub scrapes: Arc<Scrapes>,
}

impl Shown {
    /// Makes an answer beside the threads that serve callers, a few at a time: it may be long.
    ///
    /// # Errors
    ///
    /// It panicked.
    ///
    /// # Cancel safety
    ///
    /// What has begun is made to its end, and dropped.
    async fn beside<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Rejection> {
        let turn = Arc::clone(&self.making).acquire_owned().await;
        let task = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            make()
        });
        task.await.map_err(|error| {
            tracing::error!(%error, "an answer of the admin port was not made");
            Rejection::internal("an answer of the admin port was not made")
        })
    }
}

/// A semaphore for [`Shown::making`].
pub fn making() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(limits::MAX_ADMIN_ANSWERS))
}

/// The admin port on one address.
#[derive(Debug)]
struct Admin {
    gate: Gate,
    shown: Arc<Shown>,
}

/// Serves the admin port until `drain` begins: not the drain of the gateway, which the admin
/// port outlives to say that the gateway is not ready.
pub async fn serve(
    listener: BoundListener,
    token: Option<Secret>,
    shown: Arc<Shown>,
    drain: Drain,
) {
    let gate = Gate::new(token, listener.address().ip());
    let admin = Arc::new(Admin { gate, shown });
    // Its connections are no callers': they are counted where nobody looks.
    let server = Server::new(settings(), drain, Metrics::default());
    let handler = move |request: Request<hyper::body::Incoming>, _peer| {
        let admin = Arc::clone(&admin);
        async move { admin.answer(request).await }
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
    Page(page::File),
}

impl Admin {
    async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Error: Into<BoxError>>,
    {
        let (parts, body) = request.into_parts();
        if let Err(rejection) = check(&parts) {
            return guarded(refuse(&rejection));
        }
        let open = match parts.uri.path() {
            "/livez" => Open::Livez,
            "/readyz" => Open::Readyz,
            "/metrics" => Open::Metrics,
            path => {
                if let Some(file) = page::File::at(path) {
                    Open::Page(file)
                } else {
                    if let Some(refusal) = self.gate.refusal(&parts.headers) {
                        return guarded(refusal);
                    }
                    let answer = self.behind_the_gate(&parts, body).await;
                    return guarded(answer.unwrap_or_else(|rejection| refuse(&rejection)));
                }
            }
        };
        if let Err(rejection) = allow(&parts.method, &[Method::GET, Method::HEAD]) {
            return guarded(refuse(&rejection));
        }
        guarded(match open {
            Open::Livez => json_answer(StatusCode::OK, &json!({ "status": "alive" })),
            Open::Readyz => self.readyz(),
            Open::Metrics => self.metrics(&parts.headers).await,
            Open::Page(file) => file.answer(),
        })
    }

    async fn behind_the_gate<B>(&self, parts: &Parts, body: B) -> Result<Response<Body>, Rejection>
    where
        B: http_body::Body<Error: Into<BoxError>>,
    {
        if self.gate.is_open() {
            browsers::check_host(parts)?;
        }
        browsers::check_site(parts)?;
        let endpoint = Endpoint::at(parts.uri.path()).ok_or_else(|| {
            Rejection::new(Code::RouteNotFound, "The admin port has no such page.", "")
        })?;
        allow(&parts.method, endpoint.methods())?;
        let query = Query::parse(parts.uri.query(), endpoint.parameters(&parts.method))?;
        if endpoint.is_changed_by(&parts.method) {
            if !self.gate.asks_for_a_token() {
                browsers::check_form(&parts.headers)?;
            }
            let read = timeout(limits::ADMIN_BODY_TIMEOUT, read_nothing(body)).await;
            read.unwrap_or_else(|_| Err(too_slow()))?;
            if endpoint == Endpoint::Reload {
                return self.shown.reloads.reload(&self.shown).await;
            }
            return api::forget(&query, &self.shown).await;
        }
        api::answer(endpoint, query, &self.shown).await
    }

    fn readyz(&self) -> Response<Body> {
        let reasons = self.shown.readiness.reasons();
        if reasons.is_empty() {
            return json_answer(StatusCode::OK, &json!({ "status": "ready" }));
        }
        let body = json!({ "status": "not_ready", "reasons": reasons });
        json_answer(StatusCode::SERVICE_UNAVAILABLE, &body)
    }

    async fn metrics(&self, headers: &HeaderMap) -> Response<Body> {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let exposition = Exposition::negotiate(accept);
        match self.shown.scrapes.text(exposition, &self.shown.metrics).await {
            Ok(Scraped::Text(text)) => respond(StatusCode::OK, exposition.content_type(), text),
            Ok(Scraped::NoPlace) => Problem {
                code: "too_many_scrapes",
                title: "Too many scrapes at once",
                detail: "Too many wait for the metrics already; ask again later.",
                retry_after: limits::SCRAPE_RETRY_AFTER,
            }
            .answer(),
            Err(rejection) => refuse(&rejection),
        }
    }
}

/// What no page takes: a head that can be read in two ways, and tunnels.
fn check(parts: &Parts) -> Result<(), Rejection> {
    if parts.extensions.get::<Condemned>().is_some() {
        let detail = "The head of the request can be read in more than one way.";
        return Err(Rejection::new(Code::BadRequest, detail, "").closing());
    }
    // Over HTTP/2 one for a WebSocket comes as a GET, with its protocol beside it.
    if parts.method == Method::CONNECT || parts.extensions.get::<Protocol>().is_some() {
        return allow(&Method::CONNECT, &[Method::GET, Method::HEAD]);
    }
    Ok(())
}

fn too_slow() -> Rejection {
    Rejection::new(Code::RequestTimeout, "The body did not come in time; send none.", "").closing()
}

fn allow(method: &Method, allowed: &[Method]) -> Result<(), Rejection> {
    if allowed.contains(method) {
        return Ok(());
    }
    let names = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(" and ");
    let rejection = Rejection::new(Code::MethodNotAllowed, format!("Only {names} here."), "");
    Err(rejection.with(Extra::Allow(allowed.to_vec())))
}

/// No request has anything to say in its body; an empty JSON object is as good as none.
async fn read_nothing<B>(body: B) -> Result<(), Rejection>
where
    B: http_body::Body<Error: Into<BoxError>>,
{
    let read = Limited::new(body, limits::MAX_ADMIN_BODY_BYTES).collect().await;
    let read = read.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            return Rejection::new(Code::BodyTooLarge, "This takes no body.", "").closing();
        }
        Rejection::new(Code::BadRequest, "The body broke off.", "").closing()
    })?;
    match read.to_bytes().trim_ascii() {
        b"" | b"{}" => Ok(()),
        _ => Err(Rejection::new(Code::BadRequest, "This takes no body: send none.", "")),
    }
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    respond(status, "application/json", body.to_string())
}

fn respond(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<bytes::Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(X_REQUEST_ID, RequestId::new().header().clone());
    response
}

/// What holds for all answers: nobody keeps them, guesses at their type, frames them or reads them
/// from another site.
fn guarded(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    for (name, value) in GUARDS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

const GUARDS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

fn refuse(rejection: &Rejection) -> Response<Body> {
    // The connection goes on, or is closed by a field that HTTP/2 leaves out.
    answer(rejection, Version::HTTP_11)
}

#[cfg(test)]
mod tests;
