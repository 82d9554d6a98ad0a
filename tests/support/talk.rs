//! An upstream whose every word the test says: it hears a head, and answers when and what the test
//! wants, whether the body has come or not.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::registry::{self, Kind};
use super::within;

/// The listening side.
pub struct Talk(TcpListener);

/// One connection of the gateway's.
pub struct Talking {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Talk {
    /// Listens.
    pub async fn start() -> Self {
        Self(TcpListener::bind(("127.0.0.1", 0)).await.unwrap())
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    /// The next connection.
    pub async fn accept(&self) -> Talking {
        let (stream, _) = within("a connection", self.0.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Talking { stream, buffer: Vec::new() }
    }
}

impl Talking {
    /// The next head, in lower case, up to and with the empty line.
    ///
    /// # Panics
    ///
    /// When the connection ends before it.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                let leaked = registry::find(&head, &[Kind::Inbound, Kind::Secret]);
                assert!(leaked.is_none(), "an upstream saw a caller's token or a secret");
                return String::from_utf8(head).unwrap().to_ascii_lowercase();
            }
            assert!(self.more().await, "no head: {}", self.buffer.escape_ascii());
        }
    }

    /// The next `length` bytes.
    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.more().await, "it ends: {}", self.buffer.escape_ascii());
        }
        self.buffer.drain(..length).collect()
    }

    /// All that comes until the gateway closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Says `bytes`.
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        within("the gateway to listen", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Ends our side.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    async fn more(&mut self) -> bool {
        match within("more bytes", self.stream.read_buf(&mut self.buffer)).await {
            Ok(read) => read > 0,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
                false
            }
        }
    }
}
