//! A request body that is kept while it goes by, so that the request can be sent once more.
//!
//! Bounded by [`limits::REPLAY_BUFFER_BYTES`]: a longer body is let go of, and its request is
//! sent once. Whether a request may be sent again is not decided here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::limits;

/// The kept body.
#[derive(Debug)]
pub(super) struct Replay {
    kept: Mutex<Kept>,
    changed: Notify,
}

enum Kept {
    /// What came so far.
    Part(BytesMut),
    /// All of it.
    Whole(Bytes),
    /// It can't be had again.
    Lost,
}

impl Replay {
    /// Nothing has come yet.
    pub(super) fn new() -> Self {
        Self { kept: Mutex::new(Kept::Part(BytesMut::new())), changed: Notify::new() }
    }

    /// Keeps what goes by.
    pub(super) fn keep(&self, data: &[u8]) {
        let mut kept = self.lock();
        if let Kept::Part(part) = &mut *kept {
            if part.len() + data.len() > limits::REPLAY_BUFFER_BYTES {
                *kept = Kept::Lost;
                self.changed.notify_waiters();
            } else {
                part.extend_from_slice(data);
            }
        }
    }

    /// All has gone by.
    pub(super) fn end(&self) {
        let mut kept = self.lock();
        if let Kept::Part(part) = &mut *kept {
            *kept = Kept::Whole(std::mem::take(part).freeze());
            self.changed.notify_waiters();
        }
    }

    /// Lets go of it: it broke, or nobody will ask for it again.
    pub(super) fn lose(&self) {
        *self.lock() = Kept::Lost;
        self.changed.notify_waiters();
    }

    /// The whole body, if it is there within [`limits::REPLAY_PATIENCE`].
    pub(super) async fn whole(&self) -> Option<Bytes> {
        let whole = async {
            loop {
                // Before the look: what changes in between wakes it all the same.
                let changed = self.changed.notified();
                match &*self.lock() {
                    Kept::Whole(body) => return Some(body.clone()),
                    Kept::Lost => return None,
                    Kept::Part(_) => {}
                }
                changed.await;
            }
        };
        timeout(limits::REPLAY_PATIENCE, whole).await.ok().flatten()
    }

    /// The whole body, if all of it has gone by.
    pub(super) fn whole_now(&self) -> Option<Bytes> {
        match &*self.lock() {
            Kept::Whole(body) => Some(body.clone()),
            Kept::Part(_) | Kept::Lost => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Kept {
    // What callers send is theirs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Part(part) => write!(f, "Part({} bytes)", part.len()),
            Self::Whole(body) => write!(f, "Whole({} bytes)", body.len()),
            Self::Lost => f.write_str("Lost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_is_kept_up_to_the_limit() {
        let replay = Replay::new();
        replay.keep(&vec![1; limits::REPLAY_BUFFER_BYTES - 1]);
        replay.keep(&[2]);
        replay.end();
        let whole = replay.whole().await.unwrap();
        assert_eq!((whole.len(), whole.last()), (limits::REPLAY_BUFFER_BYTES, Some(&2)));

        let replay = Replay::new();
        replay.keep(&vec![1; limits::REPLAY_BUFFER_BYTES]);
        replay.keep(&[2]);
        replay.end();
        assert_eq!(replay.whole().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_body_is_waited_for_and_not_for_ever() {
        let replay = Replay::new();
        replay.keep(b"ab");
        let mut whole = Box::pin(replay.whole());
        assert!(whole.as_mut().now_or_never().is_none());
        assert_eq!(replay.whole_now(), None);
        replay.keep(b"c");
        replay.end();
        assert_eq!(replay.whole_now().as_deref(), Some(&b"abc"[..]));
        assert_eq!(whole.await.as_deref(), Some(&b"abc"[..]));

        let replay = Replay::new();
        let started = tokio::time::Instant::now();
        assert_eq!(replay.whole().await, None);
        assert_eq!(started.elapsed(), limits::REPLAY_PATIENCE);
    }

    #[tokio::test]
    async fn a_body_that_is_lost_is_not_waited_for() {
        let replay = Replay::new();
        replay.keep(b"ab");
        let mut whole = Box::pin(replay.whole());
        assert!(whole.as_mut().now_or_never().is_none());
        replay.lose();
        assert_eq!(whole.await, None);
        replay.end();
        assert_eq!(replay.whole().await, None);
    }
}
