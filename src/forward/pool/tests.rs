use std::future::poll_fn;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::time::{advance, sleep};

use super::*;

const PATIENCE: Duration = Duration::from_secs(90);

fn pool() -> Arc<Pool> {
    Arc::new(Pool {
        kept: Mutex::default(),
        http2: Mutex::default(),
        making: Arc::default(),
        may_share: AtomicBool::new(false),
        patience: PATIENCE,
        limit: Limit::new(1, 0),
    })
}

/// Has a connection kept that calls `look` when it is looked at, and is closed if that is ready.
async fn keep(
    pool: &Arc<Pool>,
    mut look: impl FnMut() -> Poll<()> + Send + 'static,
) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(64);
    let (sender, connection) = http1::handshake(TokioIo::new(ours)).await.unwrap();
    let mut connection = Box::pin(connection);
    let looked_at = poll_fn(move |cx| match look() {
        Poll::Ready(()) => Poll::Ready(Ok(())),
        Poll::Pending => connection.as_mut().poll(cx),
    });
    pool.keep(Exclusive::new(sender, looked_at, Arc::default()), Alarm::default());
    // No two are of the same age.
    advance(Duration::from_millis(1)).await;
    theirs
}

fn count(pool: &Pool) -> usize {
    lock(&pool.kept).idle.len()
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
            let free = asked.kept.try_lock().is_ok();
            locked.fetch_add(usize::from(!free), Ordering::SeqCst);
            Poll::Pending
        };
        others.push(keep(&pool, look).await);
    }
    sleep(3 * limits::IDLE_UPSTREAM_LOOK).await;
    assert!(looks.load(Ordering::SeqCst) >= most);
    assert_eq!(locked.load(Ordering::SeqCst), 0);
    assert_eq!(count(&pool), most);
    assert!(lock(&pool.kept).idle.iter().is_sorted_by_key(|idle| idle.since));
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
