//! Between the parser and the handler: says that a request is being answered, and makes a panic
//! cost one request.

use std::convert::Infallible;
use std::mem;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::service::{HttpService, service_fn};

use crate::accept::activity::{Activity, Answering};
use crate::accept::answer::{self, Unread};
use crate::accept::drain::Drain;
use crate::accept::framing::Verdict;
use crate::accept::streams;
use crate::accept::upgrade;
use crate::body::{self, BoxError};
use crate::forward::upgrade::{Tunnel, is_for_websocket};
use crate::interim::Interim;
use crate::limits;
use crate::peer::Peer;
use crate::route::Condemned;

/// What answers requests; it is cloned for each.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of its answers.
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;

    /// Answers one request; it does not fail. `interim` is the way for what is said before the
    /// answer, to a caller who can be told.
    fn handle(
        self,
        request: Request<Incoming>,
        peer: Peer,
        interim: Option<Interim>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Takes note of what was refused before there was a request to answer.
    fn refused(&self, _peer: &Peer, _refused: &Unread) {}
}

impl<H, F, B> Handler for H
where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;

    fn handle(
        self,
        request: Request<Incoming>,
        peer: Peer,
        _interim: Option<Interim>,
    ) -> impl Future<Output = Response<B>> + Send {
        self(request, peer)
    }
}

/// `handler` for the requests of one connection.
pub(crate) fn service<H: Handler>(
    handler: H,
    peer: Peer,
    activity: Arc<Activity>,
    verdict: Option<Arc<Verdict>>,
    interim: Option<Interim>,
    drain: Drain,
) -> impl HttpService<Incoming, ResBody = Answer<H::Body>, Error = Infallible, Future: Send + 'static>
{
    // A connection of HTTP/1.1 has who judges its framing.
    let multiplexed = verdict.is_none();
    service_fn(move |mut request: Request<Incoming>| {
        if let Some(Err(fault)) = verdict.as_ref().map(|verdict| verdict.next()) {
            request.extensions_mut().insert(Condemned(fault));
        }
        if multiplexed {
            upgrade::as_get(&mut request);
        }
        let for_websocket = is_for_websocket(&request);
        // HTTP/1.0 has no informational answers (RFC 9110 §15.2).
        let interim = interim.clone().filter(|_| request.version() == Version::HTTP_11);
        let answering = activity.request();
        let handler = handler.clone();
        let verdict = verdict.clone();
        let drain = drain.clone();
        async move {
            let asks_for_head = request.method() == Method::HEAD;
            let version = request.version();
            let way = interim.clone();
            let answered = async move { handler.handle(request, peer, way).await };
            let response = match AssertUnwindSafe(answered).catch_unwind().await {
                Ok(response) => response.map(Either::Left),
                Err(_panic) => {
                    tracing::error!("a request panicked; it was answered with 500");
                    answer::panic(version).map(Either::Right)
                }
            };
            if let Some(interim) = interim {
                // From here on nothing may come between.
                interim.clear();
            }
            let (mut head, body) = response.into_parts();
            if let Some(stream) = Tunnel::take(&mut head.extensions) {
                let whole = upgrade::Whole { verdict, multiplexed, answering };
                upgrade::carry(stream, whole, &drain);
                let answer = Answer::new(body, asks_for_head, multiplexed, None);
                return Ok(Response::from_parts(head, answer));
            }
            // What may follow was meant for a WebSocket: it is not to be read as a request.
            if version < Version::HTTP_2 && (for_websocket || answering.is_last()) {
                head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if asks_for_head {
                keep_length(&mut head.headers, &body);
            }
            let answer = Answer::new(body, asks_for_head, multiplexed, Some(answering));
            Ok(Response::from_parts(head, answer))
        }
    })
}

/// Says how long the body would be that an answer to HEAD does not have (RFC 9110 §9.3.2).
fn keep_length(headers: &mut HeaderMap, body: &impl Body) {
    let length = body.size_hint().exact().filter(|length| *length > 0);
    if let (Some(length), false) = (length, headers.contains_key(CONTENT_LENGTH)) {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}

pin_project_lite::pin_project! {
    /// The body of an answer; the request is being answered until it is dropped.
    pub(crate) struct Answer<B> {
        #[pin]
        body: Either<B, body::Body>,
        // hyper leaves such a body out over HTTP/1 only.
        asks_for_head: bool,
        // Over HTTP/2, where it is given in pieces, and for each it is known whether it was taken.
        multiplexed: bool,
        // Of what the body gave, what is behind the last piece.
        rest: Bytes,
        // Of a stream behind the answer, that one has it.
        _answering: Option<Answering>,
    }
}

impl<B> Answer<B> {
    fn new(
        body: Either<B, body::Body>,
        asks_for_head: bool,
        multiplexed: bool,
        answering: Option<Answering>,
    ) -> Self {
        Self { body, asks_for_head, multiplexed, rest: Bytes::new(), _answering: answering }
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>>> Body for Answer<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.asks_for_head {
            return Poll::Ready(None);
        }
        let this = self.project();
        if !*this.multiplexed {
            return this.body.poll_frame(cx);
        }
        streams::asked();
        let frame = if this.rest.is_empty() {
            ready!(this.body.poll_frame(cx))
        } else {
            Some(Ok(Frame::data(mem::take(this.rest))))
        };
        let piece = frame.map(|frame| frame.map(|frame| first_piece(frame, this.rest)));
        if piece.is_some() {
            streams::given();
        }
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.asks_for_head || self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.asks_for_head {
            return SizeHint::with_exact(0);
        }
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

/// What is given of a frame at a time; `rest` is what is behind it.
fn first_piece(frame: Frame<Bytes>, rest: &mut Bytes) -> Frame<Bytes> {
    match frame.into_data() {
        Ok(mut data) => {
            if data.len() > limits::HTTP2_PIECE {
                *rest = data.split_off(limits::HTTP2_PIECE);
            }
            Frame::data(data)
        }
        Err(trailers) => trailers,
    }
}
