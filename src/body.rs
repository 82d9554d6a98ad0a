//! The bodies that pass through: one type for both directions.
//!
//! A body is either a few bytes of our own or a stream that is handed on frame by frame as
//! its reader asks for it. Nothing is collected. It does not know who reads or writes it.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::held_up::HeldUp;

/// An error of any kind, kept as the source of another.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A stream of frames that a peer sends.
pub type Stream = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>;

/// A body on its way through.
pub struct Body {
    inner: Inner,
    /// Of the connection that it is sent over.
    held_up: Option<Arc<HeldUp>>,
}

enum Inner {
    Full(Option<Bytes>),
    Stream(Stream),
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self::of(Inner::Full(None))
    }

    /// A body of our own.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::of(Inner::Full((!bytes.is_empty()).then_some(bytes)))
    }

    /// A body that is passed on as it comes.
    pub fn stream(
        stream: impl http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
    ) -> Self {
        Self::of(Inner::Stream(Box::pin(stream)))
    }

    /// A stream gives nothing from now on while bytes are `held_up`.
    pub fn paced_by(&mut self, held_up: &Arc<HeldUp>) {
        self.held_up = match &self.inner {
            Inner::Stream(_) => Some(Arc::clone(held_up)),
            Inner::Full(_) => None,
        };
    }

    /// It is sent over a connection that paces what it takes itself; one that it was meant for before is gone.
    pub fn unpaced(&mut self) {
        self.held_up = None;
    }

    fn of(inner: Inner) -> Self {
        Self { inner, held_up: None }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let stream = match &mut this.inner {
            Inner::Full(bytes) => {
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
            }
            Inner::Stream(stream) => stream.as_mut(),
        };
        let Some(held_up) = &this.held_up else { return stream.poll_frame(cx) };
        ready!(held_up.poll_over(cx));
        let frame = ready!(stream.poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            held_up.gives(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Full(bytes) => bytes.is_none(),
            Inner::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Inner::Stream(stream) => stream.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body(..)")
    }
}
