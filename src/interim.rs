//! Informational answers (1xx) on their way to a caller of HTTP/1.1: from whoever heard them of an
//! upstream to the stream under the parser, which knows of no such thing.
//!
//! A request is answered within the task of its connection, so who puts and who takes are never at
//! it at the same time. When a head may be written is decided by the stream
//! (`accept/interim.rs`); what is in it, by whoever puts it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

/// The way to the caller of one connection; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Interim(Arc<Line>);

#[derive(Debug, Default)]
struct Line {
    /// Whether there is anything to look for behind the lock.
    used: AtomicBool,
    heads: Mutex<Heads>,
}

#[derive(Debug, Default)]
struct Heads {
    /// Whole heads, as they will be written.
    waiting: BytesMut,
    /// Some were taken, and are not written yet.
    taken: bool,
    /// Who wants to know that all is written.
    waker: Option<Waker>,
}

impl Interim {
    /// Puts a whole head behind those that wait.
    pub fn put(&self, head: &[u8]) {
        self.heads().waiting.extend_from_slice(head);
        self.0.used.store(true, Ordering::Release);
    }

    /// Waits until nothing waits: then what follows may be said.
    pub fn poll_written(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_used() {
            return Poll::Ready(());
        }
        let mut heads = self.heads();
        if heads.waiting.is_empty() && !heads.taken {
            return Poll::Ready(());
        }
        heads.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Forgets what nobody has begun to write: the request has its final answer.
    pub fn clear(&self) {
        if self.is_used() {
            let mut heads = self.heads();
            heads.waiting.clear();
            self.0.used.store(heads.taken, Ordering::Release);
        }
    }

    /// What waits, to be written whole.
    pub fn take(&self) -> Option<Bytes> {
        if !self.is_used() {
            return None;
        }
        let mut heads = self.heads();
        if heads.waiting.is_empty() {
            return None;
        }
        heads.taken = true;
        Some(heads.waiting.split().freeze())
    }

    /// What was taken is written.
    pub fn written(&self) {
        let mut heads = self.heads();
        heads.taken = false;
        if heads.waiting.is_empty() {
            self.0.used.store(false, Ordering::Release);
        }
        if let Some(waker) = heads.waker.take() {
            waker.wake();
        }
    }

    fn is_used(&self) -> bool {
        self.0.used.load(Ordering::Acquire)
    }

    fn heads(&self) -> MutexGuard<'_, Heads> {
        self.0.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::poll_fn;

    use super::*;

    fn is_written(interim: &Interim) -> bool {
        poll_fn(|cx| interim.poll_written(cx)).now_or_never().is_some()
    }

    #[test]
    fn heads_are_taken_together_and_waited_for() {
        let interim = Interim::default();
        assert!(is_written(&interim));
        assert_eq!(interim.take(), None);
        interim.put(b"a");
        interim.put(b"b");
        assert!(!is_written(&interim));
        assert_eq!(interim.take().as_deref(), Some(&b"ab"[..]));
        assert!(!is_written(&interim), "taken is not written");
        interim.put(b"c");
        interim.written();
        assert!(!is_written(&interim));
        assert_eq!(interim.take().as_deref(), Some(&b"c"[..]));
        interim.written();
        assert!(is_written(&interim));
    }

    #[test]
    fn what_is_cleared_is_not_written_and_what_was_begun_is() {
        let interim = Interim::default();
        interim.put(b"a");
        interim.clear();
        assert_eq!(interim.take(), None);
        assert!(is_written(&interim));
        interim.put(b"b");
        assert!(interim.take().is_some());
        interim.clear();
        assert!(!is_written(&interim));
        interim.written();
        assert!(is_written(&interim));
    }
}
