//! Connections of HTTP/1.1 that rest and go on, over a stream in memory and a clock that stands.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;

use super::*;
use crate::accept::framing::{Reader, Verdict};
use crate::accept::service::{Serving, service};
use crate::accept::slots::Slots;
use crate::accept::tests::settings;
use crate::accept::watched::{LOOK_AHEAD_BYTES, Reading};
use crate::accept::{Certified, CutOff, Tls};
use crate::observe::Metrics;
use crate::peer::Peer;
use crate::trust::Roots;
use crate::workers::Seats;

const S: Duration = Duration::from_secs(1);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
/// More chunks than the channel of a body takes at a time, and the end of the body.
const CHUNKS: &[u8] = b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n";

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// A stream that knows how much was last asked of it.
struct Asked(Box<dyn Stream>, Arc<AtomicUsize>);

impl AsyncRead for Asked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.1.store(buffer.remaining(), Ordering::Relaxed);
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Asked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

struct Caller {
    stream: Box<dyn Stream>,
    asked: Arc<AtomicUsize>,
    drain: Drain,
    /// The bodies of its POSTs, which are answered before anybody takes them.
    bodies: mpsc::Receiver<Incoming>,
    task: JoinHandle<Option<hyper::Error>>,
}

impl Caller {
    fn connects() -> Self {
        let (stream, ours) = tokio::io::duplex(64 * 1024);
        Self::over(Box::new(stream), Box::new(ours))
    }

    async fn connects_with_tls() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let (crt, key_file) = (Path::new("crt"), Path::new("key"));
        let certified =
            Certified::from_pem(chain.as_bytes(), key.as_bytes(), crt, key_file, None).unwrap();
        let tls = Tls::new(certified);
        let config = Roots::from_pem(chain.as_bytes()).unwrap().client_config().unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        let (stream, ours) = tokio::io::duplex(64 * 1024);
        let (stream, ours) =
            tokio::join!(connector.connect(name, stream), tls.acceptor().accept(ours));
        Self::over(Box::new(stream.unwrap()), Box::new(ours.unwrap()))
    }

    fn over(stream: Box<dyn Stream>, ours: Box<dyn Stream>) -> Self {
        let asked = Arc::<AtomicUsize>::default();
        let ours = Asked(ours, Arc::clone(&asked));
        let (settings, drain) = (settings(), Drain::default());
        let activity = Arc::new(Activity::new(Instant::now()));
        let verdict = Arc::<Verdict>::default();
        let reader = Reader::new(settings.max_header_bytes);
        let reading = Reading::Http1(reader, Arc::clone(&verdict));
        let slot = Arc::<Slots>::default().take(&Metrics::default(), Seats::default().take());
        let (watched_by, patience) = (Arc::clone(&activity), settings.body_idle_timeout);
        let watched = Watched::new(ours, Bytes::new(), watched_by, reading, patience, slot);
        let (held, bodies) = mpsc::channel(8);
        let service = service(Serving {
            handler: move |request: Request<Incoming>, _: Peer| {
                if request.method() == http::Method::POST {
                    held.try_send(request.into_body()).unwrap();
                }
                async { Response::new(Full::new(Bytes::from("ok"))) }
            },
            peer: Peer { address: ([127, 0, 0, 1], 1).into(), tls: false, certificate: None },
            activity: Arc::clone(&activity),
            verdict: Some(verdict),
            interim: None,
            drain: drain.clone(),
        });
        let (ends, awaited) = (drain.clone(), drain.awaits());
        let task = tokio::spawn(async move {
            let broken = speak(watched, service, &activity, &settings, &ends).await;
            drop(awaited);
            broken
        });
        Self { stream, asked, drain, bodies, task }
    }

    async fn says(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn is_answered(&mut self) {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            answer.push(self.stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{answer:?}");
    }

    async fn body(&mut self) -> Incoming {
        self.bodies.recv().await.unwrap()
    }

    /// Whether nothing is held for it but what lasts.
    fn rests(&self) -> bool {
        self.asked.load(Ordering::Relaxed) == LOOK_AHEAD_BYTES
    }

    async fn ends(mut self) {
        assert_eq!(self.stream.read(&mut [0]).await.unwrap(), 0);
        assert!(self.task.await.unwrap().is_none());
    }
}

async fn whole(body: Incoming) -> Bytes {
    body.collect().await.unwrap().to_bytes()
}

#[tokio::test(start_paused = true)]
async fn a_connection_rests_between_requests_and_goes_on() {
    let mut caller = Caller::connects();
    sleep(S).await;
    assert!(caller.rests(), "nothing has come");
    for round in 1..4 {
        caller.says(GET).await;
        caller.is_answered().await;
        assert!(!caller.rests(), "the next request may come at once");
        caller.says(GET).await;
        caller.is_answered().await;
        sleep(round * 4 * S).await;
        assert!(caller.rests(), "round {round}");
    }
    // What comes in pieces is put together.
    for byte in GET {
        caller.says(&[*byte]).await;
        sleep(S / 10).await;
    }
    caller.is_answered().await;
    sleep(60 * S).await;
    assert!(caller.rests());
    let idle = Instant::now();
    caller.ends().await;
    assert_eq!((idle.elapsed() + S / 2).as_secs(), 15, "`idle_timeout` is 75 s");
}

#[tokio::test(start_paused = true)]
async fn a_connection_within_a_request_does_not_rest() {
    let mut caller = Caller::connects();
    caller.says(GET).await;
    caller.says(b"GET /").await;
    caller.is_answered().await;
    sleep(9 * S).await;
    assert!(!caller.rests());
    caller.says(b" HTTP/1.1\r\nhost: a\r\n\r\n\r\n").await;
    caller.is_answered().await;
    sleep(9 * S).await;
    assert!(!caller.rests(), "an empty line belongs to the next request");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_begins_with_the_request_before_has_its_time() {
    for begun in [&b"G"[..], b"GET / HTTP/1.1\r\nhost", b"\r\n"] {
        let mut caller = Caller::connects();
        caller.says(&[GET, begun].concat()).await;
        caller.is_answered().await;
        let began = Instant::now();
        let mut rest = Vec::new();
        caller.stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.starts_with(b"HTTP/1.1 408 "), "{begun:?}: {rest:?}");
        assert_eq!((began.elapsed() + S / 2).as_secs(), 10, "`header_timeout`");
    }
}

#[tokio::test(start_paused = true)]
async fn who_rests_is_told_to_leave_and_may_leave() {
    for leaves in [false, true] {
        let mut caller = Caller::connects();
        caller.says(GET).await;
        caller.is_answered().await;
        sleep(9 * S).await;
        assert!(caller.rests());
        let before = Instant::now();
        if leaves {
            caller.stream.shutdown().await.unwrap();
        } else {
            caller.drain.begin();
        }
        caller.ends().await;
        // Who is told has a moment for a request that is on its way.
        assert!(before.elapsed() <= limits::DRAIN_MOMENT + S / 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_rests_over_tls_too_and_says_goodbye() {
    for leaves in [false, true] {
        let mut caller = Caller::connects_with_tls().await;
        for round in 1..3 {
            caller.says(&[GET, GET].concat()).await;
            caller.is_answered().await;
            caller.is_answered().await;
            sleep(round * 4 * S).await;
            assert!(caller.rests(), "round {round}");
        }
        if leaves {
            caller.stream.shutdown().await.unwrap();
        } else {
            caller.drain.begin();
        }
        // Without a goodbye the caller's side would call it an error.
        caller.ends().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_does_not_rest_on_a_body_that_nobody_has_taken() {
    for tls in [false, true] {
        let mut caller = if tls { Caller::connects_with_tls().await } else { Caller::connects() };
        // What follows is read by the parser itself: it shows how much it asks for.
        caller.says(GET).await;
        caller.is_answered().await;
        caller.says(&[POST, CHUNKS].concat()).await;
        caller.is_answered().await;
        let body = caller.body().await;
        sleep(200 * S).await;
        assert!(!caller.rests(), "the parser holds what nobody has taken");
        assert_eq!(whole(body).await, "abc");
        sleep(20 * S).await;
        assert!(caller.rests());
        caller.says(GET).await;
        caller.is_answered().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_behind_its_answer_is_no_slow_head() {
    let mut caller = Caller::connects();
    caller.says(POST).await;
    caller.is_answered().await;
    let body = tokio::spawn(whole(caller.body().await));
    // Longer than a head may take, and than a connection may be idle.
    for _ in 0..100 {
        caller.says(b"1\r\na\r\n").await;
        sleep(S).await;
    }
    caller.says(b"0\r\n\r\n").await;
    assert_eq!(body.await.unwrap().len(), 100);
    // Only now it is between requests.
    let idle = Instant::now();
    sleep(70 * S).await;
    assert!(caller.rests());
    caller.ends().await;
    assert_eq!((idle.elapsed() + S / 2).as_secs(), 75, "`idle_timeout`");
}

#[tokio::test(start_paused = true)]
async fn a_head_behind_such_a_body_has_its_time() {
    let mut caller = Caller::connects();
    caller.says(POST).await;
    caller.is_answered().await;
    let body = tokio::spawn(whole(caller.body().await));
    sleep(20 * S).await;
    let begun = Instant::now();
    caller.says(b"0\r\n\r\nGET / HTTP/1.1\r\n").await;
    assert_eq!(body.await.unwrap(), "");
    let mut answer = String::new();
    caller.stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!((begun.elapsed() + S / 2).as_secs(), 10, "`header_timeout`");
}

#[tokio::test(start_paused = true)]
async fn an_end_waits_for_a_body_behind_its_answer() {
    let mut caller = Caller::connects();
    caller.says(POST).await;
    caller.is_answered().await;
    let body = tokio::spawn(whole(caller.body().await));
    sleep(5 * S).await;
    let drain = caller.drain.clone();
    let finish = tokio::spawn(async move { drain.finish(30 * S).await });
    for _ in 0..20 {
        caller.says(b"1\r\na\r\n").await;
        sleep(S).await;
    }
    caller.says(b"0\r\n\r\n").await;
    assert_eq!(body.await.unwrap().len(), 20);
    caller.ends().await;
    assert_eq!(finish.await.unwrap(), CutOff::default());
}
