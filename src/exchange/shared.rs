//! The tier between memory and the provider: tokens that other replicas got, and one exchange for
//! all replicas that want the same.
//!
//! It stands around the call to a provider: looks whether the token is in the shared store, waits
//! for the replica that is asking, or asks by itself and leaves the token there. Whatever keeps the
//! store from answering, the call is made as without it. What the store gives is judged as hostile:
//! by [`shared_entry`] for its form, and here for its times. It refuses to know how the store works.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::cache::Granted;
use super::exchanger::Exchanger;
use super::flight::Outcome;
use super::forgotten::{Moment, Tags};
use super::shared_entry;
use super::terms::Key;
use crate::clock::UnixTime;
use crate::limits;
use crate::shared_store::{Claim, Entry, Holder, Lease, Seen, Session, Value, Waited};

/// Which token is wanted.
#[derive(Clone, Copy)]
pub(super) struct Sought {
    /// The token.
    pub(super) key: Key,
    /// The exchange that gives it.
    pub(super) flight: Key,
    /// The end of the inbound token, which no outbound one outlives.
    pub(super) inbound_expires_at: UnixTime,
    /// For which upstream and user it is.
    pub(super) tags: Tags,
    /// How long the request has waited for the shared store before; `None` if the token is not shared.
    pub(super) shared: Option<Waited>,
}

/// What the store led to.
pub(super) enum Way {
    /// Another replica got the token.
    There(Granted),
    /// This one is to ask for it, and tells the others that it does.
    Ours(Session, Lease),
    /// The store is of no help: this one asks for itself.
    Alone(Session),
}

/// What one look into the store shows.
enum Look {
    /// Another replica got the token.
    There(Granted),
    /// This one is to ask for it.
    Ours(Lease),
    /// This other one is asking for it.
    Busy(Holder),
    /// The store is of no help.
    Nothing,
}

impl Exchanger {
    /// The token that is `sought`: out of the shared store, else by `call`, which is made once for all
    /// replicas as long as the store answers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the call; other replicas go on after [`limits::SHARED_LEASE`].
    pub(super) async fn through_store(
        self: &Arc<Self>,
        sought: Sought,
        call: impl Future<Output = Outcome>,
    ) -> Outcome {
        let session = sought.shared.and_then(|waited| self.store.session_after(waited));
        let Some(session) = session else { return call.await };
        let by_way = async {
            let way = self.find_way(session, &sought).await;
            self.go(way, sought, call).await
        };
        // Most gateways have no store, and what is to be known on the way is large.
        Box::pin(by_way).await
    }

    /// The token that is `sought`, on the `way` that the store led to.
    pub(super) async fn go(
        self: &Arc<Self>,
        way: Way,
        sought: Sought,
        call: impl Future<Output = Outcome>,
    ) -> Outcome {
        match way {
            Way::There(granted) => Ok(granted),
            Way::Alone(session) => {
                let moment = self.cache.moment();
                let outcome = call.await;
                if let Ok(granted) = &outcome {
                    self.leave(session, (&sought, moment), granted, None).await;
                }
                outcome
            }
            Way::Ours(session, lease) => {
                let moment = self.cache.moment();
                let outcome = while_held(session.beside(), &lease, call).await;
                match &outcome {
                    Ok(granted) => {
                        self.leave(session, (&sought, moment), granted, Some(lease)).await;
                    }
                    // Who waits asks for itself: what this one was refused is no other's refusal.
                    Err(_) => give_back(session, lease),
                }
                outcome
            }
        }
    }

    /// Where the store leads whoever waits for nobody; `None` if another replica is asking.
    pub(super) async fn way_at_once(&self, mut session: Session, sought: &Sought) -> Option<Way> {
        match self.look(&mut session, sought, &mut None).await {
            Look::There(granted) => Some(Way::There(granted)),
            Look::Ours(lease) => Some(Way::Ours(session, lease)),
            Look::Nothing => Some(Way::Alone(session)),
            Look::Busy(_) => None,
        }
    }

    /// Looks for the token until it is there, this replica is to ask, or the store is of no help.
    ///
    /// One exchange of another replica is waited for: where it gave none to share (a refusal, a token
    /// of unknown life, a provider that does not answer), the next one's will hardly give one, and
    /// those who wait must not queue for their turns.
    async fn find_way(&self, mut session: Session, sought: &Sought) -> Way {
        let deadline = Instant::now() + limits::SHARED_WAIT;
        let mut useless: Option<Seen> = None;
        let mut waited_for: Option<Holder> = None;
        let mut pause = limits::SHARED_POLL_MIN;
        loop {
            match self.look(&mut session, sought, &mut useless).await {
                Look::There(granted) => return Way::There(granted),
                Look::Ours(lease) => return Way::Ours(session, lease),
                Look::Busy(holder)
                    if Instant::now() < deadline
                        && waited_for.as_ref().is_none_or(|first| *first == holder) =>
                {
                    waited_for = Some(holder);
                }
                Look::Busy(_) | Look::Nothing => return Way::Alone(session),
            }
            sleep(pause / 2 + (pause / 2).mul_f64(fastrand::f64())).await;
            pause = (pause * 2).min(limits::SHARED_POLL_MAX);
            // It is the other's exchange that is waited for now, and not the store.
            session.renew();
        }
    }

    /// Looks once; values that are of no use are passed over, as long as there is time for that.
    async fn look(
        &self,
        session: &mut Session,
        sought: &Sought,
        useless: &mut Option<Seen>,
    ) -> Look {
        let (owner, maker) = (sought.key.to_bytes(), sought.flight.to_bytes());
        let entry = Entry { owner: &owner, maker: &maker };
        loop {
            match session.claim(entry, useless.as_ref()).await {
                Ok(Claim::Found(value)) => match self.judge(sought, value) {
                    Ok(granted) => return Look::There(granted),
                    Err(seen) => *useless = Some(seen),
                },
                Ok(Claim::Yours(lease)) => return Look::Ours(lease),
                Ok(Claim::Busy(holder)) => return Look::Busy(holder),
                Err(_) => return Look::Nothing,
            }
        }
    }

    /// The token that `value` holds, if it may be used and is better than what is in memory.
    fn judge(&self, sought: &Sought, value: Value) -> Result<Granted, Seen> {
        let Sought { key, flight, inbound_expires_at, tags, shared: _ } = sought;
        let now = self.clock.now();
        let left = shared_entry::read(&value.plain, key, flight, now);
        let left =
            left.filter(|left| !self.cache.is_forgotten(*tags, left.granted.asked_at, left.heard));
        let granted = left.map(|left| left.granted);
        let is_held_back = |granted: &Granted| {
            self.barred.holds_back(key, granted) || self.erasures.holds_back(key, granted)
        };
        let granted = granted.filter(|granted| !is_held_back(granted));
        // What is in memory is due for a renewal at least: the same again, or an older one, is none.
        let held = self.cache.held(key);
        granted
            .filter(|granted| granted.is_of_use(*inbound_expires_at, held.as_ref(), now))
            .ok_or(value.seen)
    }

    /// Leaves `granted`, which was asked for at that moment, for the other replicas unless it was
    /// forgotten since, and gives `lease` back. The request waits for that as
    /// long as the store may still delay it, so that whoever has an answer can go to another replica
    /// at once; the store has its time nevertheless.
    async fn leave(
        &self,
        mut session: Session,
        (sought, moment): (&Sought, Moment),
        granted: &Granted,
        lease: Option<Lease>,
    ) {
        let Sought { key, flight, inbound_expires_at, tags, shared: _ } = *sought;
        let is_good = !self.cache.was_forgotten_since(moment, tags);
        let time = granted.time_of_use(inbound_expires_at, self.clock.now());
        let time = time.filter(|_some| is_good);
        let plain =
            time.and_then(|_some| shared_entry::write(granted, &key, &flight, moment.heard));
        let (Some(time), Some(plain)) = (time, plain) else {
            if let Some(lease) = lease {
                give_back(session, lease);
            }
            return;
        };
        let writing = self.store.session();
        // The lease is of the store that was in force when it was got, the token goes where others
        // look for it now.
        let is_moved = !writing.as_ref().is_some_and(|writing| writing.is_beside(&session));
        let lease = if is_moved && let Some(lease) = lease {
            give_back(session.beside(), lease);
            None
        } else {
            lease
        };
        let Some(mut writing) = writing else { return };
        let stored = tokio::spawn(async move {
            let (owner, maker) = (key.to_bytes(), flight.to_bytes());
            let entry = Entry { owner: &owner, maker: &maker };
            // Counted and told of where it failed; the token is in our memory.
            writing.store(entry, &plain, time, lease).await.is_ok()
        });
        session.wait_for(stored).await;
    }
}

impl Way {
    /// Is not gone: who waits for this replica asks for itself.
    pub(super) fn leave(self) {
        match self {
            Self::Ours(session, lease) => give_back(session, lease),
            Self::There(_) | Self::Alone(_) => {}
        }
    }
}

/// What `call` comes to, while the others are told that it is under way.
async fn while_held(
    mut session: Session,
    lease: &Lease,
    call: impl Future<Output = Outcome>,
) -> Outcome {
    let holding = async {
        loop {
            sleep(limits::SHARED_LEASE / 4).await;
            session.renew();
            if let Ok(false) = session.hold(lease).await {
                // It ended, as we stood still: somebody else may ask now, and we do already.
                return std::future::pending::<Infallible>().await;
            }
        }
    };
    tokio::select! {
        outcome = call => outcome,
        never = holding => match never {},
    }
}

/// Nobody waits for it.
fn give_back(mut session: Session, lease: Lease) {
    tokio::spawn(async move {
        session.renew();
        session.release(lease).await;
    });
}
