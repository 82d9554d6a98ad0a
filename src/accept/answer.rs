//! The few answers that are given before or instead of the gateway: a head that took too long,
//! too many header fields, and a panic. Problem documents as everywhere (RFC 9457).

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::json;

use crate::observe::request_id::{RequestId, X_REQUEST_ID};

/// What a problem document says.
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    pub(crate) detail: &'static str,
}

const OVERDUE_HEAD: Problem = Problem {
    status: StatusCode::REQUEST_TIMEOUT,
    code: "request_timeout",
    title: "The request took too long to arrive",
    detail: "The request's head did not arrive in time.",
};

const TOO_MANY_FIELDS: Problem = Problem {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    code: "headers_too_large",
    title: "The request's headers are too large",
    detail: "The request has too many header fields.",
};

const PANIC: Problem = Problem {
    status: StatusCode::INTERNAL_SERVER_ERROR,
    code: "internal",
    title: "Internal error",
    detail: "The gateway failed to answer this request.",
};

/// The whole HTTP/1.1 answer to a head that took too long, as bytes: the parser is past answering.
pub(crate) fn overdue_head() -> Bytes {
    let (id, body) = document(&OVERDUE_HEAD);
    let answer = format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/problem+json\r\n\
         cache-control: no-store\r\nx-request-id: {}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        id.as_str(),
        body.len(),
    );
    Bytes::from(answer)
}

pub(crate) fn too_many_fields() -> Response<Full<Bytes>> {
    respond(&TOO_MANY_FIELDS)
}

pub(crate) fn panic() -> Response<Full<Bytes>> {
    respond(&PANIC)
}

/// `problem` as a response of its own, with a request id of its own.
pub(crate) fn respond(problem: &Problem) -> Response<Full<Bytes>> {
    let (id, body) = document(problem);
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = problem.status;
    let headers = response.headers_mut();
    let problem_json = HeaderValue::from_static("application/problem+json");
    headers.insert(header::CONTENT_TYPE, problem_json);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, id.header().clone());
    response
}

fn document(problem: &Problem) -> (RequestId, String) {
    let id = RequestId::new();
    let body = json!({
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status.as_u16(),
        "detail": problem.detail,
        "code": problem.code,
        "request_id": id.as_str(),
    });
    (id, body.to_string())
}
