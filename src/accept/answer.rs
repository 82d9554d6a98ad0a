//! The few answers that are given before or instead of the gateway: a head that took too long, a
//! flood, and a panic; and what is told of those, of what the parser answers by itself, and of a
//! connection without its PROXY header, to whom keeps the log ([`Handler::refused`](super::Handler::refused)).

use std::io;

use bytes::Bytes;
use http::{Response, Version};

use crate::accept::activity::Activity;
use crate::body::Body;
use crate::observe::request_id::{RequestId, X_REQUEST_ID};
use crate::rejection::{Code, Rejection};
use crate::respond;

/// A refusal that was given, or a farewell said, before there was a request.
#[derive(Debug)]
pub struct Unread {
    /// Of the answer; nobody was told it where the parser gave it.
    pub request_id: RequestId,
    /// Why.
    pub rejection: Rejection,
}

/// What became of a connection that ended with `broken`, if it is a refusal of what it sent.
pub(super) fn unread(activity: &Activity, broken: Option<&hyper::Error>) -> Option<Unread> {
    if let Some(id) = activity.head_given_up() {
        return Some(Unread { request_id: id.clone(), rejection: overdue() });
    }
    let rejection = if let Some(flood) = activity.flood() {
        Rejection::new(
            Code::BadRequest,
            "The connection sends more than it may.",
            format!(
                "{flood} in a second: the caller was told to go away (`limits.rs` has how many may come)"
            ),
        )
    } else {
        let error = broken.filter(|error| error.is_parse())?;
        if error.is_parse_too_large() {
            Rejection::new(
                Code::HeadersTooLarge,
                "The request's head is too large.",
                "a head beyond `server.max_header_bytes`, or of too many fields; the parser refused it",
            )
        } else {
            let reason = format!("what came is no request: {error}; the parser refused it");
            Rejection::new(Code::BadRequest, "The request is malformed.", reason)
        }
    };
    Some(Unread { request_id: RequestId::new(), rejection })
}

/// A connection that came to a listener with `proxy_protocol`, and does not begin as those do.
pub(super) fn not_proxied(fault: &io::Error) -> Unread {
    let reason = format!(
        "{fault}; who connects here is to send one (`proxy_protocol` of the listener is `true`)"
    );
    let detail = "The connection does not begin as it must.";
    let rejection = Rejection::new(Code::BadRequest, detail, reason);
    Unread { request_id: RequestId::new(), rejection }
}

fn overdue() -> Rejection {
    Rejection::new(
        Code::RequestTimeout,
        "The request's head did not arrive in time.",
        "the head of a request took longer than `server.header_timeout`",
    )
}

/// The whole HTTP/1.1 answer to a head that took too long, as bytes: the parser is past answering.
pub(super) fn overdue_head(id: &RequestId) -> Bytes {
    let body = respond::document(&overdue(), id.as_str());
    let mut answer = format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/problem+json\r\n\
         cache-control: no-store\r\nx-request-id: {}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        id.as_str(),
        body.len(),
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    Bytes::from(answer)
}

/// GOAWAY with `ENHANCE_YOUR_CALM` (RFC 9113 §6.8, §7): what is above `last_stream` may be asked
/// for elsewhere.
pub(super) fn go_away(last_stream: u32) -> Bytes {
    const LENGTH: [u8; 3] = [0, 0, 8];
    const GOAWAY: u8 = 7;
    const CONNECTION: [u8; 4] = [0; 4];
    const ENHANCE_YOUR_CALM: u32 = 11;
    let mut frame = Vec::with_capacity(17);
    frame.extend_from_slice(&LENGTH);
    frame.extend_from_slice(&[GOAWAY, 0]);
    frame.extend_from_slice(&CONNECTION);
    frame.extend_from_slice(&last_stream.to_be_bytes());
    frame.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
    Bytes::from(frame)
}

pub(super) fn panic(version: Version) -> Response<Body> {
    answer(&Rejection::internal("a panic: see the log above, and report it"), version)
}

/// The answer to a refusal, with a request id of its own.
pub(crate) fn answer(rejection: &Rejection, version: Version) -> Response<Body> {
    let id = RequestId::new();
    let mut response = respond::refusal(rejection, id.as_str(), version, None);
    response.headers_mut().insert(X_REQUEST_ID, id.header().clone());
    response
}
