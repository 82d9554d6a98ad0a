//! What a route answers by itself, without an upstream: a fixed answer (`respond`) or another
//! place (`redirect`). Who may have it was decided before; refusals are written by `respond.rs`.

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::rejection::{Code, Rejection};
use crate::route::{Captures, Rewrite, Target};

/// What a `respond` route answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canned {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

impl Canned {
    /// The answer.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::full(self.body.clone()));
        *response.status_mut() = self.status;
        for (name, value) in &self.headers {
            response.headers_mut().append(name, value.clone());
        }
        response
    }
}

/// What a `redirect` route answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// Scheme and authority of the new place; empty for this gateway.
    pub origin: String,
    /// Its path, with names from `match.path`.
    pub path: Rewrite,
    /// What stands behind the path: a query or fragment of its own. Empty: the caller's query is kept.
    pub suffix: String,
}

impl Redirect {
    /// The answer.
    ///
    /// # Errors
    ///
    /// The caller's path or query can't stand in `Location`.
    pub fn response(
        &self,
        target: &Target,
        captures: &Captures,
    ) -> Result<Response<Body>, Rejection> {
        let mut location =
            format!("{}{}{}", self.origin, self.path.apply(target.path(), captures), self.suffix);
        if self.suffix.is_empty()
            && let Some(query) = target.query()
        {
            location.push('?');
            location.push_str(query);
        }
        let location = HeaderValue::try_from(location).map_err(|error| {
            let reason = "the new place can't stand in `Location`";
            Rejection::new(Code::BadRequest, "The request target can't be redirected.", reason)
                .caused_by(error)
        })?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.headers_mut().insert(LOCATION, location);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, Request};

    use super::*;
    use crate::route::{EncodedSlashes, PathPattern, RouteMatch, RouteTable};

    fn location(suffix: &str, uri: &str) -> String {
        let pattern = PathPattern::parse("/old/{*rest}").unwrap();
        let redirect = Redirect {
            status: StatusCode::PERMANENT_REDIRECT,
            origin: "https://www.example.com".to_owned(),
            path: Rewrite::template("/new/{rest}", &pattern).unwrap(),
            suffix: suffix.to_owned(),
        };
        let matching = RouteMatch {
            path: pattern,
            hosts: vec![],
            methods: vec![],
            headers: vec![],
            query: vec![],
            ignore_case: false,
            encoded_slashes: EncodedSlashes::Reject,
        };
        let table = RouteTable::build(vec![(matching, ())]).unwrap();
        let request = Request::builder().method(Method::GET).uri(uri).header("host", "x");
        let target = Target::parse(&request.body(()).unwrap()).unwrap();
        let found = table.find(&target, &HeaderMap::new()).unwrap();
        let response = redirect.response(&target, &found.captures).unwrap();
        assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
        response.headers()[LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_redirect_keeps_the_query_unless_it_has_its_own() {
        assert_eq!(location("", "/old/a?q=1"), "https://www.example.com/new/a?q=1");
        assert_eq!(location("", "/old/a"), "https://www.example.com/new/a");
        assert_eq!(location("?p=2", "/old/a?q=1"), "https://www.example.com/new/a?p=2");
        assert_eq!(location("#top", "/old/a?q=1"), "https://www.example.com/new/a#top");
    }

    #[test]
    fn a_canned_answer_has_every_header_and_the_body() {
        let name = HeaderName::from_static("x-a");
        let values = ["1", "2"].map(HeaderValue::from_static);
        let canned = Canned {
            status: StatusCode::IM_A_TEAPOT,
            headers: values.iter().map(|value| (name.clone(), value.clone())).collect(),
            body: Bytes::from_static(b"tea"),
        };
        let response = canned.response();
        assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
        assert!(response.headers().get_all(&name).iter().eq(&values));
        assert_eq!(http_body::Body::size_hint(response.body()).exact(), Some(3));
    }
}
