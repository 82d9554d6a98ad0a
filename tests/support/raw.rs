//! A client that sends bytes as they are written and reads what comes back, whatever it is.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One connection.
pub struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
    ended: bool,
}

/// One answer, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawReply {
    pub status: u16,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl RawReply {
    /// The value of a header that is there exactly once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(field, _)| field == name);
        let value = values.next().map(|(_, value)| value.as_str());
        value.filter(|_| values.next().is_none())
    }
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new(), ended: false }
    }

    /// Sends `bytes`. A peer who has closed already is no failure: what it answered is still read.
    pub async fn send(&mut self, bytes: &[u8]) {
        match super::within("the peer to take the bytes", self.stream.write_all(bytes)).await {
            Ok(()) => {}
            Err(error) => assert!(is_closing(&error), "can't send: {error}"),
        }
    }

    /// Ends our side: the peer sees the end of what we send.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The next answer, 1xx included; `None` if the connection ends before it begins.
    pub async fn reply(&mut self) -> Option<RawReply> {
        self.reply_to("GET").await
    }

    /// The next answer to a request with `method`: one to HEAD has no body.
    ///
    /// # Panics
    ///
    /// On what is no HTTP/1.x answer, or breaks off.
    pub async fn reply_to(&mut self, method: &str) -> Option<RawReply> {
        let Some(end) = self.until(b"\r\n\r\n").await else {
            assert!(self.buffer.is_empty(), "no answer: {}", self.buffer.escape_ascii());
            return None;
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).expect("a head is text");
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap();
        assert!(status_line.starts_with("HTTP/1."), "no status line: {status_line}");
        let status: u16 = status_line.split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter(|line| !line.is_empty()).map(|line| {
            let (name, value) = line.split_once(':').expect("a field has a colon");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        let mut reply = RawReply { status, headers: headers.collect(), body: Vec::new() };
        let bodiless = method == "HEAD" || status < 200 || status == 204 || status == 304;
        if !bodiless {
            reply.body = self.body(&reply).await;
        }
        Some(reply)
    }

    /// Whether the peer closes now, having sent nothing more.
    ///
    /// # Panics
    ///
    /// When it neither closes nor sends anything for [`super::PATIENCE`].
    pub async fn is_closed(&mut self) -> bool {
        while !self.ended && self.buffer.is_empty() {
            self.read().await;
        }
        self.buffer.is_empty()
    }

    /// All that comes until the peer closes, whatever it is.
    ///
    /// # Panics
    ///
    /// When it neither closes nor sends anything for [`super::PATIENCE`].
    pub async fn rest(&mut self) -> Vec<u8> {
        while !self.ended {
            self.read().await;
        }
        std::mem::take(&mut self.buffer)
    }

    async fn body(&mut self, reply: &RawReply) -> Vec<u8> {
        if let Some(length) = reply.header("content-length") {
            let length: usize = length.parse().expect("a length is a number");
            return self.exactly(length).await;
        }
        if reply.header("transfer-encoding") == Some("chunked") {
            return self.chunks().await;
        }
        self.rest().await
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await;
            let size = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16).unwrap();
            if size == 0 {
                while !self.line().await.is_empty() {}
                return body;
            }
            body.extend(self.exactly(size).await);
            assert_eq!(self.line().await, "", "a chunk ends with CRLF");
        }
    }

    async fn line(&mut self) -> String {
        let end = self.until(b"\r\n").await.expect("a whole line");
        let line: Vec<u8> = self.buffer.drain(..end).collect();
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    /// The next `length` bytes, whatever they are.
    ///
    /// # Panics
    ///
    /// When the connection ends before.
    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(!self.ended, "the body breaks off at {} of {length}", self.buffer.len());
            self.read().await;
        }
        self.buffer.drain(..length).collect()
    }

    /// Where the buffer's first `mark` ends; `None` if the connection ends before one comes.
    async fn until(&mut self, mark: &[u8]) -> Option<usize> {
        loop {
            let found = self.buffer.windows(mark.len()).position(|window| window == mark);
            if let Some(at) = found {
                return Some(at + mark.len());
            }
            if self.ended {
                return None;
            }
            self.read().await;
        }
    }

    async fn read(&mut self) {
        let read = super::within("bytes or the end", self.stream.read_buf(&mut self.buffer)).await;
        match read {
            Ok(read) => self.ended = read == 0,
            Err(error) => {
                assert!(is_closing(&error), "can't read: {error}");
                self.ended = true;
            }
        }
    }
}

/// A reset is a close too: the peer had bytes of ours that it did not read.
fn is_closing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::raw_upstream::{RawUpstream, Then};

    async fn replies(bytes: &str, then: Then) -> Raw {
        let peer = RawUpstream::start();
        peer.answer(bytes, then);
        let mut raw =
            Raw::connect(peer.url().strip_prefix("http://").unwrap().parse().unwrap()).await;
        raw.send(b"GET / HTTP/1.1\r\n\r\n").await;
        // All is sent before the peer goes, so its end is what the script says.
        peer.heads_when(1).await;
        if then == Then::Close {
            raw.read_all().await;
        } else {
            std::mem::forget(peer);
        }
        raw
    }

    impl Raw {
        async fn read_all(&mut self) {
            while !self.ended {
                self.read().await;
            }
        }
    }

    #[tokio::test]
    async fn answers_are_told_apart_by_their_framing() {
        let mut raw = replies(
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: b\r\n\r\nabc\
             HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nt: u\r\n\r\n\
             HTTP/1.1 204 No Content\r\n\r\n\
             HTTP/1.1 400 Bad Request\r\n\r\nto the end",
            Then::Close,
        )
        .await;
        let mut next = async || raw.reply().await.unwrap();
        assert_eq!(next().await.status, 103);
        let reply = next().await;
        assert_eq!(
            (reply.status, reply.header("x-a"), &reply.body[..]),
            (200, Some("b"), &b"abc"[..])
        );
        let reply = next().await;
        assert_eq!((reply.status, &reply.body[..]), (201, &b"abc"[..]));
        assert_eq!(next().await.status, 204);
        let reply = next().await;
        assert_eq!((reply.status, &reply.body[..]), (400, &b"to the end"[..]));
        assert!(raw.is_closed().await);
        assert_eq!(raw.reply().await, None);
    }

    #[tokio::test]
    async fn an_answer_to_head_has_no_body_and_bytes_behind_it_are_noticed() {
        let mut raw =
            replies("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", Then::KeepOpen).await;
        assert_eq!(raw.reply_to("HEAD").await.unwrap().body, b"");
        assert!(!raw.is_closed().await);
    }
}
