//! The stream under the parser: tells [`Activity`] when bytes come, has HTTP/1 judged by
//! [`framing`](super::framing) and HTTP/2 by [`frames`](super::frames), gives back the bytes that
//! were read to find out the protocol, answers a head that took too long, tells who floods us to go
//! away, and gives up a peer who takes nothing.
//!
//! The parser closes without a word when it is given up; the caller is to learn why.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::accept::activity::{Activity, Place};
use crate::accept::answer;
use crate::accept::frames::Frames;
use crate::accept::framing::{Reader, Verdict};
use crate::accept::interim::Interjecting;
use crate::accept::slots::Slot;
use crate::idle_timer::IdleTimer;
use crate::interim::Interim;
use crate::limits::CLOSING_TIMEOUT;

/// Most heads are smaller, and then read at once.
pub(super) const LOOK_AHEAD_BYTES: usize = 4096;

/// A stream that is watched. It holds the connection's slot, so that an upgraded connection,
/// whose parser is gone, still counts.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    /// Read already, to be read again.
    ahead: Bytes,
    farewell: Farewell,
    reading: Reading,
    /// Whether all that was begun to be written has gone out: what is written now is no part of it.
    is_flushed: bool,
    /// What was found behind the bytes that were handed on; nothing more is read.
    broken: Option<io::Error>,
    /// For HTTP/1: what is written between the parser's messages.
    interim: Option<Interjecting>,
    /// Runs while a write makes no progress.
    stalled: IdleTimer,
    _slot: Slot,
}

/// What reads along.
#[derive(Debug)]
pub(crate) enum Reading {
    /// The reader, and whom it tells.
    Http1(Reader, Arc<Verdict>),
    Http2(Frames),
    /// Nothing: the connection has become something else.
    Unread,
}

#[derive(Debug)]
enum Farewell {
    /// All is well.
    None,
    /// The rest of the answer to a head that took too long, or of a GOAWAY.
    Saying(Bytes),
    /// It was said to one who may still be sending: what is not read when a socket closes has the
    /// system take back what was said.
    Listening(IdleTimer),
    /// It was said.
    Said,
}

impl<S> Watched<S> {
    pub(crate) fn new(
        stream: S,
        ahead: Bytes,
        activity: Arc<Activity>,
        reading: Reading,
        patience: Duration,
        slot: Slot,
    ) -> Self {
        let stalled = IdleTimer::new(Some(patience));
        Self {
            stream,
            activity,
            ahead,
            farewell: Farewell::None,
            reading,
            is_flushed: true,
            broken: None,
            interim: None,
            stalled,
            _slot: slot,
        }
    }

    /// Writes what comes over `line`, too.
    pub(crate) fn with_interim(mut self, line: Option<Interim>) -> Self {
        self.interim = line.map(Interjecting::new);
        self
    }

    /// Takes note of `bytes`, and says how many of them may be read. What stands in front of a
    /// fault may: the parser must know of a request to have it answered.
    fn heard(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.activity.heard();
        if let Reading::Http1(_, verdict) = &self.reading
            && verdict.is_over()
        {
            // What comes now is no HTTP.
            self.reading = Reading::Unread;
        }
        match &mut self.reading {
            Reading::Http1(reader, verdict) => {
                let read = reader.read(bytes);
                if let Err(found) = read
                    && let Err(broken) = verdict.take(&found)
                {
                    self.activity.reads(Place::Body);
                    let sound = reader.sound();
                    if sound == 0 {
                        return Err(broken);
                    }
                    self.broken = Some(broken);
                    return Ok(sound);
                }
                // Also behind a whole message: the parser may not come to its end before long.
                self.activity.reads(if reader.is_in_head() { Place::Head } else { Place::Body });
            }
            Reading::Unread => {}
            Reading::Http2(frames) => {
                let outcome = frames.read(bytes, Instant::now());
                self.activity.fields_are_due(frames.fields_since());
                if let Err(flood) = outcome {
                    self.activity.flooded(flood);
                }
            }
        }
        Ok(bytes.len())
    }

    /// There is nothing for the parser, which asks only when it has used up what it was given.
    fn is_awaited(&self) {
        if let Reading::Http1(reader, _) = &self.reading
            && reader.is_between()
        {
            self.activity.reads(Place::Between);
        }
    }

    /// Whether the parser is to read nothing more, and the caller to be told why.
    fn is_over(&self) -> bool {
        self.activity.head_given_up().is_some() || self.activity.flood().is_some()
    }

    /// What the caller is told.
    fn last_words(&self) -> Bytes {
        match &self.reading {
            Reading::Http1(..) => {
                self.activity.head_given_up().map(answer::overdue_head).unwrap_or_default()
            }
            // In the middle of a frame there is no way to say anything.
            Reading::Http2(_) if !self.is_flushed => Bytes::new(),
            Reading::Unread => Bytes::new(),
            Reading::Http2(frames) => answer::go_away(frames.last_stream()),
        }
    }

    /// Takes note of what a write came to, before anybody knows.
    fn begins(&mut self, outcome: &Poll<io::Result<usize>>) {
        if let (Reading::Http2(frames), Poll::Ready(Ok(written))) = (&mut self.reading, outcome) {
            self.is_flushed = false;
            frames.wrote(*written);
        }
    }

    /// Passes the outcome of a write on, unless none has come for too long.
    fn wrote<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.activity.writes(outcome.is_pending());
        if outcome.is_ready() {
            self.stalled.moved();
            return outcome;
        }
        ready!(self.stalled.poll_expired(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the caller takes nothing")))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Watched<S> {
    /// Says why it is over; then the stream is at its end.
    fn say_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.farewell {
                Farewell::None => {
                    self.farewell = Farewell::Saying(self.last_words());
                }
                Farewell::Saying(rest) if rest.is_empty() => {
                    ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
                    self.farewell = match self.reading {
                        Reading::Http1(..) | Reading::Unread => Farewell::Said,
                        Reading::Http2(_) => {
                            Farewell::Listening(IdleTimer::new(Some(CLOSING_TIMEOUT)))
                        }
                    };
                }
                Farewell::Saying(rest) => {
                    let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
                    if written == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    rest.advance(written);
                }
                Farewell::Listening(timer) => {
                    if timer.poll_expired(cx).is_ready() {
                        self.farewell = Farewell::Said;
                        continue;
                    }
                    ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
                    let mut ignored = [0; 4096];
                    let mut buffer = ReadBuf::new(&mut ignored);
                    ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
                    if buffer.filled().is_empty() {
                        self.farewell = Farewell::Said;
                    }
                }
                Farewell::Said => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Ready when there is something for the parser: bytes, or the end of them. Takes no memory
    /// while there is nothing.
    pub(super) fn poll_look_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ahead.has_remaining() {
            return Poll::Ready(());
        }
        let mut bytes = [MaybeUninit::uninit(); LOOK_AHEAD_BYTES];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
            Ok(()) => self.ahead = Bytes::copy_from_slice(buffer.filled()),
            Err(error) => self.broken = Some(error),
        }
        Poll::Ready(())
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Between two messages of the parser: writes the informational answers that wait.
    fn interject(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(interim) = &mut self.interim else { return Poll::Ready(Ok(())) };
        let outcome = interim.poll_begin(cx, &mut self.stream);
        if outcome.is_pending() { self.wrote(cx, outcome) } else { outcome }
    }

    /// Writes the rest of an informational answer that was begun.
    fn end_interjection(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(interim) = &mut self.interim else { return Poll::Ready(Ok(())) };
        let outcome = interim.poll_finish(cx, &mut self.stream);
        if outcome.is_pending() { self.wrote(cx, outcome) } else { outcome }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.is_over() {
            return this.say_farewell(cx);
        }
        if let Some(broken) = &this.broken {
            return Poll::Ready(Err(io::Error::new(broken.kind(), broken.to_string())));
        }
        let before = buffer.filled().len();
        if this.ahead.has_remaining() {
            let part = this.ahead.split_to(this.ahead.len().min(buffer.remaining()));
            buffer.put_slice(&part);
        } else {
            let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
            if read.is_pending() {
                this.is_awaited();
            }
            ready!(read)?;
        }
        if let Some(new) = buffer.filled().get(before..)
            && !new.is_empty()
        {
            let sound = this.heard(new)?;
            buffer.set_filled(before + sound);
            if this.is_over() {
                // What made it too much is not worth being answered, and the parser is to end here.
                buffer.set_filled(before);
                return this.say_farewell(cx);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.end_interjection(cx))?;
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.begins(&outcome);
        self.wrote(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.end_interjection(cx))?;
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.begins(&outcome);
        self.wrote(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.interject(cx))?;
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(outcome, Poll::Ready(Ok(()))) {
            self.is_flushed = true;
        }
        self.wrote(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.activity.shuts();
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
