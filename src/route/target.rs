//! What a request is aimed at: method, host, path and query in the one form that the rest of
//! the gateway works with.
//!
//! [`Target::parse`] is the only maker, so that nothing is matched or forwarded that did not
//! pass it; the access log shows the path as it came. It does not know routes: whether an
//! encoded slash is allowed, and whether a doubtful path is ambiguous, is decided in `table.rs`.
//!
//! It sees what [`http::Uri`] kept: a `#` and what is behind it (which HTTP/1 refuses in
//! `accept/framing.rs`) is cut off an HTTP/2 `:path` before. What is matched and what is
//! forwarded is the same path without it.
//!
//! ```compile_fail
//! // A target that nobody canonicalised can't be made: its fields are private.
//! fn forge(target: obo_gateway::route::Target) -> obo_gateway::route::Target {
//!     obo_gateway::route::Target { method: http::Method::GET, ..target }
//! }
//! ```

use std::fmt;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request};

use crate::limits::MAX_HEADER_FIELDS;
use crate::rejection::{Code, Rejection};
use crate::route::authority::Authority;
use crate::route::canonical::{Canonical, canonicalise};
use crate::route::framing;

/// The canonical target of one request.
#[derive(Clone)]
pub struct Target {
    method: Method,
    authority: Option<Authority>,
    /// As it came; shares the bytes of the request.
    came: PathAndQuery,
    canonical: Canonical,
}

impl Target {
    /// Reads the target of `request`.
    ///
    /// # Errors
    ///
    /// - 405, closing, for TRACE (it echoes credentials, RFC 9110 §9.3.8) and CONNECT (it would
    ///   make the gateway a tunnel), in any case of letters.
    /// - 431 for more than [`MAX_HEADER_FIELDS`] fields: HTTP/2 limits the size of a head only,
    ///   and the parser of HTTP/1 both.
    /// - 400, closing, where framing or host are in doubt.
    /// - 400 for a scheme that is not HTTP, for `*` and other forms without a path (`OPTIONS *`
    ///   asks about the server and has no route to go to), and for a path without one reading.
    pub fn parse<B>(request: &Request<B>) -> Result<Self, Rejection> {
        let method = request.method();
        if ["TRACE", "CONNECT"].iter().any(|name| method.as_str().eq_ignore_ascii_case(name)) {
            return Err(Rejection::new(
                Code::MethodNotAllowed,
                "TRACE and CONNECT are not served here",
                format!("method {method} refused: TRACE and CONNECT are never forwarded"),
            )
            .closing());
        }
        let fields = request.headers().len();
        if fields > MAX_HEADER_FIELDS {
            return Err(Rejection::new(
                Code::HeadersTooLarge,
                "the request has too many header fields",
                format!("{fields} header fields refused: {MAX_HEADER_FIELDS} are the most"),
            ));
        }
        framing::check(request)?;
        let authority = Authority::of(request)?;
        let uri = request.uri();
        if let Some(scheme) = uri.scheme()
            && *scheme != Scheme::HTTP
            && *scheme != Scheme::HTTPS
        {
            return Err(malformed(&format!("scheme `{scheme}` is neither http nor https")));
        }
        let came = uri
            .path_and_query()
            .filter(|came| came.path() != "*")
            .ok_or_else(|| malformed("it has no path (`*` or authority form)"))?;
        let canonical = canonicalise(came.path()).map_err(|fault| malformed(&fault.to_string()))?;
        Ok(Self { method: method.clone(), authority, came: came.clone(), canonical })
    }

    /// The method, as it came.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The host in lower case, without port and without the root's dot; `None` only for
    /// HTTP/1.0 without `Host`.
    pub fn host(&self) -> Option<&str> {
        self.authority.as_ref().map(Authority::host)
    }

    /// The host as the caller wrote it, with its port.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_ref().map(Authority::written)
    }

    /// The same as the value of a field: one that came in a field shares its bytes.
    pub fn host_field(&self) -> Option<HeaderValue> {
        self.authority.as_ref().and_then(Authority::field)
    }

    /// The canonical path: what is matched, rewritten and forwarded. Begins with `/`.
    pub fn path(&self) -> &str {
        self.canonical.respelled.as_deref().unwrap_or_else(|| self.came.path())
    }

    /// The query as it came, byte for byte, without the `?`.
    pub fn query(&self) -> Option<&str> {
        self.came.query()
    }

    /// Whether a lax reader could read the path in another way.
    pub(super) fn is_doubtful(&self) -> bool {
        self.canonical.doubtful
    }

    /// Whether the path has `%2F` or `%5C`.
    pub(super) fn has_encoded_slashes(&self) -> bool {
        self.canonical.encoded_slashes
    }
}

impl fmt::Debug for Target {
    // The query may hold secrets and is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("method", &self.method)
            .field("host", &self.host())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

fn malformed(fault: &str) -> Rejection {
    Rejection::new(
        Code::BadRequest,
        "the target of the request is malformed or can be read in more than one way",
        format!(
            "target refused: {fault}; the caller has to spell it plainly (section 3.4 of the \
             interface lists what is refused)"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Version;

    fn parse(method: &str, uri: &str) -> Result<Target, Rejection> {
        let request = Request::builder().method(method).uri(uri).header("host", "API.x:81");
        Target::parse(&request.body(()).unwrap())
    }

    #[test]
    fn a_target_is_canonical_but_for_query_and_authority() {
        let target = parse("GET", "/a/%2e%2e/%62?q=%62&&;#").unwrap();
        assert_eq!(target.method(), Method::GET);
        assert_eq!(target.host(), Some("api.x"));
        assert_eq!(target.authority(), Some("API.x:81"));
        assert_eq!(target.path(), "/b");
        assert_eq!(target.query(), Some("q=%62&&;"));
        assert_eq!(parse("GET", "/a").unwrap().query(), None);
        assert_eq!(parse("GET", "/a?").unwrap().query(), Some(""));
        assert_eq!(parse("GET", "http://api.x:81?q").unwrap().path(), "/");
    }

    #[test]
    fn trace_and_connect_are_405_and_close() {
        for method in ["TRACE", "CONNECT", "trace", "Connect"] {
            let rejection = parse(method, "/").unwrap_err();
            assert_eq!(rejection.code(), Code::MethodNotAllowed, "{method}");
            assert!(rejection.closes(), "{method}");
        }
        for method in ["OPTIONS", "TRACK", "PROPFIND"] {
            assert!(parse(method, "/").is_ok(), "{method}");
        }
    }

    #[test]
    fn a_bad_path_is_400_and_keeps_the_connection() {
        for uri in ["*", "/a%00", "/..;/a", "/%zz", "ftp://api.x:81/a", "api.x:81"] {
            let rejection = parse("OPTIONS", uri).unwrap_err();
            assert_eq!(rejection.code(), Code::BadRequest, "{uri}");
            assert!(!rejection.closes(), "{uri}");
        }
    }

    #[test]
    fn framing_and_host_are_judged_too() {
        let request = Request::builder().uri("/").header("host", "a").header("content-length", "x");
        assert!(Target::parse(&request.body(()).unwrap()).unwrap_err().closes());
        let request = Request::builder().uri("/").body(()).unwrap();
        assert!(Target::parse(&request).unwrap_err().closes());
        let request = Request::builder().version(Version::HTTP_10).uri("/").body(()).unwrap();
        let target = Target::parse(&request).unwrap();
        assert_eq!((target.host(), target.authority()), (None, None));
    }

    #[test]
    fn header_fields_are_counted() {
        for (count, passes) in [(MAX_HEADER_FIELDS, true), (MAX_HEADER_FIELDS + 1, false)] {
            let mut request = Request::builder().uri("/").header("host", "a");
            for _ in 1..count {
                request = request.header("x", "y");
            }
            let parsed = Target::parse(&request.body(()).unwrap());
            let code = parsed.map_err(|rejection| rejection.code()).err();
            assert_eq!(code, (!passes).then_some(Code::HeadersTooLarge), "{count}");
        }
    }

    #[test]
    fn no_query_is_printed() {
        let printed = format!("{:?}", parse("GET", "/a?code=secret").unwrap());
        assert!(printed.contains("\"/a\"") && !printed.contains("secret"), "{printed}");
    }
}
