//! A future that is polled only when it wants to be, however often its task is woken by others.
//!
//! A connection waits for the end of the gateway and for its own bytes, and it is woken for
//! bytes all the time. What announces the end is shared by all connections and behind locks, which
//! they would otherwise take with each request, from all cores.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

pin_project_lite::pin_project! {
    /// Polls a future when that has been woken, and for the first time.
    pub(super) struct Seldom<F> {
        #[pin]
        future: F,
        bell: Arc<Bell>,
        // The bell as the future knows it.
        rings: Waker,
        // Who is woken; a task has the same waker for all its life, nearly always.
        woken: Option<Waker>,
    }
}

struct Bell {
    has_rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F> Seldom<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { has_rung: AtomicBool::new(true), task: AtomicWaker::new() });
        let rings = Waker::from(Arc::clone(&bell));
        Self { future, bell, rings, woken: None }
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let has_rung = this.bell.has_rung.load(Ordering::Acquire);
        let is_known = this.woken.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !has_rung && is_known {
            return Poll::Pending;
        }
        // In this order: whoever rings from now on either finds the waker, or rings before the
        // future is asked, which then knows.
        this.bell.has_rung.swap(false, Ordering::AcqRel);
        this.bell.task.register(cx.waker());
        if !is_known {
            *this.woken = Some(cx.waker().clone());
        }
        this.future.poll(&mut Context::from_waker(this.rings))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_for_its_own_sake_only() {
        let (polls, notify) = (Cell::new(0), Notify::new());
        let mut waits = pin!(notify.notified());
        let counted = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            waits.as_mut().poll(cx)
        });
        let mut seldom = pin!(Seldom::new(counted));
        poll_fn(|cx| {
            for _ in 0..3 {
                assert!(seldom.as_mut().poll(cx).is_pending());
            }
            Poll::Ready(())
        })
        .await;
        assert_eq!(polls.get(), 1);
        // For another task it has to know whom to wake.
        assert!(seldom.as_mut().now_or_never().is_none());
        assert_eq!(polls.get(), 2);
        notify.notify_waiters();
        seldom.await;
        assert_eq!(polls.get(), 3);
    }

    #[tokio::test]
    async fn it_wakes_its_task() {
        let (told, hears) = tokio::sync::oneshot::channel::<()>();
        let waiting = tokio::spawn(Seldom::new(hears));
        tokio::task::yield_now().await;
        told.send(()).unwrap();
        waiting.await.unwrap().unwrap();
    }
}
