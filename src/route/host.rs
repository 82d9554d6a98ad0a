//! Names of hosts: what is a valid one, and the patterns of routes for them.
//!
//! A host is compared in one spelling: lower case, without port, without the root's dot, IPv6
//! addresses in their shortest form. It does not know where a request names its host.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

use crate::limits::{MAX_HOST_BYTES, MAX_HOST_LABEL_BYTES};
use crate::route::pattern::PatternError;

/// The hosts that a route takes: one name, or all names below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(pub(super) HostKind);

/// The two forms of a [`HostPattern`]; the text is in the spelling that hosts are compared in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostKind {
    /// This host.
    Exact(Box<str>),
    /// `*.` and this: one label or more before it.
    Below(Box<str>),
}

impl HostPattern {
    /// Reads `api.example.com` or `*.example.com` (one label or more in place of the `*`).
    ///
    /// # Errors
    ///
    /// A port, a `*` elsewhere, or what is not the name or address of a host.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let invalid = |why| PatternError::Host { text: text.to_owned(), why };
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(invalid(
                "`*` stands for whole labels at the beginning only; write `*.example.com`, or no \
                 `hosts` at all for every host",
            ));
        }
        let host = canonical_host(name).map_err(|fault| match fault {
            HostFault::Colon => {
                invalid("hosts are matched without scheme and port; write the name alone")
            }
            HostFault::Empty => invalid("a name is missing; write one like `api.example.com`"),
            HostFault::Name => invalid(
                "not the name of a host; write letters, digits, `-` and `_` in labels of at most \
                 63, joined by single dots, or an IPv6 address in brackets",
            ),
        })?;
        if wildcard && host.starts_with('[') {
            return Err(invalid("an address has no names below it; write the address alone"));
        }
        let host = host.into_owned().into_boxed_str();
        Ok(Self(if wildcard { HostKind::Below(host) } else { HostKind::Exact(host) }))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            HostKind::Exact(name) => f.write_str(name),
            HostKind::Below(name) => write!(f, "*.{name}"),
        }
    }
}

impl HostPattern {
    /// Whether it takes `host`, which has no port.
    pub fn takes(&self, host: &str) -> bool {
        let Ok(host) = canonical_host(host) else { return false };
        match &self.0 {
            HostKind::Exact(name) => *host == **name,
            HostKind::Below(name) => host
                .strip_suffix(&**name)
                .and_then(|labels| labels.strip_suffix('.'))
                .is_some_and(|labels| !labels.is_empty()),
        }
    }
}

/// Why a text is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostFault {
    Empty,
    Colon,
    Name,
}

/// The spelling in which hosts are compared, for a host without port.
///
/// Stricter than RFC 3986's `reg-name`: escapes, user names, commas and the like have no
/// business in a host and are what host-header attacks are made of.
pub(super) fn canonical_host(text: &str) -> Result<Cow<'_, str>, HostFault> {
    if let Some(rest) = text.strip_prefix('[') {
        let address = rest.strip_suffix(']').ok_or(HostFault::Name)?;
        // `parse` takes no zone and no port.
        let address: Ipv6Addr = address.parse().map_err(|_error| HostFault::Name)?;
        return Ok(Cow::Owned(format!("[{address}]")));
    }
    let fault = || if text.contains(':') { HostFault::Colon } else { HostFault::Name };
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(HostFault::Empty);
    }
    let (mut label, mut upper) = (0_usize, false);
    for byte in name.bytes() {
        match byte {
            b'.' if label == 0 => return Err(fault()),
            b'.' => label = 0,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => label += 1,
            b'A'..=b'Z' => {
                label += 1;
                upper = true;
            }
            _ => return Err(fault()),
        }
        if label > MAX_HOST_LABEL_BYTES {
            return Err(fault());
        }
    }
    if label == 0 || name.len() > MAX_HOST_BYTES {
        return Err(fault());
    }
    Ok(if upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_spelling() {
        for (text, host) in [
            ("api.example.com", "api.example.com"),
            ("API.Example.COM", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("localhost", "localhost"),
            ("a_b-c.x", "a_b-c.x"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[0:0::0:1]", "[::1]"),
            ("[FE80::A]", "[fe80::a]"),
        ] {
            assert_eq!(canonical_host(text).as_deref(), Ok(host), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long_label = "a".repeat(64);
        let long_name = format!("{}x", "abc.".repeat(64));
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "a b",
            "a,b",
            "a/b",
            "u@a",
            "a%41",
            "a:1",
            "é.com",
            "[::1",
            "::1",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "[::1]x",
            &long_label,
            &long_name,
        ] {
            assert!(canonical_host(text).is_err(), "{text}");
        }
        assert!(canonical_host(&"a".repeat(63)).is_ok());
    }

    #[test]
    fn a_pattern_takes_its_host_or_what_is_below_it() {
        for (pattern, host, takes) in [
            ("api.example.com", "API.example.com.", true),
            ("api.example.com", "x.api.example.com", false),
            ("*.example.com", "api.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "badexample.com", false),
            ("*.example.com", ".example.com", false),
            ("[::1]", "[0::1]", true),
        ] {
            let takes_it = HostPattern::parse(pattern).unwrap().takes(host);
            assert_eq!(takes_it, takes, "{pattern} {host}");
        }
    }

    #[test]
    fn patterns_are_one_name_or_all_below_one() {
        let exact = HostPattern::parse("API.example.com").unwrap();
        assert_eq!(exact.0, HostKind::Exact("api.example.com".into()));
        let below = HostPattern::parse("*.Example.com").unwrap();
        assert_eq!(below.0, HostKind::Below("example.com".into()));
        for text in
            ["*", "*.", "a.*.b", "*a.b", "**.a", "a:8080", "*.a:1", "", "*.[::1]", "http://a"]
        {
            let error = HostPattern::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
