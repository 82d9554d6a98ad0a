//! The course of one exchange: Redis if there is one, the lease, the turn, the provider, and what
//! those get who waited.

use std::time::Duration;

use crate::breaker::Health;
use crate::limits;
use crate::memory::Token;
use crate::provider::Answer;
use crate::replica::{Flight, Turn};
use crate::secret::TokenDigest;
use crate::tally::{Operation, Outcome};
use crate::users::{Key, Request};
use crate::world::{Event, World};

/// A request that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passenger {
    pub(crate) came: Duration,
    /// It has a token that is about to expire.
    pub(crate) is_stale: bool,
    pub(crate) is_done: bool,
}

/// A flight, and how far it is.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) replica: usize,
    pub(crate) key: Key,
    pub(crate) passengers: Vec<Passenger>,
    inbound_end: u64,
    /// Nobody waited for it when it began.
    is_renewal: bool,
    began: Duration,
    poll_pause: Duration,
    is_leased: bool,
    /// It is the call that tries whether the provider is there again.
    is_probe: bool,
    asked_at: u64,
    tries_left: u8,
}

/// What Redis is asked for, each in one round trip: scripts of `src/shared_store/entries.rs`. When
/// they are run is decided in `src/exchange/shared.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The token, or the lease if there is none.
    Claim,
    /// That the lease does not end.
    Hold,
    /// To keep the token, and to give the lease back. The flight is over: that a request waits for
    /// this round trip, too, is left out.
    Keep { key: Key, token: Token, end: u64 },
    /// To give the lease back.
    Release { key: Key },
}

/// How a flight ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Landing {
    Exchanged,
    Shared,
    Refused,
    Unavailable,
}

impl Course {
    pub(crate) fn new(
        replica: usize,
        request: &Request,
        pilot: Option<Passenger>,
        now: Duration,
    ) -> Self {
        Self {
            replica,
            key: request.key,
            is_renewal: pilot.is_none(),
            passengers: pilot.into_iter().collect(),
            inbound_end: request.inbound_end,
            began: now,
            poll_pause: limits::SHARED_POLL_MIN,
            is_leased: false,
            is_probe: false,
            asked_at: 0,
            tries_left: 1,
        }
    }
}

impl World {
    pub(crate) fn depart(&mut self, flight: Flight) {
        self.ask_store(flight, Step::Claim);
    }

    /// Asks Redis, or goes on by itself where it is not to be asked.
    pub(crate) fn ask_store(&mut self, flight: Flight, step: Step) {
        let Some(course) = self.courses.get(&flight) else { return };
        let replica = course.replica;
        let is_left_out = self.replicas[replica].store_health.is_left_out();
        let Some(store) = self.store.as_ref().filter(|_| !is_left_out) else {
            return self.go_on_alone(flight, step);
        };
        let in_time = !store.is_down(self.now);
        let operation = match step {
            Step::Claim => Operation::Claim,
            Step::Hold => Operation::Hold,
            Step::Keep { .. } => Operation::Store,
            Step::Release { .. } => Operation::Release,
        };
        self.tally.operation(operation, self.now);
        let took = if in_time { self.settings.redis_latency } else { self.settings.redis_timeout };
        self.after(took, Event::StoreAnswered { replica, flight, step, in_time });
    }

    fn go_on_alone(&mut self, flight: Flight, step: Step) {
        match step {
            Step::Claim => self.take_turn(flight),
            Step::Hold | Step::Keep { .. } | Step::Release { .. } => {}
        }
    }

    /// `keep` of `src/shared_store/link.rs`: tries to connect, on behalf of no request.
    pub(crate) fn try_store(&mut self, replica: usize) {
        let Some(store) = &self.store else { return };
        self.tally.operation(Operation::Ping, self.now);
        let is_there = !store.is_down(self.now);
        if let Some(pause) = self.replicas[replica].store_health.tried(is_there, &mut self.rng) {
            self.after(pause, Event::StoreTried { replica });
        }
    }

    pub(crate) fn store_answered(
        &mut self,
        replica: usize,
        flight: Flight,
        step: Step,
        in_time: bool,
    ) {
        let now = self.now;
        let health = &mut self.replicas[replica].store_health;
        if let Some(pause) = health.answered(in_time, &mut self.rng) {
            self.after(pause, Event::StoreTried { replica });
        }
        let Some(store) = self.store.as_mut().filter(|_| in_time) else {
            return self.go_on_alone(flight, step);
        };
        match step {
            Step::Keep { key, token, end } => {
                store.keep(key, token, end, now);
                return store.release(key, flight);
            }
            Step::Release { key } => return store.release(key, flight),
            Step::Claim | Step::Hold => {}
        }
        let Some(course) = self.courses.get_mut(&flight) else { return };
        let (key, end) = (course.key, course.inbound_end);
        if step == Step::Hold {
            return store.hold(key, flight, now, limits::SHARED_LEASE);
        }
        let memory = &mut self.replicas[replica].memory;
        // `Granted::is_of_use`: it ends later than what is there, if anything is.
        let held = memory.end(key);
        let is_of_use = |token: &Token| {
            let (fresh_until, expires_at) = token.ends(end);
            now.as_secs() < fresh_until && held.is_none_or(|held| expires_at > held)
        };
        let token = store.look(key, now).filter(is_of_use);
        course.is_leased = token.is_none() && store.lease(key, flight, now, limits::SHARED_LEASE);
        if let Some(token) = token {
            memory.put(key, token, end, now.as_secs(), self.rng.f64());
            self.land(flight, Landing::Shared);
        } else if course.is_leased {
            self.after(limits::SHARED_LEASE / 4, Event::HoldDue { flight });
            self.take_turn(flight);
        } else {
            self.wait_for_another(flight);
        }
    }

    fn wait_for_another(&mut self, flight: Flight) {
        let Some(course) = self.courses.get_mut(&flight) else { return };
        if self.now.saturating_sub(course.began) > limits::SHARED_WAIT {
            return self.take_turn(flight);
        }
        let pause = course.poll_pause;
        course.poll_pause = (pause * 2).min(limits::SHARED_POLL_MAX);
        let pause = pause / 2 + (pause / 2).mul_f64(self.rng.f64());
        self.after(pause, Event::PollDue { flight });
    }

    pub(crate) fn hold_lease(&mut self, flight: Flight) {
        if self.courses.contains_key(&flight) {
            self.ask_store(flight, Step::Hold);
            self.after(limits::SHARED_LEASE / 4, Event::HoldDue { flight });
        }
    }

    /// `turn` of `src/exchange/client.rs`.
    pub(crate) fn take_turn(&mut self, flight: Flight) {
        let Some(course) = self.courses.get(&flight) else { return };
        let replica = &self.replicas[course.replica];
        let upstream = usize::from(course.key.upstream);
        let is_held_back = self.now < replica.held_back[upstream];
        if is_held_back || replica.breakers[upstream].refuses(self.instant()).is_some() {
            return self.land(flight, Landing::Unavailable);
        }
        match self.replicas[course.replica].lane.enter(flight) {
            Turn::Now => self.call(flight),
            Turn::Queued => {
                self.after(limits::EXCHANGE_QUEUE_WAIT, Event::QueueWaitEnds { flight });
            }
            Turn::Full => self.land(flight, Landing::Unavailable),
        }
    }

    pub(crate) fn give_up_waiting(&mut self, flight: Flight) {
        let Some(course) = self.courses.get(&flight) else { return };
        if self.replicas[course.replica].lane.give_up(flight) {
            self.land(flight, Landing::Unavailable);
        }
    }

    /// The turn has come: calls the provider, if it still is to be called.
    fn call(&mut self, flight: Flight) {
        let (now, instant) = (self.now, self.instant());
        let Some(course) = self.courses.get_mut(&flight) else { return };
        let replica = &mut self.replicas[course.replica];
        let breaker = &mut replica.breakers[usize::from(course.key.upstream)];
        let is_held_back = now < replica.held_back[usize::from(course.key.upstream)];
        if is_held_back || breaker.refuses(instant).is_some() {
            let number = course.replica;
            self.land(flight, Landing::Unavailable);
            return self.next_turn(number);
        }
        course.is_probe = breaker.begin_probe();
        course.asked_at = now.as_secs();
        let under_way = self.calls_for.entry(course.key).or_default();
        self.tally.doubles += u64::from(*under_way > 0);
        *under_way += 1;
        self.tally.call(now);
        let (answer, took) = self.provider.ask(course.key, now, &mut self.rng);
        self.after(took, Event::Answered { flight, answer });
    }

    fn next_turn(&mut self, replica: usize) {
        if let Some(next) = self.replicas[replica].lane.leave() {
            self.call(next);
        }
    }

    /// `ask` of `src/exchange/client.rs`, from its answer on.
    pub(crate) fn answered(&mut self, flight: Flight, answer: Answer) {
        let (now, instant) = (self.now, self.instant());
        let Some(course) = self.courses.get_mut(&flight) else { return };
        let (number, key) = (course.replica, course.key);
        if let Some(under_way) = self.calls_for.get_mut(&key) {
            *under_way -= 1;
            if *under_way == 0 {
                self.calls_for.remove(&key);
            }
        }
        let replica = &mut self.replicas[number];
        let upstream = usize::from(key.upstream);
        let health =
            if answer == Answer::Down { Health::Failing(String::new()) } else { Health::Alive };
        if std::mem::take(&mut course.is_probe) {
            replica.breakers[upstream].probed(instant, health);
        } else {
            let whose = (answer == Answer::Down).then(|| digest(key));
            replica.breakers[upstream].called(instant, whose, health);
        }
        match answer {
            Answer::Token(life) => {
                self.tally.granted(now);
                let token = Token { asked_at: course.asked_at, life };
                let (end, chance) = (course.inbound_end, self.rng.f64());
                replica.memory.put(key, token, end, now.as_secs(), chance);
                let (_, end) = token.ends(end);
                self.ask_store(flight, Step::Keep { key, token, end });
                self.land(flight, Landing::Exchanged);
            }
            Answer::Throttled(wait) => {
                self.tally.throttled(now);
                let until = &mut replica.held_back[upstream];
                *until = (now + wait.min(limits::MAX_RETRY_AFTER)).max(*until);
                self.land(flight, Landing::Unavailable);
            }
            Answer::Down => {
                self.tally.down(now);
                // What took all the time there is would take it again.
                let is_worth_it = !self.settings.outage_hangs && course.tries_left > 0;
                if is_worth_it {
                    course.tries_left -= 1;
                    self.after(limits::EXCHANGE_RETRY_PAUSE, Event::RetryDue { flight });
                } else {
                    self.land(flight, Landing::Unavailable);
                }
            }
            Answer::Refused => {
                replica.refusals.insert(key, now + limits::REFUSAL_MEMORY);
                self.land(flight, Landing::Refused);
            }
        }
        self.next_turn(number);
    }

    fn land(&mut self, flight: Flight, landing: Landing) {
        let Some(Course { key, is_leased, .. }) = self.courses.get(&flight) else { return };
        // Whoever stores its token gives the lease back in the same step.
        if *is_leased && landing != Landing::Exchanged {
            self.ask_store(flight, Step::Release { key: *key });
        }
        let Some(course) = self.courses.remove(&flight) else { return };
        let replica = &mut self.replicas[course.replica];
        replica.flights.remove(&course.key);
        if course.is_renewal {
            replica.lane.renewal_ends();
        }
        let has_usable = replica.memory.find(course.key, self.now.as_secs()).is_some();
        for (nth, passenger) in course.passengers.iter().enumerate() {
            if passenger.is_done {
                continue;
            }
            let is_pilot = nth == 0 && !course.is_renewal;
            let outcome = match landing {
                Landing::Exchanged if is_pilot => Outcome::Exchanged,
                Landing::Shared if is_pilot => Outcome::Shared,
                Landing::Exchanged | Landing::Shared => Outcome::Coalesced,
                Landing::Refused => Outcome::Refused,
                Landing::Unavailable if passenger.is_stale && has_usable => Outcome::Stale,
                Landing::Unavailable => Outcome::Failed,
            };
            self.tally.ended(outcome, passenger.came, self.now);
        }
    }
}

/// Whose token it is, to a breaker.
fn digest(key: Key) -> TokenDigest {
    TokenDigest::of(&(u64::from(key.user) << 32 | u64::from(key.nth)).to_be_bytes())
}
