//! Requests that are challenged at once, each on a thread of its own.

use std::sync::Barrier;
use std::thread;

use super::*;

fn world() -> (Arc<Exchanger>, SecretHeader, Key) {
    let exchanger = exchanger(&TestClock::at(START));
    let old = granted("old", UnixTime(START), Some(3600));
    let departure = exchanger.ticket(&sought("alice")).departure();
    exchanger.cache.put(key("alice"), departure, &old, LATER, UnixTime(START));
    (exchanger, old.header, key("alice").with_claims("more"))
}

#[test]
fn who_comes_second_has_a_seat_in_the_exchange_of_the_first() {
    for _ in 0..500 {
        let (exchanger, old, flight) = world();
        let start = Barrier::new(2);
        let challenged = || {
            start.wait();
            exchanger.make_way(&key("alice"), &old, &flight)
        };
        let seats = thread::scope(|scope| {
            [scope.spawn(challenged), scope.spawn(challenged)].map(|thread| thread.join().unwrap())
        });
        assert!(seats.iter().all(Option::is_some), "one would get the challenge itself");
        let pilots = seats.iter().flatten().filter(|seat| seat.is_pilot()).count();
        assert_eq!(pilots, 1);
    }
}

#[test]
fn who_finds_the_token_gone_waits_for_the_one_in_its_place() {
    for _ in 0..500 {
        let (exchanger, old, flight) = world();
        let seat = thread::scope(|scope| {
            let challenged =
                scope.spawn(|| exchanger.make_way(&key("alice"), &old, &flight).expect("a seat"));
            while exchanger.cached(&key("alice"), LATER).is_some() {}
            let other = exchanger.board(key("alice"), key("alice"));
            assert!(!other.is_pilot(), "an exchange of its own");
            challenged.join().unwrap()
        });
        assert!(seat.is_pilot());
    }
}
