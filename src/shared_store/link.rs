//! Whether the store is asked now, and who keeps the way to it.
//!
//! Requests never connect. A task of its own does, one try at a time with pauses that grow, and
//! what it connected to is asked once, and what is put up for all replicas is read, before requests
//! are let to it. One server that is lost, or that failed too often in a row, is the whole store; of a
//! cluster it is a part, and `shards.rs` sees to it. Each change is one line of the log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Cmd, RedisResult};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::budget::Budget;
use super::complaints::Complaints;
use super::connection::Connection;
use super::failure::Failure;
use super::line::{Asked, Line, Unanswered};
use super::notices::{Board, Position};
use super::servers::Servers;
use super::shards::Shards;
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
    complaints: Complaints,
    gauge: Gauge,
}

/// `shared_cache_up`, as long as the link is the one in force: requests that began before a reload
/// keep theirs for a while, and it says nothing of the store that is configured now.
struct Gauge(Mutex<Option<Metrics>>);

#[derive(Clone)]
enum State {
    /// Nothing is known yet: requests may wait a moment for the first try.
    Connecting,
    Up(Arc<Way>),
    Down,
}

/// Whom requests ask.
enum Way {
    One(Line),
    Cluster(Shards),
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
            complaints: Complaints::default(),
            gauge: Gauge(Mutex::new(Some(metrics))),
        });
        let keeper = keep(Arc::clone(&shared), address, patience, board);
        let keeper = tokio::spawn(keeper).abort_handle();
        Self { shared, keeper }
    }

    /// What `question` about the entry called `name` comes to, which is charged to `budget`. It may be
    /// put to two servers: one may say that the other has the entry.
    pub(super) async fn ask<T, F>(
        &self,
        budget: &mut Budget,
        name: &str,
        question: impl Fn(Connection) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = RedisResult<T>>,
    {
        // Nobody would hear the answer, and it may be a lease.
        if budget.is_spent() {
            return Err(Failure::Away);
        }
        let Some(way) = self.way(budget).await else { return Err(Failure::Away) };
        let answer = match &*way {
            Way::One(line) => match line.ask(budget, Asked::Owner, question).await {
                Ok(answer) => Ok(answer),
                Err(Unanswered::Failed(failure) | Unanswered::Elsewhere(.., failure)) => {
                    Err(failure)
                }
            },
            Way::Cluster(shards) => shards.ask(budget, name, question).await,
        };
        if let Err(failure @ Failure::Refused(_)) = &answer {
            self.complain(&failure.to_string());
        }
        answer
    }

    /// Says in the log what was met, unless something was said of the like a moment ago.
    pub(super) fn complain(&self, what: &str) {
        if self.shared.complaints.is_due() {
            tracing::warn!(
                "the shared cache (`cache.redis`) answered, and not as it should; requests are served without it: {what}"
            );
        }
    }

    /// From now on another link tells whether the store is in use, or none does.
    pub(super) fn retire(&self) {
        self.shared.gauge.leave();
    }

    async fn way(&self, budget: &mut Budget) -> Option<Arc<Way>> {
        let mut state = self.shared.state.subscribe();
        let is_known = |state: &State| !matches!(state, State::Connecting);
        let known = budget.spend(state.wait_for(is_known)).await?;
        match &*known.ok()? {
            State::Up(way) => Some(Arc::clone(way)),
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

impl Way {
    /// Waits until it leads nowhere any more, and says why.
    async fn ends(&self) -> Failure {
        match self {
            Self::One(line) => line.fell().await,
            Self::Cluster(shards) => shards.keep().await,
        }
    }
}

/// Connects, waits until the connection is lost, and so on.
async fn keep(shared: Arc<Shared>, address: StoreAddress, patience: Duration, board: Board) {
    let mut pause = limits::SHARED_STORE_PAUSE_MIN;
    let mut is_told = false;
    let mut read = Position::default();
    loop {
        match reach(&address, patience, &board, &mut read).await {
            Ok(way) => {
                let (since, way) = (Instant::now(), Arc::new(way));
                shared.state.send_replace(State::Up(Arc::clone(&way)));
                shared.gauge.tell(true);
                board.reached();
                tracing::info!("the shared cache (`cache.redis`) is in use: {}", address.shown());
                let failure = tokio::select! {
                    failure = way.ends() => failure,
                    failure = board.follow(&address, &mut read) => failure,
                };
                shared.state.send_replace(State::Down);
                shared.gauge.tell(false);
                tracing::warn!(
                    "the shared cache (`cache.redis`) is left out until it answers again, requests are served without it: {failure}"
                );
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
        sleep(pause_about(pause)).await;
        pause = (pause * 2).min(limits::SHARED_STORE_PAUSE_MAX);
    }
}

/// A way that can be used, with all read that is put up for replicas.
async fn reach(
    address: &StoreAddress,
    patience: Duration,
    board: &Board,
    read: &mut Position,
) -> Result<Way, Failure> {
    let servers = find(address).await?;
    let connected = servers.connect(address, board.name()).await;
    let mut connection = connected.map_err(|error| Failure::of(&error))?;
    answers(&mut connection, patience).await?;
    board.catch_up(&mut connection, read).await?;
    Ok(match servers {
        Servers::One(_same) => {
            let line = Line::new();
            line.put_up(connection);
            Way::One(line)
        }
        Servers::Cluster(slots) => Way::Cluster(Shards::new(address, patience, slots)),
    })
}

/// The servers of the store, if they are found within some seconds.
pub(super) async fn find(address: &StoreAddress) -> Result<Servers, Failure> {
    match timeout(limits::SHARED_STORE_LONGEST_ANSWER, Servers::find(address)).await {
        Ok(found) => found.map_err(|error| Failure::of(&error)),
        Err(_elapsed) => Err(Failure::Late),
    }
}

/// Whether who is at the other end of `connection` answers within `patience`.
pub(super) async fn answers(
    connection: &mut Connection,
    patience: Duration,
) -> Result<(), Failure> {
    let mut ping = Cmd::new();
    ping.arg("PING");
    match timeout(patience, connection.ask(&ping)).await {
        Ok(answer) => answer.map(|_pong| ()).map_err(|error| Failure::of(&error)),
        Err(_elapsed) => Err(Failure::Late),
    }
}

/// Between half of `pause` and all of it, so that replicas do not come back at once.
pub(super) fn pause_about(pause: Duration) -> Duration {
    pause / 2 + (pause / 2).mul_f64(fastrand::f64())
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
