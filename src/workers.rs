//! The threads that serve connections, each with a runtime of its own: a connection, and all that
//! is begun for it, stays on one of them, so that a request whose token is cached waits for no other
//! thread and wakes none. Which of them gets a connection is decided here; nothing is known of what is served.
//!
//! Without them all is served where it is accepted.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The threads; dropping it ends them, whatever they are at. By default there are none.
#[derive(Debug, Default)]
pub struct Workers {
    seats: Seats,
    _end: Option<DropGuard>,
}

/// Where connections are given a thread; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Seats(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    workers: Vec<Arc<Worker>>,
    /// Counts connections, for those that may go to any.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Connections that it serves.
    open: AtomicUsize,
}

/// The thread of one connection, which counts there until this is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Option<Arc<Worker>>);

/// A connection on its way to the thread that is to serve it.
#[derive(Debug)]
pub(crate) enum Arriving {
    /// It was accepted there.
    Here(TcpStream),
    /// It was accepted elsewhere, and no runtime knows it.
    Elsewhere(std::net::TcpStream),
}

static MOST: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(0) };
}

/// Which of the threads this is, counted from 1; 0 for a thread that is none of them.
pub fn here() -> usize {
    PLACE.get()
}

/// The most of these threads that there were at a time.
pub fn most() -> usize {
    MOST.load(Ordering::Relaxed)
}

impl Workers {
    /// Starts `count` threads called `name`, each of which first does `on_start`, as do those that
    /// block for it. One would have nobody to share the work with: then there are none.
    ///
    /// # Errors
    ///
    /// The system's, if it has no threads to give; those that were started end.
    pub fn start(
        count: usize,
        name: &str,
        on_start: impl Fn() + Clone + Send + Sync + 'static,
    ) -> io::Result<Self> {
        if count < 2 {
            return Ok(Self::default());
        }
        MOST.fetch_max(count, Ordering::Relaxed);
        let end = CancellationToken::new();
        let ends = end.clone().drop_guard();
        let mut workers = Vec::with_capacity(count);
        for place in 1..=count {
            let (tell, told) = mpsc::sync_channel(1);
            let thread = Thread { place, name: name.to_owned(), end: end.clone() };
            let on_start = on_start.clone();
            let builder = thread::Builder::new().name(name.to_owned());
            builder.spawn(move || thread.run(&tell, on_start))?;
            let runtime = told.recv().map_err(io::Error::other)??;
            workers.push(Arc::new(Worker { runtime, open: AtomicUsize::new(0) }));
        }
        let seats = Seats(Arc::new(Inner { workers, turn: AtomicUsize::new(0) }));
        Ok(Self { seats, _end: Some(ends) })
    }

    /// Where connections are given one of them.
    pub fn seats(&self) -> &Seats {
        &self.seats
    }

    /// Waits until each of them has done something: one that hangs does nothing.
    pub async fn all_run(&self) {
        for worker in &self.seats.0.workers {
            // It fails if the thread has ended.
            worker.runtime.spawn(async {}).await.ok();
        }
    }
}

/// One of the threads, and until when it serves.
struct Thread {
    place: usize,
    name: String,
    end: CancellationToken,
}

impl Thread {
    /// Serves, once `tell` was told by what runtime.
    fn run(
        self,
        tell: &mpsc::SyncSender<io::Result<Handle>>,
        on_start: impl Fn() + Clone + Send + Sync + 'static,
    ) {
        PLACE.set(self.place);
        on_start();
        let mut builder = Builder::new_current_thread();
        let builder = builder.enable_io().enable_time().thread_name(&self.name);
        let runtime = match builder.on_thread_start(on_start).build() {
            Ok(runtime) => runtime,
            Err(error) => return tell.send(Err(error)).unwrap_or_default(),
        };
        tell.send(Ok(runtime.handle().clone())).unwrap_or_default();
        // What a task panics with ends the task. This is the runtime's own: a thread that has ended would pass for the
        // one with the fewest connections, and get them all.
        let served = catch_unwind(AssertUnwindSafe(|| runtime.block_on(self.end.cancelled())));
        if served.is_err() {
            tracing::error!(
                "a thread that serves connections panicked; nothing can be served any more"
            );
            process::abort();
        }
        runtime.shutdown_background();
    }
}

impl Seats {
    /// The thread with the fewest connections; of several the next, so that short connections are
    /// spread too.
    pub(crate) fn take(&self) -> Seat {
        let Inner { workers, turn } = self.0.as_ref();
        let turn = turn.fetch_add(1, Ordering::Relaxed).checked_rem(workers.len());
        let (before, from) = workers.split_at(turn.unwrap_or(0));
        let open = |worker: &&Arc<Worker>| worker.open.load(Ordering::Relaxed);
        let fewest = from.iter().chain(before).min_by_key(open);
        Seat(fewest.map(|worker| {
            worker.open.fetch_add(1, Ordering::Relaxed);
            Arc::clone(worker)
        }))
    }
}

impl Seat {
    /// The runtime of the thread. Needs one where there are no threads: it is that one then.
    pub(crate) fn runtime(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |worker| worker.runtime.clone())
    }

    /// Sends a connection on its way to the thread.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(crate) fn bring(&self, stream: TcpStream) -> io::Result<Arriving> {
        match &self.0 {
            None => Ok(Arriving::Here(stream)),
            Some(_) => stream.into_std().map(Arriving::Elsewhere),
        }
    }
}

impl Arriving {
    /// Has the runtime of this thread know it.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(crate) fn arrive(self) -> io::Result<TcpStream> {
        match self {
            Self::Here(stream) => Ok(stream),
            Self::Elsewhere(stream) => TcpStream::from_std(stream),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(worker) = &self.0 {
            worker.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(count: usize) -> Workers {
        Workers::start(count, "worker", || {}).unwrap()
    }

    async fn place(seat: &Seat) -> usize {
        seat.runtime().spawn(async { here() }).await.unwrap()
    }

    #[tokio::test]
    async fn connections_are_spread_and_who_has_the_fewest_gets_the_next() {
        let workers = start(3);
        let mut seats = Vec::new();
        let mut places = Vec::new();
        for _ in 0..6 {
            seats.push(workers.seats().take());
            places.push(place(seats.last().unwrap()).await);
        }
        places.sort_unstable();
        assert_eq!(places, [1, 1, 2, 2, 3, 3]);
        let left = place(&seats[0]).await;
        seats.remove(0);
        for _ in 0..4 {
            // Whosever turn it is, and however often: it goes at once.
            assert_eq!(place(&workers.seats().take()).await, left);
        }
    }

    #[tokio::test]
    async fn short_connections_are_spread_too() {
        let workers = start(2);
        let mut places = [0; 3];
        for _ in 0..8 {
            places[place(&workers.seats().take()).await] += 1;
        }
        assert_eq!(places, [0, 4, 4]);
    }

    #[tokio::test]
    async fn one_is_none_and_all_is_where_it_is() {
        let workers = start(1);
        workers.all_run().await;
        assert_eq!(here(), 0);
        assert_eq!(workers.seats().take().runtime().id(), Handle::current().id());
    }

    #[tokio::test]
    async fn a_panic_takes_no_thread_down() {
        let workers = start(2);
        let seat = workers.seats().take();
        let panics = seat.runtime().spawn(async { std::panic::resume_unwind(Box::new("quietly")) });
        assert!(panics.await.unwrap_err().is_panic());
        assert_ne!(place(&seat).await, 0);
        workers.all_run().await;
    }

    #[tokio::test]
    async fn one_that_hangs_is_noticed_and_they_end_when_they_are_dropped() {
        let workers = start(2);
        let (let_go, held) = mpsc::channel::<()>();
        let seat = workers.seats().take();
        let hangs = seat.runtime().spawn(async move { held.recv().unwrap_err() });
        let mut all_run = Box::pin(workers.all_run());
        let no_answer = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(no_answer, all_run.as_mut()).await.is_err());
        drop(let_go);
        hangs.await.unwrap();
        all_run.await;
        let for_ever = seat.runtime().spawn(std::future::pending::<()>());
        drop(workers);
        assert!(for_ever.await.unwrap_err().is_cancelled());
    }
}
