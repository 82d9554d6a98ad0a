//! Between the parser and the handler: says that a request is being answered, and makes a panic
//! cost one request.

use std::convert::Infallible;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Method, Request, Response, Version};
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
    /// answer, to a caller who can be told. Nothing happens before the future is polled: there a
    /// panic costs one request.
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

    async fn handle(
        self,
        request: Request<Incoming>,
        peer: Peer,
        _interim: Option<Interim>,
    ) -> Response<B> {
        self(request, peer).await
    }
}

/// What the requests of one connection have in common.
pub(crate) struct Serving<H> {
    pub(crate) handler: H,
    pub(crate) peer: Peer,
    pub(crate) activity: Arc<Activity>,
    /// A connection of HTTP/1.1 has who judges its framing.
    pub(crate) verdict: Option<Arc<Verdict>>,
    pub(crate) interim: Option<Interim>,
    pub(crate) drain: Drain,
}

/// Answers the requests of one connection.
pub(crate) fn service<H: Handler>(
    serving: Serving<H>,
) -> impl HttpService<Incoming, ResBody = Answer<H::Body>, Error = Infallible, Future: Send + 'static>
{
    let serving = Arc::new(serving);
    service_fn(move |mut request: Request<Incoming>| {
        if let Some(Err(fault)) = serving.verdict.as_ref().map(|verdict| verdict.next()) {
            request.extensions_mut().insert(Condemned(fault));
        }
        if serving.is_multiplexed() {
            upgrade::as_get(&mut request);
        }
        let asked = Asked {
            asks_for_head: request.method() == Method::HEAD,
            version: request.version(),
            for_websocket: is_for_websocket(&request),
        };
        let answering = Some(serving.activity.request());
        let way = serving.interim(asked).cloned();
        let future = serving.handler.clone().handle(request, serving.peer, way);
        Handling { future, serving: Arc::clone(&serving), asked, answering }
    })
}

impl<H: Handler> Serving<H> {
    fn is_multiplexed(&self) -> bool {
        self.verdict.is_none()
    }

    /// The way for what is said before an answer: HTTP/1.0 has no such thing (RFC 9110 §15.2).
    fn interim(&self, asked: Asked) -> Option<&Interim> {
        self.interim.as_ref().filter(|_| asked.version == Version::HTTP_11)
    }

    /// The answer as the parser takes it; `None` for a request that panicked.
    fn complete(
        &self,
        asked: Asked,
        answering: Option<Answering>,
        answered: Option<Response<H::Body>>,
    ) -> Response<Answer<H::Body>> {
        let multiplexed = self.is_multiplexed();
        let mut response = if let Some(response) = answered {
            response.map(Either::Left)
        } else {
            tracing::error!("a request panicked; it was answered with 500");
            answer::panic(asked.version).map(Either::Right)
        };
        if let Some(interim) = self.interim(asked) {
            // From here on nothing may come between.
            interim.clear();
        }
        if let Some(stream) = Tunnel::take(response.extensions_mut()) {
            let whole = upgrade::Whole { verdict: self.verdict.clone(), multiplexed, answering };
            upgrade::carry(stream, whole, &self.drain);
            return response.map(|body| Answer::new(body, asked.asks_for_head, multiplexed, None));
        }
        let is_last = answering.as_ref().is_some_and(Answering::is_last);
        // What may follow was meant for a WebSocket: it is not to be read as a request.
        if asked.version < Version::HTTP_2 && (asked.for_websocket || is_last) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if asked.asks_for_head {
            keep_length(&mut response);
        }
        response.map(|body| Answer::new(body, asked.asks_for_head, multiplexed, answering))
    }
}

/// What an answer depends on besides what the handler says.
#[derive(Clone, Copy)]
struct Asked {
    asks_for_head: bool,
    version: Version,
    for_websocket: bool,
}

pin_project_lite::pin_project! {
    /// One request. Not an `async` block: what that captures and what it awaits has a place
    /// each, and a handler's future is large and would be copied from one into the other.
    struct Handling<H, F> {
        #[pin]
        future: F,
        serving: Arc<Serving<H>>,
        asked: Asked,
        // Until it is answered.
        answering: Option<Answering>,
    }
}

impl<H, F> Future for Handling<H, F>
where
    H: Handler,
    F: Future<Output = Response<H::Body>>,
{
    type Output = Result<Response<Answer<H::Body>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let polled = catch_unwind(AssertUnwindSafe(|| this.future.poll(cx)));
        let answered = match polled {
            Ok(polled) => Some(ready!(polled)),
            Err(_panic) => None,
        };
        Poll::Ready(Ok(this.serving.complete(*this.asked, this.answering.take(), answered)))
    }
}

/// Says how long the body would be that an answer to HEAD does not have (RFC 9110 §9.3.2).
fn keep_length(response: &mut Response<impl Body>) {
    let length = response.body().size_hint().exact().filter(|length| *length > 0);
    if let (Some(length), false) = (length, response.headers().contains_key(CONTENT_LENGTH)) {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
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
        answering: Option<Answering>,
    }
}

impl<B> Answer<B> {
    fn new(
        body: Either<B, body::Body>,
        asks_for_head: bool,
        multiplexed: bool,
        answering: Option<Answering>,
    ) -> Self {
        Self { body, asks_for_head, multiplexed, rest: Bytes::new(), answering }
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
            // What is not taken is not read either: the parser would, as long as its buffer is not full.
            let Some(answering) = this.answering else { return this.body.poll_frame(cx) };
            ready!(answering.poll_keeps_up(cx));
            let frame = ready!(this.body.poll_frame(cx));
            answering.gives(data_length(frame.as_ref()));
            return Poll::Ready(frame);
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

fn data_length<E>(frame: Option<&Result<Frame<Bytes>, E>>) -> usize {
    let data = frame.and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
    data.map_or(0, Bytes::len)
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
