//! How the development servers answer: small JSON bodies, never cached.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value, json};

/// A request, read whole.
pub(super) type Asked = Request<Bytes>;

/// An answer, made whole.
pub(super) type Answer = Response<Bytes>;

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &Value) -> Answer {
    with_type(status, "application/json; charset=utf-8", body.to_string())
}

/// A plain text answer.
pub(super) fn text(status: StatusCode, body: String) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body)
}

/// There is nothing at this path; `hint` says what there is.
pub(super) fn not_found(hint: &str) -> Answer {
    json(StatusCode::NOT_FOUND, &json!({ "error": { "code": "NotFound", "message": hint } }))
}

/// The path takes only `allowed`, a list of methods for `Allow`.
pub(super) fn wrong_method(asked: &Method, allowed: &'static str) -> Answer {
    let message = format!("{} is not taken here; use {allowed}.", shown(asked.as_str()));
    let body = json!({ "error": { "code": "MethodNotAllowed", "message": message } });
    with(json(StatusCode::METHOD_NOT_ALLOWED, &body), ALLOW, allowed)
}

/// Adds a header; a value that can't be one is left out.
pub(super) fn with(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// The segments of a path, without the first slash and one last slash.
pub(super) fn segments(path: &str) -> Vec<&str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.strip_suffix('/').unwrap_or(path).split('/').collect()
}

/// The parameters of a query string.
pub(super) fn query(asked: &Asked) -> Vec<(String, String)> {
    let query = asked.uri().query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// The value of `name`, the first one if there are several.
pub(super) fn parameter<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// What a client sent, short enough to be shown back.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 200;
    let mut shown: String = text.chars().take(MOST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_last_slash_does_not_matter() {
        assert_eq!(segments("/a/b"), ["a", "b"]);
        assert_eq!(segments("/a/b/"), ["a", "b"]);
        assert_eq!(segments("/a/b//"), ["a", "b", ""]);
        assert_eq!(segments("*"), ["*"]);
    }

    #[test]
    fn what_is_shown_back_is_short() {
        assert_eq!(shown("short"), "short");
        assert_eq!(shown(&"x".repeat(5000)).chars().count(), 201);
    }
}
