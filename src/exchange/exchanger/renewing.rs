//! Renewals, ahead of a token's end: whether one is made now.
//!
//! When a token is due is decided in `renewal.rs`, and whether this replica is the one in the store
//! that replicas share.

use std::future::Future;
use std::sync::Arc;

use super::super::failure::{ExchangeError, Memory};
use super::super::flight::{Outcome, Seat};
use super::super::renewal;
use super::super::shared::Sought;
use super::Exchanger;

impl Exchanger {
    /// Renews the token that is `sought` in a task of its own, unless that is being done, was tried a
    /// moment ago, or would be in the way of requests that wait. What another replica renews is looked
    /// for again after the usual pause.
    pub(super) fn renew<F>(
        self: &Arc<Self>,
        sought: Sought,
        provider: &Arc<str>,
        call: impl FnOnce() -> F,
    ) where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let key = sought.key;
        let (now, room) = (self.clock.now(), self.lanes.room_for_renewal(provider));
        let pause = if room.is_some() { renewal::pause } else { renewal::give_way };
        if !self.cache.claim_renewal(&key, now, now.plus(pause(fastrand::f64()))) {
            return;
        }
        let Some(room) = room else { return };
        if self.refusals.recall(&key).is_some() || self.flights.is_under_way(&key) {
            return;
        }
        let (ticket, call) = (self.ticket(&sought), call());
        let call = async move {
            let outcome = call.await;
            drop(room);
            if let Err(error) = &outcome {
                log_failed_renewal(error);
            }
            outcome
        };
        let Some(session) = sought.shared.and_then(|_waited| self.store.session()) else {
            if let Seat::Pilot(pilot, _) = self.flights.board(key) {
                self.take_off(ticket, sought, vec![pilot], call);
            }
            return;
        };
        let exchanger = Arc::clone(self);
        tokio::spawn(async move {
            // Before it is a flight: nobody is to wait for one that is not made.
            let Some(way) = exchanger.way_at_once(session, &sought).await else { return };
            match exchanger.flights.board(key) {
                Seat::Passenger(_) => way.leave(),
                Seat::Pilot(pilot, _) => {
                    let replica = Arc::clone(&exchanger);
                    exchanger.take_off(ticket, sought, vec![pilot], async move {
                        replica.go(way, sought, call).await
                    });
                }
            }
        });
    }
}

/// The requests of the token go on well, so nothing else tells the operator.
fn log_failed_renewal(error: &ExchangeError) {
    let reason = error.reason();
    match error.memory() {
        // Once in a while for all callers: it is remembered. Their tokens run out one by one.
        Memory::Client(_) => tracing::warn!("tokens in use can't be renewed: {reason}"),
        Memory::Token(_) | Memory::None => tracing::debug!("a token can't be renewed: {reason}"),
    }
}
