//! A stream that breaks when more comes than was asked for: the library holds an answer whole before
//! anybody sees its length.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes may still come.
#[derive(Clone, Debug)]
pub(super) struct Allowance(Arc<AtomicUsize>);

/// The stream.
pub(super) struct Bounded<S> {
    stream: S,
    allowance: Allowance,
}

impl Default for Allowance {
    /// Any number.
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(usize::MAX)))
    }
}

impl Allowance {
    /// From now on so many bytes may come.
    pub(super) fn set(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Release);
    }

    /// From now on any number may.
    pub(super) fn lift(&self) {
        self.set(usize::MAX);
    }

    /// Counts bytes that came; whether they may.
    fn takes(&self, bytes: usize) -> bool {
        let counted = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
            if left == usize::MAX { Some(left) } else { left.checked_sub(bytes) }
        });
        counted.is_ok()
    }
}

impl<S> Bounded<S> {
    /// `stream`, of which no more is read than `allowance` says.
    pub(super) fn new(stream: S, allowance: Allowance) -> Self {
        Self { stream, allowance }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if matches!(read, Poll::Ready(Ok(()))) && !self.allowance.takes(buf.filled().len() - before)
        {
            let what = "more came than any answer of ours has";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_is_allowed_comes_and_one_byte_more_does_not() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let allowance = Allowance::default();
        let mut bounded = Bounded::new(ours, allowance.clone());
        let mut read = [0; 8];
        theirs.write_all(b"12345678").await.unwrap();
        assert_eq!(bounded.read(&mut read).await.unwrap(), 8, "nothing was said");
        allowance.set(8);
        theirs.write_all(b"12345678").await.unwrap();
        assert_eq!(bounded.read(&mut read).await.unwrap(), 8);
        theirs.write_all(b"9").await.unwrap();
        assert_eq!(bounded.read(&mut read).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        allowance.lift();
        theirs.write_all(b"9").await.unwrap();
        assert_eq!(bounded.read(&mut read).await.unwrap(), 1);
    }
}
