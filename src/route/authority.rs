//! The one host that a request names.
//!
//! A request can name its host in `Host`, in `:authority` and in an absolute-form target. When
//! they differ, the gateway and whoever stands before or behind it may pick different ones:
//! a route is then chosen by one host and the upstream serves another (host-header attacks,
//! cache poisoning). So all that are there must agree, and the one must be valid.

use std::borrow::Cow;

use http::header::HOST;
use http::uri::Scheme;
use http::{HeaderValue, Request, Version, uri};

use crate::rejection::{Code, Rejection};
use crate::route::host::canonical_host;

/// The host of a request, as it came and as it is compared.
#[derive(Clone)]
pub(super) struct Authority {
    written: Written,
    host: Host,
}

/// Where the authority stands in the request; a clone shares its bytes.
#[derive(Clone)]
enum Written {
    Field(HeaderValue),
    Target(uri::Authority),
}

/// The host in canonical spelling.
#[derive(Clone)]
enum Host {
    /// The first so many bytes of what is written: nearly always.
    Prefix(usize),
    Respelled(Box<str>),
}

impl Authority {
    /// The host of `request`; `None` only for HTTP/1.0 without `Host`.
    ///
    /// # Errors
    ///
    /// 400, closing (RFC 9112 §3.2), unless there is exactly one valid host.
    pub(super) fn of<B>(request: &Request<B>) -> Result<Option<Self>, Rejection> {
        let mut fields = request.headers().get_all(HOST).iter();
        let field = fields.next();
        if fields.next().is_some() {
            return Err(refuse("`Host` is repeated"));
        }
        let field = match field {
            None => None,
            Some(value) => {
                let text =
                    value.to_str().map_err(|_error| refuse("`Host` is not visible ASCII"))?;
                Some((value, Parts::parse(text).ok_or_else(|| refuse("`Host` is not valid"))?))
            }
        };
        let target = match request.uri().authority() {
            None => None,
            Some(authority) => {
                let parts = Parts::parse(authority.as_str())
                    .ok_or_else(|| refuse("the authority of the target is not valid"))?;
                Some((authority, parts))
            }
        };
        match (target, field) {
            (None, None) if request.version() == Version::HTTP_10 => Ok(None),
            (None, None) => Err(refuse("no host is named")),
            (None, Some((value, parts))) => {
                Ok(Some(Self { written: Written::Field(value.clone()), host: parts.host() }))
            }
            (Some(_), None) if request.version() == Version::HTTP_11 => {
                // RFC 9112 §3.2: HTTP/1.1 has a `Host` field in every form of the target.
                Err(refuse("there is no `Host` beside the absolute target"))
            }
            (Some((authority, parts)), field) => {
                if let Some((_, other)) = field
                    && !parts.agrees(&other, request.uri().scheme())
                {
                    return Err(refuse("`Host` and the authority of the target differ"));
                }
                let host = parts.host();
                Ok(Some(Self { written: Written::Target(authority.clone()), host }))
            }
        }
    }

    /// As the caller wrote it, with its port.
    pub(super) fn written(&self) -> &str {
        match &self.written {
            // Only visible ASCII came this far.
            Written::Field(value) => value.to_str().unwrap_or_default(),
            Written::Target(authority) => authority.as_str(),
        }
    }

    /// The same as the value of a field.
    pub(super) fn field(&self) -> Option<HeaderValue> {
        match &self.written {
            Written::Field(value) => Some(value.clone()),
            Written::Target(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        }
    }

    /// In the spelling that hosts are compared in.
    pub(super) fn host(&self) -> &str {
        match &self.host {
            Host::Prefix(length) => self.written().get(..*length).unwrap_or_default(),
            Host::Respelled(host) => host,
        }
    }
}

/// A host and a port, read from one place of the request.
struct Parts<'a> {
    host: Cow<'a, str>,
    port: Option<u16>,
}

impl<'a> Parts<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        // The colons of an IPv6 address stand before the bracket.
        let after_address = if text.starts_with('[') { text.rfind(']')? } else { 0 };
        let port = text.get(after_address..)?.bytes().position(|byte| byte == b':');
        let colon = port.map(|at| after_address + at);
        let (host, port) = match colon {
            None => (text, None),
            Some(at) => {
                let digits = text.get(at + 1..)?;
                if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                (text.get(..at)?, Some(digits.parse().ok()?))
            }
        };
        Some(Self { host: canonical_host(host).ok()?, port })
    }

    /// Whether both mean the same origin, where the scheme's own port may be left out.
    fn agrees(&self, other: &Self, scheme: Option<&Scheme>) -> bool {
        let usual = if scheme == Some(&Scheme::HTTPS) { 443 } else { 80 };
        self.host == other.host && self.port.unwrap_or(usual) == other.port.unwrap_or(usual)
    }

    fn host(self) -> Host {
        match self.host {
            Cow::Borrowed(host) => Host::Prefix(host.len()),
            Cow::Owned(host) => Host::Respelled(host.into_boxed_str()),
        }
    }
}

fn refuse(fault: &'static str) -> Rejection {
    Rejection::new(
        Code::BadRequest,
        "the request does not name exactly one valid host",
        format!("host refused: {fault}; exactly one valid host is needed (RFC 9112 section 3.2)"),
    )
    .closing()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(
        version: Version,
        uri: &str,
        hosts: &[&str],
    ) -> Result<Option<(String, String)>, Rejection> {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let found = Authority::of(&request.body(()).unwrap())?;
        Ok(found.map(|found| (found.host().to_owned(), found.written().to_owned())))
    }

    #[test]
    fn one_host_is_taken_from_wherever_it_stands() {
        for (version, uri, hosts, host, written) in [
            (Version::HTTP_11, "/", &["api.example.com"][..], "api.example.com", "api.example.com"),
            (
                Version::HTTP_11,
                "/",
                &["API.example.com.:8443"],
                "api.example.com",
                "API.example.com.:8443",
            ),
            (Version::HTTP_11, "/", &["a.x.:80"], "a.x", "a.x.:80"),
            (Version::HTTP_11, "/", &["[::1]:80"], "[::1]", "[::1]:80"),
            (Version::HTTP_11, "http://a.x/y", &["a.x"], "a.x", "a.x"),
            (Version::HTTP_11, "http://a.x/y", &["A.X:80"], "a.x", "a.x"),
            (Version::HTTP_11, "https://a.x:443/y", &["a.x"], "a.x", "a.x:443"),
            (Version::HTTP_2, "https://a.x/y", &[], "a.x", "a.x"),
            (Version::HTTP_2, "https://a.x/y", &["a.x"], "a.x", "a.x"),
            (Version::HTTP_2, "/y", &["a.x"], "a.x", "a.x"),
            (Version::HTTP_10, "/", &["a.x"], "a.x", "a.x"),
            (Version::HTTP_10, "http://a.x/y", &[], "a.x", "a.x"),
        ] {
            let found = authority(version, uri, hosts).unwrap().unwrap();
            assert_eq!(found, (host.to_owned(), written.to_owned()), "{uri} {hosts:?}");
        }
        assert!(authority(Version::HTTP_10, "/", &[]).unwrap().is_none());
    }

    #[test]
    fn none_several_invalid_or_differing_hosts_are_refused_and_close() {
        for (version, uri, hosts) in [
            (Version::HTTP_11, "/", &[][..]),
            (Version::HTTP_2, "/", &[]),
            (Version::HTTP_11, "/", &["a.x", "a.x"]),
            (Version::HTTP_10, "/", &["a.x", "b.x"]),
            (Version::HTTP_11, "/", &[""]),
            (Version::HTTP_11, "/", &["a.x, b.x"]),
            (Version::HTTP_11, "/", &["user@a.x"]),
            (Version::HTTP_11, "/", &["a.x/path"]),
            (Version::HTTP_11, "/", &["a.x:"]),
            (Version::HTTP_11, "/", &["a.x:+80"]),
            (Version::HTTP_11, "/", &["a.x:80:80"]),
            (Version::HTTP_11, "/", &["a.x:65536"]),
            (Version::HTTP_11, "/", &["[::1]80"]),
            (Version::HTTP_11, "/", &["http://a.x"]),
            (Version::HTTP_11, "http://a.x/", &[]),
            (Version::HTTP_11, "http://a.x/", &["b.x"]),
            (Version::HTTP_11, "http://a.x/", &["a.x:8080"]),
            (Version::HTTP_11, "http://u@a.x/", &["a.x"]),
            (Version::HTTP_2, "https://a.x/", &["b.x"]),
            (Version::HTTP_2, "https://a.x/", &["a.x:80"]),
        ] {
            let rejection = authority(version, uri, hosts).unwrap_err();
            assert_eq!(rejection.code(), Code::BadRequest, "{uri} {hosts:?}");
            assert!(rejection.closes(), "{uri} {hosts:?}");
        }
    }
}
