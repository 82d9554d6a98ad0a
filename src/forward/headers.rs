//! Which header fields pass, in both directions.
//!
//! The order of the steps in [`clean_request`] and [`assert_caller`] is security: what the
//! caller sent is removed first, all of it, and only then is anything added. A field that
//! `Connection` names is removed before the gateway's own fields exist, so that a caller
//! can't use it to strip one of ours.

use http::header::{
    AGE, ALT_SVC, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_DISPOSITION, CONTENT_ENCODING,
    CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_SECURITY_POLICY_REPORT_ONLY, CONTENT_TYPE, COOKIE, DATE, EXPECT, EXPIRES, FORWARDED,
    HOST, LOCATION, MAX_FORWARDS, ORIGIN, PRAGMA, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE,
    REFRESH, RETRY_AFTER, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::authn::DPOP;
use crate::observe::request_id::X_REQUEST_ID;
use crate::peer::{Peer, TrustedProxies, X_FORWARDED_FOR};

pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields that mean one connection only (RFC 9110 §7.6.1), and `Expect`, which is
/// carried by [`super::expect`]. `Trailer` passes: it announces trailers, and those pass.
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
    EXPECT,
];

/// Fields that say how content is framed and read: behind it, they come too late to be believed.
const OF_CONTENT: [HeaderName; 8] = [
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
const OF_ANSWER: [HeaderName; 19] = [
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
const OF_REQUEST: [HeaderName; 8] =
    [CACHE_CONTROL, COOKIE, MAX_FORWARDS, ORIGIN, PRAGMA, RANGE, TE, X_REQUEST_ID];

/// Fields with which frameworks let a request claim another path, another method or, behind
/// Azure's own front doors, another user than the one the gateway judged.
const OVERRIDES: [HeaderName; 5] = [
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
];

/// Fields in which a proxy that ends TLS tells of the caller's certificate (RFC 9440 §2, and Azure's
/// own): from the caller itself they are forged. The gateway does not tell.
const CERTIFICATES: [HeaderName; 3] = [
    HeaderName::from_static("client-cert"),
    HeaderName::from_static("client-cert-chain"),
    HeaderName::from_static("x-arr-clientcert"),
];

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
    let takes_trailers = accepts_trailers(headers);
    remove_hop_by_hop(headers);
    join_cookies(headers);
    headers.remove(AUTHORIZATION);
    // A proof is for the gateway, and for its URL.
    headers.remove(DPOP);
    headers.remove(HOST);
    let unwanted: Vec<HeaderName> =
        headers.keys().filter(|name| is_unwanted(name, asserted)).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Fields with `_` are read as `-` by CGI-like servers, so that `X_User` would pass for `X-User`.
fn is_unwanted(name: &HeaderName, asserted: &Asserted) -> bool {
    let text = name.as_str();
    text.contains('_')
        || is_claim_of_azure(text)
        || OVERRIDES.contains(name)
        || CERTIFICATES.contains(name)
        || asserted.has(name)
}

/// What App Service and Container Apps assert about a user they signed in.
fn is_claim_of_azure(name: &str) -> bool {
    name.starts_with("x-ms-client-principal") || name.starts_with("x-ms-token-")
}

/// What the upstream is told of the caller's connection.
pub(super) struct Downstream<'a> {
    pub(super) peer: &'a Peer,
    pub(super) trusted: &'a TrustedProxies,
    /// The host the caller asked for, with its port.
    pub(super) authority: Option<&'a str>,
    pub(super) request_id: &'a HeaderValue,
}

/// Sets `X-Forwarded-For`, `-Proto`, `-Host`, `Forwarded` and `X-Request-Id`. What came in them
/// is removed, unless a trusted proxy sent it: then the address is appended, and the first
/// `-Proto` and `-Host` are kept.
pub(super) fn assert_caller(headers: &mut HeaderMap, downstream: &Downstream<'_>) {
    let address = downstream.peer.address.ip().to_canonical();
    let trusted = downstream.trusted.trust(address);
    let mut hops = if trusted { joined(headers, &X_FORWARDED_FOR) } else { String::new() };
    let mut elements = if trusted { joined(headers, &FORWARDED) } else { String::new() };
    let first = |name| headers.get(name).filter(|_| trusted).cloned();
    let proto = first(X_FORWARDED_PROTO);
    let host = first(X_FORWARDED_HOST);
    remove_forwarded(headers);

    let shown = address.to_string();
    append(&mut hops, &[&shown]);
    let own_proto = if downstream.peer.tls { "https" } else { "http" };
    let proto = proto.unwrap_or(HeaderValue::from_static(own_proto));
    let own_host = downstream.authority.and_then(|host| HeaderValue::from_str(host).ok());
    let host = host.or(own_host);
    let (open, close) = if address.is_ipv6() { ("\"[", "]\"") } else { ("", "") };
    let [key, own, end] = downstream.authority.map_or([""; 3], |host| [";host=\"", host, "\""]);
    append(&mut elements, &["for=", open, &shown, close, ";proto=", own_proto, key, own, end]);

    insert(headers, X_FORWARDED_FOR, hops);
    headers.insert(X_FORWARDED_PROTO, proto);
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host);
    }
    insert(headers, FORWARDED, elements);
    headers.insert(X_REQUEST_ID, downstream.request_id.clone());
}

fn remove_forwarded(headers: &mut HeaderMap) {
    headers.remove(FORWARDED);
    remove_starting_with(headers, &["x-forwarded-"]);
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
    remove_forwarded(trailers);
    rules.remove_ruled(trailers);
    remove_all(trailers, &OF_CONTENT);
    remove_all(trailers, &OF_REQUEST);
    remove_starting_with(trailers, &["access-control-", "if-"]);
}

/// Removes from an upstream's fields what means its connection only.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    headers.remove(X_REQUEST_ID);
}

/// Removes from the trailers of an answer what may not stand there: what means one connection
/// only, framing, how the content is read, credentials (RFC 9110 §6.5.1). A caller who merges
/// trailers into the head would get them past the route's `rules`.
pub(super) fn clean_response_trailers(trailers: &mut HeaderMap, rules: &HeaderRules) {
    clean_response(trailers);
    rules.remove_ruled(trailers);
    remove_all(trailers, &OF_CONTENT);
    remove_all(trailers, &OF_ANSWER);
    remove_starting_with(trailers, &["access-control-"]);
}

fn remove_starting_with(headers: &mut HeaderMap, prefixes: &[&str]) {
    let has_one = |name: &&HeaderName| prefixes.iter().any(|it| name.as_str().starts_with(it));
    for name in headers.keys().filter(has_one).cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
}

fn remove_all(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        headers.remove(name);
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
    }
    remove_all(headers, &HOP_BY_HOP);
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let names = lines.flat_map(|line| line.split(','));
    let names = names.filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok());
    // These frame the message or say where it goes; a caller can't make them disappear.
    names.filter(|name| ![CONTENT_LENGTH, HOST, COOKIE].contains(name)).collect()
}

/// Whether `TE` names `trailers`: the one coding that is passed on (gRPC asks for it).
fn accepts_trailers(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(TE).iter().filter_map(|line| line.to_str().ok());
    let mut codings = lines.flat_map(|line| line.split(','));
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

fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.collect::<Vec<_>>().join(", ")
}

/// Appends an element, given in parts.
fn append(list: &mut String, element: &[&str]) {
    let separator = if list.is_empty() { "" } else { ", " };
    list.reserve_exact(separator.len() + element.iter().map(|part| part.len()).sum::<usize>());
    list.push_str(separator);
    for part in element {
        list.push_str(part);
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, text: String) {
    // Made of field values that were valid before, and of addresses.
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests;
