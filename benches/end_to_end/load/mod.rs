//! The load: requests that were made beforehand, sent in a closed loop (each connection sends the
//! next when it has its answer) or in an open one (they are sent when they are due).
//!
//! Each answer is compared with what the upstream must have said to that user. It does not know
//! which proxy it speaks to, nor what is made of the latencies.

mod answer;
mod awake;
mod connection;
mod open_loop;
mod plan;
mod unhurried;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Failure;
use crate::case::Transport;
use crate::tls::TlsClient;
use crate::users::User;

pub(crate) use answer::{get, refuses, send};
pub(crate) use awake::awake;
pub(crate) use plan::{Asked, Bearer};

use plan::Planned;

/// No answer takes longer, on loopback; one that does is a proxy that hangs. Readiness, metrics and
/// reloads of debug builds on busy machines are asked for under it, too.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Users each once are at most some seconds of work for one core, with a debug build some more.
const ALL_TIMEOUT: Duration = Duration::from_mins(3);

/// How much of a wrong answer is shown.
const SHOWN_BYTES: usize = 800;

/// The requests of one case to one proxy, and what came of them.
pub(crate) struct Load {
    to: To,
    lanes: Lanes,
    state: Rc<State>,
}

/// Where the load goes.
#[derive(Clone)]
pub(crate) struct To {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) tls: TlsClient,
}

/// How much is asked at once.
#[derive(Clone, Copy)]
pub(crate) struct Lanes {
    pub(crate) connections: usize,
    /// Of each connection; 1 unless that is HTTP/2.
    pub(crate) streams: usize,
}

struct State {
    plan: Vec<Planned>,
    /// The next of [`Load::each_once`], and where they end.
    next: Cell<usize>,
    end: Cell<usize>,
    phase: Cell<Phase>,
    answered: Cell<u64>,
    wrong: Cell<u64>,
    first_wrong: RefCell<Option<String>>,
    latencies: RefCell<Vec<Duration>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Answers count, their latencies don't.
    Unmeasured,
    Measured,
    Ended,
}

/// In which order a lane takes the users.
enum Order {
    EachOnce,
    Random(fastrand::Rng),
}

impl Load {
    /// Prepares the requests of `users`, who are numbered from 0.
    pub(crate) fn new<'a>(
        asked: Asked,
        users: impl Iterator<Item = &'a User>,
        to: To,
        lanes: Lanes,
    ) -> Result<Self, Failure> {
        let state = Rc::new(State {
            plan: asked.plan(users, to.address)?,
            next: Cell::new(0),
            end: Cell::new(0),
            phase: Cell::new(Phase::Unmeasured),
            answered: Cell::new(0),
            wrong: Cell::new(0),
            first_wrong: RefCell::new(None),
            latencies: RefCell::new(Vec::new()),
        });
        Ok(Self { to, lanes, state })
    }

    /// How many users there are.
    pub(crate) fn users(&self) -> usize {
        self.state.plan.len()
    }

    /// Answers so far, right or wrong.
    pub(crate) fn answered(&self) -> u64 {
        self.state.answered.get()
    }

    /// Answers so far that were not the upstream's to that user with the right token.
    pub(crate) fn wrong(&self) -> u64 {
        self.state.wrong.get()
    }

    /// # Errors
    ///
    /// If an answer was wrong; shows the first.
    pub(crate) fn fail_if_wrong(&self) -> Result<(), Failure> {
        match self.state.first_wrong.borrow().as_deref() {
            None => Ok(()),
            Some(first) => Err(format!(
                "{} of {} answers are not what the upstream had to say; the first:\n{first}",
                self.wrong(),
                self.answered(),
            )
            .into()),
        }
    }

    /// Sends one request for each of `users` and waits for the answers; gives their latencies.
    pub(crate) async fn each_once(&self, users: Range<usize>) -> Result<Vec<Duration>, Failure> {
        self.state.next.set(users.start);
        self.state.end.set(users.end.min(self.users()));
        self.state.phase.set(Phase::Measured);
        join(self.connect(|_| Order::EachOnce)).await?;
        Ok(self.state.latencies.take())
    }

    /// Loads the proxy for `ramp`, then for `measured`; calls `mark` when the measured time
    /// begins and when it ends. Gives the latencies of the answers in between.
    pub(crate) async fn run_for(
        &self,
        ramp: Duration,
        measured: Duration,
        mut mark: impl FnMut() -> Result<(), Failure>,
    ) -> Result<Vec<Duration>, Failure> {
        self.state.phase.set(Phase::Unmeasured);
        let mut connections =
            self.connect(|number| Order::Random(fastrand::Rng::with_seed(number)));
        or_first_end(&mut connections, ramp).await?;
        if !measured.is_zero() {
            mark()?;
            self.state.phase.set(Phase::Measured);
            or_first_end(&mut connections, measured).await?;
            mark()?;
        }
        self.state.phase.set(Phase::Ended);
        join(connections).await?;
        Ok(self.state.latencies.take())
    }

    fn connect(&self, order: impl Fn(u64) -> Order) -> JoinSet<Result<(), Failure>> {
        let mut connections = JoinSet::new();
        let mut number = 0;
        for _ in 0..self.lanes.connections {
            let orders = std::iter::repeat_with(|| {
                number += 1;
                order(number)
            });
            let orders = orders.take(self.lanes.streams).collect();
            let state = Rc::clone(&self.state);
            connections.spawn_local(connection::converse(state, self.to.clone(), orders));
        }
        connections
    }
}

impl State {
    /// The next request that a lane sends; `None` at the end.
    fn following(&self, order: &mut Order) -> Option<&Planned> {
        if self.phase.get() == Phase::Ended {
            return None;
        }
        let number = match order {
            Order::Random(random) => random.usize(..self.plan.len()),
            Order::EachOnce => {
                let number = self.next.replace(self.next.get() + 1);
                (number < self.end.get()).then_some(number)?
            }
        };
        self.plan.get(number)
    }

    /// Counts an answer, and compares it with the one that was planned.
    fn take(&self, planned: &Planned, status: u16, body: &[u8], since: Instant) {
        if self.phase.get() == Phase::Measured {
            self.latencies.borrow_mut().push(since.elapsed());
        }
        self.answered.set(self.answered.get() + 1);
        let is_right = status == 200
            && body.len() == planned.answer_bytes
            && body.starts_with(&planned.opening)
            && body.ends_with(b".");
        if !is_right {
            self.wrong.set(self.wrong.get() + 1);
            self.first_wrong
                .borrow_mut()
                .get_or_insert_with(|| format!("{status}, {} bytes: {}", body.len(), shown(body)));
        }
    }
}

/// Waits for `time`, or for the first connection that ends: none should, so that is a failure.
async fn or_first_end(
    connections: &mut JoinSet<Result<(), Failure>>,
    time: Duration,
) -> Result<(), Failure> {
    match tokio::time::timeout(time, connections.join_next()).await {
        Err(_elapsed) => Ok(()),
        Ok(Some(ended)) => ended?.and(Err("a connection of the load ended early".into())),
        Ok(None) => Err("the load has no connections".into()),
    }
}

async fn join(mut connections: JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    let all = async {
        while let Some(ended) = connections.join_next().await {
            ended??;
        }
        Ok(())
    };
    tokio::time::timeout(ALL_TIMEOUT, all)
        .await
        .map_err(|_elapsed| format!("requests are without an answer after {ALL_TIMEOUT:?}"))?
}

fn shown(bytes: &[u8]) -> String {
    let bytes = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).trim_end_matches('.').to_owned()
}
