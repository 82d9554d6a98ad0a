//! A timer that is kept from one request to the next: to put it off costs a tenth of making one.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// The timer. It wakes who polled it last, once, and holds them until then; unless it is [`quiet`].
///
/// [`quiet`]: Self::quiet
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

    /// The same timer, which wakes nobody and holds nobody until it is polled again.
    pub(super) fn quiet(mut self) -> Self {
        let mut silent = Context::from_waker(Waker::noop());
        // It hears of it in any case, whatever else this task has done. One that rang holds nobody.
        self.0.take_if(|sleep| pin!(unconstrained(sleep.as_mut())).poll(&mut silent).is_ready());
        self
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Wake;
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

    struct Caller;

    impl Wake for Caller {
        fn wake(self: Arc<Self>) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_one_holds_nobody_and_can_be_used_again() {
        let mut alarm = Alarm::default().quiet();
        let start = Instant::now();
        let caller = Arc::new(Caller);
        for seconds in [5, 6] {
            let time = start + Duration::from_secs(seconds);
            let waker = Waker::from(Arc::clone(&caller));
            assert!(alarm.poll_at(time, &mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            assert_eq!(Arc::strong_count(&caller), 2);
            alarm = alarm.quiet();
            assert_eq!(Arc::strong_count(&caller), 1);
        }
        tokio::time::advance(Duration::from_secs(6)).await;
        alarm = alarm.quiet();
        poll_fn(|cx| alarm.poll_at(start + Duration::from_secs(7), cx)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(7));
    }
}
