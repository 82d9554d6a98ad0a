//! The endpoints of an upstream: one for each address that the names of its URLs have now.
//!
//! A name is looked up when somebody wants to send there, once at a time, and again when what is
//! known of it is old: the system's resolver tells no time to live, so there is one for all
//! ([`limits::NAME_AGE`]). Nobody waits for a look-up but those who have nowhere to go. What a
//! name had is kept while it can't be looked up. Which endpoint is taken is `balance.rs`'s.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::Instant;

use super::endpoint::{Endpoint, Origin};
use super::moment::Moment;
use crate::limits;

/// The addresses of a name, or why there are none.
pub type Addresses<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Who knows the addresses of names.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of `host`, with `port`.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Addresses<'a>;
}

/// Shared between all upstreams.
pub type SharedResolver = Arc<dyn Resolver>;

/// The system's resolver: `getaddrinfo`, with all that the machine says of names.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Addresses<'a> {
        Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) })
    }
}

/// The names of an upstream, and the endpoints that they lead to.
pub(super) struct Names {
    resolver: SharedResolver,
    /// As many as there are origins.
    all: Mutex<Vec<Name>>,
    /// The endpoints of all names, in the order of the file.
    known: ArcSwap<Vec<Arc<Endpoint>>>,
    /// Until when nothing is to be looked up; not there before the first look-up.
    fresh_until: Moment,
    /// Whether there is a name among them, and not only addresses.
    look_ups_needed: bool,
    /// Told when a look-up has ended.
    changes: watch::Sender<()>,
    /// Held while it is decided whether one more endpoint is left alone.
    pub(super) ejecting: Mutex<()>,
    this: Weak<Self>,
}

struct Name {
    origin: Arc<Origin>,
    endpoints: Vec<Arc<Endpoint>>,
    /// Whether a look-up is on its way. An address needs none, ever.
    look_up: LookUp,
    /// Why the last look-up failed, if it did.
    failure: Option<Arc<io::Error>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LookUp {
    Never,
    Due(Instant),
    Running,
}

impl Names {
    pub(super) fn new(origins: Vec<Arc<Origin>>, resolver: SharedResolver) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| {
            let names: Vec<_> = origins.into_iter().map(|origin| Name::new(origin, this)).collect();
            Self {
                resolver,
                known: ArcSwap::from_pointee(endpoints(&names)),
                fresh_until: Moment::none(),
                look_ups_needed: names.iter().any(|name| name.look_up != LookUp::Never),
                all: Mutex::new(names),
                changes: watch::Sender::new(()),
                ejecting: Mutex::default(),
                this: Weak::clone(this),
            }
        })
    }

    /// The endpoints that are known.
    pub(super) fn known(&self) -> arc_swap::Guard<Arc<Vec<Arc<Endpoint>>>> {
        self.known.load()
    }

    /// Told when the endpoints may be others, or why there are none.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Has the names looked up of which too little is known. Waits for nothing.
    pub(super) fn refresh(&self) {
        if !self.look_ups_needed || self.fresh_until.is_ahead() {
            return;
        }
        let mut names = self.lock();
        let now = Instant::now();
        for (index, name) in names.iter_mut().enumerate() {
            if matches!(name.look_up, LookUp::Due(due) if due <= now) {
                name.look_up = LookUp::Running;
                let (resolver, origin) = (Arc::clone(&self.resolver), Arc::clone(&name.origin));
                tokio::spawn(look_up(Weak::clone(&self.this), index, resolver, origin));
            }
        }
        self.set_fresh(&names);
    }

    /// Says that what is known of the name of `origin` may be wrong: it is looked up sooner.
    pub(super) fn doubt(&self, origin: &Arc<Origin>) {
        if !self.look_ups_needed {
            return;
        }
        let mut names = self.lock();
        let soon = Instant::now() + limits::NAME_DOUBT;
        let name = names.iter_mut().find(|name| Arc::ptr_eq(&name.origin, origin));
        if let Some(name) = name
            && matches!(name.look_up, LookUp::Due(due) if due > soon)
        {
            name.look_up = LookUp::Due(soon);
            self.set_fresh(&names);
        }
    }

    /// All origins, and who knows their addresses: for look-ups that change nothing here (`trial.rs`).
    pub(super) fn for_trial(&self) -> (Vec<Arc<Origin>>, SharedResolver) {
        let origins = self.lock().iter().map(|name| Arc::clone(&name.origin)).collect();
        (origins, Arc::clone(&self.resolver))
    }

    /// A name of which nothing is known yet, and that is being looked up.
    pub(super) fn awaited(&self) -> Option<Arc<str>> {
        let names = self.lock();
        let awaited = |name: &&Name| name.look_up == LookUp::Running && name.endpoints.is_empty();
        names.iter().find(awaited).map(|name| Arc::clone(&name.origin.label))
    }

    /// A name that has no endpoint, and why.
    pub(super) fn failure(&self) -> Option<(Arc<str>, Arc<io::Error>)> {
        let names = self.lock();
        let nowhere = |name: &Name| name.failure.clone().filter(|_| name.endpoints.is_empty());
        names.iter().find_map(|name| Some((Arc::clone(&name.origin.label), nowhere(name)?)))
    }

    /// Each origin, and whether one of its endpoints takes requests. One whose name was not
    /// looked up yet is given credit.
    pub(super) fn origins(&self) -> Vec<(Arc<str>, bool)> {
        let names = self.lock();
        let takes = |name: &Name| match name.endpoints.as_slice() {
            [] => name.failure.is_none(),
            some => some.iter().any(|endpoint| endpoint.takes_requests()),
        };
        names.iter().map(|name| (Arc::clone(&name.origin.label), takes(name))).collect()
    }

    fn found(&self, index: usize, found: io::Result<Vec<SocketAddr>>) {
        let mut names = self.lock();
        let Some(name) = names.get_mut(index) else { return };
        match found.and_then(some_addresses) {
            Ok(addresses) => {
                name.take(addresses, &self.this);
                self.known.store(Arc::new(endpoints(&names)));
            }
            Err(error) => name.fail(error),
        }
        self.set_fresh(&names);
        drop(names);
        self.changes.send_replace(());
    }

    fn set_fresh(&self, names: &[Name]) {
        let due = names.iter().filter_map(|name| match name.look_up {
            LookUp::Due(due) => Some(due),
            LookUp::Never | LookUp::Running => None,
        });
        // Those that are on their way say when they have ended.
        self.fresh_until.set(due.min().unwrap_or_else(|| Instant::now() + limits::NAME_AGE));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Name>> {
        // Nothing that holds it can panic half-way through a change.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Name {
    fn new(origin: Arc<Origin>, siblings: &Weak<Names>) -> Self {
        let (endpoints, look_up) = match origin.place.host.parse::<IpAddr>() {
            Ok(ip) => {
                let address = SocketAddr::new(ip, origin.place.port);
                let endpoint = Endpoint::new(Arc::clone(&origin), address, Weak::clone(siblings));
                (vec![endpoint], LookUp::Never)
            }
            Err(_) => (Vec::new(), LookUp::Due(Instant::now())),
        };
        Self { origin, endpoints, look_up, failure: None }
    }

    /// Those that stay keep their connections and what is known of them; those that go away
    /// are sent nothing any more.
    fn take(&mut self, addresses: Vec<SocketAddr>, siblings: &Weak<Names>) {
        let origin = &self.origin;
        let (upstream, label) = (&origin.settings.name, &origin.label);
        if self.failure.take().is_some() {
            tracing::info!(%upstream, endpoint = %label, "the name can be looked up again");
        }
        let count = addresses.len();
        let stays = |endpoint: &&Arc<Endpoint>| addresses.contains(&endpoint.address);
        let mut endpoints: Vec<_> = self.endpoints.iter().filter(stays).cloned().collect();
        endpoints.truncate(limits::MAX_ADDRESSES);
        for address in addresses {
            let known = endpoints.iter().any(|endpoint| endpoint.address == address);
            if !known && endpoints.len() < limits::MAX_ADDRESSES {
                endpoints.push(Endpoint::new(Arc::clone(origin), address, Weak::clone(siblings)));
            }
        }
        let is_new = self.endpoints.is_empty();
        if is_new && count > limits::MAX_ADDRESSES {
            let most = limits::MAX_ADDRESSES;
            tracing::warn!(%upstream, endpoint = %label, count, most, "the name has more addresses than are used");
        }
        tracing::debug!(%upstream, endpoint = %label, ?endpoints, "the name was looked up");
        self.endpoints = endpoints;
        // Not all names, nor all gateways, in one moment.
        let age = limits::NAME_AGE.mul_f64(0.9 + 0.1 * fastrand::f64());
        self.look_up = LookUp::Due(Instant::now() + age);
    }

    fn fail(&mut self, error: io::Error) {
        let origin = &self.origin;
        let (upstream, label) = (&origin.settings.name, &origin.label);
        if self.failure.is_none() {
            let known = self.endpoints.len();
            tracing::warn!(
                %upstream, endpoint = %label, known, reason = %error,
                "the name can't be looked up; what is known of it is used, and it is tried again"
            );
        }
        self.failure = Some(Arc::new(error));
        self.look_up = LookUp::Due(Instant::now() + limits::NAME_RETRY_PAUSE);
    }
}

fn endpoints(names: &[Name]) -> Vec<Arc<Endpoint>> {
    names.iter().flat_map(|name| &name.endpoints).cloned().collect()
}

fn some_addresses(addresses: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the resolver knows none"));
    }
    Ok(addresses)
}

/// One look-up. It has no limit of its own: the system's can't be called off, and the next one
/// is not begun before this has ended.
async fn look_up(names: Weak<Names>, index: usize, resolver: SharedResolver, origin: Arc<Origin>) {
    let found = resolver.resolve(&origin.place.host, origin.place.port).await;
    if let Some(names) = names.upgrade() {
        names.found(index, found);
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("known", &self.known.load()).finish_non_exhaustive()
    }
}
