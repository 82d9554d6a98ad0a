//! What is remembered, what is forgotten, and who pays for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::clock::Clock;

const NOW: u64 = 1_767_225_912;
const WINDOW: u64 = limits::PROOF_WINDOW.as_secs();

#[derive(Debug)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::SeqCst))
    }
}

fn proofs(room: usize) -> (Arc<Hand>, UsedProofs) {
    let clock = Arc::new(Hand(AtomicU64::new(NOW)));
    (Arc::clone(&clock), UsedProofs::within(clock, room))
}

fn key(number: usize) -> Thumbprint {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Thumbprint::named(bytes)
}

fn holds_together(proofs: &UsedProofs) {
    let memory = proofs.lock();
    let counted: usize = memory.keys.values().map(|used| used.names.len()).sum();
    let ordered: usize =
        memory.keys.values().flat_map(|used| used.by_second.values()).map(Vec::len).sum();
    assert_eq!((memory.count, memory.count), (counted, ordered));
    assert_eq!(memory.by_count.len(), memory.keys.len());
    assert_eq!(memory.by_age.len(), memory.keys.len());
    assert!(memory.count <= proofs.room && memory.keys.len() <= proofs.room);
}

#[test]
fn a_proof_is_good_once_and_the_same_name_of_another_key_is_another() {
    let (_, proofs) = proofs(10);
    let now = UnixTime(NOW);
    assert_eq!(proofs.take(key(1), "a", now), Ok(()));
    assert_eq!(proofs.take(key(1), "a", now), Err(Refused::Again));
    assert_eq!(proofs.take(key(1), "a", UnixTime(NOW - 1)), Err(Refused::Again), "another time");
    assert_eq!(proofs.take(key(1), "b", now), Ok(()));
    assert_eq!(proofs.take(key(2), "a", now), Ok(()));
    holds_together(&proofs);
}

#[test]
fn the_window_has_two_ends() {
    let (_, proofs) = proofs(10);
    for (iat, taken) in [
        (NOW - WINDOW - 1, false),
        (NOW - WINDOW, true),
        (NOW + WINDOW, true),
        (NOW + WINDOW + 1, false),
        (0, false),
        (u64::MAX, false),
    ] {
        let judged = proofs.take(key(1), &iat.to_string(), UnixTime(iat));
        let expected = if taken { Ok(()) } else { Err(Refused::Untimely(UnixTime(NOW))) };
        assert_eq!(judged, expected, "{iat}");
    }
}

#[test]
fn a_proof_is_remembered_as_long_as_it_would_be_taken_and_no_longer() {
    let (clock, proofs) = proofs(10);
    let iat = UnixTime(NOW + WINDOW);
    assert_eq!(proofs.take(key(1), "a", iat), Ok(()));
    clock.0.store(NOW + 2 * WINDOW, Ordering::SeqCst);
    assert_eq!(proofs.take(key(1), "a", iat), Err(Refused::Again));
    clock.0.store(NOW + 2 * WINDOW + 1, Ordering::SeqCst);
    assert!(matches!(proofs.take(key(1), "a", iat), Err(Refused::Untimely(_))));
    assert_eq!(proofs.take(key(2), "a", UnixTime(NOW + 2 * WINDOW)), Ok(()));
    assert_eq!(proofs.lock().count, 1, "the first is gone");
    assert_eq!(proofs.lock().keys.len(), 1);
    holds_together(&proofs);
}

#[test]
fn a_clock_that_is_set_back_lets_nothing_come_again() {
    let (clock, proofs) = proofs(10);
    assert_eq!(proofs.take(key(1), "a", UnixTime(NOW)), Ok(()));
    clock.0.store(NOW + 1_000_000, Ordering::SeqCst);
    assert_eq!(proofs.take(key(2), "b", UnixTime(NOW + 1_000_000)), Ok(()));
    assert!(!proofs.lock().keys.contains_key(&key(1)), "swept");
    clock.0.store(NOW, Ordering::SeqCst);
    assert_eq!(proofs.take(key(1), "a", UnixTime(NOW)), Err(Refused::Forgotten));
    assert_eq!(proofs.take(key(1), "a", UnixTime(NOW + 1)), Ok(()), "and nobody is locked out");
}

#[test]
fn who_floods_makes_only_its_own_proofs_short_lived() {
    let (clock, proofs) = proofs(100);
    assert_eq!(proofs.take(key(1), "quiet", UnixTime(NOW)), Ok(()));
    for second in 0..20 {
        let now = NOW + second;
        clock.0.store(now, Ordering::SeqCst);
        for n in 0..30 {
            let taken = proofs.take(key(2), &format!("{second}-{n}"), UnixTime(now));
            assert_eq!(taken, Ok(()), "a new proof is always taken: {second} {n}");
            holds_together(&proofs);
        }
        // Those that came with it are refused, forgotten or not.
        for n in 0..30 {
            let again = proofs.take(key(2), &format!("{second}-{n}"), UnixTime(now));
            assert_eq!(again, Err(Refused::Again));
        }
    }
    assert_eq!(proofs.take(key(2), "0-0", UnixTime(NOW)), Err(Refused::Forgotten));
    assert_eq!(proofs.take(key(2), "new", UnixTime(NOW)), Err(Refused::Forgotten));
    assert_eq!(proofs.take(key(1), "quiet", UnixTime(NOW)), Err(Refused::Again));
    assert_eq!(proofs.take(key(1), "late", UnixTime(NOW)), Ok(()), "the other never notices");
    assert_eq!(proofs.take(key(3), "first", UnixTime(NOW)), Ok(()), "nor does a newcomer");
    holds_together(&proofs);
}

#[test]
fn many_floods_leave_room_for_who_is_quiet() {
    let (clock, proofs) = proofs(1000);
    for second in 0..40 {
        let now = UnixTime(NOW + second);
        clock.0.store(now.0, Ordering::SeqCst);
        for n in 0..20 {
            for flood in 10..20 {
                proofs.take(key(flood), &format!("{second}-{n}"), now).unwrap();
            }
        }
        assert_eq!(proofs.take(key(1), &second.to_string(), now), Ok(()));
        holds_together(&proofs);
    }
    for second in 0..40 {
        let again = proofs.take(key(1), &second.to_string(), UnixTime(NOW + second));
        assert_eq!(again, Err(Refused::Again), "all of the quiet one's are known: {second}");
    }
}

#[test]
fn a_key_that_fills_one_second_has_to_wait_for_the_next() {
    let (clock, proofs) = proofs(10);
    for n in 0..10 {
        assert_eq!(proofs.take(key(1), &n.to_string(), UnixTime(NOW)), Ok(()));
    }
    assert_eq!(proofs.take(key(1), "one more", UnixTime(NOW)), Err(Refused::Forgotten));
    assert_eq!(proofs.take(key(1), "0", UnixTime(NOW)), Err(Refused::Forgotten));
    clock.0.store(NOW + 1, Ordering::SeqCst);
    assert_eq!(proofs.take(key(1), "one more", UnixTime(NOW + 1)), Ok(()));
}

#[test]
fn as_many_keys_as_there_is_room_for_refuse_another_until_time_passes() {
    let (clock, proofs) = proofs(10);
    for n in 0..10 {
        assert_eq!(proofs.take(key(n), "a", UnixTime(NOW)), Ok(()));
    }
    assert_eq!(proofs.take(key(10), "a", UnixTime(NOW)), Err(Refused::Full));
    clock.0.store(NOW + WINDOW + 1, Ordering::SeqCst);
    assert_eq!(proofs.take(key(10), "a", UnixTime(NOW + WINDOW + 1)), Ok(()));
    assert_eq!(proofs.lock().keys.len(), 1);
    holds_together(&proofs);
}

proptest::proptest! {
    /// Whatever comes in whatever order, nothing is taken twice.
    #[test]
    fn nothing_is_ever_taken_twice(
        room in 1_usize..12,
        steps in proptest::collection::vec((0_usize..4, 0_u8..12, 0_u64..200, 0_u64..150), 1..200),
    ) {
        let (clock, proofs) = proofs(room);
        let mut taken = HashSet::new();
        for (owner, name, now, iat) in steps {
            clock.0.store(NOW + now, Ordering::SeqCst);
            if proofs.take(key(owner), &name.to_string(), UnixTime(NOW + iat)).is_ok() {
                // The same `jti` at another time is another proof, once the first is forgotten.
                proptest::prop_assert!(taken.insert((owner, name, iat)), "{owner} {name} {iat}");
            }
            holds_together(&proofs);
        }
    }
}
