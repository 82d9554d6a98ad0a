//! What a caller calls the place that a request is for: scheme, host, port and path, as the `htu`
//! of a DPoP proof names it (RFC 9449 §4.2, without query and fragment).
//!
//! Both sides are read by the code that reads the target of every request, so that whatever the
//! gateway takes for the same place is the same here: letters of the host, default ports, encoded
//! unreserved characters and dot segments (RFC 3986 §6.2.2 and §6.2.3). What a request says of
//! itself in `X-Forwarded-*` and `Forwarded` is never looked at.

use std::fmt;

use http::{Request, Uri, Version};

use crate::route::Target;

use super::Presented;

/// What callers call the host of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalledAt {
    /// The gateway's public URL, if it has one: the route takes its host, and whatever other
    /// host a request names is what a proxy in front made of it, or what its sender likes.
    PublicUrl,
    /// The host that the request names: one of the route's own, which the public URL's is not
    /// among. No caller of the public URL meets the route, so a proof for that URL would be
    /// none that an honest client makes; and nobody is free to name another host, since a
    /// request that does is not one for the route.
    OwnHost,
}

/// A place on the web, in one spelling.
pub(super) struct PublicPlace {
    secure: bool,
    port: u16,
    target: Target,
}

impl PublicPlace {
    /// Where a request goes, in the caller's words: below the gateway's public URL if it has
    /// one that leads to the route, else at the host that the request names. `None` if it names
    /// none (HTTP/1.0).
    pub(super) fn of_request(presented: &Presented<'_>, called_at: CalledAt) -> Option<Self> {
        let path = presented.target.path();
        let secured_in_front = match (presented.public_url, called_at) {
            (None, _) => false,
            (Some(url), CalledAt::PublicUrl) => {
                return Self::read(&format!("{}{path}", url.trim_end_matches('/')));
            }
            // Whoever ends TLS in front for the public URL does so for the other hosts too.
            (Some(url), CalledAt::OwnHost) => url.starts_with("https:"),
        };
        let scheme = if presented.peer.tls || secured_in_front { "https" } else { "http" };
        Self::read(&format!("{scheme}://{}{path}", presented.target.authority()?))
    }

    /// The place that an absolute URL names; its query and fragment don't count. `None` for what
    /// is none, or what no request for the gateway could be.
    pub(super) fn read(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let is =
            |scheme: &str| uri.scheme_str().is_some_and(|own| own.eq_ignore_ascii_case(scheme));
        let secure = match (is("https"), is("http")) {
            (true, _) => true,
            (_, true) => false,
            _ => return None,
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let request = Request::builder().version(Version::HTTP_2).uri(uri).body(()).ok()?;
        Some(Self { secure, port, target: Target::parse(&request).ok()? })
    }
}

impl PartialEq for PublicPlace {
    fn eq(&self, other: &Self) -> bool {
        self.secure == other.secure
            && self.port == other.port
            && self.target.host() == other.target.host()
            && same_path(self.target.path(), other.target.path())
    }
}

impl fmt::Display for PublicPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        let host = self.target.host().unwrap_or_default();
        write!(f, "{scheme}://{host}:{}{}", self.port, self.target.path())
    }
}

/// Whether two canonical paths differ in nothing but the letters of escapes (RFC 3986 §6.2.2.1).
fn same_path(one: &str, other: &str) -> bool {
    let mut digits = 0_u8;
    one.len() == other.len()
        && one.bytes().zip(other.bytes()).all(|(one, other)| {
            let in_escape = digits > 0;
            digits = if one == b'%' { 2 } else { digits.saturating_sub(1) };
            one == other || (in_escape && one.eq_ignore_ascii_case(&other))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        let (one, other) = (PublicPlace::read(one), PublicPlace::read(other));
        one.is_some() && one == other
    }

    #[test]
    fn spellings_of_one_place() {
        let place = "https://api.example.com/a/b";
        for other in [
            "https://api.example.com/a/b",
            "HTTPS://API.Example.COM:443/a/b",
            "https://api.example.com/a/b?x=1&y=2",
            "https://api.example.com/a/b#f",
            "https://api.example.com/a/./c/../b",
            "https://api.example.com/%61/b",
        ] {
            assert!(same(place, other), "{other}");
        }
        assert!(same("https://a.example", "https://a.example/"));
        assert!(same("https://a.example/%c3%a4", "https://a.example/%C3%A4"));
        assert!(same("http://[::1]:80/x", "http://[::1]/x"));
    }

    #[test]
    fn other_places_and_no_places() {
        let place = "https://api.example.com/a/b";
        for other in [
            "http://api.example.com/a/b",
            "https://api.example.com:8443/a/b",
            "https://api.example.org/a/b",
            "https://api.example.com/a",
            "https://api.example.com/a/b/",
            "https://api.example.com/A/b",
            "https://api.example.com/a/b;x",
            "https://user@api.example.com/a/b",
            "https://api.example.com@evil.example/a/b",
            "//api.example.com/a/b",
            "/a/b",
            "api.example.com/a/b",
            "ftp://api.example.com/a/b",
            "https:/api.example.com/a/b",
            "https://api.example.com\\a\\b",
            " https://api.example.com/a/b",
            "https://api.example.com/a/b ",
            "",
        ] {
            assert!(!same(place, other), "{other}");
        }
        assert!(!same("https://a.example/%c3%a4", "https://a.example/%C3%A5"));
        assert!(!same("https://a.example/c3A", "https://a.example/c3a"));
        assert!(PublicPlace::read("*").is_none());
    }
}
