//! Which endpoint a request goes to.
//!
//! The endpoints of an upstream are the addresses of all its origins. They are looked up when
//! the first request comes.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
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
    #[error("`{name}` has no address")]
    Unknown {
        name: Arc<str>,
        #[source]
        source: io::Error,
    },
    #[error("all endpoints were tried")]
    AllTried,
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
                    failed = Some(NoEndpoint::Unknown { name: Arc::clone(&origin.label), source });
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
