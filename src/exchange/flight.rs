//! One exchange at a time for each outbound token: who comes second waits for the first.
//!
//! The exchange belongs to nobody who waits for it: it runs in a task of its own, and its
//! outcome, good or bad, goes to all who are there when it lands. It is not kept beyond that.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::fast::RandomState;
use tokio::sync::watch;

use super::cache::Granted;
use super::failure::ExchangeError;
use super::terms::Key;

/// What all who wait for an exchange get.
pub(super) type Outcome = Result<Granted, Arc<ExchangeError>>;

/// The exchanges that are under way.
#[derive(Default)]
pub(super) struct Flights {
    /// By a quick hash, keyed at random: of digests, nobody can make some that meet in it.
    under_way: DashMap<Key, watch::Receiver<Option<Outcome>>, RandomState>,
}

/// The part that a request has in an exchange.
pub(super) enum Seat {
    /// Nobody is asking: this request has to start the exchange.
    Pilot(Pilot, Passenger),
    /// Somebody is asking already.
    Passenger(Passenger),
}

/// The duty to end a flight. Dropping it without [`Pilot::land`] ends it as an internal error.
pub(super) struct Pilot {
    flights: Arc<Flights>,
    key: Key,
    outcome: watch::Sender<Option<Outcome>>,
}

/// A wait for the outcome.
pub(super) struct Passenger(watch::Receiver<Option<Outcome>>);

impl Flights {
    /// Takes a seat in the flight for `key`: the first one is the pilot's.
    pub(super) fn board(self: &Arc<Self>, key: Key) -> Seat {
        match self.under_way.entry(key) {
            Entry::Occupied(flight) => Seat::Passenger(Passenger(flight.get().clone())),
            Entry::Vacant(place) => {
                let (sender, receiver) = watch::channel(None);
                place.insert(receiver.clone());
                let pilot = Pilot { flights: Arc::clone(self), key, outcome: sender };
                Seat::Pilot(pilot, Passenger(receiver))
            }
        }
    }

    /// A passenger's seat in the flight for `key`, if there is one.
    pub(super) fn join(&self, key: &Key) -> Option<Passenger> {
        self.under_way.get(key).map(|flight| Passenger(flight.clone()))
    }

    /// Whether an exchange for `key` is under way.
    pub(super) fn is_under_way(&self, key: &Key) -> bool {
        self.under_way.contains_key(key)
    }

    /// How many exchanges are under way.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }
}

impl Pilot {
    /// Ends the flight: whoever boards from now on starts another one, so what is to be found
    /// in the cache has to be there before.
    pub(super) fn land(self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Pilot {
    // Here, so that a panic, or a runtime that ends, leaves no flight behind that never lands.
    fn drop(&mut self) {
        self.flights.under_way.remove(&self.key);
    }
}

impl Passenger {
    /// Waits for the outcome.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the seat; the exchange goes on for the others.
    pub(super) async fn outcome(mut self) -> Outcome {
        match self.0.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            Ok(None) | Err(_) => Err(Arc::new(ExchangeError::internal(
                "the task of the exchange ended without an outcome; a panic before this tells why",
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::advice::Class;
    use super::super::terms::tests::terms;
    use super::*;
    use crate::rejection::Code;
    use crate::secret::TokenDigest;

    fn key(name: &str) -> Key {
        terms("client", &["scope"]).key(Some(TokenDigest::of(name.as_bytes())))
    }

    #[tokio::test]
    async fn all_who_wait_share_the_outcome_and_the_next_one_flies_again() {
        let flights = Arc::new(Flights::default());
        let Seat::Pilot(pilot, first) = flights.board(key("a")) else { panic!("nobody flies yet") };
        let Seat::Passenger(second) = flights.board(key("a")) else { panic!("one flies") };
        assert!(matches!(flights.board(key("b")), Seat::Pilot(..)));
        let error = ExchangeError::new(Class::Consent, "no consent".into());
        pilot.land(Err(Arc::new(error)));
        for passenger in [first, second] {
            let rejection = passenger.outcome().await.unwrap_err().rejection();
            assert_eq!(rejection.code(), Code::ConsentRequired);
            assert_eq!(rejection.reason(), "no consent");
        }
        assert_eq!(flights.len(), 0);
        assert!(matches!(flights.board(key("a")), Seat::Pilot(..)));
    }

    #[tokio::test]
    async fn a_lost_pilot_leaves_nobody_waiting() {
        let flights = Arc::new(Flights::default());
        let Seat::Pilot(pilot, passenger) = flights.board(key("a")) else { panic!("free") };
        drop(pilot);
        let rejection = passenger.outcome().await.unwrap_err().rejection();
        assert_eq!(rejection.code(), Code::Internal);
        assert_eq!(flights.len(), 0);
    }
}
