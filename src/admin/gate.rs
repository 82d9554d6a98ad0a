//! Who may see more than health and metrics: whoever has `admin.token`.
//!
//! Without a token that is everybody on loopback, and nobody elsewhere.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Response, header};

use crate::admin::refuse;
use crate::body::Body;
use crate::rejection::{Code, Rejection};
use crate::secret::Secret;

/// What is asked of those who want to see more.
#[derive(Debug)]
pub(super) enum Gate {
    Token(Secret),
    Open,
    Closed,
}

impl Gate {
    /// For a port on `address`.
    pub(super) fn new(token: Option<Secret>, address: IpAddr) -> Self {
        match token {
            Some(token) => Self::Token(token),
            None if address.to_canonical().is_loopback() => Self::Open,
            None => Self::Closed,
        }
    }

    /// Whether anybody who reaches the port may see all.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Whether who got in showed a token: no page of another site can.
    pub(super) fn asks_for_a_token(&self) -> bool {
        matches!(self, Self::Token(_))
    }

    /// The refusal of a request with these `headers`, if it is refused.
    pub(super) fn refusal(&self, headers: &HeaderMap) -> Option<Response<Body>> {
        let token = match self {
            Self::Open => return None,
            Self::Closed => {
                let detail = "This needs `admin.token` to be set.";
                return Some(refuse(&Rejection::new(Code::CallerNotAllowed, detail, "")));
            }
            Self::Token(token) => token,
        };
        match presented(headers) {
            // An empty token guards nothing, and lets nobody in.
            Some(presented) if !presented.is_empty() && token.matches(presented) => None,
            Some(_) => Some(challenge(
                refuse(&Rejection::new(Code::TokenInvalid, "This is not the admin token.", "")),
                "Bearer realm=\"admin\", error=\"invalid_token\"",
            )),
            None => Some(challenge(
                refuse(&Rejection::new(Code::TokenMissing, "This needs the admin token.", "")),
                "Bearer realm=\"admin\"",
            )),
        }
    }
}

/// The bearer token, if there is exactly one `Authorization` and it is `Bearer` (RFC 6750 §2.1).
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

fn challenge(mut response: Response<Body>, with: &'static str) -> Response<Body> {
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(with));
    response
}
