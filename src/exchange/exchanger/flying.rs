//! One exchange for all who want the same token: who starts it, who waits, and what is kept of it.

use std::future::Future;
use std::sync::Arc;

use super::super::barred::Bar;
use super::super::cache::{Departure, Granted, Source};
use super::super::failure::ExchangeError;
use super::super::flight::{Outcome, Passenger, Pilot, Seat};
use super::super::negative::Era;
use super::super::shared::Sought;
use super::super::terms::Key;
use super::Exchanger;
use crate::observe::metrics::CacheResult;

/// What was known when an exchange began: what it comes to is judged by that.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    departure: Departure,
    era: Era,
}

/// The seats of one request in an exchange.
pub(in crate::exchange) struct Boarding {
    /// The duty to make it, for all that it is awaited as; none where another request makes it.
    pilots: Vec<Pilot>,
    passenger: Passenger,
}

#[cfg(test)]
impl Ticket {
    pub(super) fn departure(self) -> Departure {
        self.departure
    }
}

#[cfg(test)]
impl Boarding {
    /// Whether this request makes the exchange.
    pub(super) fn is_pilot(&self) -> bool {
        !self.pilots.is_empty()
    }
}

impl Exchanger {
    /// Makes the exchange that `call` describes, or waits for the one of its name that is under way; a
    /// refusal of it that is remembered is given again.
    pub(in crate::exchange) async fn fly<F>(
        self: &Arc<Self>,
        sought: Sought,
        call: impl FnOnce() -> F,
    ) -> (CacheResult, Outcome)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        self.travel(self.board(sought.flight, sought.key), sought, call).await
    }

    /// Takes the seats in the exchange called `flight`, which gives a token under `key`.
    pub(super) fn board(&self, flight: Key, key: Key) -> Boarding {
        match self.flights.board(flight) {
            Seat::Passenger(passenger) => Boarding { pilots: Vec::new(), passenger },
            Seat::Pilot(pilot, passenger) => {
                let mut pilots = vec![pilot];
                // Who finds no token under `key` meanwhile waits for this one, which is better.
                if flight != key
                    && let Seat::Pilot(beside, _) = self.flights.board(key)
                {
                    pilots.push(beside);
                }
                Boarding { pilots, passenger }
            }
        }
    }

    /// A seat in the exchange called `flight`, if it is under way.
    pub(super) fn join(&self, flight: &Key) -> Option<Boarding> {
        let passenger = self.flights.join(flight)?;
        Some(Boarding { pilots: Vec::new(), passenger })
    }

    /// The same as [`Self::fly`], for whoever has boarded.
    pub(in crate::exchange) async fn travel<F>(
        self: &Arc<Self>,
        Boarding { pilots, passenger }: Boarding,
        sought: Sought,
        call: impl FnOnce() -> F,
    ) -> (CacheResult, Outcome)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let result = if pilots.is_empty() {
            CacheResult::Coalesced
        } else if let Some((result, outcome)) = self.known(&sought) {
            land(pilots, &outcome);
            return (result, outcome);
        } else {
            // It is moved several times before it runs, and is large.
            let (exchanger, call) = (Arc::clone(self), Box::pin(call()));
            self.take_off(self.ticket(&sought), sought, pilots, async move {
                exchanger.through_store(sought, call).await
            });
            CacheResult::Miss
        };
        let outcome = passenger.outcome().await.and_then(|granted| {
            if granted.is_expired(self.clock.now()) {
                let what = "the token that the provider gave had expired before it could be used";
                return Err(Arc::new(
                    ExchangeError::unavailable(what.to_owned(), None)
                        .with_remedy("compare the clocks, and the lifetime of its tokens"),
                ));
            }
            Ok(granted)
        });
        let is_shared = outcome.as_ref().is_ok_and(|granted| granted.source == Source::Replica);
        let is_hit = result == CacheResult::Miss && is_shared;
        (if is_hit { CacheResult::SharedHit } else { result }, outcome)
    }

    /// What the exchange came to that is `sought`, if that is known: it was refused a while ago, or it
    /// landed between our look into the cache and our boarding.
    fn known(&self, sought: &Sought) -> Option<(CacheResult, Outcome)> {
        let Sought { key, flight, inbound_expires_at, tags: _, shared: _ } = sought;
        if let Some(refusal) = self.refusals.recall(flight) {
            return Some((CacheResult::Miss, Err(Arc::new(refusal))));
        }
        let header = self.cached_by(flight, key, *inbound_expires_at)?;
        let (life, refresh_in, source) = (None, None, Source::Provider);
        let asked_at = self.clock.now();
        Some((CacheResult::Hit, Ok(Granted { header, asked_at, life, refresh_in, source })))
    }

    /// For the exchange of the token that is `sought`, which begins now.
    pub(super) fn ticket(&self, sought: &Sought) -> Ticket {
        let departure = self.cache.departure(sought.flight, sought.tags);
        Ticket { departure, era: self.refusals.era() }
    }

    /// Starts the flight of `pilots`, in a task of its own: the request that it is for may go away.
    pub(super) fn take_off(
        self: &Arc<Self>,
        ticket: Ticket,
        sought: Sought,
        pilots: Vec<Pilot>,
        call: impl Future<Output = Outcome> + Send + 'static,
    ) {
        let exchanger = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = call.await;
            exchanger.keep(ticket, &sought, &outcome);
            // After the cache has it: who does not find the flight finds the token.
            land(pilots, &outcome);
        });
    }

    /// Keeps what an exchange came to, the token or the refusal.
    fn keep(self: &Arc<Self>, ticket: Ticket, sought: &Sought, outcome: &Outcome) {
        let Ticket { departure, era } = ticket;
        let Sought { key, inbound_expires_at, .. } = *sought;
        match outcome {
            Ok(granted) => {
                let now = self.clock.now();
                self.cache.put(key, departure, granted, inbound_expires_at, now);
            }
            Err(error) => {
                // The provider's word on this user is newer than the token: an account that was
                // blocked, or a policy that now asks for more, must not wait for its expiry.
                if error.ends_access() {
                    self.cache.drop_token(&key);
                    self.erase(key, Bar::AskedUntil(self.clock.now()), inbound_expires_at);
                }
                self.refusals.remember(departure.flight, error, era);
            }
        }
        self.metrics.token_cache_entries(self.cache.len());
    }
}

/// Ends the flights of `pilots` with `outcome`.
fn land(pilots: Vec<Pilot>, outcome: &Outcome) {
    for pilot in pilots {
        pilot.land(outcome.clone());
    }
}
