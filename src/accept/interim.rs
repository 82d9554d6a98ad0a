//! Writes informational answers (1xx) between the parser's own bytes.
//!
//! The parser flushes the stream only when it has nothing left to write. While a request has no
//! final answer, that is the end of the message before it: there, and nowhere else, a head may
//! begin. That nothing is put once the final answer has begun is seen to by the one who puts
//! ([`Interim`]), who keeps that answer back until all is written, and by `service.rs`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use crate::interim::Interim;

#[derive(Debug)]
pub(super) struct Interjecting {
    line: Interim,
    /// What is being written.
    rest: Bytes,
}

impl Interjecting {
    pub(super) fn new(line: Interim) -> Self {
        Self { line, rest: Bytes::new() }
    }

    /// Writes all that waits: the stream is between two messages.
    pub(super) fn poll_begin<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_finish(cx, stream))?;
            match self.line.take() {
                Some(heads) => self.rest = heads,
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes the rest of what was begun, before anything else is written.
    pub(super) fn poll_finish<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.rest.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, &self.rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rest.advance(written);
        }
        self.line.written();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::poll_fn;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn what_was_begun_ends_before_anything_else_is_written() {
        let line = Interim::default();
        let mut interjecting = Interjecting::new(line.clone());
        let (mut ours, mut theirs) = tokio::io::duplex(4);
        line.put(b"abcdef");
        // Not at a boundary: nothing begins.
        poll_fn(|cx| interjecting.poll_finish(cx, &mut ours)).await.unwrap();
        assert!(theirs.read_u8().now_or_never().is_none());
        // At one it begins, and the peer takes a part.
        assert!(poll_fn(|cx| interjecting.poll_begin(cx, &mut ours)).now_or_never().is_none());
        assert!(poll_fn(|cx| line.poll_written(cx)).now_or_never().is_none());
        let mut read = [0; 4];
        theirs.read_exact(&mut read).await.unwrap();
        poll_fn(|cx| interjecting.poll_finish(cx, &mut ours)).await.unwrap();
        poll_fn(|cx| line.poll_written(cx)).await;
        let mut rest = [0; 2];
        theirs.read_exact(&mut rest).await.unwrap();
        assert_eq!((&read, &rest), (b"abcd", b"ef"));
    }
}
