//! One server of the store, and whether it is asked now: a breaker.
//!
//! A connection that is lost, or that failed too often in a row, is dropped whole: nothing is known
//! of what is under way on it. Who dials again, and when, is decided in `link.rs` and `shards.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use redis::RedisResult;
use tokio::sync::watch;

use super::budget::Budget;
use super::connection::Connection;
use super::failure::Failure;
use super::url::Host;
use crate::limits;

/// The way to one server.
pub(super) struct Line(watch::Sender<State>);

#[derive(Clone)]
enum State {
    /// Nothing is known yet: requests may wait a moment for the first try.
    Connecting,
    Up(Arc<Live>),
    /// It is left out; `None` if there never was a connection.
    Down(Option<Failure>),
}

struct Live {
    connection: Connection,
    /// Failures since the last answer.
    failures: AtomicU32,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Who has the entry.
    Owner,
    /// Who is getting it, for this once.
    Next,
}

/// Why a server has no answer.
pub(super) enum Unanswered {
    /// It failed.
    Failed(Failure),
    /// It refused, and says who has the entry: a node of a cluster.
    /// The name is missing where the node does not know by which it is reached.
    Elsewhere(Option<Host>, Asked, Failure),
}

impl Line {
    /// One to a server that is not reached yet.
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(State::Connecting))
    }

    /// From now on the server is asked over `connection`.
    pub(super) fn put_up(&self, connection: Connection) {
        let live = Live { connection, failures: AtomicU32::new(0) };
        self.0.send_replace(State::Up(Arc::new(live)));
    }

    /// There is no server.
    pub(super) fn put_down(&self) {
        self.0.send_replace(State::Down(None));
    }

    /// Whether it is left out.
    pub(super) fn is_down(&self) -> bool {
        matches!(*self.0.borrow(), State::Down(_))
    }

    /// The connection, if there is one.
    pub(super) fn connection(&self) -> Option<Connection> {
        match &*self.0.borrow() {
            State::Up(live) => Some(live.connection.clone()),
            State::Connecting | State::Down(_) => None,
        }
    }

    /// Waits until the server is left out, and says why.
    pub(super) async fn fell(&self) -> Failure {
        let mut state = self.0.subscribe();
        let fallen = state.wait_for(|state| matches!(state, State::Down(_))).await;
        match fallen.as_deref() {
            Ok(State::Down(Some(failure))) => failure.clone(),
            Ok(State::Connecting | State::Up(_) | State::Down(None)) | Err(_) => Failure::Away,
        }
    }

    /// What `question` comes to, which is charged to `budget`.
    pub(super) async fn ask<T, F>(
        &self,
        budget: &mut Budget,
        asked: Asked,
        question: impl FnOnce(Connection) -> F,
    ) -> Result<T, Unanswered>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let live = self.live(budget).await.ok_or(Unanswered::Failed(Failure::Away))?;
        let connection = match asked {
            Asked::Owner => live.connection.clone(),
            Asked::Next => live.connection.clone().asking(),
        };
        let is_ample = budget.is_ample();
        let error = match budget.spend(question(connection)).await {
            Some(Ok(answer)) => {
                self.judge(&live, None);
                return Ok(answer);
            }
            Some(Err(error)) => error,
            None => {
                // What comes late for the rest of a request's time may have come quickly.
                if is_ample {
                    self.judge(&live, Some(&Failure::Late));
                }
                return Err(Unanswered::Failed(Failure::Late));
            }
        };
        let failure = Failure::of(&error);
        self.judge(&live, Some(&failure));
        Err(match elsewhere(&error) {
            Some((host, asked)) => Unanswered::Elsewhere(host, asked, failure),
            None => Unanswered::Failed(failure),
        })
    }

    async fn live(&self, budget: &mut Budget) -> Option<Arc<Live>> {
        let mut state = self.0.subscribe();
        let is_known = |state: &State| !matches!(state, State::Connecting);
        let known = budget.spend(state.wait_for(is_known)).await?;
        match &*known.ok()? {
            State::Up(live) => Some(Arc::clone(live)),
            State::Connecting | State::Down(_) => None,
        }
    }

    /// Counts what a question on `live` came to, and drops the connection if it is of no use.
    fn judge(&self, live: &Arc<Live>, failure: Option<&Failure>) {
        let Some(failure) = failure.filter(|failure| failure.counts()) else {
            // It answers: that is all that counts here.
            live.failures.store(0, Ordering::Relaxed);
            return;
        };
        let failures = live.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let is_lost = matches!(failure, Failure::Lost(_));
        if is_lost || failures >= limits::SHARED_STORE_FAILURES {
            self.0.send_if_modified(|state| {
                let is_this = matches!(state, State::Up(now) if Arc::ptr_eq(now, live));
                if is_this {
                    *state = State::Down(Some(failure.clone()));
                }
                is_this
            });
        }
    }
}

/// Where a node of a cluster says that the entry is.
fn elsewhere(error: &redis::RedisError) -> Option<(Option<Host>, Asked)> {
    let (address, _slot) = error.redirect_node()?;
    let (name, port) = address.rsplit_once(':')?;
    let host = Host::of(name.trim_matches(['[', ']']), port.parse().ok()?);
    let is_moved = error.code() == Some("MOVED");
    Some((host, if is_moved { Asked::Owner } else { Asked::Next }))
}
