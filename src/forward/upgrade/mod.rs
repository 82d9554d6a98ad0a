//! Requests that ask their connection to become something else: WebSocket over HTTP/1.1 (RFC 6455)
//! and over HTTP/2 (RFC 8441), and what else a route names.
//!
//! [`Asked::of`] reads what the caller asks for and whether the route lets it; [`open()`] asks the
//! upstream for the same; [`Tunnel`] carries the bytes from then on. Who may ask was decided before,
//! as for any request: until the upstream has agreed, a handshake is one.
//!
//! What is not agreed on stays HTTP. A handshake of WebSocket that is not accepted is the last
//! request of its connection (`accept/service.rs`), so that nothing behind it is read as a request.

mod frames;
mod open;
mod pump;
mod tunnel;
mod websocket;

use std::borrow::Cow;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, Method, Request, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use crate::rejection::{Code, Extra, Rejection};
use websocket::{CallersKey, SEC_WEBSOCKET_VERSION};

pub(super) use open::{Opened, UpgradeFault, open};
pub use tunnel::{Ended, Running, Tunnel};

/// The one upgrade that routes have unless they say otherwise.
pub const WEBSOCKET: &str = "websocket";

/// What the connections of a route's callers may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrades {
    /// In lower case; over HTTP/2 only [`WEBSOCKET`] is possible.
    tokens: Cow<'static, [Cow<'static, str>]>,
}

impl Default for Upgrades {
    fn default() -> Self {
        const WEBSOCKET_ALONE: &[Cow<'static, str>] = &[Cow::Borrowed(WEBSOCKET)];
        Self { tokens: Cow::Borrowed(WEBSOCKET_ALONE) }
    }
}

impl Upgrades {
    /// These, as `Upgrade` names them (RFC 9110 §7.8); case does not count.
    pub fn of(tokens: impl IntoIterator<Item = String>) -> Self {
        let tokens = tokens.into_iter().map(|token| Cow::Owned(token.to_ascii_lowercase()));
        Self { tokens: Cow::Owned(tokens.collect()) }
    }

    /// What they are, in lower case.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().map(|token| &**token)
    }

    fn have(&self, token: &str) -> bool {
        self.tokens.iter().any(|own| own.eq_ignore_ascii_case(token))
    }
}

/// What a caller's connection is to become.
#[derive(Debug)]
pub struct Asked {
    to: Becomes,
    caller: OnUpgrade,
    version: Version,
}

#[derive(Debug)]
enum Becomes {
    /// The caller's key; over HTTP/2 there is none.
    WebSocket(Option<CallersKey>),
    /// Whatever this token means.
    Other(Box<str>),
}

impl Asked {
    /// What `request` asks for; `None` if that is nothing, or nothing that the route has: then it is
    /// an ordinary request, as RFC 9110 §7.8 has it, and its `Upgrade` does not go on.
    ///
    /// # Errors
    ///
    /// 400, closing, for WebSocket where the route has none, for a handshake that is none, and for a
    /// body: nobody knows where in it the protocol would change.
    pub fn of<B>(
        request: &mut Request<B>,
        allowed: &Upgrades,
    ) -> Result<Option<Box<Self>>, Rejection> {
        // Both are there only where there is something to ask: all other requests end here.
        if request.extensions().get::<OnUpgrade>().is_none() {
            return Ok(None);
        }
        let Some(to) = judged(request, allowed)? else { return Ok(None) };
        let version = request.version();
        let Some(caller) = request.extensions_mut().remove::<OnUpgrade>() else { return Ok(None) };
        Ok(Some(Box::new(Self { to, caller, version })))
    }

    /// What [`Self::of`] says of a request without a connection: for dry runs.
    ///
    /// # Errors
    ///
    /// As of [`Self::of`].
    pub fn judge<B>(request: &Request<B>, allowed: &Upgrades) -> Result<(), Rejection> {
        judged(request, allowed).map(drop)
    }

    /// For a route that forwards nothing: there `Upgrade` is passed over, but an answer of success
    /// to a WebSocket over HTTP/2 would say that there is one.
    ///
    /// # Errors
    ///
    /// 400 for WebSocket over HTTP/2.
    pub fn none_of<B>(request: &Request<B>) -> Result<(), Rejection> {
        if request.extensions().get::<Protocol>().is_none() {
            return Ok(());
        }
        Err(no_websocket("the route has no `upstream`"))
    }
}

/// Whether `request` begins a WebSocket, well or badly.
pub fn is_for_websocket<B>(request: &Request<B>) -> bool {
    let extensions = request.extensions();
    extensions.get::<OnUpgrade>().is_some()
        && (extensions.get::<Protocol>().is_some() || names(request.headers(), &UPGRADE, WEBSOCKET))
}

fn judged<B>(request: &Request<B>, allowed: &Upgrades) -> Result<Option<Becomes>, Rejection> {
    let Some(to) = wanted(request, allowed)? else { return Ok(None) };
    if has_body(request.headers()) {
        return Err(refuse(
            "A request for an upgrade can't have a body.",
            "the request asks for an upgrade and has a body",
        ));
    }
    Ok(Some(to))
}

fn wanted<B>(request: &Request<B>, allowed: &Upgrades) -> Result<Option<Becomes>, Rejection> {
    let headers = request.headers();
    if request.version() == Version::HTTP_2 {
        // Another method than extended CONNECT never comes with a protocol (`accept/service.rs`).
        if request.extensions().get::<Protocol>().is_none() {
            return Ok(None);
        }
        if !allowed.have(WEBSOCKET) {
            return Err(no_websocket("the route's `upgrades` do not name `websocket`"));
        }
        check_version(headers)?;
        return Ok(Some(Becomes::WebSocket(None)));
    }
    if request.version() != Version::HTTP_11 || !names(headers, &CONNECTION, "upgrade") {
        return Ok(None);
    }
    if names(headers, &UPGRADE, WEBSOCKET) {
        if !allowed.have(WEBSOCKET) {
            return Err(no_websocket("the route's `upgrades` do not name `websocket`"));
        }
        if request.method() != Method::GET {
            return Err(refuse(
                "A WebSocket begins with GET.",
                format!("a handshake of WebSocket came with {}", request.method()),
            ));
        }
        check_version(headers)?;
        let key = CallersKey::of(headers).ok_or_else(|| {
            refuse(
                "The handshake of the WebSocket is broken.",
                "`Sec-WebSocket-Key` is not there exactly once with 16 bytes in base64 (RFC 6455 §4.1)",
            )
        })?;
        return Ok(Some(Becomes::WebSocket(Some(key))));
    }
    let first = elements(headers, &UPGRADE).find(|token| allowed.have(token));
    Ok(first.map(|token| Becomes::Other(token.into())))
}

fn check_version(headers: &HeaderMap) -> Result<(), Rejection> {
    let mut versions = headers.get_all(SEC_WEBSOCKET_VERSION).iter();
    if versions.next().is_some_and(|version| version == "13") && versions.next().is_none() {
        return Ok(());
    }
    let reason = "`Sec-WebSocket-Version` is not 13, the only one there is (RFC 6455 §4.1)";
    Err(refuse("Only version 13 of WebSocket is spoken here.", reason)
        .with(Extra::WebSocketVersion))
}

fn has_body(headers: &HeaderMap) -> bool {
    let is_empty = |length: &http::HeaderValue| length.as_bytes().iter().all(|byte| *byte == b'0');
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| !is_empty(length))
}

fn no_websocket(why: &str) -> Rejection {
    let reason = format!(
        "a WebSocket was asked for, and {why}: leave the key out, or name `websocket` in it, where \
         the upstream speaks it"
    );
    refuse("There is no WebSocket at this place.", reason)
}

fn refuse(detail: &'static str, reason: impl Into<String>) -> Rejection {
    Rejection::new(Code::BadRequest, detail, reason).closing()
}

/// The elements of a field that is a list.
fn elements<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'h str> + use<'h> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|element| !element.is_empty())
}

fn names(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(wanted))
}
