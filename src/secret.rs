//! Types that hold what must never be printed: secrets of the gateway and tokens of callers.
//!
//! `Debug` shows only that something is there; there is no `Display`, no `Serialize`. The
//! bytes are reached by a method whose name says so. Those of a [`Secret`] are wiped when the
//! last holder goes; those of tokens are not: they share the buffers of the header fields they
//! came or go in, which the HTTP library owns, and they expire by themselves.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

/// A secret of the gateway itself: a client secret, an API key, the admin token.
#[derive(Clone)]
pub struct Secret(Arc<SecretString>);

impl Secret {
    /// Takes `text` as a secret.
    pub fn new(text: String) -> Self {
        Self(Arc::new(SecretString::from(text)))
    }

    /// The secret itself, for the one place that sends or compares it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether `presented` is this secret, in time that does not depend on where they differ.
    pub fn matches(&self, presented: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.expose().as_bytes(), presented)
            .is_ok()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.expose().as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// SHA-256 of a whole compact token: names it in caches without holding it.
///
/// All of the token is digested, not its signature alone: header and payload could
/// otherwise be swapped under a known signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of `token`, the compact serialisation as it came.
    pub fn of(token: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(redacted)")
    }
}

/// The caller's token: the compact serialisation exactly as it came.
///
/// It shares the bytes of the `Authorization` header it came in, so that holding and
/// cloning it costs no copy.
#[derive(Clone)]
pub struct InboundToken {
    header: HeaderValue,
    start: usize,
    digest: TokenDigest,
}

impl InboundToken {
    /// Takes an `Authorization` value whose token begins at byte `start`; `None` if no
    /// ASCII text begins there.
    pub fn new(mut header: HeaderValue, start: usize) -> Option<Self> {
        header.set_sensitive(true);
        let token = header.as_bytes().get(start..)?;
        if token.is_empty() || !token.is_ascii() {
            return None;
        }
        let digest = TokenDigest::of(token);
        Some(Self { header, start, digest })
    }

    /// The compact serialisation, for verification and for the `assertion` of an exchange.
    pub fn expose(&self) -> &str {
        // `new` saw that text begins at `start`.
        let token = self.header.as_bytes().get(self.start..).unwrap_or_default();
        str::from_utf8(token).unwrap_or_default()
    }

    /// The whole `Authorization` value, for an upstream that is given the token as it came.
    pub fn expose_header(&self) -> &HeaderValue {
        &self.header
    }

    /// Names the token in caches.
    pub fn digest(&self) -> TokenDigest {
        self.digest
    }
}

impl fmt::Debug for InboundToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InboundToken(redacted)")
    }
}

/// A header value that carries a token or key to an upstream: shared bytes, marked
/// sensitive, so that neither `Debug` nor HPACK's index ever holds it in clear.
#[derive(Clone)]
pub struct SecretHeader(HeaderValue);

impl SecretHeader {
    /// Marks `value` as sensitive and takes it.
    pub fn new(mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        Self(value)
    }

    /// The value to put into an upstream request; cloning shares the bytes.
    pub fn expose(&self) -> &HeaderValue {
        &self.0
    }
}

impl PartialEq for SecretHeader {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes())
            .is_ok()
    }
}

impl Eq for SecretHeader {}

impl fmt::Debug for SecretHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHeader(redacted)")
    }
}

/// Whether a header or parameter of this name is likely to carry a credential: what is shown of a
/// request or a file leaves its value out. Errs on the side of hiding.
pub fn names_a_credential(name: &str) -> bool {
    const PARTS: [&str; 7] = ["auth", "cookie", "key", "token", "secret", "passw", "signature"];
    let name = name.to_ascii_lowercase();
    name == "sig" || PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_in_debug_output() {
        let shown = format!(
            "{:?} {:?} {:?} {:?}",
            Secret::new("hunter2".into()),
            InboundToken::new(HeaderValue::from_static("Bearer hunter2"), 7),
            SecretHeader::new(HeaderValue::from_static("hunter2")),
            TokenDigest::of(b"hunter2"),
        );
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(shown.matches("redacted").count(), 4);
    }

    #[test]
    fn a_token_is_the_text_behind_the_scheme() {
        let token = InboundToken::new(HeaderValue::from_static("Bearer abc"), 7).expect("text");
        assert_eq!(token.expose(), "abc");
        assert_eq!(token.digest(), TokenDigest::of(b"abc"));
        for (value, start) in [(&b"Bearer "[..], 7), (b"Bearer abc", 11), (b"Bearer \xe9", 7)] {
            let value = HeaderValue::from_bytes(value).expect("a field value");
            assert!(InboundToken::new(value, start).is_none());
        }
    }

    #[test]
    fn a_secret_matches_itself_and_nothing_else() {
        let secret = Secret::new("hunter2".into());
        assert!(secret.matches(b"hunter2"));
        assert!(!secret.matches(b"hunter"));
        assert!(!secret.matches(b""));
    }
}
