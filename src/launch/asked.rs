//! Who asks for a reload, and what each is told: one reload runs, and all who ask while it does share
//! the next one. That one has not begun, so it finds every file as whoever asked last left it.
//!
//! A reload may hang for ever (a mount that went away): it holds one thread then, however many ask.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::last_reload::LastReload;

/// What becomes of a reload; nothing, if the gateway ends, or if it panicked.
pub(super) type Told = watch::Receiver<Option<Arc<LastReload>>>;

/// Those who ask.
#[derive(Default)]
pub(super) struct Asked(Mutex<State>);

#[derive(Default)]
struct State {
    is_running: bool,
    next: Option<Next>,
}

/// A reload that has not begun.
struct Next {
    causes: Vec<String>,
    told: watch::Sender<Option<Arc<LastReload>>>,
}

/// Whether there is somebody who reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reloader {
    Runs,
    /// Whoever asked has to have [`Asked::reload`] called.
    IsNeeded,
}

impl Asked {
    /// Asks for a reload because of `cause`.
    pub(super) fn ask(&self, cause: &str) -> (Told, Reloader) {
        let mut state = self.lock();
        let next = state
            .next
            .get_or_insert_with(|| Next { causes: Vec::new(), told: watch::Sender::new(None) });
        // There are few: the names of those who ask, and one list of files at a time.
        if !next.causes.iter().any(|known| known == cause) {
            next.causes.push(cause.to_owned());
        }
        let told = next.told.subscribe();
        let is_running = std::mem::replace(&mut state.is_running, true);
        (told, if is_running { Reloader::Runs } else { Reloader::IsNeeded })
    }

    /// Has `reload` called with its causes for as long as somebody asks, and `settle` each time those
    /// who asked have been told: the next one may hang. One that panics, which the log tells of, ends
    /// for those who share it only: others wait for the next.
    pub(super) fn reload(
        &self,
        mut reload: impl FnMut(&str) -> Option<Arc<LastReload>>,
        mut settle: impl FnMut(),
    ) {
        while let Some(next) = self.next() {
            let causes = next.causes.join(" and ");
            if let Ok(Some(last)) = catch_unwind(AssertUnwindSafe(|| reload(&causes))) {
                next.told.send_replace(Some(last));
            }
            drop(catch_unwind(AssertUnwindSafe(&mut settle)));
        }
    }

    fn next(&self) -> Option<Next> {
        let mut state = self.lock();
        let next = state.next.take();
        // Who asks from now on finds nobody who reloads.
        state.is_running = next.is_some();
        next
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::last_reload::ReloadOutcome;
    use crate::written::Changes;

    fn done(cause: &str) -> Arc<LastReload> {
        Arc::new(LastReload {
            at: String::new(),
            cause: cause.to_owned(),
            outcome: ReloadOutcome::Success,
            problems: Vec::new(),
            text: String::new(),
            changes: Changes::default(),
            needs_restart: Vec::new(),
        })
    }

    fn cause(told: &Told) -> Option<String> {
        told.borrow().as_ref().map(|last| last.cause.clone())
    }

    #[test]
    fn one_runs_and_all_who_ask_meanwhile_are_one() {
        let asked = Asked::default();
        let (first, reloader) = asked.ask("SIGHUP");
        assert_eq!(reloader, Reloader::IsNeeded);
        let mut second = Vec::new();
        let mut run = Vec::new();
        let settled = Cell::new(0);
        asked.reload(
            |cause| {
                assert_eq!(settled.get(), run.len(), "the one before is settled");
                run.push(cause.to_owned());
                if second.is_empty() {
                    for cause in ["SIGHUP", "the admin API"].into_iter().cycle().take(1000) {
                        let (told, reloader) = asked.ask(cause);
                        assert_eq!(reloader, Reloader::Runs);
                        second.push(told);
                    }
                }
                Some(done(cause))
            },
            || {
                assert!(first.borrow().is_some(), "who asked was told before");
                settled.set(settled.get() + 1);
            },
        );
        assert_eq!(settled.get(), 2);
        assert_eq!(run, ["SIGHUP", "SIGHUP and the admin API"]);
        assert_eq!(cause(&first).as_deref(), Some("SIGHUP"));
        assert!(second.iter().all(|told| cause(told).as_ref() == run.last()));
        assert_eq!(asked.ask("SIGHUP").1, Reloader::IsNeeded, "nobody runs any more");
    }

    #[tokio::test]
    async fn who_gets_none_is_told_and_a_panic_ends_one_only() {
        let asked = Asked::default();
        let (mut told, _needed) = asked.ask("SIGHUP");
        asked.reload(|_| None, || ());
        assert!(told.wait_for(Option::is_some).await.is_err());
        let (mut told, _needed) = asked.ask("SIGHUP");
        let mut waits = None;
        asked.reload(
            |cause| {
                if waits.is_none() {
                    waits = Some(asked.ask("the admin API").0);
                    std::panic::resume_unwind(Box::new("quietly"));
                }
                Some(done(cause))
            },
            || std::panic::resume_unwind(Box::new("quietly")),
        );
        assert!(told.wait_for(Option::is_some).await.is_err());
        assert_eq!(waits.as_ref().and_then(cause).as_deref(), Some("the admin API"));
        assert_eq!(asked.ask("SIGHUP").1, Reloader::IsNeeded);
    }
}
