//! Whether the other side of a connection takes what is written to it: who writes says so, and who has more
//! to give waits until it does.
//!
//! A parser of HTTP/1.1 asks a body for more as long as there is room in its buffer, also while its socket
//! takes nothing. Where the body waits meanwhile, what was read for it stays where it came from. What
//! is written, and to whom, is not known here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::limits;

/// Whether bytes that are to be sent wait, since the other side took no more when it was tried last.
#[derive(Debug, Default)]
pub struct HeldUp {
    is_so: AtomicBool,
    waits: AtomicWaker,
}

impl HeldUp {
    /// Whether they wait.
    pub fn is_so(&self) -> bool {
        self.is_so.load(Ordering::Acquire)
    }

    /// So many bytes of a body are written next. Behind many, more wait until it is known how that went.
    pub fn gives(&self, bytes: usize) {
        if bytes >= limits::HTTP1_GATHERED_BYTES {
            self.is_so.store(true, Ordering::Release);
        }
    }

    /// A write waits, or has gone through; whether that is new.
    pub fn wrote(&self, waits: bool) -> bool {
        // One task at a time writes, and mostly says what was said before.
        if self.is_so.load(Ordering::Relaxed) == waits {
            return false;
        }
        self.is_so.store(waits, Ordering::Release);
        if !waits {
            self.waits.wake();
        }
        true
    }

    /// Ready while nothing waits.
    pub fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.is_so() {
            return Poll::Ready(());
        }
        self.waits.register(cx.waker());
        // It may have ended before somebody was there to hear it.
        if self.is_so() { Poll::Pending } else { Poll::Ready(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_waits_is_woken_when_the_write_has_gone_through() {
        let held_up = HeldUp::default();
        assert!(poll_fn(|cx| held_up.poll_over(cx)).now_or_never().is_some());
        assert!(held_up.wrote(true) && !held_up.wrote(true) && held_up.is_so());
        let mut over = pin!(poll_fn(|cx| held_up.poll_over(cx)));
        assert!(over.as_mut().now_or_never().is_none());
        let (_over, ()) = tokio::join!(over, async { assert!(held_up.wrote(false)) });
        assert!(!held_up.is_so());
    }

    #[test]
    fn many_bytes_are_held_up_until_they_were_written() {
        let held_up = HeldUp::default();
        held_up.gives(limits::HTTP1_GATHERED_BYTES - 1);
        assert!(!held_up.is_so());
        held_up.gives(limits::HTTP1_GATHERED_BYTES);
        assert!(held_up.is_so() && held_up.wrote(false) && !held_up.is_so());
    }
}
