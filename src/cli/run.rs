//! `run`: parse everything, then the runtime, then the sockets, then serve until a signal.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::start_log::StartLog;
use crate::chain::with_sources;
use crate::clock::SystemClock;
use crate::config::{Environment, Problems, Source};
use crate::launch::{self, Origin, Prepared, Running, Supervisor};
use crate::limits;
use crate::observe::Metrics;
use crate::observe::sink::LogSink;
use crate::workers::Workers;

/// A routes file on disk or from stdin, with the environment of the process.
pub(super) struct File {
    path: PathBuf,
    /// What came from stdin, which can be read once only: a reload reads it again from here.
    stdin: OnceLock<Source>,
    /// Whether it was a pipe at first (a process substitution), which can be read once only too.
    piped: OnceLock<bool>,
    /// Whether it was read before.
    was_read: AtomicBool,
}

impl File {
    pub(super) fn new(config: &str) -> Self {
        Self {
            path: config.into(),
            stdin: OnceLock::new(),
            piped: OnceLock::new(),
            was_read: AtomicBool::new(false),
        }
    }
}

impl Origin for File {
    fn source(&self) -> Result<Source, Problems> {
        if let Some(source) = self.stdin.get() {
            return Ok(source.clone());
        }
        if self.was_read.load(Ordering::Relaxed) {
            return Source::reopen(&self.path);
        }
        let source = Source::open(&self.path)?;
        self.was_read.store(true, Ordering::Relaxed);
        if self.path == Path::new("-") {
            self.stdin.get_or_init(|| source.clone());
        }
        Ok(source)
    }

    fn environment(&self, source: &Source) -> Environment {
        Environment::of_process(&source.base)
    }

    fn file(&self) -> Option<PathBuf> {
        let is_other = || fs::metadata(&self.path).is_ok_and(|metadata| !metadata.is_file());
        let once_only = self.path == Path::new("-") || *self.piped.get_or_init(is_other);
        (!once_only).then(|| self.path.clone())
    }
}

pub(super) fn main(config: &str, said: StartLog<'_>, metrics: Metrics) -> ExitCode {
    let supervisor = match Supervisor::of_process() {
        Ok(supervisor) => supervisor,
        Err(error) => return said.failure(&with_sources(&error)),
    };
    let prepared =
        match launch::prepare(Box::new(File::new(config)), Arc::new(SystemClock), metrics) {
            Ok(prepared) => prepared.under(supervisor),
            Err(problems) => {
                said.problems(&problems);
                return ExitCode::FAILURE;
            }
        };
    if !prepared.warnings().is_empty() {
        said.problems(prepared.warnings());
    }
    let (runtime, workers) = match (runtime(), workers(&prepared)) {
        (Ok(runtime), Ok(workers)) => (runtime, workers),
        (Err(error), _) | (_, Err(error)) => return said.failure(&format!("no runtime: {error}")),
    };
    let code = runtime.block_on(serve(prepared.served_by(workers), said));
    said.sink.close();
    // Whoever is still busy was cut off by the drain.
    runtime.shutdown_background();
    code
}

/// Runs what is asked for on this thread.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().thread_name("gateway").build()
}

/// The threads that serve requests: one for each CPU unless the file says how many. What belongs to no
/// connection has this thread for itself then.
pub(super) fn workers(prepared: &Prepared) -> std::io::Result<Workers> {
    let each_cpu = || available_parallelism().map_or(1, NonZero::get);
    let count = prepared.resolved().server.workers.unwrap_or_else(each_cpu);
    Workers::start(count, "gateway", || {})
}

async fn serve(prepared: Prepared, said: StartLog<'_>) -> ExitCode {
    let signals = Signals::register();
    let started = prepared.start(said.sink.clone());
    match (started, signals) {
        (Ok(running), Ok(signals)) => until_signal(running, signals, said.sink).await,
        (Err(error), _) => said.not_started(&error),
        (_, Err(error)) => said.failure(&format!("signals can't be handled: {error}")),
    }
}

/// What the process is told.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

enum Told {
    End,
    Reload,
}

impl Signals {
    pub(super) fn register() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            _ = self.hang_up.recv() => Told::Reload,
        }
    }

    /// Waits for SIGTERM or SIGINT.
    pub(super) async fn end(&mut self) {
        while matches!(self.next().await, Told::Reload) {}
    }
}

/// Serves until SIGTERM or SIGINT, then drains; a second one ends at once. SIGHUP reloads, and
/// so does a change of a file that the configuration was made of.
pub(super) async fn until_signal(
    running: Arc<Running>,
    mut signals: Signals,
    sink: &LogSink,
) -> ExitCode {
    tokio::spawn(running.watch(limits::FILE_POLL_INTERVAL));
    while matches!(signals.next().await, Told::Reload) {
        // Files may hang (a mount that went away): the signals are heard all the same.
        drop(running.ask("SIGHUP"));
    }
    tokio::select! {
        _ = running.drain() => ExitCode::SUCCESS,
        () = signals.end() => {
            tracing::warn!("ended at once by a second signal; requests in flight were lost");
            sink.flush();
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_became_a_pipe_is_refused_at_a_reload_and_a_file_again_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes.yaml");
        fs::write(&path, "routes: []").unwrap();
        let file = File::new(path.to_str().unwrap());
        assert_eq!(file.file().as_deref(), Some(path.as_path()));
        assert_eq!(file.source().unwrap().text, "routes: []");

        fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Nobody writes into it: this would wait for ever.
        let problems = file.source().err().unwrap().to_string();
        assert!(problems.contains("it is not a regular file"), "{problems}");
        assert!(problems.contains("a pipe can be read at the start only"), "{problems}");
        assert!(file.file().is_some(), "watched, for when it is a file again");
        let environment = Environment::of([("", ""); 0], folder.path());
        let named = environment.read(Path::new("routes.yaml")).unwrap_err();
        assert_eq!(named.to_string(), "it is not a regular file");
        assert_eq!(environment.reading(), None);

        fs::remove_file(&path).unwrap();
        fs::write(&path, "routes: [] # 2").unwrap();
        assert_eq!(file.source().unwrap().text, "routes: [] # 2");
    }

    #[test]
    fn the_first_reading_may_be_of_a_pipe_which_is_not_watched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let file = File::new(path.to_str().unwrap());
        assert_eq!(file.file(), None);
        let (to, written) = (path.clone(), "routes: []");
        let writer = std::thread::spawn(move || fs::write(to, written).unwrap());
        assert_eq!(file.source().unwrap().text, written);
        writer.join().unwrap();
        assert!(file.source().is_err());
    }
}
