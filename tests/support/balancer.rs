//! What stands before replicas and who asks them: each request goes to whichever replica, drawn from
//! a seed, and every answer and how long it took is counted.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Request;
use tokio::task::JoinHandle;

use super::client::Client;
use super::replicas::{Fleet, UPSTREAMS, User};
use super::token::bearer;

/// Sends requests to whichever replica, and what is lost on its way to another, as load balancers
/// do with requests that can be repeated. What was answered is final.
pub struct Balancer {
    places: Mutex<Vec<Option<SocketAddr>>>,
}

impl Balancer {
    /// One before these replicas.
    pub fn new(places: impl IntoIterator<Item = SocketAddr>) -> Arc<Self> {
        Arc::new(Self { places: Mutex::new(places.into_iter().map(Some).collect()) })
    }

    /// The replica of this number goes away, or comes to another place.
    pub fn place(&self, number: usize, at: Option<SocketAddr>) {
        self.places.lock().unwrap()[number] = at;
    }

    fn pick(&self, random: &mut fastrand::Rng) -> SocketAddr {
        let places = self.places.lock().unwrap();
        let there: Vec<_> = places.iter().flatten().collect();
        **random.choice(&there).expect("a replica is there")
    }
}

/// One who asks again and again, over connections that it keeps.
pub struct Caller {
    balancer: Arc<Balancer>,
    connections: HashMap<SocketAddr, Client>,
    random: fastrand::Rng,
}

impl Caller {
    /// One whose choices come from `seed`.
    pub fn new(balancer: &Arc<Balancer>, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { balancer: Arc::clone(balancer), connections: HashMap::new(), random }
    }

    /// Where the choices come from.
    pub fn random(&mut self) -> &mut fastrand::Rng {
        &mut self.random
    }

    /// Asks a random replica; status, `code` of a refusal, and how long it took in all.
    pub async fn ask(&mut self, user: &User, upstream: usize) -> (u16, String, Duration) {
        let since = Instant::now();
        loop {
            let address = self.balancer.pick(&mut self.random);
            let client = match self.connections.remove(&address) {
                Some(client) => Ok(client),
                None => Client::try_http1(address).await,
            };
            // Who is gone may be on its way out of the balancer.
            let Ok(mut client) = client else {
                tokio::task::yield_now().await;
                continue;
            };
            let request = Request::get(user.target(upstream));
            let request = request.header("authorization", bearer(&user.token));
            if let Ok(reply) = client.try_send(request, "").await {
                self.connections.insert(address, client);
                let (status, code) = reply.outcome();
                return (status, code, since.elapsed());
            }
        }
    }
}

/// What users meet, all at once and without an end: [`Load::stop`] ends it.
pub struct Load {
    callers: Vec<JoinHandle<Met>>,
    done: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

/// What they met.
#[derive(Debug, Default)]
pub struct Met {
    /// Answers by status and code.
    pub outcomes: BTreeMap<(u16, String), usize>,
    /// How long each took.
    pub took: Vec<Duration>,
}

/// Which users a load is of.
#[derive(Clone)]
pub enum Who {
    /// These, again and again.
    Known(Arc<Vec<User>>),
    /// Half of the requests are of these, half of users who never came before: nobody has their tokens.
    KnownAndNew(Arc<Vec<User>>, Arc<Fleet>),
}

impl Load {
    /// So many callers at a time, from now on.
    pub fn start(balancer: &Arc<Balancer>, who: &Who, callers: u64) -> Self {
        let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let callers = (0..callers).map(|seed| {
            let (done, answered) = (Arc::clone(&done), Arc::clone(&answered));
            let (mut caller, who) = (Caller::new(balancer, seed), who.clone());
            tokio::spawn(async move {
                let mut met = Met::default();
                while !done.load(Ordering::SeqCst) {
                    let (Who::Known(known) | Who::KnownAndNew(known, _)) = &who;
                    let upstream = caller.random().usize(..UPSTREAMS.len());
                    let answer = match &who {
                        Who::KnownAndNew(_, fleet) if caller.random().bool() => {
                            let user = fleet.user(usize::MAX >> 32);
                            caller.ask(&user, upstream).await
                        }
                        Who::Known(_) | Who::KnownAndNew(..) => {
                            let user = caller.random().usize(..known.len());
                            caller.ask(&known[user], upstream).await
                        }
                    };
                    met.note(answer);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                met
            })
        });
        Self {
            callers: callers.collect(),
            done: Arc::clone(&done),
            answered: Arc::clone(&answered),
        }
    }

    /// Waits until so many more requests were answered.
    pub async fn more(&self, count: usize) {
        let until = self.answered.load(Ordering::SeqCst) + count;
        let there = async {
            while self.answered.load(Ordering::SeqCst) < until {
                // The callers tell nobody; the interval only spares the processor.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        super::within("answers under load", there).await;
    }

    /// Ends it; what all met.
    pub async fn stop(self) -> Met {
        self.done.store(true, Ordering::SeqCst);
        Met::of_all(self.callers).await
    }
}

impl Met {
    async fn of_all(callers: Vec<JoinHandle<Self>>) -> Self {
        let mut all = Self::default();
        for caller in callers {
            let met = caller.await.unwrap();
            for (outcome, count) in met.outcomes {
                *all.outcomes.entry(outcome).or_default() += count;
            }
            all.took.extend(met.took);
        }
        all
    }

    fn note(&mut self, (status, code, took): (u16, String, Duration)) {
        *self.outcomes.entry((status, code)).or_default() += 1;
        self.took.push(took);
    }

    /// Every request was served.
    ///
    /// # Panics
    ///
    /// With what was met else.
    pub fn assert_all_served(&self) {
        let others: Vec<_> =
            self.outcomes.iter().filter(|((status, _), _)| *status != 200).collect();
        assert!(others.is_empty() && !self.outcomes.is_empty(), "{:?}", self.outcomes);
    }

    /// How many took as long as `limit` or longer.
    pub fn slower_than(&self, limit: Duration) -> usize {
        self.took.iter().filter(|took| **took >= limit).count()
    }
}

/// One request of every user to both upstreams, each by a random replica, `callers` at a time, in an
/// order that comes from `seed`.
pub async fn everybody_asks(
    balancer: &Arc<Balancer>,
    users: &Arc<Vec<User>>,
    callers: u64,
    seed: u64,
) -> Met {
    let mut order: Vec<(usize, usize)> =
        (0..users.len()).flat_map(|user| (0..UPSTREAMS.len()).map(move |up| (user, up))).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    let order = Arc::new(Mutex::new(order));
    let callers = (0..callers).map(|number| {
        let (users, order) = (Arc::clone(users), Arc::clone(&order));
        let mut caller = Caller::new(balancer, seed.wrapping_mul(1000) + number);
        tokio::spawn(async move {
            let mut met = Met::default();
            loop {
                let next = order.lock().unwrap().pop();
                let Some((user, upstream)) = next else { return met };
                met.note(caller.ask(&users[user], upstream).await);
            }
        })
    });
    Met::of_all(callers.collect()).await
}
