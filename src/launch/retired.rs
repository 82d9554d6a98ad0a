//! What becomes of a configuration that another took the place of: requests under way keep it, and
//! none of them is the one that has to take it apart. With ten thousand routes that takes
//! milliseconds, which all that the same thread serves would wait for.

use std::sync::Arc;
use std::time::Duration;

/// How often it is asked whether the last request that met it has ended: some take hours, and so
/// long the memory is held anyway.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// Waits until nobody else has `retired`, of which nobody can get another, and drops it on a thread
/// that serves nobody.
///
/// # Cancel safety
///
/// Dropping this drops it too, at once.
pub(super) async fn take_apart<T: Send + Sync + 'static>(retired: Arc<T>) {
    while Arc::strong_count(&retired) > 1 {
        tokio::time::sleep(ASKED_EVERY).await;
    }
    // It fails if dropping it panics, which has been logged then.
    tokio::task::spawn_blocking(move || drop(retired)).await.ok();
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, TryRecvError, channel};
    use std::thread::{self, ThreadId};

    use super::*;

    /// Tells where it is dropped.
    struct Told(Sender<ThreadId>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).ok();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_request_does_not_take_it_apart() {
        let (tell, told) = channel();
        let retired = Arc::new(Told(tell));
        let request = Arc::clone(&retired);
        let taken_apart = tokio::spawn(take_apart(retired));
        tokio::time::sleep(ASKED_EVERY * 100).await;
        assert_eq!(told.try_recv(), Err(TryRecvError::Empty), "a request still has it");
        drop(request);
        assert_eq!(told.try_recv(), Err(TryRecvError::Empty), "not by the request");
        taken_apart.await.unwrap();
        assert_ne!(told.try_recv().unwrap(), thread::current().id());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_has_goes_at_once() {
        let (tell, told) = channel();
        let began = tokio::time::Instant::now();
        take_apart(Arc::new(Told(tell))).await;
        assert_ne!(told.try_recv().unwrap(), thread::current().id());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
