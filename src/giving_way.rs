//! Long work, such as a reload, on a thread that serves nobody but has no CPU to itself.
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
        self.end_if_long(Instant::now, thread::yield_now);
    }

    /// If it was long enough by `now`, others go first, and the next one begins when they went.
    fn end_if_long(&mut self, now: impl Fn() -> Instant, let_others_go: impl FnOnce()) {
        if now().saturating_duration_since(self.0) >= TURN {
            let_others_go();
            self.0 = now();
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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// A clock that the test moves.
    struct Clock(Cell<Instant>);

    impl Clock {
        fn pass(&self, time: Duration) {
            self.0.set(self.0.get() + time);
        }

        /// Whether `turn` lets others go first now; they take `theirs`.
        fn ends(&self, turn: &mut Turn, theirs: Duration) -> bool {
            let mut ended = false;
            turn.end_if_long(
                || self.0.get(),
                || {
                    ended = true;
                    self.pass(theirs);
                },
            );
            ended
        }
    }

    #[test]
    fn a_turn_ends_when_it_was_long_enough_and_the_next_one_is_whole() {
        let turn = Turn::begin();
        let (clock, mut turn) = (Clock(Cell::new(turn.0)), turn);
        let nearly = TURN.saturating_sub(Duration::from_nanos(1));
        // Others may take far longer than a turn: that is no part of the next one.
        for theirs in [Duration::ZERO, TURN * 50, Duration::ZERO] {
            assert!(!clock.ends(&mut turn, theirs));
            clock.pass(nearly);
            assert!(!clock.ends(&mut turn, theirs), "a system call each time costs too much");
            clock.pass(Duration::from_nanos(1));
            assert!(clock.ends(&mut turn, theirs));
            assert!(!clock.ends(&mut turn, theirs), "the next turn has just begun");
        }
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_ends_no_turn() {
        let turn = Turn::begin();
        let (clock, mut turn) = (Clock(Cell::new(turn.0)), turn);
        assert!(!clock.ends(&mut turn, TURN));
        turn.0 += TURN;
        assert!(!clock.ends(&mut turn, TURN));
    }

    #[test]
    fn all_are_given_and_all_are_dropped_in_their_order() {
        struct Told<'d>(u32, &'d RefCell<Vec<u32>>);
        impl Drop for Told<'_> {
            fn drop(&mut self) {
                self.1.borrow_mut().push(self.0);
            }
        }
        assert_eq!(giving_way(0..1000).collect::<Vec<_>>(), (0..1000).collect::<Vec<_>>());
        let dropped = RefCell::default();
        drop_giving_way((0..1000).map(|number| Told(number, &dropped)));
        assert_eq!(*dropped.borrow(), (0..1000).collect::<Vec<_>>());
    }
}
