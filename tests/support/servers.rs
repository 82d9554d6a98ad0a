//! The sockets of scripted peers: loopback, a port of the system's choice, a runtime of their own.
//!
//! Peers live on a runtime apart, so that they go on answering while a test blocks its own
//! thread to let a gateway drain.

use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

/// A body that a peer sends, whatever it is made of.
pub type PeerBody = UnsyncBoxBody<Bytes, PeerError>;

/// Why a peer breaks off.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PeerError(pub String);

impl PeerError {
    /// As the test's script wants it.
    pub fn scripted() -> Self {
        Self("as scripted".to_owned())
    }
}

impl From<hyper::Error> for PeerError {
    fn from(error: hyper::Error) -> Self {
        Self(error.to_string())
    }
}

/// What a handler comes to; an error closes the connection without an answer.
pub type Handled = Pin<Box<dyn Future<Output = Result<Response<PeerBody>, PeerError>> + Send>>;

/// Answers one request that came over a [`Line`].
pub type Handler = Arc<dyn Fn(Request<Incoming>, Arc<Line>) -> Handled + Send + Sync>;

/// Serves one accepted connection to its end.
type Serve = Arc<dyn Fn(TcpStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("peers")
        .enable_all()
        .build()
        .unwrap()
});

/// The connection that a request came over.
pub struct Line {
    /// Counts the connections of a server, from 0: tells whether a connection was used again.
    pub number: usize,
    socket: socket2::Socket,
}

impl Line {
    /// Makes the end of the connection a reset (RST) in place of an orderly close.
    pub fn reset_at_close(&self) {
        self.socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// Runs `future` where the peers live: what it connects goes on answering while a test blocks
/// its own thread.
pub async fn beside_the_test<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> T {
    RUNTIME.spawn(future).await.expect("it does not panic")
}

/// A listening peer; ends, with its connections, when dropped.
pub struct Server {
    address: SocketAddr,
    serve: Serve,
    running: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// Speaks HTTP/1.1, and HTTP/2 with prior knowledge, and answers with `handler`.
    pub fn http(handler: Handler) -> Self {
        Self::http_at(SocketAddr::from(([127, 0, 0, 1], 0)), handler)
    }

    /// The same at `address`.
    pub fn http_at(address: SocketAddr, handler: Handler) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        Self::start_at(
            address,
            Arc::new(move |stream| {
                let handler = Arc::clone(&handler);
                let number = connections.fetch_add(1, Ordering::SeqCst);
                Box::pin(async move {
                    let socket = socket2::SockRef::from(&stream).try_clone().unwrap();
                    let line = Arc::new(Line { number, socket });
                    let service = service_fn(move |request| handler(request, Arc::clone(&line)));
                    let mut builder = auto::Builder::new(TokioExecutor::new());
                    builder.http1().preserve_header_case(true);
                    // How a connection ends is the other side's affair; tests look at requests.
                    let connection =
                        builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
                    connection.await.ok();
                })
            }),
        )
    }

    /// Hands every connection to `serve`.
    pub fn start(serve: Serve) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), serve)
    }

    /// The same at `address`.
    pub fn start_at(address: SocketAddr, serve: Serve) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let running = Mutex::new(Some(accept(listener, Arc::clone(&serve))));
        Self { address, serve, running }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the socket and all connections: from now on connections are refused.
    pub async fn stop(&self) {
        let running = self.running.lock().unwrap().take();
        if let Some(running) = running {
            running.abort();
            running.await.unwrap_err();
        }
    }

    /// Listens again where it did before.
    pub fn start_again(&self) {
        let listener = TcpListener::bind(self.address).unwrap();
        *self.running.lock().unwrap() = Some(accept(listener, Arc::clone(&self.serve)));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.lock().unwrap().take() {
            running.abort();
        }
    }
}

fn accept(listener: TcpListener, serve: Serve) -> JoinHandle<()> {
    listener.set_nonblocking(true).unwrap();
    RUNTIME.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted.unwrap();
                    stream.set_nodelay(true).unwrap();
                    connections.spawn(serve(stream));
                }
                Some(done) = connections.join_next() => done.unwrap(),
            }
        }
    })
}
