//! Refusals with status 503 that only the admin port has: problem documents (RFC 9457).

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{Response, StatusCode};

use crate::admin::respond;
use crate::body::Body;
use crate::observe::request_id::{RequestId, X_REQUEST_ID};

/// Why there is no answer now.
pub(super) struct Problem {
    /// The stable name.
    pub(super) code: &'static str,
    pub(super) title: &'static str,
    pub(super) detail: &'static str,
    pub(super) retry_after: Duration,
}

impl Problem {
    pub(super) fn answer(&self) -> Response<Body> {
        let id = RequestId::new();
        let Self { code, title, detail, retry_after } = self;
        let problem = serde_json::json!({
            "type": format!("urn:obo-gateway:problem:{code}"),
            "title": title,
            "status": StatusCode::SERVICE_UNAVAILABLE.as_u16(),
            "detail": detail,
            "code": code,
            "request_id": id.as_str(),
        });
        let (status, body) = (StatusCode::SERVICE_UNAVAILABLE, problem.to_string());
        let mut response = respond(status, "application/problem+json", body);
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, id.header().clone());
        headers.insert(RETRY_AFTER, retry_after.as_secs().into());
        response
    }
}
