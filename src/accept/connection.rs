//! One connection from its first byte to its last: TLS, which HTTP it speaks, its limits and
//! its end.
//!
//! It decides when a connection has to go. What a request means is the handler's.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::server::conn::{http1::UpgradeableConnection, http2};
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::accept::activity::{Activity, Verdict};
use crate::accept::answer;
use crate::accept::drain::Drain;
use crate::accept::frames::Frames;
use crate::accept::framing::{self, Reader};
use crate::accept::http1;
use crate::accept::proxied;
use crate::accept::seldom::Seldom;
use crate::accept::service::{Handler, Serving, service};
use crate::accept::slots::Slot;
use crate::accept::streams::{Link, Streams};
use crate::accept::tls::Tls;
use crate::accept::watched::{Reading, Watched};
use crate::accept::{Server, Settings};
use crate::body::BoxError;
use crate::interim::Interim;
use crate::limits;
use crate::peer::{CertificateDigest, Peer};

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection as it was accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
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
    let Accepted { mut stream, mut peer, front, slot } = accepted;
    let ended = async {
        // Answers are small writes that must not wait for more.
        stream.set_nodelay(true)?;
        let head_due = begun + settings.header_timeout;
        if front == Front::Proxy {
            let header = timeout_at(head_due, proxied::source(&mut stream));
            let Some(source) = unless_closing(&server.drain, header).await else {
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
        let Some(handshake) = unless_closing(&server.drain, handshake).await else {
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
        match unless_closing(&server.drain, first_bytes).await {
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
            let streams = Streams::new(begun);
            let http2 = http2(settings, streams.clone());
            let mut connection = Box::pin(http2.serve_connection(TokioIo::new(watched), service));
            let connection = connection.as_mut();
            match drive(connection, &activity, Some(&streams), settings, &server.drain).await {
                Driven::Ended(broken) => broken,
                Driven::Rests => None,
            }
        }
    };
    if let Some(unread) = answer::unread(&activity, broken.as_ref()) {
        handler.refused(&peer, &unread);
    }
    Ok(())
}

/// `None` as soon as the end has begun: there is no request yet that would have to be answered.
async fn unless_closing<F: Future>(drain: &Drain, future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        () = drain.closing() => None,
        done = future => Some(done),
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
        .max_send_buf_size(limits::CONNECTION_BUFFER_BYTES)
        .max_pending_accept_reset_streams(limits::MAX_PENDING_RESET_STREAMS)
        .max_local_error_reset_streams(limits::MAX_ERROR_RESET_STREAMS)
        .keep_alive_interval(limits::H2_PING_INTERVAL)
        .keep_alive_timeout(limits::H2_PING_TIMEOUT);
    builder
}

/// A connection that can be told to end after what is in flight.
pub(super) trait Ending: Future<Output = hyper::Result<()>> {
    fn end(self: Pin<&mut Self>);
}

impl<I, S> Ending for UpgradeableConnection<I, S>
where
    S: HttpService<Incoming, Error = Infallible>,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, E> Ending for http2::Connection<I, S, E>
where
    S: HttpService<Incoming, Error = Infallible>,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, S::ResBody>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Why a connection is not driven any more.
#[derive(Debug)]
pub(super) enum Driven {
    /// It has ended; with what broke it, if anything did.
    Ended(Option<hyper::Error>),
    /// It has been between two requests of HTTP/1.1 for some time.
    Rests,
}

/// Sees to it that a connection ends when it has to.
pub(super) async fn drive<C: Ending>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    streams: Option<&Streams>,
    settings: &Settings,
    drain: &Drain,
) -> Driven {
    let mut look = pin!(sleep_until(Instant::now() + settings.header_timeout));
    look_first(activity, settings, look.as_mut());
    let mut ends_by: Option<Instant> = None;
    // When a look last found that the caller does not keep up with what is written.
    let mut clogged: Option<Instant> = None;
    let mut told = false;
    let mut cutting = pin!(Seldom::new(drain.cutting()));
    let mut closing = pin!(Seldom::new(drain.closing()));
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                let broken = ended.err();
                if let Some(error) = &broken {
                    tracing::debug!(%error, "a connection broke");
                }
                return Driven::Ended(broken);
            }
            () = &mut cutting => {
                drain.cut_off(activity.requests());
                return Driven::Ended(None);
            }
            () = &mut closing, if !told => {
                told = true;
                connection.as_mut().end();
                // HTTP/2 ends when the caller answers the farewell. Who has been at rest has
                // nothing to wait for, and may have vanished: it must not use up the grace.
                let now = Instant::now();
                if activity.rests(now, limits::CLOSING_TIMEOUT) {
                    ends_by = Some(now + limits::CLOSING_TIMEOUT);
                    look.as_mut().reset(now + limits::CLOSING_TIMEOUT);
                }
            }
            () = &mut look => {
                let now = Instant::now();
                if ends_by.is_some_and(|by| by <= now) {
                    if !activity.is_busy() {
                        return Driven::Ended(None);
                    }
                    // A request that was on its way is answered; its last bytes are not cut off.
                    ends_by = None;
                }
                let patience = settings.body_idle_timeout;
                if activity.is_writing() {
                    clogged = Some(now);
                }
                let link = match clogged {
                    Some(at) if now < at + patience => Link::Clogged,
                    Some(_) | None => Link::Flows,
                };
                let due = streams.and_then(|streams| streams.end_stalled(now, patience, link));
                match activity.judge(now, settings) {
                    Verdict::LookAgain(_) if !told && activity.may_rest(now) => {
                        return Driven::Rests;
                    }
                    Verdict::LookAgain(at) => {
                        let at = due.map_or(at, |due| due.min(at));
                        look.as_mut().reset(at.min(activity.rest_look(now)));
                    }
                    Verdict::Idle => {
                        told = true;
                        connection.as_mut().end();
                        ends_by.get_or_insert(now + limits::CLOSING_TIMEOUT);
                        look.as_mut().reset(now + limits::CLOSING_TIMEOUT);
                    }
                    // Not a byte of a head: there is nobody to tell.
                    Verdict::Overdue if !activity.head_has_begun() => return Driven::Ended(None),
                    Verdict::Overdue => {
                        activity.give_up_head();
                        ends_by.get_or_insert(now + limits::CLOSING_TIMEOUT);
                        look.as_mut().reset(now + limits::CLOSING_TIMEOUT);
                    }
                }
            }
        }
    }
}

/// The first look: the head may be due sooner than in a whole `header_timeout`.
fn look_first(activity: &Activity, settings: &Settings, look: Pin<&mut tokio::time::Sleep>) {
    match activity.judge(Instant::now(), settings) {
        Verdict::LookAgain(at) => look.reset(at.min(activity.rest_look(Instant::now()))),
        Verdict::Idle | Verdict::Overdue => look.reset(Instant::now()),
    }
}
