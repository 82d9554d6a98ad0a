//! How the configuration came to be in force: since when, and what became of the last reload,
//! whoever asked for it. And who can load another one, which is told from outside.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::clock::UnixTime;
use crate::limits;
use crate::observe::timestamp::Timestamp;
use crate::written::Changes;

/// Who can read the configuration again.
pub trait Reload: Send + Sync {
    /// Reads it, and puts it in force if it is good. Blocks.
    fn reload(&self) -> LastReload;
}

/// What became of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReloadOutcome {
    /// What was read is in force.
    Success,
    /// It can't be used; what was in force still is.
    Failure,
}

/// A reload that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LastReload {
    /// When.
    pub at: String,
    /// What became of it.
    pub outcome: ReloadOutcome,
    /// What it changed; `null` for a failed one.
    pub changes: Option<Changes>,
    /// What is wrong with the file, by place; the warnings of a good one.
    pub problems: Vec<FoundProblem>,
    /// The problems for people, as `check` prints them; `null` if there are none.
    pub text: Option<String>,
}

/// A problem of the routes file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FoundProblem {
    /// The file.
    pub file: String,
    /// Line, from 1; `null` for the file as a whole.
    pub line: Option<u32>,
    /// Column, from 1, in characters.
    pub column: Option<u32>,
    /// How many characters it is about.
    pub length: Option<u32>,
    /// Whether it stops the file from being used.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// A second place that has a part in it.
    pub related: Option<RelatedPlace>,
    /// What to do.
    pub hint: Option<String>,
}

/// Whether a problem stops the file from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// A second place of a problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RelatedPlace {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
    /// What is there.
    pub message: String,
}

/// The configurations so far; see the module.
pub struct Reloads {
    control: OnceLock<Weak<dyn Reload>>,
    state: Mutex<State>,
    running: Arc<Semaphore>,
    waiting: Semaphore,
}

#[derive(Clone)]
struct State {
    loaded_at: UnixTime,
    last: Option<LastReload>,
}

impl Reloads {
    /// A first configuration, in force since `loaded_at`.
    pub fn new(loaded_at: UnixTime) -> Self {
        Self {
            control: OnceLock::new(),
            state: Mutex::new(State { loaded_at, last: None }),
            running: Arc::new(Semaphore::new(1)),
            waiting: Semaphore::new(limits::MAX_WAITING_RELOADS + 1),
        }
    }

    /// From now on `control` is asked to reload; the first one that is named stays.
    pub fn attend(&self, control: Weak<dyn Reload>) {
        self.control.get_or_init(|| control);
    }

    /// Takes down what became of a reload that ended at `at`.
    pub fn note(&self, at: UnixTime, last: LastReload) {
        let mut state = self.lock();
        if last.outcome == ReloadOutcome::Success {
            state.loaded_at = at;
        }
        state.last = Some(last);
    }

    /// Since when the configuration is in force, and what became of the last reload.
    pub(super) fn so_far(&self) -> (UnixTime, Option<LastReload>) {
        let State { loaded_at, last } = self.lock().clone();
        (loaded_at, last)
    }

    /// Who reloads; `None` before there is anybody, and at the end.
    pub(super) fn control(&self) -> Option<Arc<dyn Reload>> {
        self.control.get()?.upgrade()
    }

    /// A place among those who wait, if there is one.
    pub(super) fn queue(&self) -> Option<SemaphorePermit<'_>> {
        self.waiting.try_acquire().ok()
    }

    /// Waits for the one that runs.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.running).acquire_owned().await.ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloads(..)")
    }
}

/// `time` as it is written in answers.
pub fn rfc3339(time: UnixTime) -> String {
    Timestamp(time.0.saturating_mul(1000)).to_string()
}
