//! What all replicas are told: notices in one stream of the store, which each replica reads.
//!
//! A notice is sealed like a value, and put up for longer than any token lives. Decides nothing of what
//! one means, and may give one twice.

mod board;
mod position;
mod stream;

use std::sync::{Arc, OnceLock, Weak};

use super::failure::Failure;
use super::{Session, SharedStore};
use crate::limits;
use crate::observe::shared_cache::{Operation, SharedOutcome};

pub(super) use self::board::Board;
pub use self::position::{POSITION_BYTES, Position};
pub(super) use self::stream::ANNOUNCE;
use self::stream::announce;

/// A notice that was opened: somebody with an encryption key put it up.
#[derive(Debug)]
pub struct Notice {
    /// Where it stands.
    pub position: Position,
    /// What was sealed.
    pub plain: Vec<u8>,
}

/// What was read.
#[derive(Debug)]
pub struct Heard {
    /// The notices that can be opened, in their order.
    pub notices: Vec<Notice>,
    /// How far that is: where the last of them stands. Whoever can write to the store has no say in
    /// it, as others believe what was asked for behind the notices that it had heard of.
    pub until: Position,
    /// Which part of all that is.
    pub part: Part,
}

/// Which part of all notices was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All that there are.
    All,
    /// All that there are, and there may have been others before them.
    Newest,
    /// What came after those that were read before.
    Next,
}

/// Who is told of notices.
pub trait Audience: Send + Sync {
    /// Takes note that the store can be used again; must not block.
    fn reached(&self);

    /// Takes in what was read; called on a thread that may be held up.
    fn hear(&self, heard: Heard);
}

/// Who is told of notices, once there is anybody.
pub(super) type Audiences = Arc<OnceLock<Weak<dyn Audience>>>;

impl SharedStore {
    /// From now on `audience` is told of notices; the first one that is named stays. To be called
    /// before the store is configured.
    pub fn listen(&self, audience: Weak<dyn Audience>) {
        self.audience.get_or_init(|| audience);
    }

    /// Puts up a notice for all replicas, this one included; `None` if there is no store. No request
    /// waits for it, and so it has [`limits::SHARED_ANNOUNCEMENT_PATIENCE`].
    pub async fn announce(&self, plain: &[u8]) -> Option<Result<Position, Failure>> {
        let mut session = self.session()?;
        session.grant(limits::SHARED_ANNOUNCEMENT_PATIENCE);
        let announced = session.announce(plain).await;
        session.count(Operation::Forget, announced.as_ref().map(|_position| SharedOutcome::Done));
        Some(announced)
    }
}

impl Session {
    async fn announce(&mut self, plain: &[u8]) -> Result<Position, Failure> {
        let name = Board::name_in(&self.site.settings.key_prefix);
        let sealed = self.site.keyring.seal(&name, plain);
        let sealed = sealed.map_err(|error| Failure::Refused(error.to_string()))?;
        let ask = |connection| announce(connection, &name, &sealed);
        let answer = self.site.link.ask(&mut self.budget, &name, ask).await?;
        Position::of(&answer).ok_or_else(Failure::strange)
    }
}

#[cfg(test)]
mod tests;
