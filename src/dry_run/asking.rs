//! The request of a dry run: made of a method, a URL and fields, as a client would send them over
//! HTTP/1.1. It has no body, and comes from an address that nobody has.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use serde_json::{Map, Value};

use crate::peer::Peer;

/// Where it comes from: for documentation (RFC 5737 §3), so that no `trusted_proxies` mean it.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0);

/// A request that is asked about.
pub struct Asking {
    parts: Parts,
    peer: Peer,
    /// Whose it is.
    pub bearer: Bearer,
}

/// Whose a request is said to be.
pub enum Bearer {
    /// Of the one whom its `Authorization` names, if it has one.
    AsItCame,
    /// Of the one whom these claims speak of, were they those of a token with a good signature.
    Claims(Map<String, Value>),
}

impl fmt::Debug for Asking {
    // Tokens and secrets are among the fields.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, path) = (&self.parts.method, self.parts.uri.path());
        f.debug_struct("Asking")
            .field("method", method)
            .field("path", &path)
            .finish_non_exhaustive()
    }
}

/// Why there can be no such request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unaskable {
    /// Not the name of a method.
    #[error("`{0}` is not a method; write one like `GET`")]
    Method(String),
    /// Neither a path nor a URL of HTTP.
    #[error("`{0}` is not a URL; write one like `https://api.example.com/orders/1`, or a path")]
    Url(String),
    /// It names a user before its host; a password may stand there, so it is not repeated.
    #[error(
        "the URL has a name or a password before its host (`…@`), which clients don't send there; leave it out"
    )]
    User,
    /// It has a fragment.
    #[error("`{0}` has a fragment (`#`), which clients don't send; leave it out")]
    Fragment(String),
    /// Not a field.
    #[error("the header `{0}` can't be sent; write `Name: value` in visible ASCII")]
    Header(String),
}

impl Asking {
    /// A request with `method` for `url`, which is absolute, or a path at `default_host`.
    ///
    /// # Errors
    ///
    /// What is no request; one that is merely refused is none of these.
    pub fn new(
        method: &str,
        url: &str,
        fields: &[(String, String)],
        default_host: &str,
    ) -> Result<Self, Unaskable> {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_nothing_more| Unaskable::Method(method.to_owned()))?;
        if names_a_user(url) {
            return Err(Unaskable::User);
        }
        if url.contains('#') {
            return Err(Unaskable::Fragment(without_query(url)));
        }
        let wrong = || Unaskable::Url(without_query(url));
        let (tls, host, target) = split(url, default_host).ok_or_else(wrong)?;
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = target.parse::<Uri>().map_err(|_nothing_more| wrong())?;
        let headers = request.headers_mut();
        for (name, value) in fields {
            // The value may be a secret.
            let wrong = || Unaskable::Header(name.clone());
            let name = HeaderName::try_from(name.as_str()).map_err(|_nothing_more| wrong())?;
            let value = HeaderValue::from_str(value.trim()).map_err(|_nothing_more| wrong())?;
            headers.append(name, value);
        }
        if !headers.contains_key(HOST) {
            headers.insert(HOST, HeaderValue::from_str(host).map_err(|_nothing_more| wrong())?);
        }
        let (parts, ()) = request.into_parts();
        let peer = Peer { address: NOBODY, tls, certificate: None };
        Ok(Self { parts, peer, bearer: Bearer::AsItCame })
    }

    /// The same with a token: the text that stands behind `Bearer`. Never shown.
    ///
    /// # Errors
    ///
    /// It can't stand in a header.
    pub fn with_token(mut self, token: &str) -> Result<Self, Unaskable> {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_nothing_more| Unaskable::Header(AUTHORIZATION.to_string()))?;
        value.set_sensitive(true);
        self.parts.headers.append(AUTHORIZATION, value);
        Ok(self)
    }

    /// The same with claims in place of a token.
    #[must_use]
    pub fn with_claims(self, claims: Map<String, Value>) -> Self {
        Self { bearer: Bearer::Claims(claims), ..self }
    }

    /// Whether it has a token, or what stands for one.
    pub fn has_token(&self) -> bool {
        self.parts.headers.contains_key(AUTHORIZATION)
    }

    /// The request, as the gateway would see it.
    pub(super) fn request(&self) -> Request<()> {
        Request::from_parts(self.parts.clone(), ())
    }

    /// Its head.
    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Who sends it.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }
}

/// Whether it is over TLS, the host, and what stands in the request line. The path is taken as it
/// is written: how it is read is what is asked about.
fn split<'u>(url: &'u str, default_host: &'u str) -> Option<(bool, &'u str, String)> {
    if url.starts_with('/') {
        return Some((true, default_host, url.to_owned()));
    }
    if url == "*" {
        return Some((true, default_host, url.to_owned()));
    }
    let (scheme, rest) = url.split_once("://")?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let (host, behind) = rest.split_at_checked(rest.find(['/', '?']).unwrap_or(rest.len()))?;
    let target = if behind.starts_with('/') { behind.to_owned() } else { format!("/{behind}") };
    (!host.is_empty()).then_some((tls, host, target))
}

/// Whether something stands before the host, as in `https://user:password@host/`.
fn names_a_user(url: &str) -> bool {
    let behind = url.split_once("://").map(|(_, rest)| rest);
    let authority = behind.and_then(|rest| rest.split(['/', '?', '#']).next());
    !url.starts_with('/') && authority.is_some_and(|authority| authority.contains('@'))
}

/// Most characters of a URL that are repeated.
const MAX_SHOWN: usize = 200;

/// The URL as it may be repeated: without its query, and cut where it is long.
fn without_query(url: &str) -> String {
    let path = url.split('?').next().unwrap_or_default();
    match path.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", path.get(..end).unwrap_or_default()),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, url: &str) -> Result<(String, String, bool), Unaskable> {
        Asking::new(method, url, &[], "gateway.example").map(|asking| {
            let host = asking.parts.headers[HOST].to_str().unwrap().to_owned();
            (asking.parts.uri.to_string(), host, asking.peer.tls)
        })
    }

    #[test]
    fn a_url_is_split_and_its_path_stays_as_it_is_written() {
        for (url, target, host, tls) in [
            ("https://a.example/x/../y%2f?q=%62", "/x/../y%2f?q=%62", "a.example", true),
            ("HTTP://A.example:81", "/", "A.example:81", false),
            ("http://[::1]:8080?q", "/?q", "[::1]:8080", false),
            ("/x//y", "/x//y", "gateway.example", true),
            ("*", "*", "gateway.example", true),
        ] {
            let wanted = (target.to_owned(), host.to_owned(), tls);
            assert_eq!(of("GET", url), Ok(wanted), "{url}");
        }
    }

    #[test]
    fn what_is_no_request_is_said_without_its_query() {
        for (method, url) in [
            ("GE T", "/"),
            ("GET", "a"),
            ("GET", "ftp://a/"),
            ("GET", "https:///x"),
            ("GET", "https://user:secret@a.example/"),
            ("GET", "/x?secret=1#y"),
            ("GET", "/x y?secret=1"),
            ("", "/"),
        ] {
            let error = of(method, url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let of_user = of("GET", "https://user:secret@a.example/#x").unwrap_err();
        assert_eq!(of_user, Unaskable::User);
        // That is no user, in a path or behind the host.
        assert!(of("GET", "/a://b@c").is_ok() && of("GET", "https://a.example/u@h?x=y@z").is_ok());
        let long = |length: usize| of("GET", &"x".repeat(length)).unwrap_err();
        assert_eq!(long(200), Unaskable::Url("x".repeat(200)));
        assert_eq!(long(201), Unaskable::Url(format!("{}…", "x".repeat(200))));
    }

    #[test]
    fn fields_are_added_and_host_is_theirs() {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let fields = [field("Host", "b.example"), field("x-a", " 1"), field("X-A", "2")];
        let asking = Asking::new("GET", "https://a.example/", &fields, "c").unwrap();
        assert_eq!(asking.parts.headers[HOST], "b.example");
        assert_eq!(asking.parts.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        for bad in [field("", "1"), field("a b", "1"), field("x", "hunter2\n")] {
            let error = Asking::new("GET", "/", std::slice::from_ref(&bad), "c").err();
            // A line break at the end is space around the value.
            if bad.0 == "x" {
                assert_eq!(error, None);
            } else {
                assert!(!error.unwrap().to_string().contains("hunter2"));
            }
        }
        let error = Asking::new("GET", "/", &[field("x", "hunter2\u{7f}2")], "c").err().unwrap();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
