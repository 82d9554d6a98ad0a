//! The socket of a connection to an upstream, with the room that it takes: that is given back when
//! the socket is closed, by whom and why ever, upgrades and panics included.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limit::Slot;

/// A socket, with TLS or without.
pub(super) struct Socket<S> {
    stream: S,
    _slot: Slot,
    /// Told whenever the other side is heard.
    heard: Option<Arc<Heard>>,
}

/// How often the other side was heard: reads that brought bytes.
#[derive(Debug, Default)]
pub(super) struct Heard(AtomicU64);

impl Heard {
    pub(super) fn times(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl<S> Socket<S> {
    pub(super) fn new(stream: S, slot: Slot) -> Self {
        Self { stream, _slot: slot, heard: None }
    }

    /// The same, and what says how often the other side was heard.
    pub(super) fn listening(mut self) -> (Self, Arc<Heard>) {
        let heard = Arc::<Heard>::default();
        self.heard = Some(Arc::clone(&heard));
        (self, heard)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before
            && let Some(heard) = &self.heard
        {
            heard.0.fetch_add(1, Ordering::Release);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
