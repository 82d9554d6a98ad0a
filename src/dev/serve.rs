//! Sockets for the development servers: loopback only, plain or TLS, HTTP/1.1 and HTTP/2.
//!
//! Reads each request whole, within limits, and hands it to a function. What is answered is
//! not decided here, except where a request can't be read.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::body::BoxError;
use crate::dev::answer::{Answer, Asked, json};
use crate::dev::{DevError, DevTls};

/// Largest request body in bytes: a token request holds one assertion of at most 16 KiB.
const MAX_BODY_BYTES: usize = 128 * 1024;
/// Most connections at a time; more wait in the backlog. A test run needs a few hundred.
const MAX_CONNECTIONS: usize = 4096;
/// Time for a TLS handshake, and for a body.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a request head, the pause before it on a kept connection included. Longer than the
/// 90 s for which the gateway keeps an idle connection, so that the gateway is who closes it.
const HEAD_TIMEOUT: Duration = Duration::from_mins(2);
/// Pause after `accept` failed, which it does when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A loopback address that is bound and does not serve yet.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
}

impl Bound {
    /// Binds `address` (port 0: any free one), to serve over TLS if there is a certificate.
    ///
    /// # Errors
    ///
    /// An address beyond loopback, and what the system says.
    pub async fn bind(address: SocketAddr, tls: Option<&DevTls>) -> Result<Self, DevError> {
        if !address.ip().is_loopback() {
            return Err(DevError::NotLoopback(address));
        }
        let failed = |source| DevError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = tls.map(|tls| TlsAcceptor::from(tls.server_config()));
        Ok(Self { listener, address, tls })
    }

    /// The address, with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients call it: `http://127.0.0.1:PORT`, or `https://localhost:PORT` with TLS.
    /// It never depends on what a request says. As in any URL, the usual port is left out.
    pub fn base_url(&self) -> String {
        base_url(self.address, self.tls.as_ref())
    }

    /// Serves in a task of its own until the handle is dropped.
    pub(super) fn serve(
        self,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> DevServer {
        let (address, base_url) = (self.address, self.base_url());
        let task = tokio::spawn(accept(self.listener, self.tls, Arc::new(answer)));
        DevServer { address, base_url, task: AbortOnDropHandle::new(task) }
    }
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Bound").field(&self.base_url()).finish()
    }
}

/// A development server that serves. Dropping it closes its socket and its connections.
#[derive(Debug)]
pub struct DevServer {
    address: SocketAddr,
    base_url: String,
    task: AbortOnDropHandle<()>,
}

impl DevServer {
    /// The address, with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients call it: `http://127.0.0.1:PORT`, or `https://localhost:PORT` with TLS.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Stops it, as dropping it does.
    pub fn stop(&self) {
        self.task.abort();
    }
}

fn base_url(address: SocketAddr, tls: Option<&TlsAcceptor>) -> String {
    match (tls, address) {
        (Some(_), _) if address.port() == 443 => "https://localhost".to_owned(),
        (Some(_), _) => format!("https://localhost:{}", address.port()),
        (None, SocketAddr::V4(address)) if address.port() == 80 => {
            format!("http://{}", address.ip())
        }
        (None, SocketAddr::V6(address)) if address.port() == 80 => {
            format!("http://[{}]", address.ip())
        }
        (None, _) => format!("http://{address}"),
    }
}

/// Never returns. The set of connections is dropped with it, and they with the set.
async fn accept<F>(listener: TcpListener, tls: Option<TlsAcceptor>, answer: Arc<F>)
where
    F: Fn(&Asked) -> Answer + Send + Sync + 'static,
{
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (tls, answer) = (tls.clone(), Arc::clone(&answer));
        connections.spawn(async move {
            match tls {
                None => connection(stream, answer).await,
                Some(tls) => {
                    let handshake = tokio::time::timeout(READ_TIMEOUT, tls.accept(stream)).await;
                    if let Ok(Ok(stream)) = handshake {
                        connection(stream, answer).await;
                    }
                }
            }
            drop(permit);
        });
    }
}

/// Serves one connection to its end. What breaks it is the client's affair.
async fn connection<I, F>(stream: I, answer: Arc<F>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(&Asked) -> Answer + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = Arc::clone(&answer);
        async move {
            let response =
                read(request).await.map_or_else(|refused| refused, |asked| answer(&asked));
            Ok::<_, Infallible>(response.map(Full::new))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection to a development server broke");
    }
}

/// The whole request, or the answer to one that can't be read.
async fn read<B>(request: Request<B>) -> Result<Asked, Answer>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES).collect();
    match within_time(body).await {
        Some(Ok(body)) => Ok(Request::from_parts(head, body.to_bytes())),
        Some(Err(error)) if error.is::<LengthLimitError>() => {
            Err(unread(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 128 KiB."))
        }
        Some(Err(_)) => Err(unread(StatusCode::BAD_REQUEST, "The body broke off.")),
        None => Err(unread(StatusCode::REQUEST_TIMEOUT, "The body did not come within 10 s.")),
    }
}

async fn within_time<F: Future>(future: F) -> Option<F::Output> {
    tokio::time::timeout(READ_TIMEOUT, future).await.ok()
}

fn unread(status: StatusCode, message: &str) -> Answer {
    json(status, &json!({ "error": { "code": "BadRequest", "message": message } }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// The server's whole answer to `request`, over memory.
    async fn answer_to(request: Vec<u8>) -> String {
        let (mut client, server) = tokio::io::duplex(1024 * 1024);
        let echo = |asked: &Asked| {
            crate::dev::answer::text(StatusCode::OK, format!("{} bytes", asked.body().len()))
        };
        let task = tokio::spawn(connection(server, Arc::new(echo)));
        client.write_all(&request).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        task.await.unwrap();
        answer
    }

    fn post(body_bytes: usize) -> Vec<u8> {
        let head = format!(
            "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {body_bytes}\r\n\r\n"
        );
        [head.into_bytes(), vec![b'x'; body_bytes]].concat()
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        let answer = answer_to(post(MAX_BODY_BYTES)).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with("131072 bytes"), "{answer}");
        let answer = answer_to(post(MAX_BODY_BYTES + 1)).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\nab";
        let answer = answer_to(head.into()).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }

    #[test]
    fn a_base_url_is_as_clients_write_it() {
        let tls = TlsAcceptor::from(DevTls::generate().unwrap().server_config());
        for (address, plain, secure) in [
            ("127.0.0.1:9010", "http://127.0.0.1:9010", "https://localhost:9010"),
            ("127.0.0.2:80", "http://127.0.0.2", "https://localhost:80"),
            ("127.0.0.1:443", "http://127.0.0.1:443", "https://localhost"),
            ("[::1]:9010", "http://[::1]:9010", "https://localhost:9010"),
            ("[::1]:80", "http://[::1]", "https://localhost:80"),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(base_url(address, None), plain);
            assert_eq!(base_url(address, Some(&tls)), secure);
        }
    }

    #[tokio::test]
    async fn only_loopback_is_bound() {
        for refused in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let error = Bound::bind(refused.parse().unwrap(), None).await.unwrap_err();
            assert!(matches!(error, DevError::NotLoopback(_)), "{error}");
            assert!(error.to_string().contains(refused), "{error}");
        }
    }
}
