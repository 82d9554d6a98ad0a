//! The masters of a cluster: each is a server with a breaker of its own, so that one that is gone or
//! hangs takes its share of the entries with it and nothing else.
//!
//! Requests ask whoever has the entry by what is known, and follow one hint that it is elsewhere.
//! Each server has a task that dials it anew with pauses that grow. Which servers there are is looked
//! up anew whenever one fails or sends somebody elsewhere, by asking one that is there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::select_ok;
use redis::RedisResult;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::budget::Budget;
use super::connection::Connection;
use super::failure::Failure;
use super::line::{Asked, Line, Unanswered};
use super::link::{answers, pause_about};
use super::servers::{is_well, open_one, slots_told_by};
use super::slots::Slots;
use super::url::{Host, StoreAddress};
use crate::limits;

/// The masters that are known. Their connections end with it.
pub(super) struct Shards {
    address: StoreAddress,
    patience: Duration,
    known: Mutex<Known>,
    /// Something is not as it was.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Known {
    slots: Slots,
    shards: HashMap<Host, Shard>,
}

/// One of them, and the task that dials it.
struct Shard {
    line: Arc<Line>,
    keeper: AbortHandle,
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Shards {
    /// Those that have the `slots` of the cluster at `address`, where a command may take `patience`.
    pub(super) fn new(address: &StoreAddress, patience: Duration, slots: Slots) -> Self {
        let (address, known) = (address.clone(), Mutex::default());
        let shards = Self { address, patience, known, changed: Arc::default() };
        shards.adopt(slots);
        shards
    }

    /// What `question` about the entry called `name` comes to, which is charged to `budget`.
    pub(super) async fn ask<T, F>(
        &self,
        budget: &mut Budget,
        name: &str,
        question: impl Fn(Connection) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let owner = self.lock().owner_of(name);
        let Some(owner) = owner else { return Err(self.unknown()) };
        let (host, asked) = match owner.ask(budget, Asked::Owner, &question).await {
            Ok(answer) => return Ok(answer),
            Err(Unanswered::Failed(failure)) => return Err(failure),
            Err(Unanswered::Elsewhere(host, asked, _)) => (host, asked),
        };
        if asked == Asked::Owner {
            self.changed.notify_one();
        }
        let other = host.and_then(|host| self.lock().line_to(&host));
        let Some(other) = other else { return Err(self.unknown()) };
        match other.ask(budget, asked, &question).await {
            Ok(answer) => Ok(answer),
            Err(Unanswered::Failed(failure)) => Err(failure),
            Err(Unanswered::Elsewhere(..)) => Err(self.unknown()),
        }
    }

    /// Keeps what is known up to date until none of them can be used, and says why the last one can't.
    pub(super) async fn keep(&self) -> Failure {
        let mut pause = limits::SHARED_STORE_PAUSE_MIN;
        loop {
            let lines = self.lock().lines();
            if lines.iter().all(|line| line.is_down()) {
                return Failure::Lost("none of the cluster's servers can be used".to_owned());
            }
            let is_whole = !lines.iter().any(|line| line.is_down());
            tokio::select! {
                () = self.changed.notified() => {}
                // Somebody may have taken the place of the one that is missing.
                () = sleep(limits::SHARED_STORE_PAUSE_MAX), if !is_whole => {}
            }
            let is_news = self.look().await.is_some_and(|slots| self.adopt(slots));
            // Requests say that something has changed as long as the servers don't agree what.
            pause = if is_news { limits::SHARED_STORE_PAUSE_MIN } else { pause * 2 };
            pause = pause.min(limits::SHARED_STORE_PAUSE_MAX);
            sleep(pause_about(pause)).await;
        }
    }

    /// Asks those that are there.
    async fn look(&self) -> Option<Slots> {
        let there = self.lock().there();
        if there.is_empty() {
            return None;
        }
        let ask =
            |(host, connection)| async move { slots_told_by(connection, &host).await }.boxed();
        select_ok(there.into_iter().map(ask)).await.ok().map(|(slots, _others)| slots)
    }

    /// From now on those are asked who have `slots`; who had some before keeps its connection. Whether
    /// others have them than before.
    fn adopt(&self, slots: Slots) -> bool {
        let masters = slots.masters();
        let mut known = self.lock();
        known.shards.retain(|host, _| masters.contains(host));
        for host in masters {
            known.shards.entry(host).or_insert_with_key(|host| self.shard(host.clone()));
        }
        let is_news = known.slots != slots;
        known.slots = slots;
        is_news
    }

    fn shard(&self, host: Host) -> Shard {
        let line = Arc::new(Line::new());
        let (address, changed) = (self.address.clone(), Arc::clone(&self.changed));
        let keeping = keep_one(host, address, self.patience, Arc::clone(&line), changed);
        Shard { line, keeper: tokio::spawn(keeping).abort_handle() }
    }

    /// Nobody is known who has the entry: a part of the cluster is missing, or on its way.
    fn unknown(&self) -> Failure {
        self.changed.notify_one();
        Failure::Away
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn owner_of(&self, name: &str) -> Option<Arc<Line>> {
        self.line_to(self.slots.master_of(name)?)
    }

    fn line_to(&self, host: &Host) -> Option<Arc<Line>> {
        self.shards.get(host).map(|shard| Arc::clone(&shard.line))
    }

    fn lines(&self) -> Vec<Arc<Line>> {
        self.shards.values().map(|shard| Arc::clone(&shard.line)).collect()
    }

    fn there(&self) -> Vec<(Host, Connection)> {
        let there = self.shards.iter();
        there.filter_map(|(host, it)| Some((host.clone(), it.line.connection()?))).collect()
    }
}

/// Connects to `host`, waits until that is lost, and so on.
async fn keep_one(
    host: Host,
    address: StoreAddress,
    patience: Duration,
    line: Arc<Line>,
    changed: Arc<Notify>,
) {
    let mut pause = limits::SHARED_STORE_PAUSE_MIN;
    let mut is_told = false;
    loop {
        let failure = match reach(&host, &address, patience).await {
            Ok(connection) => {
                let since = Instant::now();
                line.put_up(connection);
                if std::mem::take(&mut is_told) {
                    tracing::info!(
                        "the server {host} of the shared cache (`cache.redis`) is in use again"
                    );
                }
                let failure = line.fell().await;
                if since.elapsed() >= limits::SHARED_STORE_PAUSE_MAX {
                    pause = limits::SHARED_STORE_PAUSE_MIN;
                }
                failure
            }
            Err(failure) => {
                line.put_down();
                failure
            }
        };
        changed.notify_one();
        if !is_told {
            tracing::warn!(
                "the server {host} of the shared cache (`cache.redis`) is left out until it answers again, requests for its share of the tokens are served without it: {failure}"
            );
            is_told = true;
        }
        sleep(pause_about(pause)).await;
        pause = (pause * 2).min(limits::SHARED_STORE_PAUSE_MAX);
    }
}

/// A connection to `host` that has just answered.
async fn reach(
    host: &Host,
    address: &StoreAddress,
    patience: Duration,
) -> Result<Connection, Failure> {
    let opened = open_one(address, host).await;
    let mut connection = opened.map_err(|error| Failure::of(&error))?;
    answers(&mut connection, patience).await?;
    match tokio::time::timeout(patience, is_well(&mut connection)).await {
        Ok(well) => well.map(|()| connection).map_err(|error| Failure::of(&error)),
        Err(_elapsed) => Err(Failure::Late),
    }
}
