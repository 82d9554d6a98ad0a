//! To the upstream and back: [`prepare`] makes the request that the upstream gets, [`send`]
//! sends it and hands on the answer. Whether it may be sent was decided before: it takes a
//! [`Permit`](crate::authz::Permit) to get here.

mod alarm;
mod alone;
mod attempt;
mod balance;
mod challenged;
mod claims;
mod client;
mod dial;
mod endpoint;
mod exclusive;
mod expect;
mod failed_try;
mod first_frame;
mod foreseen;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod head;
pub mod headers;
mod health;
mod interim;
mod limit;
mod lease;
pub mod links;
mod moment;
mod moving;
mod names;
mod outlier;
mod overheard;
mod own_certificate;
mod own_task;
mod pool;
mod replay;
mod request;
mod response;
mod retry;
mod send_error;
mod shared;
mod socket;
mod token_end;
mod trial;
pub mod upgrade;
mod upload;
mod upstream;
mod upstream_tls;

pub use balance::LoadBalancing;
pub use challenged::Challenged;
pub use claims::ForwardedClaim;
pub use endpoint::{Ejected, EndpointStatus};
pub use foreseen::{Asking, Foreseen, foresee};
pub use health::{HealthCheck, Unhealthy};
pub use names::{Addresses, Resolver, SharedResolver, SystemResolver};
pub use outlier::OutlierEjection;
pub use own_certificate::{OwnCertificate, OwnCertificateError};
pub use request::{AtTokenEnd, Forwarding, Inbound, UpstreamRequest, prepare};
pub use retry::{RetryOn, RetryPolicy};
pub use trial::{Connected, Handshake, NameTried, Refused};
pub use upstream::{
    HostHeader, HostPort, Patience, Protocol, Timeouts, Upstream, UpstreamError, UpstreamSettings,
};

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use http::{Response, StatusCode};
use http_body::Body as _;

use crate::authn::TokenEnd;
use crate::body::Body;
use crate::exchange::challenge;
use crate::observe::access_log::ByteCounter;
use crate::observe::handles::UpstreamMetrics;
use crate::rejection::Rejection;
use attempt::{Attempt, Keep, Sent};
use endpoint::Endpoint;
use head::Spare;
use interim::{PassingOn, Trailers};
use response::BadAnswer;
use send_error::SendError;
use token_end::StreamEnd;
use upgrade::Opened;

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
    /// Why it was not tried again, where the budget says so.
    pub reason: &'r mut Option<Cow<'static, str>>,
    /// What counts the request's body, once anything does: there, a stream that was ended says why.
    pub bytes_in: &'r mut Option<ByteCounter>,
    /// Where retries are counted.
    pub metrics: Option<&'r UpstreamMetrics>,
}

impl Trail<'_> {
    fn at(&mut self, endpoint: &Endpoint) {
        *self.endpoint = Some(Arc::clone(&endpoint.origin.label));
    }

    /// What a stream ends with that `token` goes with.
    fn stream_end(&mut self, token: &TokenEnd) -> StreamEnd {
        let note = self.bytes_in.get_or_insert_default().clone();
        StreamEnd { token: token.clone(), note }
    }

    fn retried(&self) {
        if let Some(metrics) = self.metrics {
            metrics.retried();
        }
    }
}

/// Sends a request and returns the answer as soon as its head is there.
///
/// # Errors
///
/// The upstream can't be reached, does not answer or has no connection to spare (502, 504, 503),
/// or the caller's body broke on the way (400, 408, 413).
///
/// # Cancel safety
///
/// Dropping the future closes the connection or resets the stream: a caller who goes away
/// cancels the upstream's work.
pub fn send<'a>(
    request: UpstreamRequest<'a>,
    mut trail: Trail<'_>,
) -> impl Future<Output = Result<Answer<'a>, Rejection>> {
    let UpstreamRequest { plan, head, body, upload, exchanged, links, token_end, mut upgrade } =
        request;
    async move {
        let upstream = &plan.upstream;

        let keep = if exchanged.is_some() { Keep::Always } else { Keep::ForRetry };
        let listener = head.listener.clone();
        // In a block: what it leaves behind has no place in what waits further below.
        let (mut response, head) = {
            let sent = match upgrade.take() {
                None => {
                    let sent = Attempt::new(plan, keep, upload.as_deref(), &mut trail);
                    let sent = sent.send(head, body);
                    PassingOn::new(listener.as_deref(), &plan.response_headers, sent).await
                }
                // Rare: its state is not to be part of every request.
                Some(asked) => {
                    let end = token_end.as_ref().map(|token| trail.stream_end(token));
                    let opened = upgrade::open(plan, head, keep, asked, end, &mut trail);
                    match Box::pin(opened).await {
                        Ok(Opened::Switched(response)) => return Ok(Answer::Response(response)),
                        Ok(Opened::Answered(sent, asked)) => {
                            upgrade = Some(asked);
                            Ok(*sent)
                        }
                        Err(error) => Err(error),
                    }
                }
            };
            let rejection = |error: SendError, trail: &Trail<'_>| {
                error.rejection(upstream, trail, upload.as_deref())
            };
            let sent = sent.map_err(|error| rejection(error, &trail))?;
            let Sent { response, lease, endpoint, head } = sent;
            let trailers =
                listener.as_ref().map_or(Trailers::AsTheyCome, |listener| listener.trailers());
            // An answer that says how long it is has begun to be given, and is finished.
            let is_stream = response.body().size_hint().exact().is_none();
            let end = token_end.as_ref().filter(|_| is_stream).map(|token| trail.stream_end(token));
            let whose = upload.clone();
            let response = response::receive(response, lease, endpoint, whose, trailers, plan, end);
            (response.map_err(|error| rejection(SendError::Answer(error), &trail))?, head)
        };
        if let Some(exchanged) = exchanged
            && response.status() == StatusCode::UNAUTHORIZED
        {
            if let Some(claims) = challenge::claims_wanted(response.headers()) {
                let rest = (token_end, upgrade);
                let head = head.map(Spare::into_head);
                let challenged =
                    Challenged::new(plan, claims, head, exchanged, links, rest, response);
                return Ok(Answer::Challenged(Box::new(Box::pin(challenged).await)));
            }
            // It speaks of the gateway's token; a caller would take it for the one it sent.
            response.headers_mut().remove(WWW_AUTHENTICATE);
        }
        if let Some(upload) = &upload {
            upload.let_go();
        }
        if let Some(links) = links {
            let relinked = Box::pin(links.relink_answer(response)).await;
            response = relinked.map_err(|damaged| {
                let error = SendError::Answer(BadAnswer::Damaged(damaged));
                error.rejection(upstream, &trail, upload.as_deref())
            })?;
        }
        plan.response_headers.apply(response.headers_mut());
        if let Some(listener) = listener {
            listener.answered(response.headers_mut());
        }
        Ok(Answer::Response(response))
    }
}
