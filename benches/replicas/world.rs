//! Requests, replicas and time: what comes when, and what becomes of it until an exchange is needed.
//!
//! The order of things is that of `src/exchange/exchanger.rs`: memory, remembered refusals, the
//! exchange that is under way, a new one. `course.rs` has what an exchange does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use fastrand::Rng;
use foldhash::fast::FixedState;
use tokio::time::Instant;

use crate::course::{Course, Passenger, Step};
use crate::memory::Found;
use crate::provider::{Answer, Provider};
use crate::replica::{Flight, Replica};
use crate::settings::{Settings, When};
use crate::store::Store;
use crate::tally::{Outcome, Tally};
use crate::users::{Key, Request, Users};
use crate::{limits, renewal};

/// What happens at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A stale token is used rather than waited any longer.
    PatienceEnds { flight: Flight, passenger: usize },
    /// Redis answered, or did not in time.
    StoreAnswered { replica: usize, flight: Flight, step: Step, in_time: bool },
    /// Redis is asked again for what another replica is getting.
    PollDue { flight: Flight },
    /// A replica that leaves Redis out tries to connect.
    StoreTried { replica: usize },
    /// The lease is to be held on to.
    HoldDue { flight: Flight },
    /// The turn did not come.
    QueueWaitEnds { flight: Flight },
    /// The provider answered.
    Answered { flight: Flight, answer: Answer },
    /// The provider is asked once more.
    RetryDue { flight: Flight },
    /// A replica is taken out of service, its memory with it.
    Leaves { slot: usize },
    /// Another one takes its place.
    Returns { slot: usize },
    /// Redis goes down, and will have kept nothing.
    StoreEmptied,
}

/// All of it.
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) now: Duration,
    pub(crate) rng: Rng,
    pub(crate) tally: Tally,
    pub(crate) provider: Provider,
    /// `None` where each replica is alone.
    pub(crate) store: Option<Store>,
    /// Those that ended, too: what they had under way goes on.
    pub(crate) replicas: Vec<Replica>,
    pub(crate) courses: HashMap<Flight, Course, FixedState>,
    /// Calls for a token that are under way, over all replicas.
    pub(crate) calls_for: HashMap<Key, u32, FixedState>,
    /// The tokens that were asked for, where that is wanted.
    pub(crate) asked_for: HashSet<Key, FixedState>,
    /// Time 0, for rules that take the product's instants.
    origin: Instant,
    users: Users,
    /// For each slot of the balancer the number of its replica, if it is in service.
    slots: Vec<Option<usize>>,
    events: BTreeMap<(Duration, u64), Event>,
    next_event: u64,
    next_flight: Flight,
}

impl World {
    /// A world of `settings`, in which replicas share what they learn, or don't.
    pub(crate) fn new(settings: &Settings, shares: bool) -> Self {
        let count = settings.replicas as usize;
        let mut world = Self {
            settings: settings.clone(),
            now: Duration::ZERO,
            // Not that of the users: requests are the same in all worlds.
            rng: Rng::with_seed(!settings.seed),
            tally: Tally::new(settings),
            provider: Provider::new(settings),
            store: shares.then(|| Store::new(settings)),
            replicas: (0..count).map(|_| Replica::new(settings)).collect(),
            courses: HashMap::default(),
            calls_for: HashMap::default(),
            asked_for: HashSet::default(),
            origin: Instant::now(),
            users: Users::new(settings),
            slots: (0..count).map(Some).collect(),
            events: BTreeMap::new(),
            next_event: 0,
            next_flight: 0,
        };
        world.plan();
        world
    }

    fn plan(&mut self) {
        let Settings { restart_at, restart_every, restart_takes, redis_down_at, .. } =
            self.settings;
        let begin = |event: When| self.settings.begin(event);
        let (restart, redis_down) = (begin(restart_at), begin(redis_down_at));
        if let Some(mut at) = restart {
            for slot in 0..self.slots.len() {
                self.at(at, Event::Leaves { slot });
                self.at(at + restart_takes, Event::Returns { slot });
                at += restart_every;
            }
        }
        if let Some(at) = redis_down {
            self.at(at, Event::StoreEmptied);
        }
    }

    /// Lets it go to its end, and what is under way then as well.
    pub(crate) fn run(mut self) -> Self {
        let end = self.settings.end();
        let mut next_request = self.users.pause();
        loop {
            let next_event = self.events.first_key_value().map(|((at, _), _)| *at);
            if next_request < end && next_event.is_none_or(|at| next_request < at) {
                self.now = next_request;
                next_request += self.users.pause();
                self.request();
            } else if let Some(((at, _), event)) = self.events.pop_first() {
                self.now = at;
                self.happen(event);
            } else {
                return self;
            }
        }
    }

    pub(crate) fn at(&mut self, at: Duration, event: Event) {
        self.events.insert((at, self.next_event), event);
        self.next_event += 1;
    }

    pub(crate) fn after(&mut self, time: Duration, event: Event) {
        self.at(self.now + time, event);
    }

    /// As the product's rules want it.
    pub(crate) fn instant(&self) -> Instant {
        self.origin + self.now
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::PatienceEnds { flight, passenger } => self.lose_patience(flight, passenger),
            Event::StoreAnswered { replica, flight, step, in_time } => {
                self.store_answered(replica, flight, step, in_time);
            }
            Event::PollDue { flight } => self.ask_store(flight, Step::Claim),
            Event::StoreTried { replica } => self.try_store(replica),
            Event::HoldDue { flight } => self.hold_lease(flight),
            Event::QueueWaitEnds { flight } => self.give_up_waiting(flight),
            Event::Answered { flight, answer } => self.answered(flight, answer),
            Event::RetryDue { flight } => self.take_turn(flight),
            Event::Leaves { slot } => {
                if let Some(replica) = self.slots[slot].take() {
                    self.replicas[replica].memory = Replica::new(&self.settings).memory;
                }
            }
            Event::Returns { slot } => {
                self.slots[slot] = Some(self.replicas.len());
                self.replicas.push(Replica::new(&self.settings));
            }
            Event::StoreEmptied => {
                if let Some(store) = &mut self.store {
                    store.forget();
                }
            }
        }
    }

    fn request(&mut self) {
        let request = self.users.request(self.now);
        self.tally.request(self.now);
        if self.settings.counts_keys {
            self.asked_for.insert(request.key);
        }
        let Some(replica) = self.replica_for(&request) else {
            return self.tally.ended(Outcome::Failed, self.now, self.now);
        };
        match self.replicas[replica].memory.find(request.key, self.now.as_secs()) {
            Some(Found::Fresh) => self.tally.ended(Outcome::Memory, self.now, self.now),
            Some(Found::Due) => {
                self.tally.ended(Outcome::Memory, self.now, self.now);
                self.renew(replica, &request);
            }
            Some(Found::Stale) => self.board(replica, &request, true),
            None => self.board(replica, &request, false),
        }
    }

    /// The replica that the balancer sends `request` to.
    fn replica_for(&self, request: &Request) -> Option<usize> {
        if self.settings.affinity {
            // The next one in service, so that others' users stay where they are.
            let nth = request.key.user as usize % self.slots.len();
            let (before, from) = self.slots.split_at(nth);
            return from.iter().chain(before).flatten().next().copied();
        }
        let in_service = self.slots.iter().flatten();
        let nth = (request.replica * in_service.clone().count() as f64) as usize;
        in_service.copied().nth(nth)
    }

    /// `Exchanger::renew`.
    fn renew(&mut self, number: usize, request: &Request) {
        let replica = &mut self.replicas[number];
        let has_room = replica.lane.takes_renewal();
        let pause = if has_room { renewal::pause } else { renewal::give_way };
        let next = self.now.as_secs() + pause(self.rng.f64()).as_secs();
        replica.memory.postpone_renewal(request.key, next);
        if !has_room {
            return;
        }
        let is_refused = replica.refusals.get(&request.key).is_some_and(|until| self.now < *until);
        if is_refused || replica.flights.contains_key(&request.key) {
            return replica.lane.renewal_ends();
        }
        self.take_off(number, request, None);
    }

    /// `Exchanger::fly`, with the patience of `Exchanger::obtain` for one whose token is stale.
    fn board(&mut self, number: usize, request: &Request, is_stale: bool) {
        let replica = &self.replicas[number];
        if replica.refusals.get(&request.key).is_some_and(|until| self.now < *until) {
            return self.tally.ended(Outcome::Refused, self.now, self.now);
        }
        let passenger = Passenger { came: self.now, is_stale, is_done: false };
        let under_way = replica.flights.get(&request.key).copied();
        let course = under_way.and_then(|flight| Some((flight, self.courses.get_mut(&flight)?)));
        let (flight, passenger) = if let Some((flight, course)) = course {
            course.passengers.push(passenger);
            (flight, course.passengers.len() - 1)
        } else {
            (self.take_off(number, request, Some(passenger)), 0)
        };
        if is_stale {
            self.after(limits::STALE_PATIENCE, Event::PatienceEnds { flight, passenger });
        }
    }

    /// Begins a flight; without a pilot it is a renewal.
    fn take_off(&mut self, number: usize, request: &Request, pilot: Option<Passenger>) -> Flight {
        let flight = self.next_flight;
        self.next_flight += 1;
        self.replicas[number].flights.insert(request.key, flight);
        let course = Course::new(number, request, pilot, self.now);
        self.courses.insert(flight, course);
        self.depart(flight);
        flight
    }

    fn lose_patience(&mut self, flight: Flight, nth: usize) {
        let Some(course) = self.courses.get_mut(&flight) else { return };
        let Some(passenger) = course.passengers.get_mut(nth).filter(|it| !it.is_done) else {
            return;
        };
        let memory = &self.replicas[course.replica].memory;
        if memory.find(course.key, self.now.as_secs()).is_some() {
            passenger.is_done = true;
            self.tally.ended(Outcome::Stale, passenger.came, self.now);
        }
    }
}
