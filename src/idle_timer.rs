//! A timer for a stream that may pause, but not for ever.
//!
//! It costs nothing while frames come: the timer is made at the first pause and then reused.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Measures one pause after the other.
#[derive(Debug)]
pub struct IdleTimer {
    patience: Option<Duration>,
    moved: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    /// Allows pauses of `patience`; `None` allows any.
    pub fn new(patience: Option<Duration>) -> Self {
        Self { patience, moved: true, sleep: None }
    }

    /// Something came: the next pause starts anew.
    pub fn moved(&mut self) {
        self.moved = true;
    }

    /// Asked while nothing comes; ready with the patience when it is used up.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let Some(patience) = self.patience else { return Poll::Pending };
        let deadline = || Instant::now() + patience;
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if self.moved {
                    sleep.as_mut().reset(deadline());
                }
                sleep
            }
            empty => empty.insert(Box::pin(sleep_until(deadline()))),
        };
        self.moved = false;
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_it_and_a_byte_starts_it_anew() {
        let mut timer = IdleTimer::new(Some(Duration::from_secs(30)));
        let start = Instant::now();
        poll_fn(|cx| {
            assert!(timer.poll_expired(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        tokio::time::advance(Duration::from_secs(20)).await;
        timer.moved();
        assert_eq!(poll_fn(|cx| timer.poll_expired(cx)).await, Duration::from_secs(30));
        assert_eq!(start.elapsed().as_secs(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_it_never_ends() {
        let mut timer = IdleTimer::new(None);
        let waited =
            tokio::time::timeout(Duration::from_hours(1), poll_fn(|cx| timer.poll_expired(cx)));
        assert!(waited.await.is_err());
    }
}
