//! A stream that somebody listens to: what is read from it, and when it is asked for. Of what is written
//! they hear only how it went. What that is heard for is the listener's.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Who listens.
pub(super) trait Ear: Unpin {
    /// More is asked for.
    fn asked(&mut self) {}

    /// It came, none where the stream has ended; or the stream broke.
    fn heard(&mut self, came: Result<&[u8], &io::Error>);

    /// Bytes were to be written or flushed, and this came of it.
    fn written<T>(&mut self, _outcome: &Poll<io::Result<T>>) {}
}

/// A stream and who listens to it. The stream is dropped first.
#[derive(Debug)]
pub(super) struct Overheard<S, E> {
    pub(super) stream: S,
    pub(super) ear: E,
}

impl<S: AsyncRead + Unpin, E: Ear> AsyncRead for Overheard<S, E> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.ear.asked();
        let before = buffer.filled().len();
        let outcome = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        let came = buffer.filled().get(before..).unwrap_or_default();
        self.ear.heard(outcome.as_ref().map(|()| came));
        Poll::Ready(outcome)
    }
}

impl<S: AsyncWrite + Unpin, E: Ear> AsyncWrite for Overheard<S, E> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.ear.written(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.ear.written(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.ear.written(&outcome);
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
