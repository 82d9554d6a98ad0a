//! From the upstream's answer to the one that the caller gets.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::balance::Chosen;
use super::headers::{self, HeaderRules};
use super::interim::Trailers;
use super::lease::Lease;
use super::links::Damaged;
use super::request::Forwarding;
use super::token_end::{AnswerEnd, StreamEnd};
use super::upload::Progress;
use super::upstream::is_grpc;
use crate::body::{Body, BoxError};
use crate::idle_timer::IdleTimer;
use crate::limits;

/// What is wrong with an answer. Passed on, it could be read in two ways.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadAnswer {
    #[error("it has both `Content-Length` and `Transfer-Encoding`")]
    BothLengths,
    #[error("it has more than one `Content-Length`")]
    ManyLengths,
    #[error("its `Content-Length` is no number of bytes")]
    NoLength,
    #[error("its `Transfer-Encoding` is not `chunked`")]
    UnknownCoding,
    #[error("it switches protocols, and nothing asked for that")]
    Switching,
    #[error("more than {} informational answers came before it", limits::MAX_INTERIM_ANSWERS)]
    InterimFlood,
    #[error("its links can't be replaced")]
    Damaged(#[source] Damaged),
}

/// Takes an answer, the connection it comes over, where from, and what ends it with the caller's token. The
/// connection goes back when the answer has ended well, unless it began before all of `upload` was sent:
/// what is left of that may be on its way for as long as the upstream likes, and another request would wait
/// behind it.
pub(super) fn receive(
    response: Response<Incoming>,
    mut lease: Lease,
    endpoint: Chosen,
    upload: Option<Arc<Progress>>,
    trailers: Trailers,
    plan: &Forwarding,
    end: Option<StreamEnd>,
) -> Result<Response<Body>, BadAnswer> {
    let (mut parts, incoming) = response.into_parts();
    check_framing(parts.status, &parts.headers)?;
    headers::clean_response(&mut parts.headers);
    parts.extensions.clear();
    // The version is of one connection. That of an old upstream would have hyper end our body by
    // closing the caller's, where an aborted one looks whole.
    parts.version = Version::HTTP_11;
    if let Some(upload) = &upload {
        upload.answer_begun();
    }
    let early = upload.as_ref().is_some_and(|upload| !upload.ended());
    let ends_expressly = lease.is_http2();
    if early {
        lease.run_by_itself();
    }
    let mut lease = Returning { lease: Some(lease), upload, early, _endpoint: endpoint };
    if parts.status == StatusCode::NO_CONTENT {
        // It has neither a body nor a length (RFC 9110 §8.6), whatever the upstream says.
        parts.headers.remove(CONTENT_LENGTH);
    }
    // HTTP/1.1 has no bytes of a body there; what HTTP/2 may have is dropped, and resets the stream.
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&parts.status);
    if bodiless || incoming.is_end_stream() {
        lease.ended();
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    let patience = plan.upstream.settings.timeouts.stream.with(parts.headers.get(CONTENT_TYPE));
    let length = match trailers {
        Trailers::Taken if announces(&mut parts.headers) => {
            // HTTP/2 has trailers behind a body of known length; HTTP/1.1 only behind chunks.
            parts.headers.remove(CONTENT_LENGTH);
            Length::Unsaid
        }
        Trailers::Taken | Trailers::AsTheyCome => Length::AsItComes,
    };
    let end = end.map(|end| AnswerEnd::new(end, &parts.headers));
    if let (Some(upload), Some(_)) = (&lease.upload, &end) {
        upload.answer_ends_with_token();
    }
    let idle = IdleTimer::new(patience);
    let rules = Arc::clone(&plan.response_headers);
    let download = Download { incoming, lease, length, rules, ends_expressly, idle, end };
    Ok(Response::from_parts(parts, Body::stream(download)))
}

/// hyper reads an answer with two lengths by one of them; a caller might read it by the other.
fn check_framing(status: StatusCode, headers: &HeaderMap) -> Result<(), BadAnswer> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(BadAnswer::Switching);
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if coding.is_some() && length.is_some() {
        return Err(BadAnswer::BothLengths);
    }
    if lengths.next().is_some() || length.is_some_and(|length| length.as_bytes().contains(&b',')) {
        return Err(BadAnswer::ManyLengths);
    }
    // hyper looks at it only where a body is due.
    if length.is_some_and(|length| !is_length(length)) {
        return Err(BadAnswer::NoLength);
    }
    if codings.next().is_some()
        || coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(BadAnswer::UnknownCoding);
    }
    Ok(())
}

/// Digits alone (RFC 9110 §8.6), of a number that can be counted to.
fn is_length(value: &HeaderValue) -> bool {
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.is_some_and(|digits| digits.parse::<u64>().is_ok())
}

/// Whether the answer announces trailers. Those of gRPC are known, and need no announcement over HTTP/2;
/// hyper sends none over HTTP/1.1 that are not announced.
fn announces(headers: &mut HeaderMap) -> bool {
    if headers.contains_key(TRAILER) {
        return true;
    }
    let grpc = headers.get(CONTENT_TYPE).is_some_and(is_grpc);
    if grpc {
        let names = "grpc-status, grpc-message, grpc-status-details-bin";
        headers.insert(TRAILER, HeaderValue::from_static(names));
    }
    grpc
}

/// Gives a connection back once; dropped before that, it closes the connection.
struct Returning {
    lease: Option<Lease>,
    upload: Option<Arc<Progress>>,
    /// The answer began before the request had ended.
    early: bool,
    /// The request counts there as long as its answer goes on.
    _endpoint: Chosen,
}

impl Returning {
    fn ended(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        if let Some(upload) = &self.upload {
            upload.answer_over();
        }
        if self.early {
            lease.leave();
        } else {
            lease.give_back();
        }
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.answer_over();
        }
    }
}

/// The upstream's body. One that breaks off ends in an error, so that the caller gets an
/// aborted transfer and never a clean end.
struct Download {
    incoming: Incoming,
    lease: Returning,
    length: Length,
    /// Those of the route: they hold for trailers, too.
    rules: Arc<HeaderRules>,
    /// HTTP/2 says that a body is whole.
    ends_expressly: bool,
    idle: IdleTimer,
    /// Ends it with the caller's token.
    end: Option<AnswerEnd>,
}

/// Whether the caller is told how long the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    AsItComes,
    Unsaid,
}

#[derive(Debug, thiserror::Error)]
#[error("no byte of the answer came for {} s", .0.as_secs())]
struct Stalled(Duration);

#[derive(Debug, thiserror::Error)]
#[error("the stream was reset before its end")]
struct CutShort;

impl Download {
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut incoming = Pin::new(&mut self.incoming);
        match &mut self.lease.lease {
            Some(lease) => lease.poll_for(cx, |cx| incoming.as_mut().poll_frame(cx)),
            None => incoming.poll_frame(cx),
        }
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.end.as_ref().is_some_and(AnswerEnd::is_over) {
            return Poll::Ready(None);
        }
        match self.poll_incoming(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if frame.is_data()
                    && let Some(end) = self.end.as_mut().filter(|end| end.is_due())
                {
                    return Poll::Ready(end.end());
                }
                self.idle.moved();
                // Whoever reads us may not ask again once the length is reached.
                if self.incoming.is_end_stream() {
                    self.lease.ended();
                }
                let frame = match frame.into_trailers() {
                    Ok(mut trailers) => {
                        headers::clean_response_trailers(&mut trailers, &self.rules);
                        Frame::trailers(trailers)
                    }
                    Err(data) => data,
                };
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            // hyper passes a stream that was reset without an error (`NO_ERROR`) for one that ended.
            Poll::Ready(None) if self.ends_expressly && !self.incoming.is_end_stream() => {
                Poll::Ready(Some(Err(CutShort.into())))
            }
            Poll::Ready(None) => {
                self.lease.ended();
                Poll::Ready(None)
            }
            Poll::Pending => {
                if let Some(end) = &mut self.end
                    && let Poll::Ready(last) = end.poll(cx)
                {
                    return Poll::Ready(last);
                }
                let patience = ready!(self.idle.poll_expired(cx));
                Poll::Ready(Some(Err(Stalled(patience).into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        if self.end.as_ref().is_some_and(AnswerEnd::is_over) {
            return true;
        }
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Length::AsItComes => self.incoming.size_hint(),
            Length::Unsaid => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    #[test]
    fn an_answer_that_can_be_read_in_two_ways_is_refused() {
        for (fields, good) in [
            (&[("content-length", "1")][..], true),
            (&[("transfer-encoding", "Chunked")], true),
            (&[], true),
            (&[("content-length", "1"), ("transfer-encoding", "chunked")], false),
            (&[("content-length", "1"), ("content-length", "1")], false),
            (&[("content-length", "1, 1")], false),
            (&[("content-length", "18446744073709551615")], true),
            (&[("content-length", "18446744073709551616")], false),
            (&[("content-length", "007")], true),
            (&[("content-length", "-5")], false),
            (&[("content-length", "+5")], false),
            (&[("content-length", "5x")], false),
            (&[("content-length", "0x5")], false),
            (&[("content-length", "5 5")], false),
            (&[("content-length", "")], false),
            (&[("transfer-encoding", "gzip, chunked")], false),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false),
            (&[("transfer-encoding", "identity")], false),
        ] {
            let mut headers = HeaderMap::new();
            for &(name, value) in fields {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(check_framing(StatusCode::OK, &headers).is_ok(), good, "{fields:?}");
        }
    }
}
