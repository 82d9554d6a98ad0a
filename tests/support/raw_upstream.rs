//! An upstream that answers with bytes as the test wrote them: answers that are framed
//! wrongly, heads without end, 103 before 200, silence.
//!
//! It takes down heads as they came, byte for byte, which a parser would not keep.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::registry::{self, Kind};
use super::servers::Server;

/// What becomes of a connection behind a raw answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next request is waited for.
    KeepOpen,
    /// It is closed.
    Close,
}

/// The upstream; see the module.
pub struct RawUpstream {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<VecDeque<(Vec<u8>, Then)>>,
    heads: watch::Sender<Vec<Vec<u8>>>,
}

impl RawUpstream {
    /// Starts one that answers 204 to whatever has no answer of its own.
    pub fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let server = Server::start(Arc::new(move |stream| {
            let shared = Arc::clone(&serving);
            // A connection that breaks is part of what is tested.
            Box::pin(async move { serve(&shared, stream).await.unwrap_or_default() })
        }));
        Self { server, shared }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Answers the next request that has no answer yet with `bytes`.
    pub fn answer(&self, bytes: impl Into<Vec<u8>>, then: Then) {
        self.shared.answers.lock().unwrap().push_back((bytes.into(), then));
    }

    /// The heads of the requests so far, up to and with the empty line.
    pub fn heads(&self) -> Vec<Vec<u8>> {
        self.shared.heads.borrow().clone()
    }

    /// Waits until `count` heads have come.
    pub async fn heads_when(&self, count: usize) -> Vec<Vec<u8>> {
        let mut heads = self.shared.heads.subscribe();
        super::within("heads", heads.wait_for(|heads| heads.len() >= count)).await.unwrap().clone()
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        let leaked =
            |head: &Vec<u8>| registry::find(head, &[Kind::Inbound, Kind::Secret]).is_some();
        let fine = std::thread::panicking() || !self.heads().iter().any(leaked);
        assert!(fine, "a raw upstream saw a caller's token or a secret of the gateway");
    }
}

async fn serve(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = head_end(&buffer) {
                break end;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head: Vec<u8> = buffer.drain(..end).collect();
        let body = content_length(&head);
        while buffer.len() < body {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        buffer.drain(..body);
        shared.heads.send_modify(|heads| heads.push(head));
        let answer = shared.answers.lock().unwrap().pop_front();
        let (bytes, then) =
            answer.unwrap_or_else(|| (b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), Then::KeepOpen));
        stream.write_all(&bytes).await?;
        if then == Then::Close {
            return stream.shutdown().await;
        }
    }
}

fn head_end(buffer: &[u8]) -> Option<usize> {
    buffer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn content_length(head: &[u8]) -> usize {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let value = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    value.map_or(0, |value| value.trim().parse().unwrap())
}
