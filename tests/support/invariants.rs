//! What holds for every answer of a gateway, whatever was asked.

use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;

use super::registry;
use super::upstream::MARK;

/// Checks the head of an answer to `method`.
///
/// # Panics
///
/// When an invariant is broken; the text says which.
pub fn check_head(method: &Method, status: StatusCode, headers: &HeaderMap) {
    let ids = headers.get_all("x-request-id").iter().count();
    assert_eq!(ids, 1, "{method} {status}: every answer carries one x-request-id, this one {ids}");
    for (name, value) in headers {
        let place = format!("the answer's header `{name}`");
        if !is_upstreams(headers) {
            registry::assert_clean(&place, value.as_bytes());
        }
    }
    if status == StatusCode::UNAUTHORIZED && !is_upstreams(headers) {
        let challenge = headers.get("www-authenticate").and_then(|value| value.to_str().ok());
        assert!(
            challenge.is_some_and(|value| {
                value.starts_with("Bearer realm=\"") || value.starts_with("DPoP realm=\"")
            }),
            "a 401 of the gateway carries a challenge, not {challenge:?}"
        );
    }
    if is_refusal(status, headers) {
        let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(value("content-type"), Some("application/problem+json"), "{status}");
        assert_eq!(value("cache-control"), Some("no-store"), "{status}");
        let needed = match status.as_u16() {
            405 => Some("allow"),
            429 | 503 => Some("retry-after"),
            _ => None,
        };
        assert!(
            needed.is_none_or(|name| headers.contains_key(name)),
            "{status} without {needed:?}"
        );
    }
}

/// Checks the body of an answer whose head was checked.
///
/// # Panics
///
/// When an invariant is broken; the text says which.
pub fn check_body(method: &Method, status: StatusCode, headers: &HeaderMap, body: &[u8]) {
    if method == Method::HEAD {
        assert!(body.is_empty(), "an answer to HEAD has no body");
        return;
    }
    if !is_refusal(status, headers) {
        return;
    }
    registry::assert_clean("a problem document", body);
    let problem: Value = serde_json::from_slice(body).expect("a problem document is JSON");
    assert_eq!(problem["status"], status.as_u16(), "{problem}");
    for member in ["type", "title", "detail", "code", "request_id"] {
        assert!(
            problem[member].as_str().is_some_and(|text| !text.is_empty()),
            "`{member}` in {problem}"
        );
    }
    let id = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    assert_eq!(problem["request_id"].as_str(), id, "the ids differ");
    if status == StatusCode::UNAUTHORIZED && problem["code"] != "token_missing" {
        let challenge = headers["www-authenticate"].to_str().unwrap();
        assert!(
            challenge.contains(", error=\""),
            "{} without `error`: {challenge}",
            problem["code"]
        );
    }
    if problem["code"] == "token_missing" {
        let challenge = headers["www-authenticate"].to_str().unwrap();
        assert!(
            !challenge.contains("error="),
            "RFC 6750 §3: no `error` without a token: {challenge}"
        );
    }
}

fn is_upstreams(headers: &HeaderMap) -> bool {
    headers.contains_key(MARK)
}

/// Whether the gateway itself refused.
fn is_refusal(status: StatusCode, headers: &HeaderMap) -> bool {
    !is_upstreams(headers) && (status.is_client_error() || status.is_server_error())
}
