//! The streams of one HTTP/2 connection, and the end of one whose caller takes nothing of it.
//!
//! A caller who opens no window is never asked for by hyper: the body of its answer is not
//! polled, so no timer in the body could end it. But hyper has us run the future of each stream,
//! and after each poll of that it is known whether a piece of the answer is left that waits for the
//! caller. Only such a stream is kept in mind; the connection's one timer looks at those, and what
//! has waited for too long is dropped, which resets the stream. The others go on. When the connection
//! is cut off, all of them are.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use hyper::rt::Executor;
use tokio::time::Instant;

use crate::accept::drain::Awaited;
use crate::observe::cut_off;

/// Not waiting for the caller.
const MOVES: u64 = 0;
/// It has waited for too long.
const OVER: u64 = u64::MAX;

thread_local! {
    /// Of the stream that this thread polls.
    static TURN: Cell<Turn> = const { Cell::new(Turn::Ours) };
}

/// Whose turn it is with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Ours and the upstream's, to give a piece.
    Ours,
    /// A piece was just given.
    Given,
    /// The caller's: there was no room for the piece when it was given.
    Callers,
}

/// A piece of an answer is asked for: there is room for it.
pub(super) fn asked() {
    TURN.set(Turn::Ours);
}

/// A piece of an answer is there.
pub(super) fn given() {
    TURN.set(Turn::Given);
}

/// The streams of one connection; runs them.
#[derive(Clone, Debug)]
pub(super) struct Streams(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    begun: Instant,
    /// The streams are dropped by tasks of their own, behind the connection's.
    cut: AtomicBool,
    _awaited: Awaited,
    /// Those that have ever waited for the caller; some are gone.
    waiting: Mutex<Vec<Weak<Waiting>>>,
}

/// What is known of a stream from outside.
#[derive(Debug)]
struct Waiting {
    /// Since when it has waited for the caller: one more than the milliseconds after `begun`;
    /// or [`MOVES`] or [`OVER`].
    since: AtomicU64,
    task: AtomicWaker,
}

/// Whether bytes for the connection itself wait for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Flows,
    /// Then the streams wait for each other, too.
    Clogged,
}

impl Streams {
    /// Those of a connection that has `begun`; `awaited` until the last of them is gone.
    pub(super) fn new(begun: Instant, awaited: Awaited) -> Self {
        let cut = AtomicBool::new(false);
        Self(Arc::new(Shared { begun, cut, _awaited: awaited, waiting: Mutex::default() }))
    }

    /// They end with the connection, which is dropped next: by us, not by the caller.
    pub(super) fn cut(&self) {
        self.0.cut.store(true, Ordering::Release);
    }

    /// Ends those of which the caller took nothing for `patience`; with when the next one is due.
    /// On a connection that is slow as a whole each has the time that all of them take in turn.
    pub(super) fn end_stalled(
        &self,
        now: Instant,
        patience: Duration,
        link: Link,
    ) -> Option<Instant> {
        let mut known = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|stream| stream.strong_count() > 0);
        let waiting = || known.iter().filter_map(Weak::upgrade).filter(|stream| stream.waits());
        let patience = match link {
            Link::Flows => patience,
            Link::Clogged => {
                let all = u32::try_from(waiting().count()).unwrap_or(u32::MAX);
                patience.saturating_mul(all.max(1))
            }
        };
        let mut next: Option<Instant> = None;
        for stream in waiting() {
            let since = stream.since.load(Ordering::Acquire);
            let due = self.0.begun + Duration::from_millis(since.saturating_sub(1)) + patience;
            if due > now {
                next = Some(next.map_or(due, |next| next.min(due)));
            } else if stream.end(since) {
                tracing::debug!(
                    "a stream was reset: its caller takes nothing of what is due to it"
                );
            }
        }
        next
    }

    fn waits(&self, since: u64) -> Arc<Waiting> {
        let stream = Arc::new(Waiting { since: AtomicU64::new(since), task: AtomicWaker::new() });
        let mut known = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() == known.capacity() {
            known.retain(|stream| stream.strong_count() > 0);
        }
        known.push(Arc::downgrade(&stream));
        stream
    }

    fn now(&self) -> u64 {
        let millis = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(OVER);
        millis.saturating_add(1).min(OVER - 1)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let running = Some(stream);
        tokio::spawn(Stream { running, of: self.clone(), turn: Turn::Ours, waiting: None });
    }
}

impl Waiting {
    fn waits(&self) -> bool {
        !matches!(self.since.load(Ordering::Acquire), MOVES | OVER)
    }

    /// Ends it, unless it has moved since it was looked at.
    fn end(&self, since: u64) -> bool {
        let ends = self.since.compare_exchange(since, OVER, Ordering::AcqRel, Ordering::Acquire);
        if ends.is_ok() {
            self.task.wake();
        }
        ends.is_ok()
    }
}

pin_project_lite::pin_project! {
    /// One stream, until it ends or is ended.
    struct Stream<F> {
        // None: it has been ended.
        #[pin]
        running: Option<F>,
        of: Streams,
        turn: Turn,
        // Since it waited for the first time.
        waiting: Option<Arc<Waiting>>,
    }
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.of.0.cut.load(Ordering::Acquire) {
            cut_off::during(|| this.running.set(None));
        }
        let Some(running) = this.running.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        TURN.set(*this.turn);
        if running.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match TURN.get() {
            Turn::Ours => {
                *this.turn = Turn::Ours;
                if let Some(waiting) = this.waiting {
                    waiting.since.store(MOVES, Ordering::Release);
                }
                return Poll::Pending;
            }
            Turn::Given => {
                *this.turn = Turn::Callers;
                let now = this.of.now();
                match this.waiting {
                    Some(waiting) => waiting.since.store(now, Ordering::Release),
                    None => *this.waiting = Some(this.of.waits(now)),
                }
            }
            Turn::Callers => {}
        }
        let Some(waiting) = this.waiting else { return Poll::Pending };
        waiting.task.register(cx.waker());
        // Behind that: whoever ends it from now on wakes this task.
        if waiting.since.load(Ordering::Acquire) == OVER {
            this.running.set(None);
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::mpsc;

    use super::*;
    use crate::accept::drain::Drain;

    const S: Duration = Duration::from_secs(1);

    /// A stream that gives a piece for each message, whose room is there with the next one.
    fn stream(streams: &Streams) -> (mpsc::Sender<()>, mpsc::Receiver<()>) {
        let (room, mut rooms) = mpsc::channel::<()>(1);
        let (done, dones) = mpsc::channel(1);
        streams.execute(async move {
            while poll_fn(|cx| rooms.poll_recv(cx)).await.is_some() {
                asked();
                given();
                done.send(()).await.unwrap();
            }
        });
        (room, dones)
    }

    /// Lets the tasks run until they wait.
    async fn settle() {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_stream_whose_caller_takes_nothing_is_ended() {
        let streams = Streams::new(Instant::now(), Drain::default().awaits());
        let look = |link| streams.end_stalled(Instant::now(), 30 * S, link);
        let (stalled, mut stalled_done) = stream(&streams);
        let (moving, mut moving_done) = stream(&streams);
        let (silent, _silent_done) = stream(&streams);
        for (room, done) in [(&stalled, &mut stalled_done), (&moving, &mut moving_done)] {
            room.send(()).await.unwrap();
            done.recv().await.unwrap();
        }
        settle().await;
        let begun = Instant::now();
        tokio::time::advance(29 * S).await;
        assert!(look(Link::Flows).is_some_and(|due| due <= begun + 30 * S));
        moving.send(()).await.unwrap();
        moving_done.recv().await.unwrap();
        settle().await;
        tokio::time::advance(S).await;
        assert!(look(Link::Clogged).is_some(), "both wait for the connection");
        settle().await;
        assert!(!stalled.is_closed());
        assert!(look(Link::Flows).is_some_and(|due| due > Instant::now()));
        settle().await;
        assert!(stalled.is_closed());
        assert!(!moving.is_closed() && !silent.is_closed());
        tokio::time::advance(29 * S).await;
        assert_eq!(look(Link::Flows), None);
        settle().await;
        assert!(moving.is_closed() && !silent.is_closed());
        assert_eq!(look(Link::Flows), None, "the silent one waits for nobody");
    }

    #[tokio::test]
    async fn what_is_cut_is_dropped_as_such_and_awaited() {
        struct Dropped(Arc<AtomicBool>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.store(cut_off::is_cut(), Ordering::Release);
            }
        }
        for is_cut in [false, true] {
            let drain = Drain::default();
            let streams = Streams::new(Instant::now(), drain.awaits());
            let (ends, end) = tokio::sync::oneshot::channel::<()>();
            let seen = Arc::new(AtomicBool::new(!is_cut));
            let held = Dropped(Arc::clone(&seen));
            streams.execute(async move {
                end.await.unwrap_or_default();
                drop(held);
            });
            settle().await;
            if is_cut {
                streams.cut();
            }
            drop((ends, streams));
            drain.finish(60 * S).await;
            assert_eq!(seen.load(Ordering::Acquire), is_cut);
        }
    }
}
