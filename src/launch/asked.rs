//! Who asks for a reload, and what each is told: one reload runs, and all who ask while it does share
//! the next one. That one has not begun, so it finds every file as whoever asked last left it.
//!
//! A reload may hang for ever (a mount that went away): it holds one thread then, however many ask.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::last_reload::LastReload;

/// What becomes of a reload; nothing, if it was not begun because the gateway ends.
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

    /// Has `reload` called with its causes for as long as somebody asks.
    pub(super) fn reload(&self, mut reload: impl FnMut(&str) -> Option<Arc<LastReload>>) {
        let mut turn = Turn { of: self, is_over: false };
        while let Some(next) = turn.next() {
            if let Some(last) = reload(&next.causes.join(" and ")) {
                next.told.send_replace(Some(last));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of who reloads.
struct Turn<'a> {
    of: &'a Asked,
    is_over: bool,
}

impl Turn<'_> {
    fn next(&mut self) -> Option<Next> {
        let mut state = self.of.lock();
        let next = state.next.take();
        // Who asks from now on finds nobody who reloads.
        state.is_running = next.is_some();
        self.is_over = next.is_none();
        next
    }
}

impl Drop for Turn<'_> {
    /// A reload that panicked must not keep the next one from being.
    fn drop(&mut self) {
        if !self.is_over {
            let mut state = self.of.lock();
            state.is_running = false;
            state.next = None;
        }
    }
}

#[cfg(test)]
mod tests {
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
        asked.reload(|cause| {
            run.push(cause.to_owned());
            if second.is_empty() {
                for cause in ["SIGHUP", "the admin API"].into_iter().cycle().take(1000) {
                    let (told, reloader) = asked.ask(cause);
                    assert_eq!(reloader, Reloader::Runs);
                    second.push(told);
                }
            }
            Some(done(cause))
        });
        assert_eq!(run, ["SIGHUP", "SIGHUP and the admin API"]);
        assert_eq!(cause(&first).as_deref(), Some("SIGHUP"));
        assert!(second.iter().all(|told| cause(told).as_ref() == run.last()));
        assert_eq!(asked.ask("SIGHUP").1, Reloader::IsNeeded, "nobody runs any more");
    }

    #[tokio::test]
    async fn who_gets_none_is_told_and_a_panic_ends_one_only() {
        let asked = Asked::default();
        let (mut told, _needed) = asked.ask("SIGHUP");
        asked.reload(|_| None);
        assert!(told.wait_for(Option::is_some).await.is_err());
        let (mut told, _needed) = asked.ask("SIGHUP");
        let panics = std::panic::AssertUnwindSafe(|| {
            asked.reload(|_| std::panic::resume_unwind(Box::new("quietly")));
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(told.wait_for(Option::is_some).await.is_err());
        assert_eq!(asked.ask("SIGHUP").1, Reloader::IsNeeded);
    }
}
