//! A future that is polled only when it wants to be, however often its task is woken by others.
//!
//! A connection waits for the end of the gateway, for its own time and for its bytes, and it is woken
//! for bytes all the time. What announces the end is shared by all connections and behind locks, which
//! they would otherwise take with each request, from all cores; its timer would be told each time
//! whom to wake.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::time::{Instant, Sleep};

pin_project_lite::pin_project! {
    /// Polls a future when that has been woken, and for the first time.
    pub(super) struct Seldom<F> {
        #[pin]
        future: F,
        // None before it is first polled.
        hung: Option<Hung>,
    }
}

struct Hung {
    bell: Arc<Bell>,
    /// The bell as the future knows it.
    rings: Waker,
}

struct Bell {
    has_rung: AtomicBool,
    /// Who is woken. It stays, however often it is woken: a ring for nothing must not take it away
    /// from the one that counts. A task has the same waker for all its life, nearly always; for
    /// another one there is another bell.
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In this order: who is woken finds that it has rung.
        self.has_rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Hung {
    fn wakes(task: &Waker) -> Self {
        let bell = Arc::new(Bell { has_rung: AtomicBool::new(true), task: task.clone() });
        let rings = Waker::from(Arc::clone(&bell));
        Self { bell, rings }
    }
}

impl<F> Seldom<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future, hung: None }
    }
}

impl Seldom<Sleep> {
    pub(super) fn deadline(&self) -> Instant {
        self.future.deadline()
    }

    pub(super) fn reset(self: Pin<&mut Self>, deadline: Instant) {
        let this = self.project();
        this.future.reset(deadline);
        if let Some(hung) = this.hung {
            // One that has fired knows nobody any more: it is polled next time.
            hung.bell.has_rung.store(true, Ordering::Release);
        }
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let known = this.hung.take().filter(|hung| hung.bell.task.will_wake(cx.waker()));
        let hung = this.hung.insert(known.unwrap_or_else(|| Hung::wakes(cx.waker())));
        if !hung.bell.has_rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // Before the future is asked: it knows what was rung for until now, and who rings from now on
        // is heard.
        hung.bell.has_rung.swap(false, Ordering::AcqRel);
        this.future.poll(&mut Context::from_waker(&hung.rings))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::sync::Notify;
    use tokio::time::{sleep_until, timeout};

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

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_set_anew_fires_anew() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut timer = pin!(Seldom::new(sleep_until(at(1))));
        timer.as_mut().await;
        for seconds in [2, 3] {
            timer.as_mut().reset(at(seconds));
            let fired = timeout(Duration::from_mins(1), timer.as_mut()).await;
            assert_eq!((fired, Instant::now()), (Ok(()), at(seconds)));
        }
        // While it waits, for a time before that too.
        timer.as_mut().reset(at(40));
        let sooner = async {
            poll_fn(|cx| Poll::Ready(timer.as_mut().poll(cx).is_pending())).await.then_some(())?;
            timer.as_mut().reset(at(20));
            timeout(Duration::from_mins(1), timer.as_mut()).await.ok()
        };
        assert_eq!((sooner.await, Instant::now()), (Some(()), at(20)));
        assert_eq!(timer.deadline(), at(20));
    }

    /// Says how often it was woken.
    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_ring_for_nothing_is_not_the_last_that_is_heard() {
        let counts = Arc::<Counts>::default();
        let woken = || counts.0.load(Ordering::Relaxed);
        let task = Waker::from(Arc::clone(&counts));
        let mut cx = Context::from_waker(&task);
        let rings = RefCell::new(None);
        let mut seldom = pin!(Seldom::new(poll_fn(|cx| {
            *rings.borrow_mut() = Some(cx.waker().clone());
            Poll::<()>::Pending
        })));
        let ring = || rings.borrow().as_ref().unwrap().wake_by_ref();
        assert!(seldom.as_mut().poll(&mut cx).is_pending());
        ring();
        assert_eq!(woken(), 1);
        // The task looks while who rings is half done: the ring is heard, its task not woken yet.
        let bell = Arc::clone(&seldom.hung.as_ref().unwrap().bell);
        bell.has_rung.store(true, Ordering::Release);
        assert!(seldom.as_mut().poll(&mut cx).is_pending());
        bell.task.wake_by_ref();
        assert_eq!(woken(), 2);
        assert!(seldom.as_mut().poll(&mut cx).is_pending());
        ring();
        assert_eq!(woken(), 3, "nobody was woken");
    }
}
