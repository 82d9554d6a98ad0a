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
