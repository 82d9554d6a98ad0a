//! A stream that breaks when more comes than was asked for: the library holds an answer whole before
//! anybody sees its length.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits;

/// How many bytes may still come: as many as what was asked can have for an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowance(Arc<Mutex<Left>>);

#[derive(Debug)]
struct Left {
    bytes: usize,
    /// Whether that is for one answer, and questions add nothing to it.
    is_fixed: bool,
}

impl Default for Left {
    fn default() -> Self {
        Self { bytes: limits::MIN_SHARED_ANSWERS_BYTES, is_fixed: false }
    }
}

/// The stream.
pub(super) struct Bounded<S> {
    stream: S,
    allowance: Allowance,
}

impl Allowance {
    /// From now on so many bytes may come.
    pub(super) fn set(&self, bytes: usize) {
        *self.lock() = Left { bytes, is_fixed: true };
    }

    /// From now on as many as questions ask for.
    pub(super) fn lift(&self) {
        *self.lock() = Left::default();
    }

    /// Bytes of questions were sent.
    fn asked(&self, bytes: usize) {
        let mut left = self.lock();
        if !left.is_fixed {
            let more = bytes.saturating_mul(limits::SHARED_ANSWER_BYTES_PER_ASKED);
            let (least, most) =
                (limits::MIN_SHARED_ANSWERS_BYTES, limits::MAX_SHARED_ANSWERS_BYTES);
            left.bytes = left.bytes.saturating_add(more).clamp(least, most);
        }
    }

    /// Counts bytes that came; whether they may.
    fn takes(&self, bytes: usize) -> bool {
        let mut left = self.lock();
        let rest = left.bytes.checked_sub(bytes);
        left.bytes = rest.unwrap_or_default();
        rest.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = &written {
            self.allowance.asked(*bytes);
        }
        written
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
        allowance.set(8);
        bounded.write_all(b"a question adds nothing").await.unwrap();
        theirs.write_all(b"12345678").await.unwrap();
        assert_eq!(bounded.read(&mut read).await.unwrap(), 8);
        theirs.write_all(b"9").await.unwrap();
        assert_eq!(bounded.read(&mut read).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        allowance.lift();
        theirs.write_all(b"9").await.unwrap();
        assert_eq!(bounded.read(&mut read).await.unwrap(), 1);
    }

    #[test]
    fn answers_are_as_long_as_what_was_asked_can_have() {
        let (least, most) = (limits::MIN_SHARED_ANSWERS_BYTES, limits::MAX_SHARED_ANSWERS_BYTES);
        let allowance = Allowance::default();
        assert!(allowance.takes(least) && !allowance.takes(1), "before the first question");
        allowance.asked(1);
        assert!(allowance.takes(least) && !allowance.takes(1));
        let many = 4 * least / limits::SHARED_ANSWER_BYTES_PER_ASKED;
        allowance.asked(many);
        let more = many * limits::SHARED_ANSWER_BYTES_PER_ASKED;
        assert!(allowance.takes(more) && !allowance.takes(1));
        allowance.asked(usize::MAX);
        assert!(allowance.takes(most) && !allowance.takes(1));
        // The shortest question for a value of the largest size.
        let question = 130 * limits::SHARED_ANSWER_BYTES_PER_ASKED;
        assert!(question > limits::MAX_SHARED_VALUE_BYTES + 1024);
    }
}
