//! A replica's cache of tokens, by the rules of `src/exchange/cache.rs`: how old a token is, and what
//! makes room. When it is renewed is `src/exchange/renewal.rs` itself.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use foldhash::fast::FixedState;

use crate::users::Key;
use crate::{limits, renewal};

/// A token; times are whole seconds, as in the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) asked_at: u64,
    pub(crate) life: Duration,
}

/// As `cache::Found`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Fresh,
    Due,
    Stale,
}

pub(crate) struct Memory {
    tokens: HashMap<Key, Entry, FixedState>,
    /// With the ghosts of those that were replaced; their serial tells them.
    by_expiry: BinaryHeap<Reverse<(u64, u64, Key)>>,
    by_age: VecDeque<(u64, Key)>,
    next_serial: u64,
    max_entries: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    renew_at: u64,
    fresh_until: u64,
    expires_at: u64,
    serial: u64,
}

impl Token {
    /// Until when it may be used for an inbound token that expires at `inbound_end`, and when it
    /// expires: `Granted::ages` of `cache.rs`.
    pub(crate) fn ends(self, inbound_end: u64) -> (u64, u64) {
        let life = self.life.as_secs();
        let margin = limits::OUTBOUND_EXPIRY_MARGIN.as_secs().min(life.div_ceil(2));
        let own_end = self.asked_at + life - margin;
        (own_end.min(inbound_end), (self.asked_at + life).min(inbound_end))
    }

    fn renew_at(self, inbound_end: u64, chance: f64) -> u64 {
        let (fresh_until, _) = self.ends(u64::MAX);
        if fresh_until >= inbound_end {
            return u64::MAX;
        }
        let of_use = Duration::from_secs(fresh_until - self.asked_at);
        self.asked_at + renewal::after(of_use, None, chance).as_secs()
    }
}

impl Memory {
    pub(crate) fn new(max_entries: usize) -> Self {
        Self {
            tokens: HashMap::default(),
            by_expiry: BinaryHeap::new(),
            by_age: VecDeque::new(),
            next_serial: 0,
            max_entries,
        }
    }

    pub(crate) fn find(&self, key: Key, now: u64) -> Option<Found> {
        let entry = self.tokens.get(&key).filter(|entry| now < entry.expires_at)?;
        Some(if now >= entry.fresh_until {
            Found::Stale
        } else if now >= entry.renew_at {
            Found::Due
        } else {
            Found::Fresh
        })
    }

    /// When the token under `key` expires, or did.
    pub(crate) fn end(&self, key: Key) -> Option<u64> {
        self.tokens.get(&key).map(|entry| entry.expires_at)
    }

    /// It is due again at `next`.
    pub(crate) fn postpone_renewal(&mut self, key: Key, next: u64) {
        if let Some(entry) = self.tokens.get_mut(&key) {
            entry.renew_at = next;
        }
    }

    pub(crate) fn put(&mut self, key: Key, token: Token, inbound_end: u64, now: u64, chance: f64) {
        let (fresh_until, expires_at) = token.ends(inbound_end);
        if fresh_until <= now {
            return;
        }
        self.sweep(now, limits::MAX_EXPIRED_SWEPT);
        let serial = self.next_serial;
        self.next_serial += 1;
        let renew_at = token.renew_at(inbound_end, chance);
        self.tokens.insert(key, Entry { renew_at, fresh_until, expires_at, serial });
        self.by_expiry.push(Reverse((expires_at, serial, key)));
        self.by_age.push_back((serial, key));
        while self.tokens.len() > self.max_entries {
            if self.sweep(now, 1) == 0 {
                self.drop_oldest();
            }
        }
    }

    /// Drops `most` expired tokens; how many there were.
    fn sweep(&mut self, now: u64, most: usize) -> usize {
        let mut swept = 0;
        while let Some(&Reverse((expires_at, serial, key))) = self.by_expiry.peek()
            && expires_at <= now
            && swept < most
        {
            self.by_expiry.pop();
            swept += usize::from(self.remove(key, serial));
        }
        // Else the names of what was swept would stay until the cache is full.
        while let Some((serial, key)) = self.by_age.front()
            && self.tokens.get(key).is_none_or(|entry| entry.serial != *serial)
        {
            self.by_age.pop_front();
        }
        swept
    }

    fn drop_oldest(&mut self) {
        while let Some((serial, key)) = self.by_age.pop_front() {
            if self.remove(key, serial) {
                return;
            }
        }
    }

    fn remove(&mut self, key: Key, serial: u64) -> bool {
        let is_it = self.tokens.get(&key).is_some_and(|entry| entry.serial == serial);
        is_it && self.tokens.remove(&key).is_some()
    }
}
