//! From a routes file to a serving gateway, and from there to the end: everything is parsed
//! before a socket is opened, then the sockets are bound, then they are served.
//!
//! It decides the order of start, reload and drain. What a request meets is `gateway.rs`.

mod admin_port;
mod asked;
mod certificate_ends;
mod keepers;
mod listening;
mod progress;
mod provider_health;
mod reload;
mod retired;
mod running;
mod supervisor;
mod watch;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::authn::Provider;
use crate::clock::SharedClock;
use crate::config::resolve::{self, Lasting, Resolved};
use crate::config::{self, Environment, FilesRead, Look, Problems, Source};
use crate::dry_run::PolicyTest;
use crate::forward::{SharedResolver, SystemResolver};
use crate::last_reload::FoundProblem;
use crate::observe::Metrics;
use crate::observe::sink::LogSink;
use crate::snapshot::Snapshot;
use crate::workers::Workers;

use self::listening::Unbound;
use self::progress::Progress;

pub use reload::found;
pub use running::Running;
pub use supervisor::{Supervisor, SupervisorError};

/// Where a configuration comes from; asked again for a reload.
pub trait Origin: Send + Sync + 'static {
    /// The routes file as it is now.
    ///
    /// # Errors
    ///
    /// It can't be read.
    fn source(&self) -> Result<Source, Problems>;

    /// What `${…}` in it is replaced from.
    fn environment(&self, source: &Source) -> Environment;

    /// The file that the routes file is read from, to be watched; `None` if it is no file, or
    /// can't be read twice.
    fn file(&self) -> Option<PathBuf> {
        None
    }
}

/// A configuration that was read and found good; nothing has been opened yet.
pub struct Prepared {
    origin: Box<dyn Origin>,
    lasting: Lasting,
    resolved: Resolved,
    warnings: Problems,
    files: FilesRead,
    supervisor: Supervisor,
    workers: Workers,
}

/// Why a gateway did not start: sockets that can't be listened on, in the order of the file.
#[derive(Debug)]
pub struct StartError {
    /// The routes file that names them.
    file: String,
    unbound: Vec<Unbound>,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, unbound) in self.unbound.iter().enumerate() {
            let between = if index > 0 { "\nerror: " } else { "" };
            write!(f, "{between}{}", unbound.line())?;
        }
        Ok(())
    }
}

impl std::error::Error for StartError {}

impl StartError {
    /// Each of them, for the log.
    pub fn problems(&self) -> Vec<FoundProblem> {
        let problems = self.unbound.iter().map(Unbound::problem_of_start);
        problems.map(|problem| reload::found_in(&self.file, &problem)).collect()
    }
}

/// Reads the routes file and everything that it names.
///
/// # Errors
///
/// All that is wrong with it.
pub fn prepare(
    origin: Box<dyn Origin>,
    clock: SharedClock,
    metrics: Metrics,
) -> Result<Prepared, Problems> {
    prepare_with_names(origin, clock, metrics, Arc::new(SystemResolver))
}

/// The same, where `names` knows the names of upstreams in place of the system.
///
/// # Errors
///
/// All that is wrong with the file.
pub fn prepare_with_names(
    origin: Box<dyn Origin>,
    clock: SharedClock,
    metrics: Metrics,
    names: SharedResolver,
) -> Result<Prepared, Problems> {
    let lasting = Lasting::new(clock, metrics, names);
    let (outcome, files) = read(origin.as_ref(), &lasting, None, &Progress::default());
    let (resolved, warnings) = outcome?;
    let supervisor = Supervisor::default();
    let workers = Workers::default();
    Ok(Prepared { origin, lasting, resolved, warnings, files, supervisor, workers })
}

/// Reads the routes file and all it names; with the files that were read, come what may.
fn read(
    origin: &dyn Origin,
    lasting: &Lasting,
    previous: Option<&Snapshot>,
    progress: &Progress,
) -> (Result<(Resolved, Problems), Problems>, FilesRead) {
    let mut files = FilesRead::default();
    let path = origin.file();
    progress.reads_routes(path.clone());
    if let Some(path) = path {
        let look = Look::at(&path);
        files.note(path, look);
    }
    let source = match origin.source() {
        Ok(source) => source,
        Err(problems) => return (Err(problems), files),
    };
    let environment = origin.environment(&source);
    progress.reads_what_is_named(&environment);
    let reading = config::read(&source.text, &source.name, &environment);
    let resolved = resolve::resolve(reading, &environment, lasting, previous);
    (resolved, files.and(environment.files_read()))
}

impl Prepared {
    /// What the file says.
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// What requests meet, and the policy tests that hold it to that. Which tenant a domain is, is made up
    /// for them: what is tested is not served any more.
    pub fn into_tests(self) -> (Snapshot, Vec<PolicyTest>) {
        let Resolved { snapshot, tests, .. } = self.resolved;
        Provider::suppose_tenants(&snapshot.providers);
        (snapshot, tests)
    }

    /// What is not wrong with it, but should be known.
    pub fn warnings(&self) -> &Problems {
        &self.warnings
    }

    /// Tells `supervisor` how it goes, and takes the sockets that it gave us.
    #[must_use]
    pub fn under(self, supervisor: Supervisor) -> Self {
        Self { supervisor, ..self }
    }

    /// Serves connections on the threads of `workers`, if there are any.
    #[must_use]
    pub fn served_by(self, workers: Workers) -> Self {
        Self { workers, ..self }
    }

    /// Binds all sockets and serves them. Needs a runtime, which accepts connections and does all
    /// that is done for none of them, reloads too; without [`Self::served_by`] it serves them too.
    ///
    /// # Errors
    ///
    /// A socket can't be bound; those that were are closed again.
    pub fn start(self, sink: LogSink) -> Result<Arc<Running>, StartError> {
        Running::start(self, sink)
    }
}
