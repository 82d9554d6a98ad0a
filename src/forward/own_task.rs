//! A connection that a task of its own runs, whichever HTTP it speaks: for one whose user does not
//! (`exclusive.rs`), or whose users are many.

use std::future::Future;

use tokio::task::AbortHandle;

/// Runs a connection until it ends, or until who has the handle aborts it.
pub(super) fn run(
    connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
) -> AbortHandle {
    tokio::spawn(async move { ended(connection.await) }).abort_handle()
}

/// A connection has ended so. Its errors reach those who use it.
pub(super) fn ended(outcome: hyper::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection to an upstream ended");
    }
}
