//! What one replica knows: tokens, exchanges under way, who is not to be asked now.
//!
//! Whether a provider is left alone is `src/exchange/breaker/state.rs` itself; lanes are those of
//! `src/exchange/lanes.rs`, which wait in real time and can't be had here.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use foldhash::fast::FixedState;

use crate::breaker::Ledger;
use crate::limits;
use crate::memory::Memory;
use crate::settings::Settings;
use crate::users::Key;

/// A flight's number.
pub(crate) type Flight = u64;

pub(crate) struct Replica {
    pub(crate) memory: Memory,
    pub(crate) flights: HashMap<Key, Flight, FixedState>,
    pub(crate) lane: Lane,
    pub(crate) store_health: StoreHealth,
    /// `src/exchange/throttle.rs`: until when each upstream's scopes are held back.
    pub(crate) held_back: Vec<Duration>,
    /// For each upstream's scopes.
    pub(crate) breakers: Vec<Ledger>,
    /// `src/exchange/negative.rs`: until when a refusal holds.
    pub(crate) refusals: HashMap<Key, Duration, FixedState>,
}

impl Replica {
    pub(crate) fn new(settings: &Settings) -> Self {
        let upstreams = usize::from(settings.upstreams);
        Self {
            memory: Memory::new(settings.max_entries),
            flights: HashMap::default(),
            lane: Lane::new(settings.max_in_flight),
            store_health: StoreHealth::default(),
            held_back: vec![Duration::ZERO; upstreams],
            breakers: (0..upstreams).map(|_| Ledger::default()).collect(),
            refusals: HashMap::default(),
        }
    }
}

/// The calls to the provider that may be under way.
pub(crate) struct Lane {
    max: usize,
    free: usize,
    renewals: usize,
    queue: VecDeque<Flight>,
}

/// Whether a call has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Now,
    Queued,
    Full,
}

impl Lane {
    fn new(max: usize) -> Self {
        let max = max.max(1);
        Self { max, free: max, renewals: 0, queue: VecDeque::new() }
    }

    pub(crate) fn enter(&mut self, flight: Flight) -> Turn {
        if self.free > 0 {
            self.free -= 1;
            Turn::Now
        } else if self.queue.len() >= self.max.saturating_mul(limits::MAX_QUEUED_PER_EXCHANGE) {
            Turn::Full
        } else {
            self.queue.push_back(flight);
            Turn::Queued
        }
    }

    /// The next one's turn, if one waits.
    pub(crate) fn leave(&mut self) -> Option<Flight> {
        let next = self.queue.pop_front();
        self.free += usize::from(next.is_none());
        next
    }

    /// Gives up waiting; whether it did wait.
    pub(crate) fn give_up(&mut self, flight: Flight) -> bool {
        let place = self.queue.iter().position(|waiting| *waiting == flight);
        place.and_then(|place| self.queue.remove(place)).is_some()
    }

    pub(crate) fn takes_renewal(&mut self) -> bool {
        let kept_free = self.max / 4;
        let takes =
            self.queue.is_empty() && self.free > kept_free && self.renewals < self.max - kept_free;
        self.renewals += usize::from(takes);
        takes
    }

    pub(crate) fn renewal_ends(&mut self) {
        self.renewals -= 1;
    }
}

/// Whether Redis is asked: `src/shared_store/link.rs`.
pub(crate) struct StoreHealth {
    failures: u32,
    /// It is left out, and a task of its own tries to connect, after pauses that grow.
    is_left_out: bool,
    pause: Duration,
}

impl Default for StoreHealth {
    fn default() -> Self {
        Self { failures: 0, is_left_out: false, pause: limits::SHARED_STORE_PAUSE_MIN }
    }
}

impl StoreHealth {
    pub(crate) fn is_left_out(&self) -> bool {
        self.is_left_out
    }

    /// What a request's operation came to; when to try again, if it is left out from now on.
    pub(crate) fn answered(&mut self, in_time: bool, rng: &mut Rng) -> Option<Duration> {
        if in_time {
            self.failures = 0;
            return None;
        }
        self.failures += 1;
        if self.is_left_out || self.failures < limits::SHARED_STORE_FAILURES {
            return None;
        }
        self.is_left_out = true;
        Some(self.next_pause(rng))
    }

    /// What a try to connect came to; when to try again, if it failed.
    pub(crate) fn tried(&mut self, is_there: bool, rng: &mut Rng) -> Option<Duration> {
        if is_there {
            *self = Self::default();
            return None;
        }
        Some(self.next_pause(rng))
    }

    fn next_pause(&mut self, rng: &mut Rng) -> Duration {
        let pause = self.pause / 2 + (self.pause / 2).mul_f64(rng.f64());
        self.pause = (self.pause * 2).min(limits::SHARED_STORE_PAUSE_MAX);
        pause
    }
}
