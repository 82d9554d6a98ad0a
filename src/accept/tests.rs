//! The whole of `accept` on real sockets of the loopback interface.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

use super::*;
use crate::trust::Roots;
use crate::workers::{self, Workers};

pub(crate) fn settings() -> Settings {
    Settings {
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
        body_idle_timeout: Duration::from_secs(30),
        max_header_bytes: 64 * 1024,
        max_concurrent_streams: 128,
        max_connections: 100,
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

struct Running {
    address: SocketAddr,
    server: Arc<Server>,
    metrics: Metrics,
    /// Requests to `/slow` wait for it.
    go: Arc<Notify>,
    /// Told when a request to `/slow` has come.
    came: Arc<Notify>,
}

fn start(settings: Settings, tls: Option<Arc<Tls>>) -> Running {
    let listener = BoundListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let metrics = Metrics::default();
    let running = Running {
        address: listener.address(),
        server: Arc::new(Server::new(settings, Drain::default(), metrics.clone())),
        metrics,
        go: Arc::default(),
        came: Arc::default(),
    };
    let (go, came) = (Arc::clone(&running.go), Arc::clone(&running.came));
    let handler = move |request: Request<Incoming>, peer: Peer| {
        let (go, came) = (Arc::clone(&go), Arc::clone(&came));
        async move {
            match request.uri().path() {
                "/panic" => std::panic::resume_unwind(Box::new("quietly")),
                "/slow" => {
                    came.notify_one();
                    go.notified().await;
                }
                _ => {}
            }
            let text = format!("{:?} tls={}", request.version(), peer.tls);
            Response::new(Full::new(Bytes::from(text)))
        }
    };
    tokio::spawn(serve(Arc::clone(&running.server), listener, tls, handler));
    running
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn h2(&self) -> http2::SendRequest<Empty<Bytes>> {
        h2_over(self.connect().await).await
    }

    fn counts(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|found| found == line)
    }
}

async fn h2_over(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> http2::SendRequest<Empty<Bytes>> {
    let io = TokioIo::new(stream);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn to(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://a{path}")).body(Empty::new()).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Reads one answer whose end shows by `end`.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut read = String::new();
    stream.read_to_string(&mut read).await.unwrap();
    read
}

#[tokio::test]
async fn both_versions_are_served_in_clear() {
    let running = start(settings(), None);
    let mut stream = running.connect().await;
    for byte in GET {
        stream.write_all(&[*byte]).await.unwrap();
    }
    assert!(read_until(&mut stream, "tls=false").await.contains("HTTP/1.1 tls=false"));
    let mut h2 = running.h2().await;
    assert_eq!(text(h2.send_request(to("/")).await.unwrap()).await, "HTTP/2.0 tls=false");
    assert!(running.counts("obo_gateway_connections_open 2"));
}

#[tokio::test]
async fn both_versions_are_served_over_tls() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let files = (Path::new("crt"), Path::new("key"));
    let certified =
        Certified::from_pem(chain.as_bytes(), key.as_bytes(), files.0, files.1, None).unwrap();
    let running = start(settings(), Some(Arc::new(Tls::new(certified))));
    let roots = Roots::from_pem(chain.as_bytes()).unwrap();
    for (offered, version) in [
        (Some("h2"), Version::HTTP_2),
        (Some("http/1.1"), Version::HTTP_11),
        (None, Version::HTTP_11),
    ] {
        let mut config = roots.client_config().unwrap();
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, running.connect().await).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), offered.map(str::as_bytes));
        let response = if version == Version::HTTP_2 {
            h2_over(stream).await.send_request(to("/")).await.unwrap()
        } else {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(to("/")).await.unwrap()
        };
        assert_eq!(text(response).await, format!("{version:?} tls=true"));
    }
}

#[tokio::test]
async fn a_slow_head_is_answered_with_408_and_silence_with_silence() {
    let short = Duration::from_millis(100);
    let running = start(Settings { header_timeout: short, ..settings() }, None);

    let mut kept = running.connect().await;
    kept.write_all(GET).await.unwrap();
    read_until(&mut kept, "tls=false").await;

    let mut silent = running.connect().await;
    assert_eq!(read_to_end(&mut silent).await, "");

    let mut slow = running.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    let answer = read_to_end(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["code"], "request_timeout");

    // More than the time of a head has passed; between requests another time counts.
    kept.write_all(GET).await.unwrap();
    read_until(&mut kept, "tls=false").await;
    // But the second head has its time too.
    kept.write_all(b"GET").await.unwrap();
    assert!(read_to_end(&mut kept).await.starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let short = Duration::from_millis(100);
    let running = start(Settings { idle_timeout: short, ..settings() }, None);
    let mut stream = running.connect().await;
    stream.write_all(GET).await.unwrap();
    let answers = read_to_end(&mut stream).await;
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
    assert!(answers.ends_with("tls=false"), "{answers}");

    let stream = running.connect().await;
    let io = TokioIo::new(stream);
    let (mut h2, connection) =
        http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    text(h2.send_request(to("/")).await.unwrap()).await;
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_may_take_longer_than_both_times() {
    let short = Duration::from_millis(30);
    let settings = Settings { header_timeout: short, idle_timeout: short, ..settings() };
    let running = start(settings, None);
    let mut slow = running.connect().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    running.came.notified().await;
    // Three connections one after the other are given up, each after that time.
    for _ in 0..3 {
        assert_eq!(read_to_end(&mut running.connect().await).await, "");
    }
    running.go.notify_one();
    read_until(&mut slow, "tls=false").await;
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let running = start(Settings { max_header_bytes: 8192, ..settings() }, None);
    let fields = |count: usize| "x: y\r\n".repeat(count);
    for (head, status) in [
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", fields(99)), "200"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", fields(100)), "431"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(8000)), "200"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(8200)), "431"),
    ] {
        let mut stream = running.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let line = read_until(&mut stream, "\r\n").await;
        assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{line}");
    }
}

#[tokio::test]
async fn a_panic_costs_one_request() {
    let running = start(settings(), None);
    let mut h2 = running.h2().await;
    let response = h2.send_request(to("/panic")).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert!(response.headers().contains_key("x-request-id"));
    assert_eq!(h2.send_request(to("/")).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn callers_beyond_the_limit_wait() {
    let running = start(Settings { max_connections: 1, ..settings() }, None);
    let mut first = running.connect().await;
    first.write_all(GET).await.unwrap();
    read_until(&mut first, "tls=false").await;
    let mut second = running.connect().await;
    second.write_all(GET).await.unwrap();
    first.write_all(GET).await.unwrap();
    read_until(&mut first, "tls=false").await;
    let mut byte = [0];
    let would_block = second.try_read(&mut byte).unwrap_err();
    assert_eq!(would_block.kind(), io::ErrorKind::WouldBlock);
    assert!(running.counts("obo_gateway_connections_open 1"));
    drop(first);
    read_until(&mut second, "tls=false").await;

    // A higher limit lets in those who wait.
    let mut third = running.connect().await;
    third.write_all(GET).await.unwrap();
    running.server.set(Settings { max_connections: 2, ..settings() });
    read_until(&mut third, "tls=false").await;
}

#[tokio::test]
async fn a_drain_answers_what_is_in_flight() {
    let running = start(settings(), None);
    let mut idle = running.connect().await;
    idle.write_all(GET).await.unwrap();
    read_until(&mut idle, "tls=false").await;
    let mut slow = running.connect().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    running.came.notified().await;

    let drain = running.server.drain.clone();
    drain.begin();
    assert_eq!(read_to_end(&mut idle).await, "");
    let finish = tokio::spawn(async move { drain.finish(Duration::from_mins(1)).await });
    running.go.notify_one();
    let answer = read_to_end(&mut slow).await;
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.ends_with("tls=false"), "{answer}");
    assert_eq!(finish.await.unwrap(), CutOff::default());
    assert!(TcpStream::connect(running.address).await.is_err());
    assert!(running.counts("obo_gateway_connections_open 0"));
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off_and_counted() {
    let running = start(settings(), None);
    let mut slow = running.connect().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    running.came.notified().await;
    let mut h2 = running.h2().await;
    let on_h2 = tokio::spawn(async move { h2.send_request(to("/slow")).await });
    running.came.notified().await;
    let cut_off = running.server.drain.finish(Duration::from_millis(50)).await;
    assert_eq!(cut_off, CutOff { connections: 2, requests: 2 });
    assert_eq!(read_to_end(&mut slow).await, "");
    assert!(on_h2.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_at_the_end_are_accepted_also_behind_a_failure() {
    let server = Server::new(settings(), Drain::default(), Metrics::default());
    let no_descriptor = || Err(io::Error::from_raw_os_error(24));
    let mut next = [
        Ok(Some(1)),
        no_descriptor(),
        no_descriptor(),
        Ok(Some(2)),
        Err(io::ErrorKind::ConnectionAborted.into()),
        Ok(Some(3)),
        Ok(None),
        Ok(Some(4)),
    ]
    .into_iter();
    let mut taken = Vec::new();
    let begun = Instant::now();
    let address = ([127, 0, 0, 1], 1).into();
    accept_rest(&server, address, || next.next().unwrap(), |one| taken.push(one)).await;
    assert_eq!(taken, [1, 2, 3], "and nobody is waited for");
    // `sleep` has a grain of a millisecond.
    let waited = begun.elapsed();
    let pauses = 2 * ACCEPT_FAILURE_PAUSE;
    assert!(waited >= pauses && waited < pauses + ACCEPT_FAILURE_PAUSE, "{waited:?}");
}

#[tokio::test]
async fn connections_are_spread_over_workers_and_stay_where_they_are_to_the_end() {
    let workers = Workers::start(2, "worker", || {}).unwrap();
    let server = Server::new(settings(), Drain::default(), Metrics::default()).at(workers.seats());
    let server = Arc::new(server);
    let listener = BoundListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.address();
    let handler = |request: Request<Incoming>, _: Peer| async move {
        if request.uri().path() == "/panic" {
            std::panic::resume_unwind(Box::new("quietly"));
        }
        Response::new(Full::new(Bytes::from(format!("worker {}!", workers::here()))))
    };
    tokio::spawn(serve(Arc::clone(&server), listener, None, handler));
    let mut counts = [0; 3];
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut answers = Vec::new();
        for _ in 0..2 {
            stream.write_all(GET).await.unwrap();
            let answer = read_until(&mut stream, "!").await;
            answers.push(answer.split("worker ").last().unwrap().trim_end_matches('!').to_owned());
        }
        assert_eq!(answers[0], answers[1]);
        counts[answers[0].parse::<usize>().unwrap()] += 1;
        streams.push(stream);
    }
    assert_eq!(counts, [0, 2, 2]);
    for stream in &mut streams[..2] {
        stream
            .write_all(b"GET /panic HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        assert!(read_to_end(stream).await.starts_with("HTTP/1.1 500 "));
    }
    for stream in &mut streams[2..] {
        stream.write_all(GET).await.unwrap();
        read_until(stream, "!").await;
    }
    assert_eq!(server.drain.finish(Duration::from_mins(1)).await, CutOff::default());
    for stream in &mut streams {
        assert_eq!(read_to_end(stream).await, "");
    }
}
