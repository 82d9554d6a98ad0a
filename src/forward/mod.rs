//! To the upstream and back: [`prepare`] makes the request that the upstream gets, [`send`]
//! sends it and hands on the answer. Whether it may be sent was decided before: it takes a
//! [`Permit`](crate::authz::Permit) to get here.

mod balance;
mod challenged;
mod claims;
mod client;
mod dial;
mod endpoint;
mod expect;
pub mod headers;
mod interim;
pub mod links;
mod own_certificate;
mod replay;
mod request;
mod response;
mod upload;
mod upstream;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod upstream_tls;

pub use challenged::Challenged;
pub use claims::ForwardedClaim;
pub use own_certificate::{OwnCertificate, OwnCertificateError};
pub use request::{Forwarding, Inbound, UpstreamRequest, prepare};
pub use upstream::{
    HostHeader, HostPort, Patience, Protocol, Timeouts, Upstream, UpstreamError, UpstreamSettings,
};

use std::error::Error as _;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::body::Body;
use crate::exchange::challenge;
use crate::rejection::{Code, Extra, Rejection};
use balance::{Chosen, NoEndpoint};
use client::{ConnectError, Lease, Wanted};
use endpoint::Endpoint;
use interim::Trailers;
use request::{Head, KeptBody};
use response::BadAnswer;
use upload::Progress;

/// What came of a request.
#[derive(Debug)]
pub enum Answer<'a> {
    /// What the caller gets.
    Response(Response<Body>),
    /// The upstream wants a token with more claims.
    Challenged(Box<Challenged<'a>>),
}

/// What the log has to say about where a request went, kept up to date on the way: whoever
/// drops the future wants to know, too.
#[derive(Debug)]
pub struct Trail<'r> {
    /// The endpoint that was tried last, as the file names it: `host[:port]`.
    pub endpoint: &'r mut Option<Arc<str>>,
}

/// Sends a request and returns the answer as soon as its head is there.
///
/// # Errors
///
/// The upstream can't be reached or does not answer (502, 504), or the caller's body broke on
/// the way (400, 408, 413).
///
/// # Cancel safety
///
/// Dropping the future closes the connection or resets the stream: a caller who goes away
/// cancels the upstream's work.
pub async fn send<'a>(
    request: UpstreamRequest<'a>,
    mut trail: Trail<'_>,
) -> Result<Answer<'a>, Rejection> {
    let UpstreamRequest { plan, head, body, upload, exchanged, links } = request;
    let upstream = &plan.upstream;

    let keep = if exchanged.is_some() { Keep::Always } else { Keep::ForStale };
    let listener = head.listener.clone();
    let sent = exchange(plan, head, keep, body, upload.as_deref(), &mut trail);
    let sent = interim::passing_on(listener.clone(), &plan.response_headers, sent).await;
    let sent = sent.map_err(|error| error.rejection(upstream, &trail, upload.as_deref()))?;
    let Sent { response, lease, endpoint, head } = sent;
    let patience = upstream.settings.timeouts.stream;
    let trailers = listener.as_ref().map_or(Trailers::AsTheyCome, |listener| listener.trailers());
    let rules = &plan.response_headers;
    let response =
        response::receive(response, lease, endpoint, upload.clone(), trailers, rules, patience);
    let mut response = response
        .map_err(|error| SendError::Answer(error).rejection(upstream, &trail, upload.as_deref()))?;
    if let Some(exchanged) = exchanged {
        if response.status() == StatusCode::UNAUTHORIZED {
            if let Some(claims) = challenge::claims_wanted(response.headers()) {
                let challenged = Challenged::new(plan, claims, head, exchanged, links, response);
                return Ok(Answer::Challenged(Box::new(Box::pin(challenged).await)));
            }
            // It speaks of the gateway's token; a caller would take it for the one it sent.
            response.headers_mut().remove(WWW_AUTHENTICATE);
        }
        if let KeptBody::Replay(replay) = exchanged.body {
            replay.lose();
        }
    }
    if let Some(links) = links {
        response = links.relink_answer(response);
    }
    rules.apply(response.headers_mut());
    if let Some(listener) = listener {
        listener.answered(response.headers_mut());
    }
    Ok(Answer::Response(response))
}

/// Which copy of a head is made before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// One for a connection that may be stale.
    ForStale,
    /// One for all cases: the request may be sent again with another token.
    Always,
}

/// An answer, the connection it comes over and where from, and the head it answers where that
/// was kept.
struct Sent {
    response: Response<Incoming>,
    lease: Lease,
    endpoint: Chosen,
    head: Option<Head>,
}

/// One request, and one more on a new connection where the first can't have been acted on.
async fn exchange(
    plan: &Forwarding,
    head: Head,
    keep: Keep,
    body: Body,
    upload: Option<&Progress>,
    trail: &mut Trail<'_>,
) -> Result<Sent, SendError> {
    let patience = plan.response_timeout.with(head.content_type());
    let (endpoint, mut lease) = connected(plan, trail).await?;
    // A kept connection may have been closed by the upstream just now.
    let spare = (lease.reused || keep == Keep::Always).then(|| head.clone());
    let request = encode(&endpoint, &lease, head, body)?;
    let answer = within(patience, upload, pin!(lease.send(request))).await;
    let mut failed = match tell(&endpoint, upload, answer)? {
        Ok(response) => return Ok(Sent { response, lease, endpoint, head: spare }),
        Err(failed) => failed,
    };
    let unsent = failed.take_message().map(Request::into_body);
    // On a new connection it is no stale one that failed.
    let spare = spare.filter(|_| lease.reused);
    let (head, body) = match (spare, unsent) {
        // Nothing of it was sent, so any request may go again.
        (Some(head), Some(body)) => (head, body),
        // It may have been acted on: only what may happen twice goes again.
        (Some(head), None)
            if upload.is_none() && head.is_idempotent() && is_lost(failed.error()) =>
        {
            (head, Body::empty())
        }
        (Some(_) | None, _) => {
            if upload.and_then(Progress::fault).is_none() {
                endpoint.broke();
            }
            return Err(SendError::Http(failed.into_error()));
        }
    };
    tracing::debug!(upstream = %plan.upstream.name(), "a kept connection was stale; sending on a new one");
    // Rare: its state is not to be part of every request.
    let wanted = lease.newer();
    drop(lease);
    Box::pin(again(endpoint, wanted, head, keep, body, upload, patience)).await
}

/// An endpoint that can be reached, and a connection to it.
async fn connected(plan: &Forwarding, trail: &mut Trail<'_>) -> Result<(Chosen, Lease), SendError> {
    let endpoints = &plan.upstream.endpoints;
    let mut tried = Vec::new();
    let mut failed = None;
    loop {
        let endpoint = match (endpoints.choose(&tried).await, failed) {
            (Ok(endpoint), _) => endpoint,
            // Why the last one could not be reached says more than that there is no other.
            (Err(_), Some(failed)) => return Err(SendError::Connect(failed)),
            (Err(none), None) => return Err(SendError::Nowhere(none)),
        };
        *trail.endpoint = Some(Arc::clone(&endpoint.origin.label));
        match client::lease(&endpoint, Wanted::Any).await {
            Ok(lease) => return Ok((endpoint, lease)),
            Err(error) => {
                endpoint.connect_failed();
                tried.push(Arc::clone(endpoint.endpoint()));
                failed = Some(error);
            }
        }
    }
}

/// The second and last time, on a new connection.
async fn again(
    endpoint: Chosen,
    wanted: Wanted,
    head: Head,
    keep: Keep,
    body: Body,
    upload: Option<&Progress>,
    patience: Option<Duration>,
) -> Result<Sent, SendError> {
    let lease = client::lease(&endpoint, wanted).await;
    let mut lease = lease.inspect_err(|_| endpoint.connect_failed()).map_err(SendError::Connect)?;
    let spare = (keep == Keep::Always).then(|| head.clone());
    let request = encode(&endpoint, &lease, head, body)?;
    let answer = within(patience, upload, pin!(lease.send(request))).await;
    let response = tell(&endpoint, upload, answer)?;
    let response = response.map_err(|failed| {
        if upload.and_then(Progress::fault).is_none() {
            endpoint.broke();
        }
        SendError::Http(failed.into_error())
    })?;
    Ok(Sent { response, lease, endpoint, head: spare })
}

/// Tells an endpoint what came of a request, where that is known: it answered, or kept silent.
/// A lost connection is told of where it is known that it was no stale one.
fn tell<E>(
    endpoint: &Chosen,
    upload: Option<&Progress>,
    answer: Result<Result<Response<Incoming>, E>, SendError>,
) -> Result<Result<Response<Incoming>, E>, SendError> {
    match &answer {
        Ok(Ok(response)) => endpoint.answered(response.status()),
        // What the caller's own body broke is not the endpoint's.
        Err(_) if upload.and_then(Progress::fault).is_none() => endpoint.broke(),
        Ok(Err(_)) | Err(_) => {}
    }
    answer
}

fn encode(
    endpoint: &Endpoint,
    lease: &Lease,
    head: Head,
    body: Body,
) -> Result<Request<Body>, SendError> {
    if lease.is_http2() {
        head.into_http2(endpoint, body).map_err(SendError::Encode)
    } else {
        Ok(head.into_http1(endpoint, body))
    }
}

/// Whether the connection went away before anything of an answer came.
fn is_lost(error: &hyper::Error) -> bool {
    let broken = error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || broken
}

/// Waits for an answer for `limit`. While the caller's body is on its way the clock starts anew
/// with each frame: a long upload is not a slow upstream.
async fn within<T>(
    limit: Option<Duration>,
    upload: Option<&Progress>,
    mut answer: Pin<&mut impl Future<Output = T>>,
) -> Result<T, SendError> {
    let Some(limit) = limit else { return Ok(answer.await) };
    let mut deadline = Instant::now() + limit;
    loop {
        match timeout_at(deadline, &mut answer).await {
            Ok(answer) => return Ok(answer),
            Err(_elapsed) => {
                let later = upload.map(|upload| upload.moved_at() + limit);
                deadline =
                    later.filter(|later| *later > deadline).ok_or(SendError::Timeout(limit))?;
            }
        }
    }
}

/// Why there is no answer that could be handed on.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Nowhere(NoEndpoint),
    #[error(transparent)]
    Connect(ConnectError),
    #[error("the request can't be encoded")]
    Encode(#[source] http::Error),
    #[error("the connection failed before an answer came")]
    Http(#[source] hyper::Error),
    #[error("the answer can't be passed on")]
    Answer(#[source] BadAnswer),
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
}

impl SendError {
    fn rejection(
        self,
        upstream: &Upstream,
        trail: &Trail<'_>,
        upload: Option<&Progress>,
    ) -> Rejection {
        // The upstream only sees that the request was aborted; the cause is the caller's body.
        if let Some(fault) = upload.and_then(Progress::fault) {
            return fault.rejection();
        }
        let retry_after = match &self {
            Self::Nowhere(NoEndpoint::Down(outage)) => Extra::RetryAfter(outage.retry_after),
            Self::Nowhere(_)
            | Self::Connect(_)
            | Self::Encode(_)
            | Self::Http(_)
            | Self::Answer(_)
            | Self::Timeout(_) => Extra::None,
        };
        let (code, detail) = match self {
            Self::Nowhere(NoEndpoint::Down(_)) => (
                Code::UpstreamOverloaded,
                "The service behind this route is down. Try again later.",
            ),
            Self::Timeout(_)
            | Self::Connect(ConnectError::Timeout(_))
            | Self::Nowhere(NoEndpoint::Slow { .. }) => {
                (Code::UpstreamTimeout, "The service behind this route did not answer in time.")
            }
            Self::Nowhere(_) | Self::Connect(_) | Self::Http(_) | Self::Answer(_) => {
                (Code::UpstreamUnreachable, "The service behind this route can't be reached.")
            }
            Self::Encode(_) => (Code::BadRequest, "The request can't be forwarded."),
        };
        let mut reason = match &*trail.endpoint {
            Some(endpoint) => format!("upstream `{}` at {endpoint}", upstream.name()),
            None => format!("upstream `{}`", upstream.name()),
        };
        if let Some(advice) = upstream.tls.as_ref().and_then(|tls| tls.advice(&self)) {
            reason = format!("{reason} ({advice})");
        }
        Rejection::new(code, detail, reason).with(retry_after).caused_by(self)
    }
}
