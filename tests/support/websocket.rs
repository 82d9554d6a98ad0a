//! `WebSocket` connections as bytes: an upstream that shakes hands and says back what it hears, and the frames
//! that tests send.

use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, Response, StatusCode};
use hyper::ext::Protocol;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::registry::{self, Kind};
use super::servers::Server;

/// The key of RFC 6455 §1.3, and what it is answered with.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The head of a handshake for `path`, with more `fields`, each with its CRLF.
pub fn handshake(path: &str, fields: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: api.example.com\r\nconnection: keep-alive, Upgrade\r\n\
         upgrade: WebSocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n{fields}\r\n"
    )
}

/// A masked text frame, as clients send it; the mask is zeros.
pub fn text(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// The upstream; see the module.
pub struct WebSocketUpstream {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// In place of the usual answer; `{accept}` is filled in.
    answer: Mutex<Option<String>>,
    heads: Mutex<Vec<String>>,
    heard: watch::Sender<Vec<u8>>,
    ended: watch::Sender<usize>,
}

impl WebSocketUpstream {
    /// Speaks HTTP/1.1.
    pub fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let server = Server::start(Arc::new(move |stream| {
            let shared = Arc::clone(&serving);
            Box::pin(async move { serve(&shared, stream).await.unwrap_or_default() })
        }));
        Self { server, shared }
    }

    /// Speaks HTTP/2 with prior knowledge, and extended CONNECT if `extended`.
    pub fn start_http2(extended: bool) -> Self {
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let server = Server::start(Arc::new(move |stream| {
            let shared = Arc::clone(&serving);
            Box::pin(async move { serve_http2(&shared, stream, extended).await })
        }));
        Self { server, shared }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Answers with this from now on; `{accept}` becomes the value that the key asks for.
    pub fn answer(&self, head: &str) {
        *self.shared.answer.lock().unwrap() = Some(head.to_owned());
    }

    /// Answers as usual again.
    pub fn answer_handshakes(&self) {
        *self.shared.answer.lock().unwrap() = None;
    }

    /// The heads of the handshakes so far, in lower case.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }

    /// All that was said to it behind handshakes.
    pub fn heard(&self) -> Vec<u8> {
        self.shared.heard.borrow().clone()
    }

    /// Waits until so many connections have ended.
    pub async fn ended(&self, count: usize) {
        let mut ended = self.shared.ended.subscribe();
        super::within("the end", ended.wait_for(|ended| *ended >= count)).await.unwrap();
    }
}

impl Drop for WebSocketUpstream {
    fn drop(&mut self) {
        let leaked = |text: &String| {
            registry::find(text.as_bytes(), &[Kind::Inbound, Kind::Secret]).is_some()
        };
        let fine = std::thread::panicking() || !self.heads().iter().any(leaked);
        assert!(fine, "an upstream saw a caller's token or a secret of the gateway");
    }
}

async fn serve(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await?;
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: "));
    let accept = key.map(accept).unwrap_or_default();
    shared.heads.lock().unwrap().push(head);
    let answer = shared.answer.lock().unwrap().clone();
    let answer = answer.unwrap_or_else(|| {
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\nx-up: 1\r\n\r\n"
            .to_owned()
    });
    stream.write_all(answer.replace("{accept}", &accept).as_bytes()).await?;
    echo(shared, stream).await;
    Ok(())
}

async fn serve_http2(shared: &Arc<Shared>, stream: TcpStream, extended: bool) {
    let shared = Arc::clone(shared);
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        let shared = Arc::clone(&shared);
        async move {
            let head = format!(
                "{} {} {:?}",
                request.method(),
                request.uri(),
                request.extensions().get::<Protocol>().map(Protocol::as_str)
            );
            shared.heads.lock().unwrap().push(head.to_ascii_lowercase());
            let mut response = Response::new(String::new());
            if request.method() == Method::CONNECT {
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    echo(&shared, TokioIo::new(upgrade.await.unwrap())).await;
                });
            } else {
                *response.status_mut() = StatusCode::NOT_FOUND;
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    if extended {
        builder.enable_connect_protocol();
    }
    builder.serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn echo(shared: &Shared, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        shared.heard.send_modify(|heard| heard.extend_from_slice(&buffer[..read]));
        if stream.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    stream.shutdown().await.unwrap_or_default();
    shared.ended.send_modify(|ended| *ended += 1);
}

/// What a handshake with this key is answered with.
pub fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}
