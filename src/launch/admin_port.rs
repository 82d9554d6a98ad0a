//! The admin port, and how a reload changes it: another address gets a new socket, another token
//! the same socket anew. Who is connected is let go in both cases: a token that was taken back
//! opens nothing on an old connection either.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::listening::{self, Unbound};
use super::supervisor::Sockets;
use crate::accept::{BoundListener, Drain, OthersListener};
use crate::admin;
use crate::config::resolve::Admin;

/// The admin port, if there is one.
pub(super) struct AdminPort {
    open: Mutex<Option<Open>>,
    drain: Drain,
}

impl Default for AdminPort {
    fn default() -> Self {
        // A token that was taken back opens nothing, also not for a request that was on its way.
        Self { open: Mutex::default(), drain: Drain::at_once() }
    }
}

struct Open {
    admin: Admin,
    address: SocketAddr,
    socket: OthersListener,
    drain: Drain,
}

/// The admin port of the next configuration; its socket is there, unless nothing is another.
pub(super) enum Planned {
    Stays,
    Off,
    At(BoundListener, Admin),
}

/// What the admin port serves.
pub(super) struct Serving<'a> {
    pub(super) shown: &'a Arc<admin::Shown>,
    /// What those are given who are connected to one that goes.
    pub(super) grace: Duration,
}

impl AdminPort {
    /// Where it is.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.lock().as_ref().map(|open| open.address)
    }

    /// Binds what a file that was `read` wants; nothing is served there yet.
    ///
    /// # Errors
    ///
    /// It can't be bound.
    pub(super) fn plan(
        &self,
        read: Option<Admin>,
        sockets: &mut Sockets,
    ) -> Result<Planned, Unbound> {
        let open = self.lock();
        let (Some(open), Some(admin)) = (open.as_ref(), read.as_ref()) else {
            return match read {
                Some(admin) => bind(admin, sockets),
                None if open.is_some() => Ok(Planned::Off),
                None => Ok(Planned::Stays),
            };
        };
        let same_address = admin.address == open.admin.address || admin.address == open.address;
        if same_address && admin.token == open.admin.token {
            return Ok(Planned::Stays);
        }
        match (open.socket.take(), read) {
            (Some(socket), Some(admin)) if same_address => Ok(Planned::At(socket, admin)),
            (_, Some(admin)) => bind(admin, sockets),
            (_, None) => Ok(Planned::Off),
        }
    }

    /// Serves what was planned from now on. Needs a runtime.
    pub(super) fn put(&self, planned: Planned, serving: &Serving<'_>) {
        let next = match planned {
            Planned::Stays => return,
            Planned::Off => None,
            Planned::At(socket, admin) => Some(self.begin(socket, admin, serving)),
        };
        let mut open = self.lock();
        if let Some(gone) = std::mem::replace(&mut *open, next) {
            gone.drain.begin();
            let grace = serving.grace;
            tokio::spawn(async move { gone.drain.finish(grace).await });
        }
    }

    fn begin(&self, socket: BoundListener, admin: Admin, serving: &Serving<'_>) -> Open {
        let (address, others) = (socket.address(), socket.others());
        tracing::info!(%address, "admin port");
        let drain = self.drain.part();
        let shown = Arc::clone(serving.shown);
        tokio::spawn(admin::serve(socket, admin.token.clone(), shown, drain.clone()));
        Open { admin, address, socket: others, drain }
    }

    /// Ends it, at once.
    pub(super) async fn end(&self) {
        self.drain.finish(Duration::ZERO).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bind(admin: Admin, sockets: &mut Sockets) -> Result<Planned, Unbound> {
    match listening::bind(admin.address, &[], sockets) {
        Ok(socket) => Ok(Planned::At(socket, admin)),
        Err(error) => Err(Unbound { place: admin.place, error }),
    }
}
