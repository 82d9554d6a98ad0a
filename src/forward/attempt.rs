//! The tries of one request: the first, and further ones where nothing can happen twice by them.
//!
//! What is sent again, and what that takes:
//!
//! | what became of a try | requests | budget |
//! | --- | --- | --- |
//! | lost on a kept connection, which was stale | none of it was sent: any; else idempotent, without a body | no |
//! | no connection to one address of a name that has others | any, to another of them | no |
//! | no connection | any | yes |
//! | refused by the upstream before it looked at it | any whose body is empty or kept whole | yes |
//! | answered 502, 503 or 504 | idempotent ones whose body is empty or kept whole | yes |
//! | lost on a new connection, or kept waiting for too long | none | |
//!
//! All but the first two rows only if the file says so. `timeouts.response` holds for all tries together,
//! from the first that was sent; each connection has `timeouts.connect` for itself. An answer
//! with `Retry-After` is followed by another endpoint or by none. What happens behind the head of
//! an answer that was handed on is nobody's to repeat.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout_at};

use super::Trail;
use super::alarm::Alarm;
use super::balance::{Chosen, NoEndpoint};
use super::client;
use super::endpoint::Endpoint;
use super::failed_try::{Failed, Why, is_lost, is_refused, is_reset};
use super::head::{Head, Spare};
use super::lease::{Lease, Wanted};
use super::request::Forwarding;
use super::retry::{self, RetryOn};
use super::send_error::SendError;
use super::upload::Progress;
use crate::body::Body;
use crate::limits;

/// Which copy of a head is made before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// One where a further try needs it.
    ForRetry,
    /// One in any case: the request may be sent again with another token.
    Always,
}

/// An answer, the connection it comes over and where from, and the head it answers where that
/// was kept.
pub(super) struct Sent {
    pub(super) response: Response<Incoming>,
    pub(super) lease: Lease,
    pub(super) endpoint: Chosen,
    pub(super) head: Option<Spare>,
}

/// A request on its way, over all its tries.
pub(super) struct Attempt<'a, 'r> {
    plan: &'a Forwarding,
    keep: Keep,
    upload: Option<&'a Progress>,
    trail: &'a mut Trail<'r>,
    /// For all tries together.
    patience: Option<Duration>,
    /// When the first try was sent.
    sent_at: Option<Instant>,
    /// Tries so far.
    tries: u32,
}

impl<'a, 'r> Attempt<'a, 'r> {
    pub(super) fn new(
        plan: &'a Forwarding,
        keep: Keep,
        upload: Option<&'a Progress>,
        trail: &'a mut Trail<'r>,
    ) -> Self {
        Self { plan, keep, upload, trail, patience: None, sent_at: None, tries: 0 }
    }

    /// Sends the request until there is an answer to hand on, or no further try may be.
    pub(super) fn send(
        mut self,
        head: Head,
        body: Body,
    ) -> impl Future<Output = Result<Sent, SendError>> {
        async move {
            self.patience = self.plan.response_timeout.with(head.content_type());
            let endpoint = self.plan.upstream.endpoints.choose(&[]).await;
            let endpoint = endpoint.map_err(SendError::Nowhere)?;
            let failed = match self.once(endpoint, Wanted::Any, head, body).await {
                Ok(sent) => return Ok(sent),
                Err(failed) => failed,
            };
            // Rare: its state is not to be part of every request.
            Box::pin(self.again(*failed)).await
        }
    }

    /// Further tries, as long as there may be one.
    async fn again(mut self, mut failed: Failed) -> Result<Sent, SendError> {
        let mut tried = Vec::new();
        let mut asked_to_wait = false;
        let mut walked = 0;
        loop {
            if let Some(wanted) = failed.stale.take()
                && let Some((head, body)) = failed.message.take()
            {
                tracing::debug!(upstream = %self.plan.upstream.name(), "a kept connection was stale; sending on a new one");
                self.tries -= 1;
                let endpoint = failed.endpoint;
                drop(failed.why);
                match self.once(endpoint, wanted, head, body).await {
                    Ok(sent) => return Ok(sent),
                    Err(next) => failed = *next,
                }
                continue;
            }
            let unconnected = failed.why.is_unconnected() && walked < limits::MAX_ADDRESSES_WALKED;
            let may_go_on = unconnected || failed.why.is_in(self.further());
            if !may_go_on || self.time_is_up() {
                return failed.for_good();
            }
            let Some((head, body)) = failed.message.take() else { return failed.for_good() };
            tried.push(Arc::clone(failed.endpoint.endpoint()));
            asked_to_wait = asked_to_wait || failed.why.asks_to_wait();
            let Some((endpoint, met)) = self.next(&tried, asked_to_wait).await else {
                return failed.for_good();
            };
            let same_name = Arc::ptr_eq(&endpoint.origin, &failed.endpoint.origin);
            if unconnected && same_name && met == Met::Never {
                // To walk over the addresses of one name is part of connecting.
                walked += 1;
                self.tries -= 1;
            } else {
                if !failed.why.is_in(self.further()) {
                    return failed.for_good();
                }
                if let Err(over) = self.plan.upstream.budget.retry(Instant::now()) {
                    *self.trail.reason = Some(over.to_string().into());
                    return failed.for_good();
                }
                self.trail.retried();
            }
            let pauses = met == Met::Before || matches!(failed.why, Why::Answered(_));
            // Its connection goes now, not behind the pause.
            drop(failed);
            if pauses {
                sleep(retry::pause(self.tries.saturating_sub(1))).await;
            }
            match self.once(endpoint, Wanted::Any, head, body).await {
                Ok(sent) => return Ok(sent),
                Err(next) => failed = *next,
            }
        }
    }

    /// Another endpoint; the best of all if there is no other, and none asked to wait.
    async fn next(&self, tried: &[Arc<Endpoint>], asked_to_wait: bool) -> Option<(Chosen, Met)> {
        let endpoints = &self.plan.upstream.endpoints;
        match endpoints.choose(tried).await {
            Ok(endpoint) => Some((endpoint, Met::Never)),
            Err(NoEndpoint::AllTried) if !asked_to_wait => {
                endpoints.choose(&[]).await.ok().map(|endpoint| (endpoint, Met::Before))
            }
            Err(_) => None,
        }
    }

    /// One try.
    fn once(
        &mut self,
        endpoint: Chosen,
        wanted: Wanted,
        head: Head,
        body: Body,
    ) -> impl Future<Output = Result<Sent, Box<Failed>>> {
        async move {
            self.tries += 1;
            self.trail.at(&endpoint);
            let mut lease = match client::at_hand(&endpoint, wanted) {
                Some(lease) => lease,
                // Rare, and its state is ten times that of all else: it is not to be part of every request.
                None => match Box::pin(self.lease(&endpoint, wanted)).await {
                    Ok(lease) => lease,
                    Err(why) => return Err(Failed::before_sending(endpoint, why, head, body)),
                },
            };
            self.first_sent();
            let may = self.may(&lease, &head, wanted);
            let spare = (may.needs_head() || self.keep == Keep::Always).then(|| head.spare());
            let unsaid = head.unsaid();
            let request = match encode(&endpoint, &lease, head, body) {
                Ok(request) => request,
                Err(error) => return Err(Failed::over(endpoint, error)),
            };
            let mut alarm = std::mem::take(&mut lease.alarm);
            let answer = self.answer(pin!(lease.send(request)), &mut alarm).await;
            lease.alarm = alarm;
            let mut error = match answer {
                Err(timeout) => {
                    lease.timed_out();
                    self.tell_broke(&endpoint);
                    return Err(Failed::over(endpoint, timeout));
                }
                Ok(Ok(response)) => {
                    endpoint.answered(response.status());
                    if !(may.after_status && self.further().takes(response.status())) {
                        return Ok(Sent { response, lease, endpoint, head: spare });
                    }
                    let message = self.message(spare);
                    let why = Why::Answered(Box::new((response, lease)));
                    return Err(Box::new(Failed { endpoint, why, message, stale: None }));
                }
                Ok(Err(error)) => error,
            };
            let stale = (lease.reused && wanted == Wanted::Any).then(|| lease.newer());
            let unsent = error.take_message().map(|request| Head::of_unsent(request, unsaid));
            let error = error.into_error();
            // What may have been acted on goes again only if it may happen twice. A stream that was
            // refused is no sign of a stale connection: the upstream is there, and has enough to do.
            let refused = is_refused(&error);
            let gone = is_lost(&error) || refused && !is_reset(&error);
            let stale = stale.filter(|_| unsent.is_some() || may.if_stale && gone);
            if stale.is_none() && !refused {
                self.tell_broke(&endpoint);
            }
            let (why, message) = match unsent {
                Some(message) => (Why::Unsent(error), Some(message)),
                None if refused => (Why::Refused(error), self.message(spare)),
                None => (Why::Lost(error), self.message(spare)),
            };
            Err(Box::new(Failed { endpoint, why, message, stale }))
        }
    }

    /// A connection. Once something was sent, it has to be there before the time is up.
    async fn lease(&self, endpoint: &Chosen, wanted: Wanted) -> Result<Lease, Why> {
        let leased = match self.deadline() {
            None => client::lease(endpoint, wanted).await,
            Some((deadline, limit)) => {
                match timeout_at(deadline, client::lease(endpoint, wanted)).await {
                    Ok(leased) => leased,
                    Err(_elapsed) => return Err(Why::Over(SendError::Timeout(limit))),
                }
            }
        };
        leased.map_err(|error| {
            if !error.is_our_limit() {
                endpoint.connect_failed();
            }
            Why::Unreached(error)
        })
    }

    /// What a further try is possible after, and whether something has to be kept for it.
    fn may(&self, lease: &Lease, head: &Head, wanted: Wanted) -> May {
        let (further, idempotent) = (self.further(), head.is_idempotent());
        let if_refused = lease.is_http2() && further.refused_stream;
        let mut after_status = idempotent && further.takes_a_status();
        let mut kept = true;
        if let (Some(upload), true) = (self.upload, if_refused || after_status) {
            if head.body_may_be_kept() {
                upload.keep();
            }
            kept = upload.is_kept();
            after_status = after_status && kept;
        }
        let if_stale = lease.reused && wanted == Wanted::Any && idempotent && self.upload.is_none();
        May { if_stale, if_refused: if_refused && kept, after_status }
    }

    /// The request for a further try, if its body is still to be had.
    fn message(&self, spare: Option<Spare>) -> Option<(Head, Body)> {
        let head = spare?.into_head();
        let body = match (self.upload, head.unread_body()) {
            (None, _) => Body::empty(),
            (Some(_), Some(unread)) => unread,
            (Some(upload), None) => Body::full(upload.whole_now()?),
        };
        Some((head, body))
    }

    /// What another try may follow.
    fn further(&self) -> RetryOn {
        self.plan.upstream.settings.retry.after(self.tries)
    }

    fn first_sent(&mut self) {
        if self.sent_at.is_none() {
            let now = Instant::now();
            self.sent_at = Some(now);
            self.plan.upstream.budget.request(now);
        }
    }

    fn time_is_up(&self) -> bool {
        self.deadline().is_some_and(|(deadline, _)| deadline <= Instant::now())
    }

    /// When the answer is due, once something was sent. While the caller's body is on its way the
    /// clock starts anew with each frame: a long upload is not a slow upstream.
    fn deadline(&self) -> Option<(Instant, Duration)> {
        let (limit, sent_at) = (self.patience?, self.sent_at?);
        let moved_at = self.upload.map_or(sent_at, Progress::moved_at);
        Some((sent_at.max(moved_at) + limit, limit))
    }

    /// Waits for an answer until it is due.
    async fn answer<T>(
        &self,
        mut answer: Pin<&mut impl Future<Output = T>>,
        alarm: &mut Alarm,
    ) -> Result<T, SendError> {
        let Some((mut deadline, limit)) = self.deadline() else { return Ok(answer.await) };
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            loop {
                ready!(alarm.poll_at(deadline, cx));
                let later = self.deadline().map(|(later, _)| later);
                let Some(later) = later.filter(|later| *later > deadline) else {
                    if let Some(upload) = self.upload {
                        upload.blame_caller(limit);
                    }
                    return Poll::Ready(Err(SendError::Timeout(limit)));
                };
                deadline = later;
            }
        })
        .await
    }

    /// What the caller's own body broke is not the endpoint's.
    fn tell_broke(&self, endpoint: &Chosen) {
        if self.upload.and_then(Progress::fault).is_none() {
            endpoint.broke();
        }
    }
}

/// What a further try is possible after.
#[derive(Clone, Copy)]
struct May {
    if_stale: bool,
    if_refused: bool,
    after_status: bool,
}

impl May {
    fn needs_head(self) -> bool {
        self.if_stale || self.if_refused || self.after_status
    }
}

/// Whether the endpoint of the next try is one that was tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    Never,
    Before,
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
