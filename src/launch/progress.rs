//! What a reload is at, so that one that hangs (a mount that went away) can be told with the file
//! that it waits for.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Environment;
use crate::limits;

/// What is read; told by who reads, and asked from elsewhere.
#[derive(Default)]
pub(super) struct Progress(Mutex<Stage>);

#[derive(Clone, Default)]
enum Stage {
    /// Nothing is read.
    #[default]
    Other,
    /// The routes file; its path, if it has one.
    RoutesFile(Option<PathBuf>),
    /// The files that it names.
    Named(Environment),
}

impl Progress {
    pub(super) fn reads_routes(&self, path: Option<PathBuf>) {
        self.set(Stage::RoutesFile(path));
    }

    pub(super) fn reads_what_is_named(&self, environment: &Environment) {
        self.set(Stage::Named(environment.clone()));
    }

    pub(super) fn has_read(&self) {
        self.set(Stage::Other);
    }

    /// Has it said once, if what goes on after `cause` has not ended when it should have; dropping
    /// what this gives ends it.
    pub(super) fn watch(self: &Arc<Self>, cause: &str, on: &Handle) -> AbortOnDropHandle<()> {
        let (this, cause) = (Arc::clone(self), cause.to_owned());
        // From now on, and not from when somebody has time to look.
        let patience = {
            let _there = on.enter();
            tokio::time::sleep(limits::RELOAD_PATIENCE)
        };
        AbortOnDropHandle::new(on.spawn(async move {
            patience.await;
            let seconds = limits::RELOAD_PATIENCE.as_secs();
            tracing::error!(
                "{cause}: the reload has not ended for {seconds} s: {this}; those after it wait for it, the configuration in force stays"
            );
        }))
    }

    fn set(&self, stage: Stage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let file = match stage {
            Stage::Other => None,
            Stage::RoutesFile(None) => return f.write_str("it is reading the routes file"),
            Stage::RoutesFile(path) => path,
            Stage::Named(environment) => environment.reading(),
        };
        match file {
            Some(path) => write!(f, "it is reading `{}`, mend what that is on", path.display()),
            None => f.write_str("it is reading no file"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_is_read_is_named() {
        let progress = Progress::default();
        assert_eq!(progress.to_string(), "it is reading no file");
        progress.reads_routes(Some("/etc/routes.yaml".into()));
        assert!(progress.to_string().contains("`/etc/routes.yaml`"));
        progress.reads_routes(None);
        assert_eq!(progress.to_string(), "it is reading the routes file");
        progress.reads_what_is_named(&Environment::of([("", ""); 0], "/etc"));
        assert_eq!(progress.to_string(), "it is reading no file");
        progress.has_read();
        assert_eq!(progress.to_string(), "it is reading no file");
    }
}
