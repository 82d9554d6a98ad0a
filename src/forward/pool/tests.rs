use std::io;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{advance, sleep};

use super::super::moving::Moving;
use super::*;
use crate::body::Body;
use crate::workers::Workers;

const PATIENCE: Duration = Duration::from_secs(90);

fn pool() -> Arc<Pool> {
    Pool::with(false, PATIENCE, &Limit::new(1, 0))
}

/// A stream that is at its end when `look` is ready.
struct LookedAt<F> {
    stream: DuplexStream,
    look: F,
}

impl<F: FnMut() -> Poll<()> + Unpin> AsyncRead for LookedAt<F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match (self.look)() {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => Pin::new(&mut self.stream).poll_read(cx, buffer),
        }
    }
}

impl<F: Unpin> AsyncWrite for LookedAt<F> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Has a connection kept that calls `look` when it is looked at, and is closed if that is ready.
async fn keep(
    pool: &Arc<Pool>,
    look: impl FnMut() -> Poll<()> + Send + Unpin + 'static,
) -> DuplexStream {
    let (stream, theirs) = tokio::io::duplex(64);
    let exclusive = Exclusive::new(LookedAt { stream, look }, Arc::default()).await.unwrap();
    pool.keep(exclusive, Alarm::default());
    // No two are of the same age.
    advance(Duration::from_millis(1)).await;
    theirs
}

fn count(pool: &Pool) -> usize {
    pool.shelves().map(|shelf| lock(&shelf.kept).idle.len()).sum()
}

#[tokio::test(start_paused = true)]
async fn a_request_looks_at_few_dead_connections_and_the_rest_goes_without_it() {
    let (pool, looks) = (pool(), Arc::new(AtomicUsize::new(0)));
    let _good = keep(&pool, || Poll::Pending).await;
    for _ in 0..2 * limits::IDLE_CONNECTIONS_PER_TURN {
        let looks = Arc::clone(&looks);
        keep(&pool, move || {
            looks.fetch_add(1, Ordering::SeqCst);
            Poll::Ready(())
        })
        .await;
    }
    assert!(pool.take().is_none());
    assert_eq!(looks.load(Ordering::SeqCst), limits::DEAD_CONNECTIONS_IN_A_ROW);
    assert_eq!(count(&pool), 0);
    while count(&pool) == 0 {
        yield_now().await;
    }
    assert_eq!(looks.load(Ordering::SeqCst), 2 * limits::IDLE_CONNECTIONS_PER_TURN);
    assert!(pool.take().is_some(), "the good one came back");
}

#[tokio::test(start_paused = true)]
async fn a_request_gets_a_good_connection_behind_a_few_dead_ones() {
    let pool = pool();
    let _good = keep(&pool, || Poll::Pending).await;
    for _ in 1..limits::DEAD_CONNECTIONS_IN_A_ROW {
        keep(&pool, || Poll::Ready(())).await;
    }
    assert!(pool.take().is_some());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_while_connections_are_looked_at_and_they_stay_in_order() {
    let (pool, mut others) = (pool(), Vec::new());
    let (looks, locked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let most = 2 * limits::IDLE_CONNECTIONS_PER_TURN;
    for _ in 0..most {
        let (asked, looks, locked) = (Arc::clone(&pool), Arc::clone(&looks), Arc::clone(&locked));
        let look = move || {
            looks.fetch_add(1, Ordering::SeqCst);
            let free = asked.own().kept.try_lock().is_ok();
            locked.fetch_add(usize::from(!free), Ordering::SeqCst);
            Poll::Pending
        };
        others.push(keep(&pool, look).await);
    }
    sleep(3 * limits::IDLE_UPSTREAM_LOOK).await;
    assert!(looks.load(Ordering::SeqCst) >= most);
    assert_eq!(locked.load(Ordering::SeqCst), 0);
    assert_eq!(count(&pool), most);
    assert!(lock(&pool.own().kept).idle.iter().is_sorted_by_key(|idle| idle.since));
    sleep(PATIENCE).await;
    assert_eq!(count(&pool), 0);
}

#[tokio::test(start_paused = true)]
async fn connections_are_looked_at_after_one_of_them_panicked() {
    let pool = pool();
    keep(&pool, || panic!("a look that goes wrong")).await;
    sleep(3 * limits::IDLE_UPSTREAM_LOOK).await;
    assert_eq!(count(&pool), 0);
    keep(&pool, || Poll::Ready(())).await;
    assert_eq!(count(&pool), 1);
    sleep(3 * limits::IDLE_UPSTREAM_LOOK).await;
    assert_eq!(count(&pool), 0);
}

/// Has a connection of TCP kept; gives its other side.
async fn keep_tcp(pool: &Arc<Pool>) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let exclusive = Exclusive::new(Moving::new(ours.unwrap()), Arc::default()).await.unwrap();
    pool.keep(exclusive, Alarm::default());
    theirs.unwrap().0
}

/// How many each worker keeps.
fn by_worker(pool: &Pool) -> Vec<usize> {
    pool.shelves().map(|shelf| lock(&shelf.kept).idle.len()).collect()
}

#[tokio::test]
async fn a_worker_borrows_what_another_does_not_need_and_keeps_it() {
    let (pool, workers) = (pool(), Workers::start(2, "worker", || {}).unwrap());
    let seat = workers.seats().take();
    let mut theirs = keep_tcp(&pool).await;
    for _ in 0..2 {
        let borrowing = Arc::clone(&pool);
        let borrowed = seat.runtime().spawn(async move {
            let mut lease = borrowing.take().expect("one that is there");
            let answer = lease.send(hyper::Request::new(Body::empty())).await;
            assert_eq!(answer.unwrap().status(), 204);
            lease.give_back();
            workers::here()
        });
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(theirs.read_u8().await.unwrap());
        }
        theirs.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        let place = borrowed.await.unwrap();
        let kept = by_worker(&pool);
        assert_eq!((kept[0], kept[place]), (0, 1));
    }
    // Its own comes first.
    let _own = keep_tcp(&pool).await;
    let lease = pool.take().unwrap();
    assert_eq!(count(&pool), 1);
    assert_eq!(by_worker(&pool)[0], 0);
    assert!(pool.take().is_some(), "the other's");
    assert!(pool.take().is_none());
    drop(lease);
}

#[tokio::test]
async fn what_was_closed_is_not_borrowed() {
    let (pool, workers) = (pool(), Workers::start(2, "worker", || {}).unwrap());
    drop(keep_tcp(&pool).await);
    let borrowing = Arc::clone(&pool);
    let took = workers.seats().take().runtime().spawn(async move { borrowing.take().is_some() });
    assert!(!took.await.unwrap());
    assert_eq!(count(&pool), 0);
}

#[tokio::test(start_paused = true)]
async fn each_worker_keeps_its_share_and_no_more() {
    let (pool, workers) = (pool(), Workers::start(2, "worker", || {}).unwrap());
    let (share, seat) = (pool.most_idle(), workers.seats().take());
    assert!(share <= limits::MAX_IDLE_UPSTREAM_CONNECTIONS / 2);
    assert!(share >= limits::MIN_IDLE_OF_A_WORKER);
    let keeping = Arc::clone(&pool);
    let there = seat.runtime().spawn(async move {
        let mut others = Vec::new();
        for _ in 0..=keeping.most_idle() {
            let (stream, theirs) = tokio::io::duplex(64);
            let exclusive = Exclusive::new(stream, Arc::default()).await.unwrap();
            keeping.keep(exclusive, Alarm::default());
            others.push(theirs);
        }
        (workers::here(), others)
    });
    let (place, _theirs) = there.await.unwrap();
    let kept = by_worker(&pool);
    assert_eq!((kept[place], count(&pool)), (share, share));
    let _ours = keep(&pool, || Poll::Pending).await;
    assert_eq!(count(&pool), share + 1, "another worker has its own share");
}
