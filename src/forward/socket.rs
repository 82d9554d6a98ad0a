//! The socket of a connection to an upstream, with the room that it takes: that is given back when
//! the socket is closed, by whom and why ever, upgrades and panics included.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use super::limit::Slot;
use super::overheard::{Ear, Overheard};
use crate::held_up::HeldUp;

/// A socket, with TLS or without.
pub(super) type Socket<S> = Overheard<S, Place>;

/// The room that a socket takes, and who is told that its other side is heard, or takes no more.
pub(super) struct Place {
    _slot: Slot,
    told: Option<Arc<Heard>>,
    held_up: Option<Arc<HeldUp>>,
}

/// How often the other side was heard: reads that brought bytes.
#[derive(Debug, Default)]
pub(super) struct Heard(AtomicU64);

impl Heard {
    pub(super) fn times(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl<S> Socket<S> {
    pub(super) fn new(stream: S, slot: Slot) -> Self {
        Self { stream, ear: Place { _slot: slot, told: None, held_up: None } }
    }

    /// The same, and what says how often the other side was heard.
    pub(super) fn listening(mut self) -> (Self, Arc<Heard>) {
        let heard = Arc::<Heard>::default();
        self.ear.told = Some(Arc::clone(&heard));
        (self, heard)
    }

    /// The same, and what says whether bytes are held up.
    pub(super) fn watched(mut self) -> (Self, Arc<HeldUp>) {
        let held_up = Arc::<HeldUp>::default();
        self.ear.held_up = Some(Arc::clone(&held_up));
        (self, held_up)
    }
}

impl Ear for Place {
    fn heard(&mut self, came: Result<&[u8], &io::Error>) {
        if came.is_ok_and(|bytes| !bytes.is_empty())
            && let Some(heard) = &self.told
        {
            heard.0.fetch_add(1, Ordering::Release);
        }
    }

    fn written<T>(&mut self, outcome: &Poll<io::Result<T>>) {
        if let Some(held_up) = &self.held_up {
            held_up.wrote(outcome.is_pending());
        }
    }
}
