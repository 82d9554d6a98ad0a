//! Long work on a thread that serves nobody, with no CPU to itself: what a reload does.
//!
//! A thread that a request wakes gets the CPU only when the one that runs there has had its turn, a
//! millisecond and more, and a request wakes several threads one after the other. So such work ends
//! its turn by itself, as often as it costs nothing.

use std::thread;
use std::time::{Duration, Instant};

/// Longest turn: a tenth of what requests may wait. A system call each, without anybody who waits
/// 0.2 us.
const TURN: Duration = Duration::from_micros(100);

/// A turn of long work.
#[derive(Clone, Copy, Debug)]
pub struct Turn(Instant);

impl Turn {
    /// It begins now.
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// Lets other threads go first if the turn was long enough. To be called each few microseconds.
    pub fn give_way(&mut self) {
        if self.0.elapsed() >= TURN {
            thread::yield_now();
            *self = Self::begin();
        }
    }
}

/// `all`, one after the other, and other threads between them.
pub fn giving_way<T>(all: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    let mut turn = Turn::begin();
    all.into_iter().inspect(move |_| turn.give_way())
}

/// Drops `all`, and lets other threads go first between them.
pub fn drop_giving_way<T>(all: impl IntoIterator<Item = T>) {
    giving_way(all).for_each(drop);
}
