//! One origin of the file, and whether a request's `Origin` is it.
//!
//! Browsers write an origin in one way only (RFC 6454 §6.2): scheme and host in lower case, no
//! port where it is the scheme's own, no path. So the file is held to that spelling, and what
//! comes is compared byte for byte.

use std::fmt;

use url::Url;

/// An origin, or all hosts below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// All of it; of `https://*.example.com:8443` what stands before the `*`.
    head: String,
    /// What stands behind the `*`: `.example.com:8443`.
    below: Option<String>,
}

/// Why a text is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// `null`, which is no page's own.
    #[error("`null` is the origin of every sandboxed page")]
    Null,
    /// There is another spelling that browsers use.
    #[error("browsers never write it so")]
    Spelled(String),
    /// There is no such origin.
    #[error("it is not an origin: scheme, host, and a port that is not the scheme's own")]
    NotOne,
    /// A `*` that is not the first label of a host.
    #[error("a `*` stands for the beginning of a host, and nothing else")]
    Star,
}

impl Origin {
    /// Reads `https://app.example.com`, `http://localhost:3000` or `https://*.example.com`.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub fn parse(written: &str) -> Result<Self, OriginError> {
        if written == "null" {
            return Err(OriginError::Null);
        }
        let Some((before, behind)) = written.split_once('*') else {
            check(written)?;
            return Ok(Self { head: written.to_owned(), below: None });
        };
        if !before.ends_with("://") || !behind.starts_with('.') || behind.contains('*') {
            return Err(OriginError::Star);
        }
        // With a label in its place it is an origin like any other.
        check(&format!("{before}a{behind}")).map_err(|error| match error {
            OriginError::Spelled(right) => {
                OriginError::Spelled(right.replacen("://a.", "://*.", 1))
            }
            OriginError::Null | OriginError::NotOne | OriginError::Star => error,
        })?;
        Ok(Self { head: before.to_owned(), below: Some(behind.to_owned()) })
    }

    /// Whether this is what a request's `Origin` says.
    pub fn is(&self, origin: &[u8]) -> bool {
        let Some(below) = &self.below else { return origin == self.head.as_bytes() };
        origin
            .strip_prefix(self.head.as_bytes())
            .and_then(|rest| rest.strip_suffix(below.as_bytes()))
            .is_some_and(|labels| labels.split(|byte| *byte == b'.').all(is_label))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)?;
        self.below.as_ref().map_or(Ok(()), |below| write!(f, "*{below}"))
    }
}

/// Whether it can stand between two dots of a host: so nothing that could end the host is in it.
fn is_label(text: &[u8]) -> bool {
    let plain =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(byte);
    !text.is_empty() && text.iter().all(plain)
}

/// Whether browsers write an origin so.
fn check(text: &str) -> Result<(), OriginError> {
    let url = Url::parse(text).map_err(|_no_url| OriginError::NotOne)?;
    let alone = url.username().is_empty()
        && url.password().is_none()
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none();
    let right = match url.scheme() {
        "http" | "https" => url.origin().ascii_serialization(),
        // Of extensions and of applications made of pages: `chrome-extension://id`,
        // `capacitor://localhost`.
        "file" | "data" | "blob" | "javascript" | "about" | "ws" | "wss" | "ftp" => {
            return Err(OriginError::NotOne);
        }
        scheme => {
            let host = url.host_str().filter(|host| !host.is_empty());
            let host = host.ok_or(OriginError::NotOne)?.to_ascii_lowercase();
            let plain = host.split('.').all(|label| is_label(label.as_bytes()));
            if !plain {
                return Err(OriginError::NotOne);
            }
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{scheme}://{host}{port}")
        }
    };
    if alone && right == text { Ok(()) } else { Err(OriginError::Spelled(right)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for text in [
            "https://app.example.com",
            "http://localhost:3000",
            "https://app.example.com:8443",
            "http://127.0.0.1:5173",
            "http://[::1]:5173",
            "https://xn--bcher-kva.example",
            "https://*.example.com",
            "https://*.example.com:8443",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "capacitor://localhost",
        ] {
            assert!(Origin::parse(text).is_ok(), "{text}: {:?}", Origin::parse(text));
        }
        let spelled = |text: &str| OriginError::Spelled(text.to_owned());
        for (text, why) in [
            ("https://app.example.com/", spelled("https://app.example.com")),
            ("https://app.example.com/login", spelled("https://app.example.com")),
            ("https://App.Example.com", spelled("https://app.example.com")),
            ("HTTPS://app.example.com", spelled("https://app.example.com")),
            ("https://app.example.com:443", spelled("https://app.example.com")),
            ("http://app.example.com:80", spelled("http://app.example.com")),
            ("https://bücher.example", spelled("https://xn--bcher-kva.example")),
            ("https://u:p@app.example.com", spelled("https://app.example.com")),
            ("https://app.example.com?", spelled("https://app.example.com")),
            ("https://*.example.com/", spelled("https://*.example.com")),
            ("https://*.Example.com:443", spelled("https://*.example.com")),
            ("capacitor://localhost/", spelled("capacitor://localhost")),
            ("null", OriginError::Null),
            ("app.example.com", OriginError::NotOne),
            ("localhost:3000", OriginError::NotOne),
            ("//app.example.com", OriginError::NotOne),
            ("file://", OriginError::NotOne),
            ("wss://app.example.com", OriginError::NotOne),
            ("https://", OriginError::NotOne),
            ("", OriginError::NotOne),
            ("https://*", OriginError::Star),
            ("https://app*.example.com", OriginError::Star),
            ("https://app.*.com", OriginError::Star),
            ("https://*.*.com", OriginError::Star),
            ("*.example.com", OriginError::Star),
            ("http://localhost:*", OriginError::Star),
            ("https://*:8443", OriginError::Star),
        ] {
            assert_eq!(Origin::parse(text).err(), Some(why), "{text}");
        }
    }

    #[test]
    fn an_origin_is_compared_byte_for_byte() {
        let one = Origin::parse("https://app.example.com").unwrap();
        assert!(one.is(b"https://app.example.com"));
        for other in [
            "https://app.example.com.evil.example",
            "https://evilapp.example.com",
            "https://app.example.com:8443",
            "https://app.example.com/",
            "https://APP.example.com",
            "http://app.example.com",
            "https://app.example.co",
            " https://app.example.com",
            "https://app.example.com, https://app.example.com",
            "null",
            "",
        ] {
            assert!(!one.is(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_star_is_one_label_or_more_and_nothing_else() {
        let below = Origin::parse("https://*.example.com:8443").unwrap();
        for origin in ["https://a.example.com:8443", "https://a-1.b_c.example.com:8443"] {
            assert!(below.is(origin.as_bytes()), "{origin}");
        }
        for other in [
            "https://example.com:8443",
            "https://.example.com:8443",
            "https://a..example.com:8443",
            "https://a.example.com",
            "https://a.example.com:8443:8443",
            "http://a.example.com:8443",
            "https://evil.test/.example.com:8443",
            "https://evil.test#.example.com:8443",
            "https://evil.test?.example.com:8443",
            "https://evil.test\\.example.com:8443",
            "https://evil.test:1.example.com:8443",
            "https://u@a.example.com:8443",
            "https://aexample.com:8443",
            "https://A.example.com:8443",
            "https://\u{e4}.example.com:8443",
        ] {
            assert!(!below.is(other.as_bytes()), "{other}");
        }
    }
}
