//! Whether the first frame of an HTTP/2 server has come: its settings (RFC 9113 §3.4).
//!
//! hyper tells what they say, and not when they have been said: it has understood them once it asks for
//! what comes behind them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// The head of a frame: its length is in the first three bytes (RFC 9113 §4.1).
const HEAD: usize = 9;

/// A stream of which the beginning is read along.
#[derive(Debug)]
pub(super) struct FirstFrame<S> {
    stream: S,
    /// The bytes of the length, and how many bytes have come.
    length: [u8; 3],
    came: usize,
    understood: Option<oneshot::Sender<()>>,
}

impl<S> FirstFrame<S> {
    /// The stream, and what is ready when its first frame has come and was understood.
    pub(super) fn of(stream: S) -> (Self, oneshot::Receiver<()>) {
        let (understood, waits) = oneshot::channel();
        (Self { stream, length: [0; 3], came: 0, understood: Some(understood) }, waits)
    }

    fn read(&mut self, bytes: &[u8]) {
        if self.understood.is_none() {
            return;
        }
        for (place, byte) in self.length.iter_mut().skip(self.came).zip(bytes) {
            *place = *byte;
        }
        self.came = self.came.saturating_add(bytes.len());
    }

    /// More is asked for than has come.
    fn asked(&mut self) {
        let [a, b, c] = self.length;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        let is_whole = self.came >= HEAD && self.came - HEAD >= length;
        if let Some(understood) = self.understood.take_if(|_| is_whole) {
            // Whoever waited may have gone.
            understood.send(()).unwrap_or_default();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstFrame<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.asked();
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
    fn a_frame_is_understood_when_more_is_asked_for_than_it() {
        let empty = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let settings = [&[0, 0, 6, 4, 0, 0, 0, 0, 0][..], &[0, 8, 0, 0, 0, 1]].concat();
        for (frame, piece) in [(&empty[..], 1), (&settings, 1), (&settings, 4), (&settings, 100)] {
            let (mut stream, mut understood) = FirstFrame::of(());
            for bytes in frame.chunks(piece) {
                stream.asked();
                assert!(understood.try_recv().is_err(), "{piece}");
                stream.read(bytes);
            }
            assert!(understood.try_recv().is_err(), "{piece}");
            stream.asked();
            assert!(understood.try_recv().is_ok(), "{piece}");
        }
    }
}
