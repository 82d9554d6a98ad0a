//! A process of Redis' programs: on a port that nobody else gets, with a folder of its own, and
//! ended with the test.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::support::PATIENCE;

/// Ports that processes of these tests have, also while theirs does not run.
static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A port that is this process's until it is dropped.
pub struct Port(u16);

impl Port {
    /// One that was free a moment ago. It is not of those that the system gives to whoever binds
    /// port 0 or connects (from 32,768 on): a server that is ended and started again finds it free.
    pub fn pick() -> Self {
        loop {
            let port = fastrand::u16(10_000..32_000);
            let free = TcpListener::bind(("127.0.0.1", port)).is_ok();
            if free && TAKEN.lock().unwrap().insert(port) {
                return Self(port);
            }
        }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.0
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        TAKEN.lock().unwrap().remove(&self.0);
    }
}

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Server,
    Sentinel,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "redis-server",
            Self::Sentinel => "redis-sentinel",
        }
    }

    /// What it prints once it takes connections.
    fn readiness(self) -> &'static str {
        match self {
            Self::Server => "Ready to accept connections",
            Self::Sentinel => "Sentinel ID is ",
        }
    }
}

/// The process.
pub struct Process {
    program: Program,
    port: Port,
    settings: String,
    child: Mutex<Option<Child>>,
    folder: tempfile::TempDir,
}

impl Process {
    /// Starts one that has `settings`, made for the port that it gets and its folder, beside its
    /// port and the folder.
    pub fn start(program: Program, settings: impl Fn(u16, &Path) -> String) -> Self {
        loop {
            let (port, folder) = (Port::pick(), tempfile::tempdir().unwrap());
            let settings = settings(port.number(), folder.path());
            let process = Self { program, port, settings, child: Mutex::new(None), folder };
            // Another process of this machine may have been quicker.
            match process.try_run() {
                Ok(()) => return process,
                Err(printed) => assert_clash(program, &printed),
            }
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Starts it again where it was, and as it was: with no data.
    pub fn run(&self) {
        let since = Instant::now();
        while let Err(printed) = self.try_run() {
            assert_clash(self.program, &printed);
            assert!(since.elapsed() < PATIENCE, "port {} stays taken", self.port());
            // Nothing tells that a port is free again; the interval only spares the processor.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts it; what it printed if it ends before it is ready.
    fn try_run(&self) -> Result<(), String> {
        let mut held = self.child.lock().unwrap();
        assert!(held.is_none(), "it runs already");
        let mut child = Command::new(self.program.name())
            .arg(self.written())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; `tests/run tests` installs it", self.program.name())
            });
        let (ready, is_ready) = mpsc::sync_channel(1);
        let printed = Arc::new(Mutex::new(String::new()));
        let output = child.stdout.take().unwrap();
        let reader = std::thread::spawn({
            let (printed, readiness) = (Arc::clone(&printed), self.program.readiness());
            move || listen(output, readiness, &printed, &ready)
        });
        if is_ready.recv_timeout(PATIENCE).is_ok() {
            *held = Some(child);
            return Ok(());
        }
        child.kill().ok();
        child.wait().unwrap();
        reader.join().unwrap();
        Err(printed.lock().unwrap().clone())
    }

    /// Its file of settings, as it is at first: a sentinel writes to its own.
    fn written(&self) -> PathBuf {
        let path = self.folder.path().join("redis.conf");
        let port = if self.settings.contains("tls-port ") { 0 } else { self.port() };
        let folder = self.folder.path().display();
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {folder}\ndaemonize no\nlogfile \"\"\n{}\n",
            self.settings
        );
        fs::write(&path, text).unwrap();
        path
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap().take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Whether it was started and not ended.
    pub fn is_running(&self) -> bool {
        self.child.lock().unwrap().is_some()
    }

    /// Stops it in the middle of whatever it does (SIGSTOP); it is stopped when this returns.
    pub fn pause(&self) {
        self.signal("STOP");
        let id = self.child.lock().unwrap().as_ref().expect("it runs").id();
        let since = Instant::now();
        while !fs::read_to_string(format!("/proc/{id}/stat")).unwrap().contains(") T ") {
            assert!(since.elapsed() < PATIENCE, "it goes on");
            std::thread::yield_now();
        }
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.lock().unwrap().as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A stopped process can be killed, too.
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// Only a port that somebody else has is a reason to try again.
fn assert_clash(program: Program, printed: &str) {
    let is_clash = ["already in use", "Failed listening"].iter().any(|text| printed.contains(text));
    assert!(is_clash, "{} does not start:\n{printed}", program.name());
}

/// Reads all that it prints, so that it never waits for a reader, and tells when it is ready.
fn listen(
    output: impl Read,
    readiness: &str,
    printed: &Mutex<String>,
    ready: &mpsc::SyncSender<()>,
) {
    let mut told = false;
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { return };
        if !told {
            told = line.contains(readiness);
            printed.lock().unwrap().push_str(&(line + "\n"));
            if told {
                ready.send(()).ok();
            }
        }
    }
    // The sender is dropped with the thread: who waits hears that it has ended.
}
