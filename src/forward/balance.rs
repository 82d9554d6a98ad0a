//! Which endpoint a request goes to (`load_balancing`): one that takes requests, if possible one
//! that could be reached lately.
//!
//! Which endpoints there are is `names.rs`'s; what takes them out, `health.rs`'s and
//! `outlier.rs`'s. Connections are no business of this.

use std::fmt::{self, Write as _};
use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arc_swap::Guard;
use http::StatusCode;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::endpoint::{Endpoint, EndpointStatus, Origin};
use super::names::{Names, SharedResolver};
use super::outlier::{self, OutlierEjection};
use super::upstream::UpstreamSettings;
use crate::limits;

/// How the endpoints of an upstream share its requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadBalancing {
    /// To the one of two, chosen at random, that has fewer requests on their way.
    #[default]
    LeastRequests,
    /// To one after the other.
    RoundRobin,
}

/// The endpoints of an upstream.
pub(super) struct Endpoints {
    settings: Arc<UpstreamSettings>,
    names: Arc<Names>,
    /// Counts requests, to take turns.
    turn: AtomicUsize,
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
    Slow { name: Arc<str>, patience: Duration },
    /// There are some, and none takes requests now.
    #[error("{0}")]
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
    fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.requests.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }

    /// No connection to it could be made.
    pub(super) fn connect_failed(&self) {
        self.shunned.set(Instant::now() + limits::SHUNNED_TIME);
        if let Some(names) = self.siblings.upgrade() {
            names.doubt(&self.origin);
        }
        self.failed();
    }

    /// It answered with this status, whatever becomes of the answer.
    pub(super) fn answered(&self, status: StatusCode) {
        self.shunned.clear();
        if status.is_server_error() {
            self.failed();
        } else {
            self.ejection.succeeded();
        }
    }

    /// It lost the request, or kept silent for too long: not for a request that its caller broke
    /// or gave up, and not for a kept connection that was stale.
    pub(super) fn broke(&self) {
        self.failed();
    }

    fn failed(&self) {
        let Some(settings) = &self.origin.settings.outlier_ejection else { return };
        if self.ejection.failed(settings)
            && let Some(names) = self.siblings.upgrade()
        {
            eject(&self.0, settings, &names);
        }
    }
}

/// Leaves an endpoint alone for a while, if there are enough others.
fn eject(endpoint: &Arc<Endpoint>, settings: &OutlierEjection, names: &Names) {
    let _one_at_a_time = names.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
    let known = names.known();
    if endpoint.ejection.is_on() {
        return;
    }
    let ejected = known.iter().filter(|other| other.ejection.is_on()).count();
    let is_last = || {
        let takes =
            |other: &&Arc<Endpoint>| !Arc::ptr_eq(other, endpoint) && other.takes_requests();
        !known.iter().any(|other| takes(&other))
    };
    let most = outlier::most(known.len(), settings.max_percent);
    if ejected >= most || (settings.max_percent < 100 && is_last()) {
        return;
    }
    let time = endpoint.ejection.begin(settings);
    tracing::warn!(
        upstream = %endpoint.origin.settings.name,
        endpoint = %endpoint.origin.label,
        address = %endpoint.address,
        failures = settings.consecutive_failures,
        seconds = time.as_secs(),
        "an endpoint failed requests in a row and takes none for a while"
    );
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
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    pub(super) fn new(
        settings: Arc<UpstreamSettings>,
        origins: Vec<Arc<Origin>>,
        resolver: SharedResolver,
    ) -> Self {
        Self { settings, names: Names::new(origins, resolver), turn: AtomicUsize::new(0) }
    }

    /// An endpoint that takes requests and is none of `tried`; waits only if none is known yet,
    /// and for no longer than a connection may take.
    pub(super) async fn choose(&self, tried: &[Arc<Endpoint>]) -> Result<Chosen, NoEndpoint> {
        self.names.refresh();
        match self.choose_known(tried) {
            Some(chosen) => Ok(chosen),
            // Rare: its state is not to be part of every request.
            None => Box::pin(self.wait(tried)).await,
        }
    }

    async fn wait(&self, tried: &[Arc<Endpoint>]) -> Result<Chosen, NoEndpoint> {
        let patience = self.settings.timeouts.connect;
        let deadline = Instant::now() + patience;
        let mut changes = self.names.changes();
        loop {
            let awaited = self.names.awaited();
            if let Some(chosen) = self.choose_known(tried) {
                return Ok(chosen);
            }
            let Some(name) = awaited else { return Err(self.why_none()) };
            let Ok(told) = timeout_at(deadline, changes.changed()).await else {
                let nothing_known = self.names.known().is_empty();
                let slow = NoEndpoint::Slow { name, patience };
                return Err(if nothing_known { slow } else { self.why_none() });
            };
            if told.is_err() {
                return Err(self.why_none());
            }
        }
    }

    fn choose_known(&self, tried: &[Arc<Endpoint>]) -> Option<Chosen> {
        let known = self.names.known();
        if let ([only], []) = (known.as_slice(), tried) {
            return only.takes_requests().then(|| Chosen::new(only));
        }
        let is_tried =
            |endpoint: &Arc<Endpoint>| tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint));
        let free = |endpoint: &Arc<Endpoint>| endpoint.takes_requests() && !is_tried(endpoint);
        let good = |endpoint: &Arc<Endpoint>| free(endpoint) && !endpoint.shunned.is_ahead();
        let chosen = self.one_of(&known, good).or_else(|| self.one_of(&known, free));
        chosen.map(Chosen::new)
    }

    fn one_of<'a>(
        &self,
        known: &'a [Arc<Endpoint>],
        will_do: impl Fn(&Arc<Endpoint>) -> bool,
    ) -> Option<&'a Arc<Endpoint>> {
        match self.settings.load_balancing {
            LoadBalancing::RoundRobin => {
                let count = known.iter().filter(|endpoint| will_do(endpoint)).count();
                let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(count)?;
                let mut good = known.iter().filter(|endpoint| will_do(endpoint));
                // One may have gone out between the two looks.
                good.nth(turn).or_else(|| known.iter().find(|endpoint| will_do(endpoint)))
            }
            LoadBalancing::LeastRequests => {
                let (one, other) = two_of(known, will_do);
                match (one, other) {
                    (Some(one), Some(other)) if load(other) < load(one) => Some(other),
                    (one, _) => one,
                }
            }
        }
    }

    fn why_none(&self) -> NoEndpoint {
        let known = self.names.known();
        if known.iter().any(|endpoint| endpoint.takes_requests()) {
            return NoEndpoint::AllTried;
        }
        if known.is_empty() {
            let unknown = || (Arc::from("?"), Arc::new(io::Error::from(io::ErrorKind::NotFound)));
            let (name, source) = self.names.failure().unwrap_or_else(unknown);
            return NoEndpoint::Unknown { name, source };
        }
        let status: Vec<_> = known.iter().map(|endpoint| endpoint.status()).collect();
        NoEndpoint::Down(self.outage(&status))
    }

    fn outage(&self, status: &[EndpointStatus]) -> Outage {
        let interval = self.settings.health_check.as_ref().map(|check| check.interval);
        let waits = status.iter().map(|status| {
            let check = interval.filter(|_| status.unhealthy.is_some());
            check.max(status.ejected.map(|ejected| ejected.left)).unwrap_or_default()
        });
        let retry_after = waits.min().unwrap_or_default().max(limits::MIN_OUTAGE_RETRY);
        let mut why = String::from("no endpoint takes requests: ");
        for (number, status) in status.iter().take(limits::MAX_ENDPOINTS_SAID).enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            // Writing to a `String` does not fail.
            write!(why, "{separator}{status}").unwrap_or_default();
        }
        if let Some(more @ 1..) = status.len().checked_sub(limits::MAX_ENDPOINTS_SAID) {
            write!(why, "; and {more} more").unwrap_or_default();
        }
        Outage { retry_after, why }
    }

    /// How each endpoint is that is known.
    pub(super) fn status(&self) -> Vec<EndpointStatus> {
        self.known().iter().map(|endpoint| endpoint.status()).collect()
    }

    /// Each URL as `host[:port]`, and whether requests are sent there.
    pub(super) fn origins(&self) -> Vec<(Arc<str>, bool)> {
        self.names.origins()
    }

    pub(super) fn known(&self) -> Guard<Arc<Vec<Arc<Endpoint>>>> {
        self.names.known()
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.names.changes()
    }

    pub(super) fn refresh(&self) {
        self.names.refresh();
    }
}

fn load(endpoint: &Endpoint) -> usize {
    endpoint.requests.load(Ordering::Relaxed)
}

/// Two at random of those that will do, in random order; one if there is no second.
fn two_of(
    known: &[Arc<Endpoint>],
    will_do: impl Fn(&Arc<Endpoint>) -> bool,
) -> (Option<&Arc<Endpoint>>, Option<&Arc<Endpoint>>) {
    let at = |index| known.get(index).filter(|endpoint| will_do(endpoint));
    // Most times all will do, and a long list need not be read.
    if let [_, _, ..] = known {
        let (one, other) = two_numbers(known.len());
        if let (Some(one), Some(other)) = (at(one), at(other)) {
            return (Some(one), Some(other));
        }
    }
    let good = || known.iter().filter(|endpoint| will_do(endpoint));
    match good().count() {
        0 => (None, None),
        1 => (good().next(), None),
        count => {
            let (one, other) = two_numbers(count);
            (good().nth(one).or_else(|| good().next()), good().nth(other))
        }
    }
}

/// Two different numbers below `count`, which is 2 or more.
fn two_numbers(count: usize) -> (usize, usize) {
    let one = fastrand::usize(..count);
    let other = fastrand::usize(..count - 1);
    (one, if other < one { other } else { other + 1 })
}
