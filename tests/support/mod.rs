//! What the tests share: scripted peers on real sockets, keys and tokens, clients that check
//! every answer, and the search for what must never be seen.

pub mod registry;
pub mod gate;
pub mod clock;
pub mod servers;
pub mod keys;
pub mod weak_rsa;
pub mod callers;
pub mod token;
pub mod provider;
pub mod obo;
pub mod grants;
pub mod client_auth;
pub mod managed_identity;
pub mod seen;
pub mod upstream;
pub mod names;
pub mod raw_upstream;
pub mod talk;
pub mod raw_http2_upstream;
pub mod tls_upstream;
pub mod collector;
pub mod client;
pub mod invariants;
pub mod raw;
pub mod raw_http2;
pub mod scripted_http2;
pub mod websocket;
pub mod capture;
pub mod gateway;
pub mod admin;
pub mod redis;
pub mod replica;
pub mod replicas;
pub mod balancer;
pub mod leaks;

use std::time::Duration;

/// How long a test waits for what must happen. Nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `future`, which `what` names, at most [`PATIENCE`].
///
/// # Panics
///
/// When the time is up.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(done) = tokio::time::timeout(PATIENCE, future).await else {
        panic!("waited {PATIENCE:?} in vain for: {what}");
    };
    done
}
