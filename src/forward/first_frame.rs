//! Whether the first frame of an HTTP/2 server has come: its settings (RFC 9113 §3.4).
//!
//! hyper tells what they say, and not when they have been said.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The head of a frame: its length is in the first three bytes (RFC 9113 §4.1).
const HEAD: usize = 9;

/// A stream of which the beginning is read along.
#[derive(Debug)]
pub(super) struct FirstFrame<S> {
    stream: S,
    /// The bytes of the length, and how many bytes have come.
    length: [u8; 3],
    came: usize,
    whole: Arc<AtomicBool>,
}

/// Whether it has come.
#[derive(Debug)]
pub(super) struct Watch(Arc<AtomicBool>);

impl Watch {
    pub(super) fn has_come(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl<S> FirstFrame<S> {
    pub(super) fn of(stream: S) -> (Self, Watch) {
        let whole = Arc::new(AtomicBool::new(false));
        let watch = Watch(Arc::clone(&whole));
        (Self { stream, length: [0; 3], came: 0, whole }, watch)
    }

    fn read(&mut self, bytes: &[u8]) {
        if self.whole.load(Ordering::Relaxed) {
            return;
        }
        for (place, byte) in self.length.iter_mut().skip(self.came).zip(bytes) {
            *place = *byte;
        }
        self.came = self.came.saturating_add(bytes.len());
        let [a, b, c] = self.length;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        if self.came >= HEAD && self.came - HEAD >= length {
            self.whole.store(true, Ordering::Release);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstFrame<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.read(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstFrame<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_come_with_its_last_byte() {
        for piece in [1, 2, 5, 100] {
            let (mut stream, watch) = FirstFrame::of(());
            let frame = [&[0, 0, 6, 4, 0, 0, 0, 0, 0][..], &[0, 8, 0, 0, 0, 1]].concat();
            let (last, others) = frame.split_last().unwrap();
            for bytes in others.chunks(piece) {
                stream.read(bytes);
                assert!(!watch.has_come(), "{piece}");
            }
            stream.read(&[*last]);
            assert!(watch.has_come(), "{piece}");
        }
        let (mut stream, watch) = FirstFrame::of(());
        stream.read(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        assert!(watch.has_come());
    }
}
