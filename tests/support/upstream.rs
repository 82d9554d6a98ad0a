//! A recording upstream on a real socket: HTTP/1.1, and HTTP/2 with prior knowledge.
//!
//! It takes down every request, holds each to what no upstream may see ([`super::seen`]), and
//! raises the violations when it is dropped, so that no test has to remember to ask.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, watch};

use super::gate::Gate;
use super::seen::{Allowed, Seen, SeenBody};
use super::servers::{Handled, PeerBody, PeerError, Server};

/// Every answer of an [`Upstream`] carries it: what has none is the gateway's own.
pub const MARK: &str = "x-upstream-mark";

/// When the body of a request is read.
#[derive(Clone, Debug)]
pub enum Reading {
    /// Whole, before the answer begins.
    Before,
    /// While the answer is on its way.
    Beside,
    /// Beside the answer, but only once the gate is open: a slow upstream; never, if it stays closed.
    Held(Gate),
}

/// The body of an answer.
#[derive(Debug)]
pub enum AnswerBody {
    /// With `Content-Length`.
    Full(Bytes),
    /// Piece by piece, as the test sends them; without `Content-Length`. An error aborts.
    Stream(mpsc::Receiver<Result<Bytes, PeerError>>),
    /// So many bytes in pieces of 64 KiB, made as they are asked for.
    Bulk(u64),
    /// Says it has `length` bytes, sends `start`, and breaks the connection.
    Abort { start: Bytes, length: u64 },
    /// What it received, as far as it is kept ([`SeenBody::KEPT`]); needs [`Reading::Before`].
    Echo,
}

/// How an upstream answers.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: AnswerBody,
    pub trailers: Option<HeaderMap>,
    pub reading: Reading,
    /// The head waits here.
    pub hold: Option<Gate>,
    /// Answers 101 and sends back what comes over the upgraded connection.
    pub upgrade: bool,
    /// Closes the connection in place of an answer, once the request was read.
    pub hang_up: bool,
}

impl Answer {
    /// 200 with `text`.
    pub fn ok(text: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: AnswerBody::Full(text.into()),
            trailers: None,
            reading: Reading::Before,
            hold: None,
            upgrade: false,
            hang_up: false,
        }
    }

    /// `status` without a body.
    pub fn status(status: u16) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap(), ..Self::ok("") }
    }

    /// 200 with a body that the test sends through the channel.
    pub fn stream() -> (Self, mpsc::Sender<Result<Bytes, PeerError>>) {
        let (send, receive) = mpsc::channel(1);
        let body = AnswerBody::Stream(receive);
        (Self { body, reading: Reading::Beside, ..Self::ok("") }, send)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers
            .append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
        self
    }

    /// Holds the head back until the gate is open.
    #[must_use]
    pub fn held_by(mut self, gate: &Gate) -> Self {
        self.hold = Some(gate.clone());
        self
    }
}

/// What decides on answers.
type Script = Box<dyn FnMut(&Seen) -> Answer + Send>;

/// The upstream; see the module.
pub struct Upstream {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Script>,
    seen: watch::Sender<Vec<Seen>>,
    allowed: Mutex<Allowed>,
    violations: Mutex<Vec<String>>,
}

impl Upstream {
    /// Starts one that answers 200 `ok`.
    pub fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Starts one at `address`.
    pub fn start_at(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(|_| Answer::ok("ok"))),
            seen: watch::Sender::new(Vec::new()),
            allowed: Mutex::default(),
            violations: Mutex::default(),
        });
        let handling = Arc::clone(&shared);
        let server = Server::http_at(
            address,
            Arc::new(move |request, line| -> Handled {
                Box::pin(handle(Arc::clone(&handling), request, line.number))
            }),
        );
        Self { server, shared }
    }

    /// Starts one on each of `127.0.0.1`, `127.0.0.2`, …, all on one port: the addresses that a
    /// DNS name has.
    pub fn start_on_one_port<const N: usize>() -> [Self; N] {
        // The port that the first one gets may be taken at another address: then it is tried anew.
        loop {
            let first = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let port = first.local_addr().unwrap().port();
            let at = |number: usize| {
                SocketAddr::from(([127, 0, 0, u8::try_from(number).unwrap()], port))
            };
            let others: Vec<_> =
                (2..=N).map_while(|number| std::net::TcpListener::bind(at(number)).ok()).collect();
            if others.len() + 1 == N {
                drop((first, others));
                return std::array::from_fn(|index| Self::start_at(at(index + 1)));
            }
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// `127.0.0.1:PORT`.
    pub fn authority(&self) -> String {
        self.server.address().to_string()
    }

    /// Answers as `script` decides on each request's head, from now on.
    pub fn answer(&self, script: impl FnMut(&Seen) -> Answer + Send + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    /// All requests so far, in the order their heads came; bodies as far as they were read.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.borrow().clone()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        self.shared.seen.borrow().len()
    }

    /// The last request, which must be there.
    pub fn last(&self) -> Seen {
        self.shared.seen.borrow().last().cloned().expect("no request reached the upstream")
    }

    /// Waits until the requests that were seen are as `wanted` says, and hands them out.
    pub async fn seen_when(
        &self,
        what: &str,
        mut wanted: impl FnMut(&[Seen]) -> bool,
    ) -> Vec<Seen> {
        let mut seen = self.shared.seen.subscribe();
        super::within(what, seen.wait_for(|seen| wanted(seen))).await.unwrap().clone()
    }

    /// The caller's token may come in `Authorization`: the route says `passthrough`.
    pub fn allow_passthrough(&self) {
        self.shared.allowed.lock().unwrap().passthrough = true;
    }

    /// Upgrades may come.
    pub fn allow_upgrades(&self) {
        self.shared.allowed.lock().unwrap().upgrades = true;
    }

    /// Violations so far; dropping the upstream raises them.
    pub fn violations(&self) -> Vec<String> {
        self.shared.violations.lock().unwrap().clone()
    }

    /// Takes the violations, for tests of the upstream itself.
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.violations.lock().unwrap())
    }

    /// Goes away: connections are refused.
    pub async fn stop(&self) {
        self.server.stop().await;
    }

    /// Comes back.
    pub fn start_again(&self) {
        self.server.start_again();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let violations = self.violations();
        let fine = violations.is_empty() || std::thread::panicking();
        assert!(fine, "an upstream saw what it must not:\n{}", violations.join("\n"));
    }
}

async fn handle(
    shared: Arc<Shared>,
    mut request: Request<Incoming>,
    connection: usize,
) -> Result<Response<PeerBody>, PeerError> {
    let upgrading = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let seen = Seen::of(&head, connection);
    let allowed = *shared.allowed.lock().unwrap();
    let violations = seen.violations(allowed);
    let violations =
        violations.into_iter().map(|text| format!("{} {}: {text}", seen.method, seen.target));
    shared.violations.lock().unwrap().extend(violations);
    let answer = (*shared.script.lock().unwrap())(&seen);
    let mut index = 0;
    shared.seen.send_modify(|all| {
        index = all.len();
        all.push(seen);
    });
    let reading = Arc::clone(&shared);
    match answer.reading {
        Reading::Before => read(&reading, index, body, None).await?,
        // An aborted body shows in `SeenBody::complete`; nobody waits for the task.
        Reading::Beside => {
            drop(tokio::spawn(async move { read(&reading, index, body, None).await }));
        }
        Reading::Held(ref gate) => {
            let gate = gate.clone();
            drop(tokio::spawn(async move { read(&reading, index, body, Some(gate)).await }));
        }
    }
    if let Some(gate) = &answer.hold {
        gate.pass().await;
    }
    if answer.hang_up {
        return Err(PeerError::scripted());
    }
    if answer.upgrade {
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgrading.await.unwrap()));
            // How the upgraded connection ends is the test's affair.
            tokio::io::copy(&mut from, &mut to).await.ok();
        });
    }
    let received = shared.seen.borrow()[index].body.start.clone();
    Ok(respond(answer, received))
}

/// Reads the body of request number `index`, once `gate` is open.
async fn read(
    shared: &Shared,
    index: usize,
    mut body: Incoming,
    gate: Option<Gate>,
) -> Result<(), PeerError> {
    if let Some(gate) = gate {
        gate.pass().await;
    }
    let mut digest = Context::new(&SHA256);
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        if let Some(data) = frame.data_ref() {
            digest.update(data);
            shared.seen.send_modify(|all| {
                let seen = &mut all[index].body;
                let room = (SeenBody::KEPT - seen.start.len()).min(data.len());
                seen.start.extend_from_slice(&data[..room]);
                seen.length += data.len() as u64;
            });
        } else if let Ok(trailers) = frame.into_trailers() {
            shared.seen.send_modify(|all| all[index].body.trailers = Some(trailers));
        }
    }
    let sha256 = hex(digest.finish().as_ref());
    shared.seen.send_modify(|all| {
        all[index].body.sha256 = sha256;
        all[index].body.complete = true;
    });
    Ok(())
}

/// Lower-case hex, as in [`SeenBody::sha256`].
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn respond(answer: Answer, received: Vec<u8>) -> Response<PeerBody> {
    // hyper sends only those trailers over HTTP/1.1 that the head announces.
    let names: Vec<_> = answer.trailers.iter().flat_map(HeaderMap::keys).cloned().collect();
    let names = names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
    let trailers = answer.trailers.map(|trailers| Ok(Frame::trailers(trailers)));
    let mut length = None;
    let body =
        match answer.body {
            AnswerBody::Full(bytes) if trailers.is_none() => full(bytes),
            AnswerBody::Echo if trailers.is_none() => full(received.into()),
            AnswerBody::Full(bytes) => {
                framed(stream::iter([Ok(Frame::data(bytes))]).chain(stream::iter(trailers)))
            }
            AnswerBody::Echo => framed(
                stream::iter([Ok(Frame::data(received.into()))]).chain(stream::iter(trailers)),
            ),
            AnswerBody::Stream(receive) => {
                let pieces = stream::unfold(receive, |mut receive| async move {
                    Some((receive.recv().await?.map(Frame::data), receive))
                });
                framed(pieces.chain(stream::iter(trailers)))
            }
            AnswerBody::Bulk(bytes) => {
                length = Some(bytes);
                let piece = Bytes::from(vec![b'x'; 64 * 1024]);
                let sizes = stream::unfold(bytes, |left| async move {
                    let size = left.min(64 * 1024);
                    (size > 0).then_some((size, left - size))
                });
                framed(sizes.map(move |size| {
                    Ok(Frame::data(piece.slice(..usize::try_from(size).unwrap())))
                }))
            }
            AnswerBody::Abort { start, length: claimed } => {
                length = Some(claimed);
                framed(stream::iter([Ok(Frame::data(start)), Err(PeerError::scripted())]))
            }
        };
    let mut response = Response::new(body);
    *response.status_mut() =
        if answer.upgrade { StatusCode::SWITCHING_PROTOCOLS } else { answer.status };
    *response.headers_mut() = answer.headers;
    if let Some(length) = length {
        response.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
    }
    if !names.is_empty() {
        response.headers_mut().insert(http::header::TRAILER, names.parse().unwrap());
    }
    response.headers_mut().insert(MARK, HeaderValue::from_static("1"));
    response
}

fn full(bytes: Bytes) -> PeerBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn framed(
    frames: impl Stream<Item = Result<Frame<Bytes>, PeerError>> + Send + 'static,
) -> PeerBody {
    StreamBody::new(frames).boxed_unsync()
}

#[cfg(test)]
mod tests;
