//! What a connection does for a stream that begins on it: WebSocket and other upgrades.
//!
//! Over HTTP/1.1 the parser is gone from then on, and with it the task that served the connection;
//! over HTTP/2 the stream is one of several. What is said on it is not known here.

use std::sync::Arc;

use http::{Method, Request};
use hyper::ext::Protocol;

use crate::accept::activity::Answering;
use crate::accept::drain::Drain;
use crate::accept::framing::Verdict;
use crate::forward::upgrade::{Ended, Running, WEBSOCKET};

/// Makes an extended CONNECT for a WebSocket the GET that it is over HTTP/1.1 (RFC 8441 §5): routes
/// and their rules know no other. The protocol stays with it as an extension; any other CONNECT
/// stays what it is, and is refused.
pub(super) fn as_get<B>(request: &mut Request<B>) {
    let protocol = request.extensions().get::<Protocol>();
    let for_websocket =
        protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case(WEBSOCKET));
    if for_websocket && request.method() == Method::CONNECT {
        *request.method_mut() = Method::GET;
    } else {
        // Nobody is to take another method for a handshake.
        request.extensions_mut().remove::<Protocol>();
    }
}

/// What of its connection a stream takes with it.
pub(super) struct Whole {
    /// Who judges HTTP/1.1 on it.
    pub(super) verdict: Option<Arc<Verdict>>,
    /// Whether there are others beside it, and a task that counts them at the end.
    pub(super) multiplexed: bool,
    /// The request is being answered until the stream ends.
    pub(super) answering: Answering,
}

/// Carries a stream in a task of its own, which the drain waits for.
pub(super) fn carry(stream: Running, mut of: Whole, drain: &Drain) {
    of.answering.tunnels();
    if let Some(verdict) = &of.verdict {
        verdict.upgraded();
    }
    let ends = drain.clone();
    drain.spawn(async move {
        if stream.run(ends.cutting()).await == Ended::CutOff && !of.multiplexed {
            ends.cut_off(1);
        }
        drop(of.answering);
    });
}
