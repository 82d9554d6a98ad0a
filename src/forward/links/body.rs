//! The body of an answer while its links are replaced: as it streams, whatever its coding.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};

use super::Linking;
use super::answer::remove_digests;
use super::coding::{Coding, Recoder, Rest};
use super::json::{Scanner, Written};
use crate::body::{Body, BoxError};
use crate::limits::LINK_PIECE_BYTES;

/// Pieces without anything to hand on after which other tasks get their turn.
const PIECES_IN_A_ROW: usize = 16;

/// The compressed body of an answer is damaged or cut short.
#[derive(Debug, thiserror::Error)]
#[error("the answer's `Content-Encoding` can't be undone")]
pub(in crate::forward) struct Damaged(#[source] io::Error);

/// A body whose links lead to the gateway.
///
/// What came with a frame of the upstream is handed on before the next frame is asked for, but for
/// a link whose end is not there yet.
pub(super) struct Relinked {
    inner: Body,
    linking: Box<Linking>,
    scanner: Scanner,
    coding: Option<Coding>,
    /// Made when the first byte comes.
    recoder: Option<Recoder>,
    phase: Phase,
    plain: Vec<u8>,
    /// What was waited for before the head was handed on.
    first: Option<Result<Frame<Bytes>, BoxError>>,
}

enum Phase {
    /// A frame is waited for.
    Reading,
    /// One is worked on.
    Working(Bytes),
    /// The body is over; trailers may follow.
    Ending(Option<HeaderMap>),
    /// All was handed on, or all is lost.
    Over,
}

impl Relinked {
    pub(super) fn new(inner: Body, linking: Box<Linking>, coding: Option<Coding>) -> Self {
        let plain = if coding.is_some() { vec![0; LINK_PIECE_BYTES] } else { Vec::new() };
        let (scanner, phase) = (Scanner::default(), Phase::Reading);
        Self { inner, linking, scanner, coding, recoder: None, phase, plain, first: None }
    }

    /// Waits for the first bytes of a compressed body: if they can't be unpacked, there is still time
    /// to say so. Others are not waited for.
    ///
    /// # Errors
    ///
    /// The body is damaged before any of it could be handed on.
    pub(super) async fn begun(mut self) -> Result<Self, Damaged> {
        if self.coding.is_none() {
            return Ok(self);
        }
        let first = poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await;
        self.first = match first {
            Some(Err(error)) => match error.downcast::<Damaged>() {
                Ok(damaged) => return Err(*damaged),
                Err(other) => Some(Err(other)),
            },
            first => first,
        };
        Ok(self)
    }

    /// Does one piece of `chunk`, and says whether there is more in it.
    fn work(&mut self, chunk: &mut Bytes, out: &mut Vec<u8>) -> io::Result<Rest> {
        let Self { linking, scanner, .. } = self;
        let mut relink = |raw: &[u8]| {
            let written = Written::read(raw)?;
            let path = linking.relink(written.path(), written.tail())?;
            Some(written.with_path(&path))
        };
        let Some(coding) = self.coding else {
            let piece = chunk.split_to(chunk.len().min(LINK_PIECE_BYTES));
            out.reserve(piece.len());
            scanner.feed(&piece, out, &mut relink);
            return Ok(if chunk.is_empty() { Rest::Nothing } else { Rest::More });
        };
        let recoder = match &mut self.recoder {
            Some(recoder) => recoder,
            none => none.insert(Recoder::new(coding, chunk.first().copied().unwrap_or_default())?),
        };
        let (length, rest) = recoder.unpack(chunk, &mut self.plain)?;
        let mut relinked = Vec::with_capacity(length);
        scanner.feed(self.plain.get(..length).unwrap_or_default(), &mut relinked, &mut relink);
        recoder.pack(&relinked, out)?;
        if rest == Rest::Nothing {
            recoder.flush(out)?;
        }
        Ok(rest)
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let Some(recoder) = &mut self.recoder else {
            self.scanner.finish(out);
            return Ok(());
        };
        recoder.check_end()?;
        let mut held = Vec::new();
        self.scanner.finish(&mut held);
        recoder.pack(&held, out)?;
        recoder.finish(out)
    }
}

impl http_body::Body for Relinked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(first));
        }
        for _piece in 0..PIECES_IN_A_ROW {
            let mut out = Vec::new();
            match std::mem::replace(&mut this.phase, Phase::Over) {
                Phase::Over | Phase::Ending(None) => return Poll::Ready(None),
                Phase::Ending(Some(mut trailers)) => {
                    remove_digests(&mut trailers);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Phase::Working(mut chunk) => match this.work(&mut chunk, &mut out) {
                    Ok(Rest::More) => this.phase = Phase::Working(chunk),
                    Ok(Rest::Nothing) => this.phase = Phase::Reading,
                    Err(error) => return Poll::Ready(Some(Err(Damaged(error).into()))),
                },
                Phase::Reading => {
                    this.phase = Phase::Reading;
                    let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
                    this.phase = Phase::Over;
                    let trailers = match frame.map(|frame| frame.map(Frame::into_data)) {
                        Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                        Some(Ok(Ok(data))) if data.is_empty() => {
                            this.phase = Phase::Reading;
                            continue;
                        }
                        Some(Ok(Ok(data))) => {
                            this.phase = Phase::Working(data);
                            continue;
                        }
                        Some(Ok(Err(frame))) => frame.into_trailers().ok(),
                        None => None,
                    };
                    if let Err(error) = this.finish(&mut out) {
                        return Poll::Ready(Some(Err(Damaged(error).into())));
                    }
                    this.phase = Phase::Ending(trailers);
                }
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.phase, Phase::Over) && self.first.is_none()
    }
}
