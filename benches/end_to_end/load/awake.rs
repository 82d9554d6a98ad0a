//! Keeps the thread of load, upstream and provider from falling asleep while it has nothing to do.
//! A proxy that is slower leaves it more to wait for, and would pay, in its own system calls, for each
//! time it wakes it: what was measured would be the bench's sleep as well.

use tokio::task::{AbortHandle, spawn_local, yield_now};

/// The thread stays awake until this is dropped.
pub(crate) struct Awake(AbortHandle);

/// Keeps this thread awake; it looks for what came as often as it can.
pub(crate) fn awake() -> Awake {
    let restless = spawn_local(async {
        loop {
            yield_now().await;
        }
    });
    Awake(restless.abort_handle())
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.abort();
    }
}
