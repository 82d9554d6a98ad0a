//! One direction of a stream that was HTTP: bytes are handed on as they come and as they are taken.
//!
//! While nothing waits to be taken it holds no memory: it reads into the stack, and keeps only what
//! the other side did not take, at most [`limits::UPGRADE_BUFFER_BYTES`]. Until that is gone it reads
//! no more, so that a slow side slows the other down.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;
use crate::idle_timer::IdleTimer;
use crate::limits;

/// Reads and writes before others get their turn.
const TURNS: usize = 16;

/// One direction.
#[derive(Debug)]
pub(super) struct Pump {
    /// What was read and not taken, from `at` on.
    held: Vec<u8>,
    at: usize,
    stage: Stage,
    /// Where the frames of a WebSocket are; `None` for other protocols.
    frames: Option<Frames>,
    unflushed: bool,
    stalled: IdleTimer,
    passed: u64,
}

#[derive(Debug)]
enum Stage {
    Flowing,
    /// At the end of the current frame this is said, and nothing more.
    Leaving(Vec<u8>),
    /// What is held goes out, then the end.
    Ending,
    Done,
}

/// Which side broke.
#[derive(Debug)]
pub(super) enum Broken {
    Reading(io::Error),
    Writing(io::Error),
}

impl Pump {
    /// Lets whoever takes the bytes take none for `patience`, and follows `frames`.
    pub(super) fn new(patience: Duration, frames: Option<Frames>) -> Self {
        Self {
            held: Vec::new(),
            at: 0,
            stage: Stage::Flowing,
            frames,
            unflushed: false,
            stalled: IdleTimer::new(Some(patience)),
            passed: 0,
        }
    }

    /// How many bytes were read.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// Whether bytes wait to be taken, so that nobody listens to who said them.
    pub(super) fn is_blocked(&self) -> bool {
        self.at < self.held.len()
    }

    /// Whether the end was passed on.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Reads no more than the rest of the current frame, and says `goodbye` behind it, unless who
    /// spoke has said so already.
    pub(super) fn leave(&mut self, goodbye: Vec<u8>) {
        if matches!(self.stage, Stage::Flowing) {
            self.stage = Stage::Leaving(goodbye);
        }
    }

    /// Hands on what comes; ready once the end has come and was passed on.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _turn in 0..TURNS {
            ready!(self.write_held(cx, to)).map_err(Broken::Writing)?;
            match &mut self.stage {
                Stage::Done => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    ready!(self.end(cx, to)).map_err(Broken::Writing)?;
                    self.stage = Stage::Done;
                }
                Stage::Leaving(goodbye) => match self.frames.map_or(Leave::Silently, leave) {
                    Leave::Saying => {
                        self.held = std::mem::take(goodbye);
                        self.stage = Stage::Ending;
                    }
                    Leave::Silently => self.stage = Stage::Ending,
                    Leave::NotYet => ready!(self.read(cx, from, to))?,
                },
                Stage::Flowing => ready!(self.read(cx, from, to))?,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn read<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut space = [const { MaybeUninit::uninit() }; limits::UPGRADE_BUFFER_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        match Pin::new(from).poll_read(cx, &mut buffer) {
            Poll::Ready(read) => read.map_err(Broken::Reading)?,
            Poll::Pending => {
                // What was taken so far is not to wait for more.
                ready!(self.flush(cx, to)).map_err(Broken::Writing)?;
                return Poll::Pending;
            }
        }
        let bytes = buffer.filled();
        if bytes.is_empty() {
            self.stage = Stage::Ending;
            return Poll::Ready(Ok(()));
        }
        self.passed += bytes.len() as u64;
        let bytes = self.due(bytes);
        let taken = match Pin::new(to).poll_write(cx, bytes) {
            Poll::Ready(Ok(taken)) => taken,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Writing(error))),
            Poll::Pending => 0,
        };
        if taken > 0 {
            self.unflushed = true;
            self.stalled.moved();
        }
        self.held.extend_from_slice(bytes.get(taken..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }

    /// What of `bytes` is still to be passed on: of a stream that is left, the current frame.
    fn due<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let leaving = matches!(self.stage, Stage::Leaving(_));
        match &mut self.frames {
            Some(frames) if leaving => {
                let end = frames.finish_frame(bytes);
                bytes.get(..end).unwrap_or_default()
            }
            Some(frames) => {
                frames.follow(bytes);
                bytes
            }
            None => bytes,
        }
    }

    fn write_held<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.at..)
            && !rest.is_empty()
        {
            match Pin::new(&mut *to).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(taken)) => {
                    self.at += taken;
                    self.unflushed = true;
                    self.stalled.moved();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.wait(cx),
            }
        }
        if self.at > 0 {
            self.held = Vec::new();
            self.at = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        if !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(to).poll_flush(cx) {
            Poll::Ready(flushed) => {
                self.unflushed = false;
                self.stalled.moved();
                Poll::Ready(flushed)
            }
            Poll::Pending => self.wait(cx),
        }
    }

    fn end<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        ready!(self.flush(cx, to))?;
        match Pin::new(to).poll_shutdown(cx) {
            // It has gone already, and does not want to hear of the end.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::NotConnected => {
                Poll::Ready(Ok(()))
            }
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => self.wait(cx),
        }
    }

    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let patience = ready!(self.stalled.poll_expired(cx));
        let text = format!("it took no byte for {} s", patience.as_secs());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }
}

/// How a WebSocket can be left now.
enum Leave {
    Saying,
    Silently,
    NotYet,
}

fn leave(frames: Frames) -> Leave {
    if frames.is_lost() || frames.closed() {
        Leave::Silently
    } else if frames.between() {
        Leave::Saying
    } else {
        Leave::NotYet
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const S: Duration = Duration::from_secs(1);

    struct Ends {
        speaker: DuplexStream,
        from: DuplexStream,
        to: DuplexStream,
        listener: DuplexStream,
    }

    fn ends(room: usize) -> Ends {
        let (speaker, from) = duplex(1 << 20);
        let (to, listener) = duplex(room);
        Ends { speaker, from, to, listener }
    }

    fn run(pump: &mut Pump, ends: &mut Ends) -> Option<Result<(), Broken>> {
        // The runtime's turns are not what is tested here.
        let once = poll_fn(|cx| pump.poll(cx, &mut ends.from, &mut ends.to));
        tokio::task::unconstrained(once).now_or_never()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_taken_is_held_up_to_the_limit_and_given_back() {
        let mut ends = ends(10);
        let mut pump = Pump::new(30 * S, None);
        ends.speaker.write_all(&vec![7; 5 * limits::UPGRADE_BUFFER_BYTES]).await.unwrap();
        assert!(run(&mut pump, &mut ends).is_none());
        assert_eq!(pump.passed(), limits::UPGRADE_BUFFER_BYTES as u64);
        assert!(pump.held.capacity() <= limits::UPGRADE_BUFFER_BYTES);
        let mut taken = 0;
        while taken < 5 * limits::UPGRADE_BUFFER_BYTES {
            taken += ends.listener.read(&mut [0; 10]).await.unwrap();
            assert!(run(&mut pump, &mut ends).is_none());
        }
        assert_eq!(pump.held.capacity(), 0);
        drop(ends.speaker);
        ends.speaker = duplex(1).0;
        assert!(matches!(run(&mut pump, &mut ends), Some(Ok(()))));
        assert_eq!(ends.listener.read(&mut [0; 10]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_waited_for_so_long() {
        let mut ends = ends(10);
        let mut pump = Pump::new(30 * S, None);
        ends.speaker.write_all(&[7; 11]).await.unwrap();
        assert!(run(&mut pump, &mut ends).is_none());
        tokio::time::advance(29 * S).await;
        assert!(run(&mut pump, &mut ends).is_none());
        ends.listener.read_exact(&mut [0; 10]).await.unwrap();
        assert!(run(&mut pump, &mut ends).is_none());
        tokio::time::advance(60 * S).await;
        assert!(run(&mut pump, &mut ends).is_none(), "nothing is due to it");
        ends.speaker.write_all(&[7; 11]).await.unwrap();
        assert!(run(&mut pump, &mut ends).is_none());
        tokio::time::advance(30 * S).await;
        assert!(matches!(run(&mut pump, &mut ends), Some(Err(Broken::Writing(_)))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_websocket_is_left_at_the_end_of_a_frame() {
        for (said, later, heard) in [
            (&b""[..], &b"\x81\x01x"[..], &b"BYE"[..]),
            (b"\x81\x01a", b"\x81\x01x", b"\x81\x01aBYE"),
            (b"\x81\x03a", b"bc\x81\x01x", b"\x81\x03abcBYE"),
            (b"\x01\x01a\x81", b"\x01b\x81\x01x", b"\x01\x01a\x81\x01bBYE"),
            (b"\x88\x00", b"\x81\x01x", b"\x88\x00"),
            (b"\x82\x7f\xff\0\0\0\0\0\0\0ab", b"c", b"\x82\x7f\xff\0\0\0\0\0\0\0ab"),
        ] {
            let mut ends = ends(100);
            let mut pump = Pump::new(30 * S, Some(Frames::default()));
            ends.speaker.write_all(said).await.unwrap();
            assert!(run(&mut pump, &mut ends).is_none());
            pump.leave(b"BYE".to_vec());
            ends.speaker.write_all(later).await.unwrap();
            assert!(matches!(run(&mut pump, &mut ends), Some(Ok(()))), "{said:?}");
            let mut all = Vec::new();
            ends.listener.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, heard, "{said:?}");
            assert!(pump.is_done());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_does_not_end_is_not_cut() {
        let mut ends = ends(100);
        let mut pump = Pump::new(30 * S, Some(Frames::default()));
        ends.speaker.write_all(b"\x81\x03a").await.unwrap();
        assert!(run(&mut pump, &mut ends).is_none());
        pump.leave(b"BYE".to_vec());
        assert!(run(&mut pump, &mut ends).is_none());
        ends.speaker.write_all(b"b").await.unwrap();
        assert!(run(&mut pump, &mut ends).is_none());
        assert!(!pump.is_done());
    }
}
