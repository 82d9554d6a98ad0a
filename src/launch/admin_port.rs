//! What the admin port is shown of the gateway, and what becomes of a reload that it asks for.

use std::sync::{Arc, PoisonError, Weak};

use tokio::time::Instant;

use super::Running;
use crate::admin::{
    self, FoundProblem, LastReload, Readiness, RelatedPlace, Reload, ReloadOutcome, Reloads, Shown,
    rfc3339,
};
use crate::config::resolve::Lasting;
use crate::config::{Problem, Problems, Severity};
use crate::gateway::Gateway;
use crate::observe::Observer;
use crate::observe::timestamp::Timestamp;
use crate::written::Changes;

/// What the admin port shows.
pub(super) fn shown(
    lasting: &Lasting,
    gateway: &Arc<Gateway>,
    observer: &Arc<Observer>,
    readiness: &Arc<Readiness>,
) -> Shown {
    Shown {
        readiness: Arc::clone(readiness),
        metrics: lasting.metrics.clone(),
        gateway: Arc::downgrade(gateway),
        exchanger: Arc::clone(&lasting.exchanger),
        observer: Arc::clone(observer),
        reloads: Arc::new(Reloads::new(lasting.clock.now())),
        started: Instant::now(),
        started_at: Timestamp::now(),
        making: admin::making(),
    }
}

/// A reload that has ended.
pub(super) struct Ended {
    /// The warnings of a good file, or the problems of a bad one.
    pub(super) outcome: Result<Problems, Problems>,
    told: LastReload,
}

impl Running {
    /// From now on the admin port can have the configuration read again.
    pub fn attend_admin_port(self: &Arc<Self>) {
        let this = Arc::downgrade(self);
        self.shown.reloads.attend(this as Weak<dyn Reload>);
    }

    /// Reads the configuration again, one at a time, and takes down what became of it.
    pub(super) fn reload_and_tell(&self) -> Ended {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.gateway.snapshot();
        let outcome = self.read_again(&before);
        let at = self.lasting.clock.now();
        let changes = outcome.as_ref().ok().map(|_warnings| {
            let now = self.gateway.snapshot();
            now.written.changes_since(&before.written)
        });
        let told = told(rfc3339(at), &outcome, changes);
        self.shown.reloads.note(at, told.clone());
        Ended { outcome, told }
    }
}

impl Reload for Running {
    fn reload(&self) -> LastReload {
        let Ended { outcome, told } = self.reload_and_tell();
        match outcome {
            Ok(_warnings) => tracing::info!(
                "the admin port was asked to reload: the configuration was read again and is in force"
            ),
            Err(problems) => tracing::error!(
                "the admin port was asked to reload: the configuration was read again and refused; the one before stays in force:\n{problems}"
            ),
        }
        told
    }
}

fn told(at: String, outcome: &Result<Problems, Problems>, changes: Option<Changes>) -> LastReload {
    let (problems, result) = match outcome {
        Ok(warnings) => (warnings, ReloadOutcome::Success),
        Err(problems) => (problems, ReloadOutcome::Failure),
    };
    let found = problems.sorted().into_iter().map(|problem| found(problems.file(), problem));
    LastReload {
        at,
        outcome: result,
        changes,
        problems: found.collect(),
        text: (!problems.is_empty()).then(|| problems.to_string()),
    }
}

fn found(file: &str, problem: &Problem) -> FoundProblem {
    FoundProblem {
        file: file.to_owned(),
        line: problem.place.map(|place| place.line),
        column: problem.place.map(|place| place.column),
        length: problem.place.map(|place| place.length),
        severity: match problem.severity {
            Severity::Error => admin::Severity::Error,
            Severity::Warning => admin::Severity::Warning,
        },
        message: problem.message.clone(),
        related: problem.related.as_ref().map(|(place, message)| RelatedPlace {
            line: place.line,
            column: place.column,
            message: message.clone(),
        }),
        hint: problem.hint.clone(),
    }
}
