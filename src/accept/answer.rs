//! The few answers that are given before or instead of the gateway: a head that took too long,
//! and a panic. There is no event in the access log for these: nothing
//! was handed to the gateway that could be told.

use bytes::Bytes;
use http::{Response, Version};

use crate::body::Body;
use crate::observe::request_id::{RequestId, X_REQUEST_ID};
use crate::rejection::{Code, Rejection};
use crate::respond;

/// The whole HTTP/1.1 answer to a head that took too long, as bytes: the parser is past answering.
pub(super) fn overdue_head() -> Bytes {
    let rejection = Rejection::new(
        Code::RequestTimeout,
        "The request's head did not arrive in time.",
        "the head of a request took longer than `server.header_timeout`",
    );
    let id = RequestId::new();
    let body = respond::document(&rejection, id.as_str());
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
