//! How a listener meets those who connect: whether a load balancer speaks first, and with which
//! certificate TLS is spoken, if it is. It can be changed while the listener serves; who is in
//! stays as they came in.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::accept::connection::Front;
use crate::accept::tls::{Certified, Tls};

/// The way in of one listener.
#[derive(Debug)]
pub struct Door(ArcSwap<Manner>);

/// How one connection is met.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) front: Front,
}

impl Door {
    /// Meets new connections as [`Door::change`] would have it.
    pub fn new(certified: Option<Certified>, is_proxied: bool) -> Self {
        let tls = certified.map(|certified| Arc::new(Tls::new(certified)));
        Self::of(tls, Front::of(is_proxied))
    }

    pub(crate) fn of(tls: Option<Arc<Tls>>, front: Front) -> Self {
        Self(ArcSwap::from_pointee(Manner { tls, front }))
    }

    /// Meets new connections with TLS if there is a certificate, and behind a load balancer if it
    /// `is_proxied`: each then begins with a PROXY header. Sessions of TLS are forgotten if
    /// anything about them is new. Gives whether anything is another.
    pub fn change(&self, certified: Option<Certified>, is_proxied: bool) -> bool {
        let now = self.manner();
        let front = Front::of(is_proxied);
        let (tls, changed) = match (&now.tls, certified) {
            (Some(tls), Some(certified)) => (Some(Arc::clone(tls)), tls.replace(certified)),
            (None, None) => (None, false),
            (_, certified) => (certified.map(|certified| Arc::new(Tls::new(certified))), true),
        };
        let changed = changed || now.front != front;
        self.0.store(Arc::new(Manner { tls, front }));
        changed
    }

    /// How the next connection is met.
    pub(crate) fn manner(&self) -> Arc<Manner> {
        self.0.load_full()
    }
}
