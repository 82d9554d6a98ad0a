//! The routes file, read again while it serves: all that can fail comes before anything is
//! another, so that a bad file, or a port that is taken, changes nothing.
//!
//! What of a configuration is kept is decided by `config::resolve`, of sockets by the listeners.

use std::pin::Pin;
use std::sync::{Arc, PoisonError};

use super::asked::Reloader;
use super::listening::Unbound;
use super::running::{self, Running};
use super::{admin_port, listening, read, retired};
use crate::admin::Reload;
use crate::config::resolve::{Admin, Listener, Resolved};
use crate::config::{FilesRead, Problem, Problems, Severity};
use crate::last_reload::{self, FoundProblem, LastReload, RelatedPlace, ReloadOutcome};
use crate::observe::metrics::Outcome;
use crate::observe::timestamp::Timestamp;
use crate::written::Changes;

/// The cause of a reload that the admin API asked for.
const ASKED_FOR: &str = "the admin API";

/// Sockets for the next configuration.
type Bound = (listening::Planned, admin_port::Planned);

impl Running {
    /// Has the routes file read again after `cause`, and put in place; what did not change keeps its
    /// keys, connections and tokens. New listeners are served, those that are gone end by themselves,
    /// new handshakes get the certificates as they are now. Says in one line what became of it.
    ///
    /// That is done elsewhere, by one reload for all who ask before it begins. Gives what became of
    /// it; nothing, once the gateway ends (what drains is not changed any more), or if it panicked.
    ///
    /// # Cancel safety
    ///
    /// It is done whether or not anybody waits.
    pub fn ask(
        self: &Arc<Self>,
        cause: &str,
    ) -> impl Future<Output = Option<Arc<LastReload>>> + Send + use<> {
        let (mut told, reloader) = self.asked.ask(cause);
        if reloader == Reloader::IsNeeded {
            let running = Arc::clone(self);
            // Files may hang: nobody who serves, and nobody who asks, is held up.
            self.runtime.spawn_blocking(move || {
                // Those who asked have been told; the next reload may hang, and must not keep this
                // one's file in memory.
                let settle = || running.gateway.snapshot().written.settle();
                running.asked.reload(|cause| running.read_again(cause), settle);
            });
        }
        async move { told.wait_for(Option::is_some).await.ok()?.clone() }
    }

    /// Reads files, so it may hang. `None` if the end began before the new configuration was in force.
    fn read_again(&self, cause: &str) -> Option<Arc<LastReload>> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let _there = self.runtime.enter();
        let _told_if_slow = self.progress.watch(cause, &self.runtime);
        self.unless_ending(|| self.told.reloading())?;
        let read = self.read_and_bind();
        let done = self.unless_ending(|| self.put_and_tell(cause, read));
        if done.is_none() {
            tracing::info!(
                "{cause}: the routes file was read again and is not put in force: the gateway ends"
            );
        }
        done
    }

    /// Does what the end may not come into, and nothing once it has begun.
    fn unless_ending<T>(&self, act: impl FnOnce() -> T) -> Option<T> {
        let _end_waits = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        (!self.readiness.is_ending()).then(act)
    }

    fn put_and_tell(
        &self,
        cause: &str,
        read: Result<(Resolved, Bound, Problems), Problems>,
    ) -> Arc<LastReload> {
        let mut last = LastReload {
            at: Timestamp(self.lasting.clock.now().0.saturating_mul(1000)).to_string(),
            cause: cause.to_owned(),
            outcome: ReloadOutcome::Failure,
            problems: Vec::new(),
            text: String::new(),
            changes: Changes::default(),
            needs_restart: Vec::new(),
        };
        let problems = match read {
            Ok((resolved, bound, warnings)) => {
                last.outcome = ReloadOutcome::Success;
                last.needs_restart = self.needs_restart(&resolved);
                last.changes = self.put(resolved, bound);
                warnings
            }
            Err(problems) => problems,
        };
        (last.problems, last.text) = (found(&problems), problems.to_string());
        self.tell(&last);
        let last = Arc::new(last);
        let told = Some(Arc::clone(&last));
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner) = told;
        last
    }

    fn tell(&self, last: &LastReload) {
        let LastReload { cause, text: problems, changes, needs_restart, .. } = last;
        let metrics = &self.lasting.metrics;
        match last.outcome {
            ReloadOutcome::Success => {
                metrics.config_reloaded(Outcome::Success);
                tracing::info!(
                    "{cause}: the routes file was read again and is in force: {changes}"
                );
                if !problems.is_empty() {
                    tracing::warn!("the routes file was read again, with warnings:\n{problems}");
                }
                for key in needs_restart {
                    tracing::warn!("`{key}` changed: that takes effect with a restart");
                }
                self.told.ready(&self.served_at());
            }
            ReloadOutcome::Failure => {
                metrics.config_reloaded(Outcome::Failure);
                tracing::error!(
                    "{cause}: the routes file was read again and refused; the one before stays in force:\n{problems}"
                );
                self.told.ready(
                    "the routes file was refused, see the log; the one before stays in force",
                );
            }
        }
    }

    /// All that can fail.
    fn read_and_bind(&self) -> Result<(Resolved, Bound, Problems), Problems> {
        let before = self.gateway.snapshot();
        let (outcome, files) = {
            let progress = self.progress.as_ref();
            let read = read(self.origin.as_ref(), &self.lasting, Some(&before), progress);
            progress.has_read();
            read
        };
        let files = match &outcome {
            Ok(_) => files,
            // It may have missed files that the configuration in force was made of: they stay
            // watched, as they look now, so that only a further change has it tried again.
            Err(_) => files.and(self.files().now()),
        };
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files;
        let (mut resolved, mut problems) = outcome?;
        let listeners = std::mem::take(&mut resolved.listeners);
        match self.bind(listeners, resolved.admin.take()) {
            Ok(bound) => Ok((resolved, bound, problems)),
            Err(unbound) => {
                let mut own = self.addresses();
                own.extend(self.admin_address());
                for unbound in unbound {
                    problems.push(unbound.problem(&own));
                }
                Err(problems)
            }
        }
    }

    fn bind(&self, listeners: Vec<Listener>, admin: Option<Admin>) -> Result<Bound, Vec<Unbound>> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        running::bind(&now, listeners, &self.admin, admin, &mut sockets)
    }

    /// Keys whose new values have to wait.
    fn needs_restart(&self, resolved: &Resolved) -> Vec<String> {
        let workers =
            (resolved.server.workers != self.workers).then(|| "server.workers".to_owned());
        workers.into_iter().collect()
    }

    /// Puts a configuration in place; nothing of that can fail.
    fn put(&self, resolved: Resolved, (listeners, admin): Bound) -> Changes {
        let metrics = &self.lasting.metrics;
        let Resolved {
            snapshot,
            certificates,
            clients: _,
            server,
            access_log,
            max_cached_tokens,
            shared_store,
            tests: _,
            listeners: _,
            admin: _,
        } = resolved;
        let before = self.gateway.snapshot();
        let mut changes = snapshot.written.changes_since(&before.written);
        changes.files = self.renewed_files();
        self.lasting.exchanger.set_max_entries(max_cached_tokens);
        self.lasting.shared_store.configure(shared_store);
        self.lasting.exchanger.configure(&snapshot.providers);
        self.observer.set_access_log(access_log);
        self.accepting.set(server.accept.clone());
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
        self.gateway.replace(snapshot);
        self.runtime.spawn(retired::take_apart(before));
        // Both not before: who still meets the old one may ask for a key, or be refused for a
        // secret that was mended.
        self.keepers.keep(&self.gateway.snapshot());
        running::watch(&self.gateway.snapshot(), &self.lasting);
        self.lasting.exchanger.forget_refusals();
        metrics.config_in_force_since(self.lasting.clock.now());
        // Who comes in by a new door meets the new configuration.
        let renewed = self.put_sockets(listeners, admin);
        self.set_certificates(certificates);
        self.warn_of_ends();
        for address in renewed {
            // The file may say what it said, and the certificates it names be others.
            if !changes.listeners.changed.contains(&address) {
                changes.listeners.changed.push(address);
            }
        }
        changes
    }

    /// The files of the last reading, which is put in force now, that are not what they were; the
    /// routes file itself is told of by what it says.
    fn renewed_files(&self) -> Vec<String> {
        let (files, routes) = (self.files(), self.origin.file());
        let mut before = self.files_in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = files.changed_since(&before).filter(|path| routes.as_deref() != Some(*path));
        let renewed = renewed.map(|path| path.display().to_string()).collect();
        *before = files;
        renewed
    }

    /// The files that the last reading was made of, as they looked then.
    pub(super) fn files(&self) -> FilesRead {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Reload for Running {
    fn reload(self: Arc<Self>) -> Pin<Box<dyn Future<Output = Option<Arc<LastReload>>> + Send>> {
        Box::pin(self.ask(ASKED_FOR))
    }

    fn last_reload(&self) -> Option<Arc<LastReload>> {
        self.last_reload()
    }
}

/// All of `problems`, by place, as plain data.
pub fn found(problems: &Problems) -> Vec<FoundProblem> {
    problems.sorted().into_iter().map(|problem| found_in(problems.file(), problem)).collect()
}

/// A problem of `file`, as plain data.
pub(super) fn found_in(file: &str, problem: &Problem) -> FoundProblem {
    FoundProblem {
        file: file.to_owned(),
        line: problem.place.map(|place| place.line),
        column: problem.place.map(|place| place.column),
        length: problem.place.map(|place| place.length),
        severity: match problem.severity {
            Severity::Error => last_reload::Severity::Error,
            Severity::Warning => last_reload::Severity::Warning,
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
