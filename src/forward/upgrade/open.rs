//! Asks the upstream for what the caller asked for, and judges what it says.
//!
//! An upgrade has a connection of its own: over HTTP/1.1 it uses one up, and over HTTP/2 it would
//! hold a shared one for hours. HTTP/1.1 is asked for first where TLS leaves the choice, since what
//! speaks WebSocket at all speaks it there; RFC 8441 where the upstream speaks HTTP/2 alone.

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::response::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::ext::Protocol;
use tokio::time::timeout;

use super::super::Trail;
use super::super::alone::{self, Alone, ExtendedConnect};
use super::super::attempt::{Keep, Sent};
use super::super::head::Head;
use super::super::headers;
use super::super::request::Forwarding;
use super::super::send_error::SendError;
use super::super::token_end::StreamEnd;
use super::super::upstream::Patience;
use super::tunnel::{Speaks, Stream, Tunnel};
use super::websocket::{Offer, OwnKey, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use super::{Asked, Becomes, WEBSOCKET, elements, names};
use crate::body::Body;

/// What an upstream says to an upgrade.
pub(in crate::forward) enum Opened {
    /// It agrees: the answer for the caller, with the [`Tunnel`] as an extension.
    Switched(Response<Body>),
    /// It answers like any other request, and so may be asked again.
    Answered(Box<Sent>, Box<Asked>),
}

/// Why there is no upgrade that could be handed on.
#[derive(Debug, thiserror::Error)]
pub(in crate::forward) enum UpgradeFault {
    #[error(
        "the upstream speaks HTTP/2 without WebSocket (RFC 8441); `protocol: http1` asks it over HTTP/1.1"
    )]
    NoExtendedConnect,
    #[error(
        "the upstream speaks HTTP/2, where there is no upgrade to `{0}`; `protocol: http1` asks it over HTTP/1.1"
    )]
    OnlyHttp1(Box<str>),
    #[error("it switched to another protocol than `{0}`, which was asked for")]
    OtherProtocol(Box<str>),
    #[error("it did not answer `Sec-WebSocket-Key`: it does not speak WebSocket (RFC 6455 §4.2.2)")]
    WrongAccept,
    #[error(
        "it agreed to a subprotocol or an extension of WebSocket that was not offered (RFC 6455 §4.1)"
    )]
    NotOffered,
    #[error(
        "it answered the handshake of a WebSocket with {0}, which over HTTP/2 would mean that there is one"
    )]
    NotSwitched(StatusCode),
    #[error("it said that it switches protocols, and did not")]
    NoStream(#[source] hyper::Error),
    #[error("the system gives no random numbers")]
    NoRandomNumbers,
}

/// Asks for the upgrade, and hands on what comes of it.
pub(in crate::forward) async fn open(
    plan: &Forwarding,
    mut head: Head,
    keep: Keep,
    asked: Box<Asked>,
    token: Option<StreamEnd>,
    trail: &mut Trail<'_>,
) -> Result<Opened, SendError> {
    let spare = (keep == Keep::Always).then(|| head.spare());
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(SEC_WEBSOCKET_KEY);
    head.headers.remove(SEC_WEBSOCKET_ACCEPT);
    let offer = matches!(asked.to, Becomes::WebSocket(_)).then(|| Offer::of(&head.headers));
    let patience = plan.response_timeout.with(None);
    let (endpoint, alone) = alone::connected(plan, trail).await?;
    let (mut lease, key, request) = match alone {
        Alone::Http1(lease) => {
            let key = match &asked.to {
                Becomes::WebSocket(_) => Some(OwnKey::new().ok_or(UpgradeFault::NoRandomNumbers)?),
                Becomes::Other(_) => None,
            };
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, asked.token());
            if let Some(key) = &key {
                head.headers.insert(SEC_WEBSOCKET_KEY, key.header().clone());
            }
            (lease, key, head.into_http1(&endpoint, Body::empty()))
        }
        Alone::Http2(lease, extended) => {
            match (&asked.to, extended) {
                (Becomes::Other(token), _) => {
                    return Err(UpgradeFault::OnlyHttp1(token.clone()).into());
                }
                (Becomes::WebSocket(_), ExtendedConnect::Refused) => {
                    return Err(UpgradeFault::NoExtendedConnect.into());
                }
                (Becomes::WebSocket(_), ExtendedConnect::Allowed) => {}
            }
            let mut request =
                head.into_http2(&endpoint, Body::empty()).map_err(SendError::Encode)?;
            *request.method_mut() = Method::CONNECT;
            request.extensions_mut().insert(Protocol::from_static(WEBSOCKET));
            (lease, None, request)
        }
    };
    let answer = answer(patience, lease.send(request)).await;
    // It was no stale connection that failed.
    let mut response = answer.inspect_err(|_| endpoint.broke())?;
    endpoint.answered(response.status());
    if !asked.is_agreed(&response, key.as_ref(), lease.is_http2())? {
        return Ok(Opened::Answered(
            Box::new(Sent { response, lease, endpoint, head: spare }),
            asked,
        ));
    }
    if offer.is_some_and(|offer| !offer.covers(response.headers())) {
        return Err(UpgradeFault::NotOffered.into());
    }
    let upstream = hyper::upgrade::on(&mut response).await.map_err(UpgradeFault::NoStream)?;
    let (parts, _empty) = response.into_parts();
    let response = asked.answer(plan, parts, |caller, speaks| Stream {
        caller,
        upstream,
        lease,
        endpoint,
        speaks,
        token,
        idle: match plan.upstream.settings.timeouts.stream {
            Patience::Set(limit) => limit,
            Patience::Default(_) => None,
        },
        stall: plan.body_idle_timeout,
        record: None,
    });
    Ok(Opened::Switched(response))
}

/// Waits for an answer as long as it may take.
async fn answer<E>(
    patience: Option<Duration>,
    answer: impl Future<Output = Result<Response<Incoming>, TrySendError<E>>>,
) -> Result<Response<Incoming>, SendError> {
    let answer = match patience {
        Some(limit) => {
            timeout(limit, answer).await.map_err(|_elapsed| SendError::Timeout(limit))?
        }
        None => answer.await,
    };
    answer.map_err(|failed| SendError::Http(failed.into_error()))
}

impl Asked {
    fn token(&self) -> HeaderValue {
        match &self.to {
            Becomes::WebSocket(_) => HeaderValue::from_static(WEBSOCKET),
            Becomes::Other(token) => {
                // It stood in a field before.
                HeaderValue::from_str(token).unwrap_or(HeaderValue::from_static(""))
            }
        }
    }

    /// Whether the upstream switches, and to what it was asked to.
    fn is_agreed(
        &self,
        response: &Response<Incoming>,
        key: Option<&OwnKey>,
        over_http2: bool,
    ) -> Result<bool, UpgradeFault> {
        let (status, headers) = (response.status(), response.headers());
        if over_http2 {
            return match status {
                StatusCode::OK => Ok(true),
                other if other.is_success() => Err(UpgradeFault::NotSwitched(other)),
                _ => Ok(false),
            };
        }
        if status != StatusCode::SWITCHING_PROTOCOLS {
            if status.is_success() && self.version == Version::HTTP_2 {
                return Err(UpgradeFault::NotSwitched(status));
            }
            return Ok(false);
        }
        let token = match &self.to {
            Becomes::WebSocket(_) => WEBSOCKET,
            Becomes::Other(token) => token,
        };
        let mut switched = elements(headers, &UPGRADE);
        let is_it = switched.next().is_some_and(|found| found.eq_ignore_ascii_case(token));
        if !is_it || switched.next().is_some() || !names(headers, &CONNECTION, "upgrade") {
            return Err(UpgradeFault::OtherProtocol(token.into()));
        }
        if key.is_some_and(|key| !key.is_answered_by(headers)) {
            return Err(UpgradeFault::WrongAccept);
        }
        Ok(true)
    }

    /// The answer that tells the caller, and the stream behind it.
    fn answer(
        self,
        plan: &Forwarding,
        mut parts: Parts,
        stream: impl FnOnce(hyper::upgrade::OnUpgrade, Speaks) -> Stream,
    ) -> Response<Body> {
        headers::clean_response(&mut parts.headers);
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.remove(SEC_WEBSOCKET_ACCEPT);
        plan.response_headers.apply(&mut parts.headers);
        parts.extensions.clear();
        let token = self.token();
        let speaks = match &self.to {
            Becomes::WebSocket(_) => Speaks::WebSocket,
            Becomes::Other(_) => Speaks::Unknown,
        };
        if self.version == Version::HTTP_2 {
            parts.status = StatusCode::OK;
        } else {
            parts.status = StatusCode::SWITCHING_PROTOCOLS;
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, token);
            if let Becomes::WebSocket(Some(key)) = &self.to {
                parts.headers.insert(SEC_WEBSOCKET_ACCEPT, key.accept());
            }
        }
        parts.extensions.insert(Tunnel::new(stream(self.caller, speaks)));
        Response::from_parts(parts, Body::empty())
    }
}
