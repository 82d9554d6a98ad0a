//! The handshake of WebSocket (RFC 6455 §4) and its Close frame (§5.5.1), as bytes.
//!
//! The gateway shakes hands twice, with a key of its own towards the upstream: so the two need not
//! speak the same HTTP, and an upstream that does not understand what it is asked is found out here.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::elements;

pub(super) const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
pub(super) const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
pub(super) const SEC_WEBSOCKET_VERSION: HeaderName =
    HeaderName::from_static("sec-websocket-version");

const SEC_WEBSOCKET_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
const SEC_WEBSOCKET_EXTENSIONS: HeaderName = HeaderName::from_static("sec-websocket-extensions");

/// What a key is hashed with, so that nobody answers it by chance (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The key of a caller's handshake, in its form.
#[derive(Clone, Debug)]
pub(super) struct CallersKey(HeaderValue);

impl CallersKey {
    /// The key, if there is exactly one and it is one.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
        let key = keys.next().filter(|_| keys.next().is_none())?;
        let bytes = STANDARD.decode(key.as_bytes()).ok()?;
        (bytes.len() == 16).then(|| Self(key.clone()))
    }

    /// What the caller has to be answered.
    pub(super) fn accept(&self) -> HeaderValue {
        accept(self.0.as_bytes())
    }
}

/// The key of a handshake of the gateway's own.
#[derive(Debug)]
pub(super) struct OwnKey(HeaderValue);

impl OwnKey {
    /// A new one; `None` if the system gives no random numbers.
    pub(super) fn new() -> Option<Self> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).ok()?;
        HeaderValue::from_str(&STANDARD.encode(bytes)).ok().map(Self)
    }

    pub(super) fn header(&self) -> &HeaderValue {
        &self.0
    }

    /// Whether an upstream that answers with `headers` has read it.
    pub(super) fn is_answered_by(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
        values.next().is_some_and(|value| *value == accept(self.0.as_bytes()))
            && values.next().is_none()
    }
}

/// What a handshake offers beyond WebSocket itself.
#[derive(Debug)]
pub(super) struct Offer {
    protocols: Vec<String>,
    extensions: Vec<String>,
}

impl Offer {
    /// That of a handshake with these fields.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let protocols = elements(headers, &SEC_WEBSOCKET_PROTOCOL).map(str::to_owned).collect();
        Self { protocols, extensions: extensions(headers).map(str::to_owned).collect() }
    }

    /// Whether an answer with `headers` takes no more than was offered: at most one subprotocol, and
    /// extensions of names that were there (RFC 6455 §4.1).
    pub(super) fn covers(&self, headers: &HeaderMap) -> bool {
        let fields = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().count();
        let mut protocols = elements(headers, &SEC_WEBSOCKET_PROTOCOL);
        let fits = match (fields, protocols.next(), protocols.next()) {
            (0, None, None) => true,
            // Subprotocols are told apart by case.
            (1, Some(one), None) => self.protocols.iter().any(|offered| offered == one),
            _ => false,
        };
        let offers = |name: &str| self.extensions.iter().any(|own| own.eq_ignore_ascii_case(name));
        fits && extensions(headers).all(offers)
    }
}

/// The names of extensions, without their parameters.
fn extensions(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let all = elements(headers, &SEC_WEBSOCKET_EXTENSIONS);
    all.map(|one| one.split_once(';').map_or(one, |(name, _parameters)| name.trim_end()))
}

fn accept(key: &[u8]) -> HeaderValue {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    // base64 is visible ASCII.
    HeaderValue::from_str(&STANDARD.encode(hash)).unwrap_or(HeaderValue::from_static(""))
}

/// Why the gateway itself closes a WebSocket (RFC 6455 §7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Goodbye {
    code: u16,
    text: &'static str,
}

impl Goodbye {
    /// A policy was met: what let the caller in has ended.
    pub(super) const TOKEN_EXPIRED: Self = Self { code: 1008, text: "token expired" };
    /// The gateway is going away.
    pub(super) const GOING_AWAY: Self = Self { code: 1001, text: "shutting down" };
    /// Nobody said anything for longer than the file allows.
    pub(super) const IDLE: Self = Self { code: 1001, text: "idle" };

    fn payload(self) -> Vec<u8> {
        let mut payload = self.code.to_be_bytes().to_vec();
        payload.extend_from_slice(self.text.as_bytes());
        payload
    }

    /// As a server says it.
    pub(super) fn to_caller(self) -> Vec<u8> {
        let payload = self.payload();
        let mut frame = vec![0x88, length(&payload)];
        frame.extend_from_slice(&payload);
        frame
    }

    /// As a client says it: masked (RFC 6455 §5.3).
    pub(super) fn to_upstream(self) -> Vec<u8> {
        let payload = self.payload();
        let mut mask = [0; 4];
        // The mask hides from caches what a script may choose; this text nobody chooses.
        if rand::fill(&mut mask).is_err() {
            mask = [0x5a; 4];
        }
        let mut frame = vec![0x88, 0x80 | length(&payload)];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }
}

/// Control frames have at most 125 bytes (RFC 6455 §5.5), and the texts above are short.
fn length(payload: &[u8]) -> u8 {
    u8::try_from(payload.len()).unwrap_or(125)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(values: &[&str]) -> Option<CallersKey> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(SEC_WEBSOCKET_KEY, HeaderValue::from_str(value).unwrap());
        }
        CallersKey::of(&headers)
    }

    #[test]
    fn the_answer_to_a_key_is_the_one_of_the_rfc() {
        let key = key(&["dGhlIHNhbXBsZSBub25jZQ=="]).unwrap();
        assert_eq!(key.accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_sixteen_bytes_once() {
        for bad in [
            &[][..],
            &[""],
            &["dGhlIHNhbXBsZSBub25jZQ"],
            &["dGhlIHNhbXBsZSBub25jZSE="],
            &["dGhlIHNhbXBsZSBub25j"],
            &["dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="],
            &["dGhlIHNhbXBsZSBub25jZQ==, x"],
        ] {
            assert!(key(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn an_own_key_is_new_each_time_and_answered_once() {
        let (one, other) = (OwnKey::new().unwrap(), OwnKey::new().unwrap());
        assert_ne!(one.header(), other.header());
        let mut headers = HeaderMap::new();
        assert!(!one.is_answered_by(&headers));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept(one.header().as_bytes()));
        assert!(one.is_answered_by(&headers) && !other.is_answered_by(&headers));
        headers.append(SEC_WEBSOCKET_ACCEPT, accept(one.header().as_bytes()));
        assert!(!one.is_answered_by(&headers));
    }

    #[test]
    fn an_answer_takes_what_was_offered_and_no_more() {
        let headers = |fields: &[(&'static str, &'static str)]| -> HeaderMap {
            let each = fields.iter().map(|&(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            each.collect()
        };
        let (protocol, extension) = ("sec-websocket-protocol", "sec-websocket-extensions");
        let some = Offer::of(&headers(&[(protocol, "chat, v2"), (extension, "deflate; a=1, x")]));
        let none = Offer::of(&HeaderMap::new());
        for (answer, by_some) in [
            (&[(protocol, "v2")][..], true),
            (&[(protocol, "V2")], false),
            (&[(protocol, "chat, v2")], false),
            (&[(protocol, "")], false),
            (&[(extension, "Deflate; b"), (protocol, "chat")], true),
            (&[(extension, "x,deflate")], true),
            (&[(extension, "y")], false),
        ] {
            let answer = headers(answer);
            assert_eq!(some.covers(&answer), by_some, "{answer:?}");
            assert!(!none.covers(&answer), "{answer:?}");
        }
        assert!(some.covers(&HeaderMap::new()) && none.covers(&HeaderMap::new()));
    }

    #[test]
    fn a_goodbye_is_a_close_frame() {
        let frame = Goodbye::TOKEN_EXPIRED.to_caller();
        assert_eq!(frame, b"\x88\x0f\x03\xf0token expired");
        let frame = Goodbye::TOKEN_EXPIRED.to_upstream();
        assert_eq!(frame[..2], [0x88, 0x8f]);
        let (mask, masked) = frame[2..].split_at(4);
        let payload: Vec<u8> =
            masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(payload, b"\x03\xf0token expired");
    }
}
