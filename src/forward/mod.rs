//! To the upstream and back: [`prepare`] makes the request that the upstream gets, [`send`]
//! sends it and hands on the answer. Whether it may be sent was decided before: it takes a
//! [`Permit`](crate::authz::Permit) to get here.

mod challenged;
mod claims;
mod client;
mod first_frame;
pub mod headers;
mod replay;
mod request;
mod response;
mod token_end;
pub mod upgrade;
mod upload;
mod upstream;

pub use challenged::Challenged;
pub use claims::ForwardedClaim;
pub use request::{AtTokenEnd, Forwarding, Inbound, UpstreamRequest, prepare};
pub use upstream::{
    HostHeader, Patience, Protocol, Timeouts, Upstream, UpstreamError, UpstreamSettings,
};

use std::error::Error as _;
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::body::Body;
use crate::exchange::challenge;
use crate::rejection::{Code, Rejection};
use client::{ConnectError, Lease, Wanted};
use request::{Head, KeptBody};
use response::BadAnswer;
use upgrade::{Opened, UpgradeFault};
use upload::Progress;

/// What came of a request.
#[derive(Debug)]
pub enum Answer<'a> {
    /// What the caller gets.
    Response(Response<Body>),
    /// The upstream wants a token with more claims.
    Challenged(Box<Challenged<'a>>),
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
pub async fn send(request: UpstreamRequest<'_>) -> Result<Answer<'_>, Rejection> {
    let UpstreamRequest { plan, head, body, upload, exchanged, token_end, mut upgrade } = request;
    let upstream = &plan.upstream;
    let refuse = |error: SendError| error.rejection(upstream, upload.as_deref());

    let keep = if exchanged.is_some() { Keep::Always } else { Keep::ForStale };
    let sent = match upgrade.take() {
        None => exchange(plan, head, keep, body, upload.as_deref()).await.map_err(refuse)?,
        // Rare: its state is not to be part of every request.
        Some(asked) => {
            let opened = upgrade::open(plan, head, keep, asked, token_end.as_ref());
            match Box::pin(opened).await.map_err(refuse)? {
                Opened::Switched(response) => return Ok(Answer::Response(response)),
                Opened::Answered(sent, asked) => {
                    upgrade = Some(asked);
                    sent
                }
            }
        }
    };
    let Sent { response, lease, head } = sent;
    let patience = upstream.settings.timeouts.stream;
    let response = response::receive(response, lease, upload.clone(), patience, token_end.as_ref());
    let mut response = response.map_err(|error| refuse(SendError::Answer(error)))?;
    if let Some(exchanged) = exchanged {
        if response.status() == StatusCode::UNAUTHORIZED {
            if let Some(claims) = challenge::claims_wanted(response.headers()) {
                // The answer is held meanwhile: with it the connection would go that the rest
                // of the body takes.
                let challenged =
                    Box::pin(Challenged::new(plan, claims, head, exchanged, (token_end, upgrade)))
                        .await;
                return Ok(Answer::Challenged(Box::new(challenged)));
            }
            // It speaks of the gateway's token; a caller would take it for the one it sent.
            response.headers_mut().remove(WWW_AUTHENTICATE);
        }
        if let KeptBody::Replay(replay) = exchanged.body {
            replay.lose();
        }
    }
    plan.response_headers.apply(response.headers_mut());
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

/// An answer, the connection it comes over, and the head it answers where that was kept.
struct Sent {
    response: Response<Incoming>,
    lease: Lease,
    head: Option<Head>,
}

/// One request, and one more on a new connection where the first can't have been acted on.
async fn exchange(
    plan: &Forwarding,
    head: Head,
    keep: Keep,
    body: Body,
    upload: Option<&Progress>,
) -> Result<Sent, SendError> {
    let patience = plan.response_timeout.with(head.content_type());
    let mut lease = client::lease(&plan.upstream, Wanted::Any).await?;
    // A kept connection may have been closed by the upstream just now.
    let spare = (lease.reused || keep == Keep::Always).then(|| head.clone());
    let request = encode(&lease, head, body)?;
    let answer = within(patience, upload, pin!(lease.send(request))).await?;
    let mut failed = match answer {
        Ok(response) => return Ok(Sent { response, lease, head: spare }),
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
        (Some(_) | None, _) => return Err(SendError::Http(failed.into_error())),
    };
    tracing::debug!(upstream = %plan.upstream.name(), "a kept connection was stale; sending on a new one");
    // Rare: its state is not to be part of every request.
    let wanted = lease.newer();
    drop(lease);
    Box::pin(again(plan, wanted, head, keep, body, upload, patience)).await
}

/// The second and last time, on a new connection.
async fn again(
    plan: &Forwarding,
    wanted: Wanted,
    head: Head,
    keep: Keep,
    body: Body,
    upload: Option<&Progress>,
    patience: Option<Duration>,
) -> Result<Sent, SendError> {
    let mut lease = client::lease(&plan.upstream, wanted).await?;
    let spare = (keep == Keep::Always).then(|| head.clone());
    let request = encode(&lease, head, body)?;
    let answer = within(patience, upload, pin!(lease.send(request))).await?;
    let response = answer.map_err(|failed| SendError::Http(failed.into_error()))?;
    Ok(Sent { response, lease, head: spare })
}

fn encode(lease: &Lease, head: Head, body: Body) -> Result<Request<Body>, SendError> {
    if lease.is_http2() {
        head.into_http2(body).map_err(SendError::Encode)
    } else {
        Ok(head.into_http1(body))
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
    Connect(#[from] ConnectError),
    #[error("the request can't be encoded")]
    Encode(#[source] http::Error),
    #[error("the connection failed before an answer came")]
    Http(#[source] hyper::Error),
    #[error("the answer can't be passed on")]
    Answer(#[source] BadAnswer),
    #[error("there is no upgrade")]
    Upgrade(#[from] UpgradeFault),
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
}

impl SendError {
    fn rejection(self, upstream: &Upstream, upload: Option<&Progress>) -> Rejection {
        // The upstream only sees that the request was aborted; the cause is the caller's body.
        if let Some(fault) = upload.and_then(Progress::fault) {
            return fault.rejection();
        }
        let (code, detail) = match self {
            Self::Timeout(_) | Self::Connect(ConnectError::Timeout(_)) => {
                (Code::UpstreamTimeout, "The service behind this route did not answer in time.")
            }
            Self::Connect(_) | Self::Http(_) | Self::Answer(_) | Self::Upgrade(_) => {
                (Code::UpstreamUnreachable, "The service behind this route can't be reached.")
            }
            Self::Encode(_) => (Code::BadRequest, "The request can't be forwarded."),
        };
        let reason = format!("upstream `{}` at {}", upstream.name(), upstream.endpoint());
        Rejection::new(code, detail, reason).caused_by(self)
    }
}
