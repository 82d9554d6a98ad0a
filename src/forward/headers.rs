//! Which header fields pass, in both directions.
//!
//! The order of [`clean_request`] and [`assert_caller`] is security: what the
//! caller sent is removed first, all of it, and only then is anything added. A field that
//! `Connection` names is removed before the gateway's own fields exist, so that a caller
//! can't use it to strip one of ours.

use bytes::Bytes;
use http::header::{
    AGE, ALT_SVC, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_DISPOSITION, CONTENT_ENCODING,
    CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_SECURITY_POLICY_REPORT_ONLY, CONTENT_TYPE, COOKIE, DATE, EXPIRES, FORWARDED, HOST,
    LOCATION, MAX_FORWARDS, ORIGIN, PRAGMA, RANGE, REFRESH, RETRY_AFTER, SET_COOKIE,
    STRICT_TRANSPORT_SECURITY, TE, TRAILER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::authn::DPOP;
use crate::observe::digits::push_address;
use crate::observe::request_id::X_REQUEST_ID;
use crate::peer::{Peer, TrustedProxies, X_FORWARDED_FOR};

pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields that mean one connection only (RFC 9110 §7.6.1), and `Expect`, which is
/// carried by [`super::expect`]. `Trailer` passes: it announces trailers, and those pass.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "expect"
    )
}

/// What `Connection` says that names no field.
const KEEP_ALIVE: &[u8] = b"keep-alive";

/// Fields that say how content is framed and read: behind it, they come too late to be believed.
static OF_CONTENT: [HeaderName; 8] = [
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_TYPE,
    TRAILER,
];

/// Fields that say how the head of an answer is to be taken: a caller who merges trailers into the
/// head would get them past what was decided on it (RFC 9110 §6.5.1).
static OF_ANSWER: [HeaderName; 19] = [
    AGE,
    ALT_SVC,
    CACHE_CONTROL,
    HeaderName::from_static("clear-site-data"),
    CONTENT_SECURITY_POLICY,
    CONTENT_SECURITY_POLICY_REPORT_ONLY,
    DATE,
    EXPIRES,
    HOST,
    LOCATION,
    PRAGMA,
    REFRESH,
    RETRY_AFTER,
    SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
    VARY,
    WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
];

/// The same of a request.
static OF_REQUEST: [HeaderName; 8] =
    [CACHE_CONTROL, COOKIE, MAX_FORWARDS, ORIGIN, PRAGMA, RANGE, TE, X_REQUEST_ID];

/// Fields with which frameworks let a request claim another path, another method or, behind
/// Azure's own front doors, another user than the one the gateway judged.
fn is_override(name: &str) -> bool {
    matches!(
        name,
        "x-original-url"
            | "x-rewrite-url"
            | "x-http-method"
            | "x-http-method-override"
            | "x-method-override"
    )
}

/// Fields in which a proxy that ends TLS tells of the caller's certificate (RFC 9440 §2, and Azure's
/// own): from the caller itself they are forged. The gateway does not tell.
fn is_certificate(name: &str) -> bool {
    matches!(name, "client-cert" | "client-cert-chain" | "x-arr-clientcert")
}

/// Fields that only the gateway sets on a route: those of `forward_claims` and the one that
/// carries the upstream's credential.
#[derive(Debug, Default)]
pub struct Asserted(pub Vec<HeaderName>);

impl Asserted {
    fn has(&self, name: &HeaderName) -> bool {
        self.0.contains(name)
    }
}

/// Changes to the fields of a message that a route asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Taken away, before anything is put in.
    pub remove: Vec<HeaderName>,
    /// Put in place of what is there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Put beside what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderRules {
    /// Carries them out.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }

    /// Removes what a route takes away or gives a value of its own: in trailers, and before the
    /// final answer, the other side's would get past the rules.
    pub(super) fn remove_ruled(&self, headers: &mut HeaderMap) {
        for name in self.remove.iter().chain(self.set.iter().map(|(name, _)| name)) {
            headers.remove(name);
        }
    }
}

/// Removes from the caller's fields all that must not reach an upstream, the token among it.
pub(super) fn clean_request(headers: &mut HeaderMap, asserted: &Asserted) {
    let (mut cookie, mut authorization, mut host) = (false, false, false);
    let mut takes_trailers = false;
    remove_hop_by_hop(headers, |name, value| {
        cookie |= *name == COOKIE;
        authorization |= *name == AUTHORIZATION;
        host |= *name == HOST;
        takes_trailers |= *name == TE && accepts_trailers(value);
        is_unwanted(name, asserted)
    });
    if cookie {
        join_cookies(headers);
    }
    // Not among the unwanted: these two come with most requests, which then take no list.
    if authorization {
        headers.remove(&AUTHORIZATION);
    }
    if host {
        headers.remove(&HOST);
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Fields with `_` are read as `-` by CGI-like servers, so that `X_User` would pass for `X-User`.
fn is_unwanted(name: &HeaderName, asserted: &Asserted) -> bool {
    let text = name.as_str();
    text.contains('_')
        || is_forwarded(name)
        || is_claim_of_azure(text)
        // A proof is for the gateway, and for its URL.
        || *name == DPOP
        || is_override(text)
        || is_certificate(text)
        || asserted.has(name)
}

/// What App Service and Container Apps assert about a user they signed in.
fn is_claim_of_azure(name: &str) -> bool {
    name.starts_with("x-ms-client-principal") || name.starts_with("x-ms-token-")
}

/// What proxies say of those before them.
fn is_forwarded(name: &HeaderName) -> bool {
    *name == FORWARDED || starts_with(name, &["x-forwarded-"])
}

/// What a trusted proxy said of those before it; nothing, where anybody else speaks.
#[derive(Default)]
pub(super) struct Told {
    hops: Vec<u8>,
    elements: Vec<u8>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
}

impl Told {
    /// By `peer`, in its fields as they came.
    pub(super) fn by(peer: &Peer, trusted: &TrustedProxies, headers: &HeaderMap) -> Self {
        if !trusted.trust(peer.address.ip()) {
            return Self::default();
        }
        Self {
            hops: joined(headers, &X_FORWARDED_FOR),
            elements: joined(headers, &FORWARDED),
            proto: headers.get(&X_FORWARDED_PROTO).cloned(),
            host: headers.get(&X_FORWARDED_HOST).cloned(),
        }
    }
}

/// Room for an element of `Forwarded`, the host aside.
const ELEMENT_BYTES: usize = 80;

/// What the upstream is told of the caller's connection.
pub(super) struct Downstream<'a> {
    pub(super) peer: &'a Peer,
    pub(super) told: Told,
    /// The host the caller asked for, with its port.
    pub(super) authority: Option<HeaderValue>,
    pub(super) request_id: &'a HeaderValue,
}

/// Sets `X-Forwarded-For`, `-Proto`, `-Host`, `Forwarded` and `X-Request-Id`: where a trusted proxy has
/// told something, the address is appended, and the first `-Proto` and `-Host` are kept. The caller's own
/// were removed before ([`clean_request`]).
pub(super) fn assert_caller(headers: &mut HeaderMap, downstream: Downstream<'_>) {
    let Downstream { peer, told, authority, request_id } = downstream;
    let address = peer.address.ip().to_canonical();
    let Told { mut hops, elements: mut text, proto, host } = told;

    text.reserve(ELEMENT_BYTES + authority.as_ref().map_or(0, HeaderValue::len));
    let own_proto = if peer.tls { "https" } else { "http" };
    let [open, close] = if address.is_ipv6() { ["\"[", "]\""] } else { [""; 2] };
    let separator = if text.is_empty() { "" } else { ", " };
    push(&mut text, &[separator, "for=", open]);
    let from = text.len();
    push_address(&mut text, address);
    let shown = from..text.len();
    push(&mut text, &[close, ";proto=", own_proto]);
    if let Some(authority) = &authority {
        text.extend_from_slice(b";host=\"");
        text.extend_from_slice(authority.as_bytes());
        text.push(b'"');
    }
    // The values of both fields share its memory.
    let text = Bytes::from(text);
    let hops = if hops.is_empty() {
        text.slice(shown)
    } else {
        push(&mut hops, &[", "]);
        push_address(&mut hops, address);
        Bytes::from(hops)
    };
    // Made of field values that were valid before, and of addresses.
    let valid = |value| HeaderValue::from_maybe_shared::<Bytes>(value).ok();
    let fields = [
        (X_FORWARDED_FOR, valid(hops)),
        (X_FORWARDED_PROTO, proto.or(Some(HeaderValue::from_static(own_proto)))),
        (X_FORWARDED_HOST, host.or(authority)),
        (FORWARDED, valid(text)),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    headers.insert(X_REQUEST_ID, request_id.clone());
}

/// Removes from the trailers of a request what may not stand there: framing, how the content is
/// read, credentials and whatever would not pass as a header (RFC 9110 §6.5.1). An upstream that
/// merges trailers into the head would get them past the route's `rules`.
pub(super) fn clean_request_trailers(
    trailers: &mut HeaderMap,
    asserted: &Asserted,
    rules: &HeaderRules,
) {
    clean_request(trailers, asserted);
    rules.remove_ruled(trailers);
    remove_where(trailers, |name| {
        OF_CONTENT.contains(name)
            || OF_REQUEST.contains(name)
            || starts_with(name, &["access-control-", "if-"])
    });
}

/// Removes from an upstream's fields what means its connection only.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers, |name, _value| *name == X_REQUEST_ID);
}

/// Removes the fields that mean one connection only, and what is `unwanted`. One look at each field that is
/// there: that is cheaper than to look for each of those that may be there.
fn remove_hop_by_hop(
    headers: &mut HeaderMap,
    mut unwanted: impl FnMut(&HeaderName, &HeaderValue) -> bool,
) {
    let (mut connection, mut names_fields) = (false, false);
    let mut others = Vec::new();
    for (name, value) in &*headers {
        if *name == CONNECTION {
            connection = true;
            // Most times there is but this.
            names_fields |= !value.as_bytes().eq_ignore_ascii_case(KEEP_ALIVE);
        } else if unwanted(name, value) || is_hop_by_hop(name.as_str()) {
            others.push(name.clone());
        }
    }
    if names_fields {
        remove_named_by_connection(headers);
    }
    if connection {
        headers.remove(CONNECTION);
    }
    for name in others {
        headers.remove(name);
    }
}

/// Removes from the trailers of an answer what may not stand there: what means one connection
/// only, framing, how the content is read, credentials (RFC 9110 §6.5.1). A caller who merges
/// trailers into the head would get them past the route's `rules`.
pub(super) fn clean_response_trailers(trailers: &mut HeaderMap, rules: &HeaderRules) {
    clean_response(trailers);
    rules.remove_ruled(trailers);
    remove_where(trailers, |name| {
        OF_CONTENT.contains(name)
            || OF_ANSWER.contains(name)
            || starts_with(name, &["access-control-"])
    });
}

/// One look at each field that is there, and most times nothing to remove: that is cheaper than to look
/// for each of those that may be there.
fn remove_where(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    for name in headers.keys().filter(|name| goes(name)).cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
}

fn starts_with(name: &HeaderName, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.as_str().starts_with(prefix))
}

/// Removes the fields that `Connection` names. It and what else is hop by hop is removed in any case.
fn remove_named_by_connection(headers: &mut HeaderMap) {
    let lines = headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes);
    let names = lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let names = names.filter(|name| !name.eq_ignore_ascii_case(KEEP_ALIVE));
    let names = names.filter_map(|name| HeaderName::from_bytes(name).ok());
    // These frame the message or say where it goes; a caller can't make them disappear.
    let names = names.filter(|name| ![CONTENT_LENGTH, HOST, COOKIE].contains(name));
    for name in names.collect::<Vec<_>>() {
        headers.remove(name);
    }
}

/// Whether a `TE` names `trailers`: the one coding that is passed on (gRPC asks for it).
fn accepts_trailers(te: &HeaderValue) -> bool {
    let mut codings = te.to_str().unwrap_or_default().split(',');
    codings.any(|coding| {
        coding.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("trailers")
    })
}

/// HTTP/2 may split cookies into several fields; HTTP/1.1 servers want one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(mut joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        joined.set_sensitive(true);
        headers.insert(COOKIE, joined);
    }
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.collect::<Vec<_>>().join(", ").into_bytes()
}

fn push(text: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        text.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests;
