//! Which endpoint a request goes to.
//!
//! The endpoints of an upstream are the addresses of all its origins. They are looked up when
//! the first request comes.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::StatusCode;
use tokio::net::lookup_host;

use super::endpoint::{Endpoint, Origin};

/// The endpoints of an upstream.
pub(super) struct Endpoints {
    origins: Vec<Arc<Origin>>,
    known: ArcSwap<Vec<Arc<Endpoint>>>,
}

/// Why there is no endpoint to send to.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoEndpoint {
    /// The name has no address, or nobody can be asked.
    #[error("`{name}` has no address")]
    Unknown {
        name: Arc<str>,
        #[source]
        source: Arc<io::Error>,
    },
    /// The look-up of the name takes longer than a connection may.
    #[error("no address of `{name}` within {} ms", .patience.as_millis())]
    #[expect(dead_code, reason = "look-ups are about to have their limit")]
    Slow { name: Arc<str>, patience: Duration },
    /// There are some, and none takes requests now.
    #[error("{0}")]
    #[expect(dead_code, reason = "health is about to be known")]
    Down(Outage),
    /// Those that take requests were tried; any of them can be chosen anew by `choose(&[])`.
    #[error("all endpoints were tried")]
    AllTried,
}

/// Why no endpoint takes requests.
#[derive(Debug)]
pub(super) struct Outage {
    /// When one of them may again.
    pub(super) retry_after: Duration,
    /// Each of them, why it is out and since when.
    why: String,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// An endpoint that a request is on its way to; it counts there until this is dropped.
#[derive(Debug)]
pub(super) struct Chosen(Arc<Endpoint>);

impl Chosen {
    fn new(endpoint: Arc<Endpoint>) -> Self {
        endpoint.requests.fetch_add(1, Ordering::Relaxed);
        Self(endpoint)
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }

    /// No connection to it could be made.
    #[expect(clippy::unused_self, reason = "outlier ejection is about to use it")]
    pub(super) fn connect_failed(&self) {}

    /// It answered with this status, whatever becomes of the answer.
    #[expect(clippy::unused_self, reason = "outlier ejection is about to use it")]
    pub(super) fn answered(&self, _status: StatusCode) {}

    /// It lost the request, or kept silent for too long: not for a request that its caller broke
    /// or gave up, and not for a kept connection that was stale.
    #[expect(clippy::unused_self, reason = "outlier ejection is about to use it")]
    pub(super) fn broke(&self) {}
}

impl Deref for Chosen {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.0
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Endpoints {
    pub(super) fn new(origins: Vec<Arc<Origin>>) -> Self {
        Self { origins, known: ArcSwap::default() }
    }

    /// An endpoint that is none of `tried`.
    pub(super) async fn choose(&self, tried: &[Arc<Endpoint>]) -> Result<Chosen, NoEndpoint> {
        if let Some(endpoint) = self.choose_known(tried) {
            return Ok(endpoint);
        }
        if !tried.is_empty() {
            return Err(NoEndpoint::AllTried);
        }
        // Rare: its state is not to be part of every request.
        Box::pin(self.look_up()).await?;
        self.choose_known(tried).ok_or(NoEndpoint::AllTried)
    }

    /// The one with the fewest requests; of several the first.
    fn choose_known(&self, tried: &[Arc<Endpoint>]) -> Option<Chosen> {
        let known = self.known.load();
        let untried = |endpoint: &&Arc<Endpoint>| {
            tried.is_empty() || !tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint))
        };
        let untried = known.iter().filter(untried);
        let least = untried.min_by_key(|endpoint| endpoint.requests.load(Ordering::Relaxed));
        least.cloned().map(Chosen::new)
    }

    async fn look_up(&self) -> Result<(), NoEndpoint> {
        let mut found = Vec::new();
        let mut failed = None;
        for origin in &self.origins {
            match lookup_host((origin.place.host.as_str(), origin.place.port)).await {
                Ok(addresses) => found
                    .extend(addresses.map(|address| Endpoint::new(Arc::clone(origin), address))),
                Err(source) => {
                    let (name, source) = (Arc::clone(&origin.label), Arc::new(source));
                    failed = Some(NoEndpoint::Unknown { name, source });
                }
            }
        }
        match failed {
            Some(failed) if found.is_empty() => Err(failed),
            Some(_) | None => {
                self.known.store(Arc::new(found));
                Ok(())
            }
        }
    }
}
