//! A timer that is kept from one request to the next: to put it off costs a tenth of making one.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// The timer. One that nobody polls may wake, once, who polled it last.
#[derive(Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready at `time`, which may be another each time.
    pub(super) fn poll_at(&mut self, time: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(time)));
        if sleep.deadline() != time {
            sleep.as_mut().reset(time);
        }
        sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_can_be_put_off_and_used_again() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut is_at = async |time| poll_fn(|cx| alarm.poll_at(time, cx)).now_or_never().is_some();
        assert!(!is_at(after(5)).await);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(!is_at(after(6)).await);
        assert!(is_at(after(5)).await);
        // After it rang.
        assert!(!is_at(after(6)).await);
        poll_fn(|cx| alarm.poll_at(after(7), cx)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(7));
    }
}
