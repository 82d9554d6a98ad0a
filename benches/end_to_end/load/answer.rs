//! Answers of HTTP/1.1 as they come, with no HTTP library in between: a status, a
//! `Content-Length` or chunks, a body.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{ANSWER_TIMEOUT, shown};
use crate::Failure;

/// Where the parts of an answer are in the buffer.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body_start: usize,
    end: usize,
}

/// Reads one whole answer into `buffer`, which is empty before.
pub(super) async fn receive<S>(stream: &mut S, buffer: &mut BytesMut) -> Result<Answer, Failure>
where
    S: AsyncRead + Unpin,
{
    let mut found = None;
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(format!(
                "the proxy closed a connection where an answer was due, after: {}",
                shown(buffer)
            )
            .into());
        }
        if found.is_none() {
            found = parse_head(buffer)?;
            if let Some(Answer { end, .. }) = found {
                buffer.reserve(end.saturating_sub(buffer.len()));
            }
        }
        match found {
            Some(answer) if answer.end == buffer.len() => return Ok(answer),
            Some(answer) if answer.end < buffer.len() => {
                return Err(format!("bytes behind the end of an answer: {}", shown(buffer)).into());
            }
            still_short => found = still_short,
        }
    }
}

/// The head at the start of `bytes`, if all of it is there.
fn parse_head(bytes: &[u8]) -> Result<Option<Answer>, Failure> {
    let Some(head_end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    // Most proxies write names in lower case; the rest take a little longer.
    let head = bytes.get(..head_end).unwrap_or_default();
    let length = match content_length(head) {
        None => content_length(&head.to_ascii_lowercase()),
        found => found,
    };
    let status = head
        .strip_prefix(b"HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    match (status, length) {
        (Some(status), Some(length)) => {
            let body_start = head_end + 4;
            Ok(Some(Answer { status, body_start, end: body_start + length }))
        }
        _ => Err(format!("an answer without status or Content-Length: {}", shown(bytes)).into()),
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let rest = head.get(memmem::find(head, NAME)? + NAME.len()..)?;
    let line = memchr::memchr(b'\r', rest).map_or(Some(rest), |end| rest.get(..end))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

/// One GET on a connection of its own: status and body. For readiness and metrics.
pub(crate) async fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    send(address, &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"))
        .await
}

/// One request on a connection of its own, which it asks to close: status and body.
pub(crate) async fn send(address: SocketAddr, request: &str) -> io::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer: io::Result<String> = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await?;
    let answer = answer?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    status
        .map(|status| (status, body.to_owned()))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer"))
}

/// Whether the proxy at `address` refuses `token` on `path`: with 401, or by hanging up.
pub(crate) async fn refuses(address: SocketAddr, path: &str, token: &str) -> Result<bool, Failure> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    match send(address, &request).await {
        Ok((status, _)) => Ok(status == 401),
        // The bare proxy has no answer for it.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(true),
        Err(error) => Err(error.into()),
    }
}
