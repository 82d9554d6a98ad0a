//! The id that names a request in logs, answers and at the upstream: `x-request-id`.
//!
//! Whether the id of a request is believed is decided by whoever knows the trusted proxies.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::limits::MAX_REQUEST_ID_BYTES;

/// The header that carries it, in all directions.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request's id: 1 to [`MAX_REQUEST_ID_BYTES`] bytes of `A-Z a-z 0-9 - _ . : + / = @`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// A new one: a random UUID (RFC 9562 §5.4). It names a request and guards nothing, so the
    /// numbers need not be unguessable.
    pub fn new() -> Self {
        let uuid = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        uuid.hyphenated().encode_lower(&mut text);
        // With an owner: other bytes are put elsewhere once more when they are first cloned.
        let text = Bytes::from_owner(text);
        Self(HeaderValue::from_maybe_shared(text).unwrap_or(HeaderValue::from_static("-")))
    }

    /// The id that a trusted proxy gave, if it is one.
    pub fn trusted(value: &HeaderValue) -> Option<Self> {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
        let bytes = value.as_bytes();
        let fits = (1..=MAX_REQUEST_ID_BYTES).contains(&bytes.len());
        (fits && bytes.iter().all(allowed)).then(|| Self(value.clone()))
    }

    /// As a header value; cloning it shares the bytes.
    pub fn header(&self) -> &HeaderValue {
        &self.0
    }

    /// As bytes, all of them ASCII.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        // Both constructors take ASCII only.
        self.0.to_str().unwrap_or_default()
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_are_uuids_and_differ() {
        let id = RequestId::new();
        let uuid = uuid::Uuid::parse_str(id.as_str()).unwrap();
        assert_eq!(uuid.get_version_num(), 4);
        assert_eq!(id.as_str().len(), 36);
        assert_ne!(id, RequestId::new());
    }

    #[test]
    fn a_trusted_id_is_short_and_plain() {
        let given = |text: &str| RequestId::trusted(&HeaderValue::from_str(text).unwrap());
        assert_eq!(given("abc-1.2:3").unwrap().as_str(), "abc-1.2:3");
        assert!(given(&"x".repeat(MAX_REQUEST_ID_BYTES)).is_some());
        assert!(given(&"x".repeat(MAX_REQUEST_ID_BYTES + 1)).is_none());
        for bad in ["", "a b", "a\tb", "a\"b", "<a>", "a,b"] {
            assert!(given(bad).is_none(), "{bad}");
        }
        assert!(RequestId::trusted(&HeaderValue::from_bytes(b"\xfc").unwrap()).is_none());
    }
}
