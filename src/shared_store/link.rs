//! Whether the store is asked now: a breaker, and who keeps the connection behind it.
//!
//! Requests never connect. A task of its own does, one try at a time with pauses that grow, and
//! what it connected to is asked once, and what is put up for all replicas is read, before requests
//! are let to it. A connection that is lost, or
//! that failed too often in a row, is dropped whole: nothing is known of what is under way on it.
//! Each change is one line of the log.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Cmd, RedisResult};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::budget::Budget;
use super::connection::Connection;
use super::failure::Failure;
use super::notices::{Board, Position};
use super::url::StoreAddress;
use crate::limits;
use crate::observe::Metrics;

/// The way to the store. It ends with the last who has it.
pub(super) struct Link {
    shared: Arc<Shared>,
    keeper: AbortHandle,
}

struct Shared {
    state: watch::Sender<State>,
    /// The keeper is told that a connection was dropped.
    lost: Notify,
    complained: Mutex<Option<Instant>>,
    gauge: Gauge,
}

/// `shared_cache_up`, as long as the link is the one in force: requests that began before a reload
/// keep theirs for a while, and it says nothing of the store that is configured now.
struct Gauge(Mutex<Option<Metrics>>);

#[derive(Clone)]
enum State {
    /// Nothing is known yet: requests may wait a moment for the first try.
    Connecting,
    Up(Arc<Live>),
    Down,
}

struct Live {
    connection: Connection,
    /// Failures since the last answer.
    failures: AtomicU32,
}

impl Link {
    /// A link to the store at `address`, of which a command may take `patience`; has to be called
    /// within a runtime.
    pub(super) fn new(
        address: StoreAddress,
        patience: Duration,
        board: Board,
        metrics: Metrics,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: watch::Sender::new(State::Connecting),
            lost: Notify::new(),
            complained: Mutex::default(),
            gauge: Gauge(Mutex::new(Some(metrics))),
        });
        let keeper = keep(Arc::clone(&shared), address, patience, board);
        let keeper = tokio::spawn(keeper).abort_handle();
        Self { shared, keeper }
    }

    /// What `question` comes to, which is charged to `budget`.
    pub(super) async fn ask<T, F>(
        &self,
        budget: &mut Budget,
        question: impl FnOnce(Connection) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = RedisResult<T>>,
    {
        // Nobody would hear the answer, and it may be a lease.
        if budget.is_spent() {
            return Err(Failure::Late);
        }
        let has_all_its_time = budget.is_whole();
        let Some(live) = self.live(budget).await else { return Err(Failure::Away) };
        let answer = match budget.spend(question(live.connection.clone())).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(Failure::of(&error)),
            None => Err(Failure::Late),
        };
        // What comes late for the rest of a request's time may have come quickly.
        if has_all_its_time || !matches!(answer, Err(Failure::Late)) {
            self.shared.judge(&live, answer.as_ref().err());
        }
        answer
    }

    /// Says in the log what was met, unless something was said of the like a moment ago.
    pub(super) fn complain(&self, what: &str) {
        self.shared.complain(what);
    }

    /// From now on another link tells whether the store is in use, or none does.
    pub(super) fn retire(&self) {
        self.shared.gauge.leave();
    }

    async fn live(&self, budget: &mut Budget) -> Option<Arc<Live>> {
        let mut state = self.shared.state.subscribe();
        let is_known = |state: &State| !matches!(state, State::Connecting);
        let known = budget.spend(state.wait_for(is_known)).await?;
        match &*known.ok()? {
            State::Up(live) => Some(Arc::clone(live)),
            State::Connecting | State::Down => None,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Gauge {
    fn tell(&self, is_up: bool) {
        let metrics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = &*metrics {
            metrics.shared_cache_up(is_up);
        }
    }

    fn leave(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Shared {
    /// Counts what a command on `live` came to, and drops the connection if it is of no use.
    fn judge(&self, live: &Arc<Live>, failure: Option<&Failure>) {
        let Some(failure) = failure else {
            live.failures.store(0, Ordering::Relaxed);
            return;
        };
        if !failure.counts() {
            self.complain(&failure.to_string());
            // It answers: that is all that counts here.
            live.failures.store(0, Ordering::Relaxed);
            return;
        }
        let failures = live.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let is_lost = matches!(failure, Failure::Lost(_));
        if is_lost || failures >= limits::SHARED_STORE_FAILURES {
            self.drop_connection(live, failure);
        }
    }

    fn drop_connection(&self, live: &Arc<Live>, failure: &Failure) {
        let dropped = self.state.send_if_modified(|state| {
            let is_this = matches!(state, State::Up(now) if Arc::ptr_eq(now, live));
            if is_this {
                *state = State::Down;
            }
            is_this
        });
        if dropped {
            self.gauge.tell(false);
            tracing::warn!(
                "the shared cache (`cache.redis`) is left out until it answers again, requests are served without it: {failure}"
            );
            self.lost.notify_one();
        }
    }

    fn complain(&self, what: &str) {
        let now = Instant::now();
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = limits::SHARED_STORE_COMPLAINT_PAUSE;
        if complained.is_some_and(|last| now.saturating_duration_since(last) < pause) {
            return;
        }
        *complained = Some(now);
        drop(complained);
        tracing::warn!(
            "the shared cache (`cache.redis`) answered, and not as it should; requests are served without it: {what}"
        );
    }
}

/// Connects, waits until the connection is lost, and so on.
async fn keep(shared: Arc<Shared>, address: StoreAddress, patience: Duration, board: Board) {
    let mut pause = limits::SHARED_STORE_PAUSE_MIN;
    let mut is_told = false;
    let mut read = Position::default();
    loop {
        match reach(&address, patience, &board, &mut read).await {
            Ok(connection) => {
                let since = Instant::now();
                let live = Live { connection, failures: AtomicU32::new(0) };
                shared.state.send_replace(State::Up(Arc::new(live)));
                shared.gauge.tell(true);
                board.reached();
                tracing::info!("the shared cache (`cache.redis`) is in use: {}", address.shown());
                tokio::select! {
                    () = shared.lost.notified() => {}
                    never = board.follow(&address, &mut read) => match never {},
                }
                is_told = true;
                if since.elapsed() >= limits::SHARED_STORE_PAUSE_MAX {
                    pause = limits::SHARED_STORE_PAUSE_MIN;
                }
            }
            Err(failure) => {
                shared.state.send_replace(State::Down);
                if !is_told {
                    tracing::warn!(
                        "the shared cache (`cache.redis`, {}) can't be used, requests are served without it: {failure}",
                        address.shown()
                    );
                    is_told = true;
                }
            }
        }
        sleep(pause / 2 + (pause / 2).mul_f64(fastrand::f64())).await;
        pause = (pause * 2).min(limits::SHARED_STORE_PAUSE_MAX);
    }
}

/// A connection that can be used, with all read that is put up for replicas.
async fn reach(
    address: &StoreAddress,
    patience: Duration,
    board: &Board,
    read: &mut Position,
) -> Result<Connection, Failure> {
    let mut connection = connect(address, patience).await?;
    board.catch_up(&mut connection, read).await?;
    Ok(connection)
}

/// A connection that has just answered within `patience`.
pub(super) async fn connect(
    address: &StoreAddress,
    patience: Duration,
) -> Result<Connection, Failure> {
    let opened = timeout(limits::SHARED_STORE_LONGEST_ANSWER, Connection::open(address)).await;
    let mut connection = match opened {
        Ok(opened) => opened.map_err(|error| Failure::of(&error))?,
        Err(_elapsed) => return Err(Failure::Late),
    };
    let mut ping = Cmd::new();
    ping.arg("PING");
    match timeout(patience, connection.ask(&ping)).await {
        Ok(answer) => answer.map(|_pong| connection).map_err(|error| Failure::of(&error)),
        Err(_elapsed) => Err(Failure::Late),
    }
}

#[cfg(test)]
mod tests {
    use crate::observe::Metrics;
    use crate::shared_store::{EncryptionKey, SharedStore, StoreAddress, StoreSettings};

    use super::*;

    fn settings(key_prefix: &str) -> StoreSettings {
        StoreSettings {
            // Nobody gets to connect: the tests end before they wait for anything.
            address: StoreAddress::parse("redis://127.0.0.1:1").unwrap(),
            encryption_keys: vec![EncryptionKey::parse(&"k".repeat(43)).unwrap()],
            key_prefix: key_prefix.to_owned(),
            timeout: Duration::from_millis(50),
        }
    }

    #[tokio::test]
    async fn a_link_of_a_former_configuration_does_not_say_whether_the_store_is_in_use() {
        let metrics = Metrics::default();
        let up = || {
            let text = metrics.encode();
            let line =
                text.lines().find_map(|line| line.strip_prefix("obo_gateway_shared_cache_up "));
            line.map(ToOwned::to_owned)
        };
        let store = SharedStore::new(metrics.clone());
        store.configure(Some(settings("a:")));
        assert_eq!(up().as_deref(), Some("0"));
        let before = store.session().unwrap();
        before.site.link.shared.gauge.tell(true);
        assert_eq!(up().as_deref(), Some("1"));
        // The same again leaves it.
        store.configure(Some(settings("a:")));
        assert_eq!(up().as_deref(), Some("1"));

        store.configure(Some(settings("b:")));
        assert_eq!(up().as_deref(), Some("0"));
        before.site.link.shared.gauge.tell(true);
        assert_eq!(up().as_deref(), Some("0"));
        let now = store.session().unwrap();
        now.site.link.shared.gauge.tell(true);
        drop(before);
        assert_eq!(up().as_deref(), Some("1"));

        store.configure(None);
        now.site.link.shared.gauge.tell(false);
        drop(now);
        assert_eq!(up(), None);
    }
}
