//! The DPoP proofs that were used, so that none is taken twice (RFC 9449 §11.1).
//!
//! A proof is named by its key and its `jti`, and is remembered while its `iat` would still be
//! taken. Memory is bounded over all keys, and nobody can use it up for others:
//!
//! - Only what passed every other check is remembered, so filling it takes tokens of a provider,
//!   bound to keys, and a signature a time.
//! - When it is full, the key with the most proofs has the oldest second of them forgotten, and
//!   from then on proofs of that key from that second or before are refused. So forgetting never
//!   lets a proof come again, who floods makes only the proofs of its own key short-lived, and a
//!   key that has used less than another never notices.
//! - Only when there are as many keys as there is room is a new one refused: as many tokens,
//!   each bound to another key, within two minutes.
//!
//! A clock that is set back lets nothing come again either: what was forgotten because it was
//! too old stays refused.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::{SharedClock, UnixTime};
use crate::limits;

use super::thumbprint::Thumbprint;

/// A bounded memory of proofs, shared by all routes and kept across reloads.
pub struct UsedProofs {
    memory: Mutex<Memory>,
    clock: SharedClock,
    room: usize,
}

/// Why a proof is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Its `iat` is too far from our time, which this is.
    Untimely(UnixTime),
    /// It was used before.
    Again,
    /// It is of a time of which not all proofs are remembered.
    Forgotten,
    /// There is no room for another key.
    Full,
}

/// The beginning of SHA-256 of a `jti`: two of one key that agree in it don't come by chance.
type Jti = [u8; 16];

#[derive(Default)]
struct Memory {
    keys: HashMap<Thumbprint, Used>,
    by_count: BTreeSet<(usize, Thumbprint)>,
    by_age: BTreeSet<(UnixTime, Thumbprint)>,
    count: usize,
    /// Nothing from this second or before is taken from anyone: some of it is forgotten.
    floor: Option<UnixTime>,
}

/// The proofs of one key.
#[derive(Default)]
struct Used {
    names: HashSet<Jti>,
    by_second: BTreeMap<UnixTime, Vec<Jti>>,
    /// As that of all, for this key.
    floor: Option<UnixTime>,
}

impl UsedProofs {
    /// Remembers [`limits::MAX_REMEMBERED_PROOFS`].
    pub fn new(clock: SharedClock) -> Self {
        Self::within(clock, limits::MAX_REMEMBERED_PROOFS)
    }

    fn within(clock: SharedClock, room: usize) -> Self {
        Self { memory: Mutex::default(), clock, room }
    }

    /// Takes a proof, and never again.
    pub(super) fn take(&self, key: Thumbprint, jti: &str, iat: UnixTime) -> Result<(), Refused> {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, jti.as_bytes());
        let mut name = Jti::default();
        name.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);

        let mut memory = self.lock();
        // One reading of the clock: what is swept is what is refused for its age.
        let now = self.clock.now();
        if iat.plus(limits::PROOF_WINDOW) < now || now.plus(limits::PROOF_WINDOW) < iat {
            return Err(Refused::Untimely(now));
        }
        memory.sweep(now);
        memory.look(&key, &name, iat)?;
        while memory.count >= self.room {
            memory.shrink_largest()?;
        }
        if memory.keys.len() >= self.room && !memory.keys.contains_key(&key) {
            return Err(Refused::Full);
        }
        // Its own key may have been the one that was shrunk.
        memory.look(&key, &name, iat)?;
        memory.change(key, |used| {
            used.names.insert(name);
            used.by_second.entry(iat).or_default().push(name);
        });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for UsedProofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsedProofs").field("count", &self.lock().count).finish_non_exhaustive()
    }
}

impl Memory {
    fn look(&self, key: &Thumbprint, name: &Jti, iat: UnixTime) -> Result<(), Refused> {
        let used = self.keys.get(key);
        if used.is_some_and(|used| used.names.contains(name)) {
            return Err(Refused::Again);
        }
        let floor = self.floor.max(used.and_then(|used| used.floor));
        if floor.is_some_and(|floor| iat <= floor) { Err(Refused::Forgotten) } else { Ok(()) }
    }

    /// Drops some of what is too old to be taken.
    fn sweep(&mut self, now: UnixTime) {
        for _ in 0..limits::MAX_EXPIRED_SWEPT {
            let Some((second, key)) = self.by_age.first().copied() else { return };
            if second.plus(limits::PROOF_WINDOW) >= now {
                return;
            }
            self.floor = self.floor.max(Some(second));
            self.change(key, |used| {
                if used.floor.is_some_and(|floor| floor <= second) {
                    used.floor = None;
                }
                used.forget_oldest();
            });
        }
    }

    /// Makes the key with the most proofs forget its oldest second.
    fn shrink_largest(&mut self) -> Result<(), Refused> {
        match self.by_count.last().copied() {
            Some((count, key)) if count > 1 => {
                self.change(key, |used| used.floor = used.floor.max(used.forget_oldest()));
                Ok(())
            }
            Some(_) | None => Err(Refused::Full),
        }
    }

    /// Changes the proofs of a key, and what is known of it elsewhere.
    fn change(&mut self, key: Thumbprint, change: impl FnOnce(&mut Used)) {
        let used = self.keys.entry(key).or_default();
        let before = used.names.len();
        if let Some(age) = used.age() {
            self.by_age.remove(&(age, key));
            self.by_count.remove(&(before, key));
        }
        change(used);
        let after = used.names.len();
        self.count = self.count - before + after;
        if let Some(age) = used.age() {
            self.by_age.insert((age, key));
            self.by_count.insert((after, key));
        } else {
            self.keys.remove(&key);
        }
    }
}

impl Used {
    /// The second of its oldest proof, else of its floor; `None` if there is nothing to know.
    fn age(&self) -> Option<UnixTime> {
        self.by_second.first_key_value().map(|(second, _)| *second).or(self.floor)
    }

    /// Forgets its oldest second, and says which it was.
    fn forget_oldest(&mut self) -> Option<UnixTime> {
        let (second, names) = self.by_second.pop_first()?;
        for name in names {
            self.names.remove(&name);
        }
        Some(second)
    }
}

#[cfg(test)]
mod tests;
