//! One connection from its first byte to its last: TLS, which HTTP it speaks, and its limits.
//!
//! When it has to go is decided by [`super::drive`], what a request means by the handler.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use crate::accept::activity::Activity;
use crate::accept::answer;
use crate::accept::drain::Drain;
use crate::accept::drive::{Driven, drive};
use crate::accept::frames::Frames;
use crate::accept::framing::{self, Reader};
use crate::accept::http1;
use crate::accept::proxied;
use crate::accept::service::{Handler, Serving, service};
use crate::accept::slots::Slot;
use crate::accept::streams::Streams;
use crate::accept::tls::Tls;
use crate::accept::watched::{Reading, Watched};
use crate::accept::{Server, Settings};
use crate::interim::Interim;
use crate::limits;
use crate::peer::{CertificateDigest, Peer};
use crate::workers::Arriving;

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection as it was accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: Arriving,
    pub(crate) peer: Peer,
    pub(crate) front: Front,
    pub(crate) slot: Slot,
}

/// Who is at the other end, before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// The caller.
    Caller,
    /// A load balancer, which first says who the caller is.
    Proxy,
}

impl Front {
    pub(crate) fn of(is_proxied: bool) -> Self {
        if is_proxied { Self::Proxy } else { Self::Caller }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Serves a connection until it ends.
pub(crate) async fn serve<H: Handler>(
    server: &Server,
    tls: Option<&Tls>,
    accepted: Accepted,
    handler: H,
) {
    let begun = Instant::now();
    let settings = server.settings();
    let Accepted { stream, mut peer, front, slot } = accepted;
    let ended = async {
        let mut stream = stream.arrive()?;
        // Answers are small writes that must not wait for more.
        stream.set_nodelay(true)?;
        let head_due = begun + settings.header_timeout;
        if front == Front::Proxy {
            let header = timeout_at(head_due, proxied::source(&mut stream));
            let Some(source) = unless_leaving(&server.drain, header).await else {
                return Ok(());
            };
            let source = source?;
            // Who asks whether the port is open sends nothing, and is not told of.
            if let Err(fault) = &source
                && fault.kind() == io::ErrorKind::InvalidData
            {
                handler.refused(&peer, &answer::not_proxied(fault));
            }
            peer.address = source?.unwrap_or(peer.address);
        }
        let Some(tls) = tls else {
            return speak(server, &settings, begun, (stream, None), peer, slot, handler).await;
        };
        // On the heap, as the session is: the connection needs neither place while it rests.
        let handshake = timeout_at(head_due, Box::pin(tls.acceptor().accept(stream)));
        let Some(handshake) = unless_leaving(&server.drain, handshake).await else {
            return Ok(());
        };
        let stream = Box::new(handshake??);
        // Also of a resumed session, whose first handshake showed it; it was verified there.
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        peer.certificate = shown.map(|certificate| CertificateDigest::of(certificate));
        let agreed = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Some(Protocol::Http2),
            Some(_) => Some(Protocol::Http1),
            None => None,
        };
        speak(server, &settings, begun, (stream, agreed), peer, slot, handler).await
    };
    if let Err(error) = ended.await {
        // Scanners and impatient callers; what matters to operators is counted elsewhere.
        tracing::debug!(peer = %peer.address, %error, "a connection ended before its first request");
    }
}

/// Finds out which HTTP it is, and speaks it.
async fn speak<S, H>(
    server: &Server,
    settings: &Settings,
    begun: Instant,
    (mut stream, agreed): (S, Option<Protocol>),
    peer: Peer,
    slot: Slot,
    handler: H,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let (protocol, ahead) = if let Some(protocol) = agreed {
        (protocol, Bytes::new())
    } else {
        let first_bytes = timeout_at(begun + settings.header_timeout, detect(&mut stream));
        match unless_leaving(&server.drain, first_bytes).await {
            Some(detected) => detected??,
            None => return Ok(()),
        }
    };
    let activity = Arc::new(Activity::new(begun));
    let verdict = (protocol == Protocol::Http1).then(Arc::<framing::Verdict>::default);
    let reading = match verdict.clone() {
        Some(verdict) => Reading::Http1(Reader::new(settings.max_header_bytes), verdict),
        None => Reading::Http2(Frames::new(begun)),
    };
    let patience = settings.body_idle_timeout;
    let watched = Watched::new(stream, ahead, Arc::clone(&activity), reading, patience, slot);
    let interim = (protocol == Protocol::Http1).then(Interim::default);
    let watched = watched.with_interim(interim.clone());
    let service = service(Serving {
        handler: handler.clone(),
        peer,
        activity: Arc::clone(&activity),
        verdict,
        interim,
        drain: server.drain.clone(),
    });
    let broken = match protocol {
        Protocol::Http1 => http1::speak(watched, service, &activity, settings, &server.drain).await,
        Protocol::Http2 => {
            activity.multiplexed();
            let streams = Streams::new(begun, server.drain.awaits());
            let http2 = http2(settings, streams.clone());
            let connection = Box::pin(http2.serve_connection(TokioIo::new(watched), service));
            match drive(connection, &activity, Some(&streams), settings, &server.drain).await {
                Driven::Ended(broken) => broken,
                Driven::Rests(never) => match never {},
            }
        }
    };
    if let Some(unread) = answer::unread(&activity, broken.as_ref()) {
        handler.refused(&peer, &unread);
    }
    Ok(())
}

/// `None` where the end has begun, and this took longer than the moment that a connection without a
/// request has then.
async fn unless_leaving<F: Future>(drain: &Drain, future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        done = future => Some(done),
        () = drain.leaving() => None,
    }
}

/// Reads until the first bytes are HTTP/2's preface or can't be.
async fn detect<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(Protocol, Bytes)> {
    let mut first = BytesMut::with_capacity(HTTP2_PREFACE.len());
    while HTTP2_PREFACE.starts_with(&first) {
        if first.len() == HTTP2_PREFACE.len() {
            return Ok((Protocol::Http2, first.freeze()));
        }
        // Never more than is missing, so that what is read is the preface or has a wrong byte.
        let missing = (HTTP2_PREFACE.len() - first.len()) as u64;
        if stream.take(missing).read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((Protocol::Http1, first.freeze()))
}

fn http2(settings: &Settings, streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(settings.max_header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(settings.max_concurrent_streams)
        .enable_connect_protocol()
        .initial_connection_window_size(limits::HTTP2_CALLER_WINDOW)
        .max_send_buf_size(limits::HTTP2_SEND_BYTES)
        .max_pending_accept_reset_streams(limits::MAX_PENDING_RESET_STREAMS)
        .max_local_error_reset_streams(limits::MAX_ERROR_RESET_STREAMS)
        .keep_alive_interval(limits::H2_PING_INTERVAL)
        .keep_alive_timeout(limits::H2_PING_TIMEOUT);
    builder
}
