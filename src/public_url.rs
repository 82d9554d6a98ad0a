//! The URL by which callers know this gateway: `server.public_url`.
//!
//! What is built with it (the metadata of protected resources, the `htu` that a `DPoP` proof has to
//! name) never depends on what a request says of its host. It decides what such a URL looks
//! like; who uses it is not known here.

use std::fmt;

use url::Url;

/// The URL by which callers know the gateway, in one spelling: scheme and host in lower case,
/// no default port, no slash at the end.
///
/// It may have a path, where a proxy in front serves the gateway below one and strips it: the
/// caller's `https://example.com/gw/orders` reaches the gateway as `/orders`. A proxy that
/// strips nothing needs none: the routes then begin with that path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    text: String,
    /// Where the path begins in `text`; its end if there is none.
    path_at: usize,
    host: String,
}

/// Why a URL can't be that of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicUrlError {
    /// Only `https` and `http` are served.
    #[error("its scheme is `{0}`, and not `https` or `http`")]
    Scheme(String),
    /// There is no host, or one that only a pattern could have.
    #[error("it names no host that callers can use")]
    Host,
    /// A user name or password.
    #[error("it has a user name or password in it")]
    UserInfo,
    /// A query or fragment: the paths of requests are put behind it.
    #[error("it has a query or fragment, and the paths of requests are put behind it")]
    Suffix,
    /// A path that could be spelled in another way, or read in two.
    #[error("its path has an empty segment, or characters that could be spelled in another way")]
    Path,
}

impl PublicUrl {
    /// Takes a URL that was parsed; a slash at its end does not count.
    ///
    /// # Errors
    ///
    /// It is more, or less, than scheme, host, port and a plain path.
    pub fn new(url: &Url) -> Result<Self, PublicUrlError> {
        if !matches!(url.scheme(), "https" | "http") {
            return Err(PublicUrlError::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(PublicUrlError::UserInfo);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(PublicUrlError::Suffix);
        }
        let host = url.host_str().filter(|host| !host.is_empty() && !host.contains('*'));
        let host = host.ok_or(PublicUrlError::Host)?;
        let path = url.path().strip_suffix('/').unwrap_or(url.path());
        if !path.is_empty() && !path.split('/').skip(1).all(is_plain) {
            return Err(PublicUrlError::Path);
        }
        let origin = url.origin().ascii_serialization();
        let path_at = origin.len();
        Ok(Self { text: origin + path, path_at, host: host.to_owned() })
    }

    /// All of it, without a slash at the end: `https://example.com/gw`.
    pub fn url(&self) -> &str {
        &self.text
    }

    /// Scheme, host and port: `https://example.com`.
    pub fn origin(&self) -> &str {
        self.text.get(..self.path_at).unwrap_or_default()
    }

    /// Its path, without a slash at the end: `/gw`; empty for most.
    pub fn base_path(&self) -> &str {
        self.text.get(self.path_at..).unwrap_or_default()
    }

    /// Its host, without a port; an IPv6 address has its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What callers call the path of a request, which begins with `/`.
    pub fn of_path(&self, path: &str) -> String {
        format!("{}{path}", self.text)
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A segment with one spelling: no escapes, no parameters, nothing that is quoted anywhere.
fn is_plain(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&()*+,=:@".contains(&byte);
    !segment.is_empty() && segment.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Result<PublicUrl, PublicUrlError> {
        PublicUrl::new(&Url::parse(text).unwrap())
    }

    #[test]
    fn a_public_url_has_one_spelling() {
        for (text, url) in [
            ("https://api.example.com", "https://api.example.com"),
            ("https://API.Example.com:443/", "https://api.example.com"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://[::0:1]:8443/", "https://[::1]:8443"),
            ("https://example.com/gw/", "https://example.com/gw"),
            ("https://example.com/a/b-c_d", "https://example.com/a/b-c_d"),
        ] {
            assert_eq!(made(text).unwrap().url(), url, "{text}");
        }
        let url = made("https://example.com:8443/gw").unwrap();
        assert_eq!((url.origin(), url.base_path()), ("https://example.com:8443", "/gw"));
        assert_eq!(url.host(), "example.com");
        assert_eq!(url.of_path("/orders"), "https://example.com:8443/gw/orders");
        let url = made("https://[::1]").unwrap();
        assert_eq!((url.base_path(), url.host()), ("", "[::1]"));
    }

    #[test]
    fn what_is_no_public_url_says_why() {
        for (text, error) in [
            ("ftp://a.example", PublicUrlError::Scheme("ftp".to_owned())),
            ("https://u@a.example", PublicUrlError::UserInfo),
            ("https://:p@a.example", PublicUrlError::UserInfo),
            ("https://a.example?x", PublicUrlError::Suffix),
            ("https://a.example/?", PublicUrlError::Suffix),
            ("https://a.example/#", PublicUrlError::Suffix),
            ("https://*.a.example", PublicUrlError::Host),
            ("https://a.example/x//y", PublicUrlError::Path),
            ("https://a.example//", PublicUrlError::Path),
            ("https://a.example/%7Ex", PublicUrlError::Path),
            ("https://a.example/a;b", PublicUrlError::Path),
            ("https://a.example/caf\u{e9}", PublicUrlError::Path),
        ] {
            assert_eq!(made(text), Err(error), "{text}");
        }
    }
}
