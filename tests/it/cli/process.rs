//! A running `obo-gateway`: what it prints is collected, and it does not outlive its test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything here takes on a busy machine; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a process ended, and all it printed.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The program with these arguments, in an environment without settings of ours.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_obo-gateway"));
    command.args(arguments).stdin(Stdio::null());
    for name in ["OBO_GATEWAY_CONFIG", "OBO_GATEWAY_LOG", "LISTEN_ADDRESS", "ADMIN_ADDRESS"] {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end.
pub fn run(arguments: &[&str]) -> Ended {
    Process::start(program(arguments)).ended()
}

/// Runs it to its end with this text on its standard input.
pub fn run_with_input(arguments: &[&str], input: &str) -> Ended {
    let mut command = program(arguments);
    command.stdin(Stdio::piped());
    let mut process = Process::start(command);
    process.child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    process.ended()
}

/// A process that runs.
pub struct Process {
    child: Child,
    stdout: Arc<Printed>,
    stderr: Arc<Printed>,
    readers: Vec<JoinHandle<()>>,
}

/// Lines so far, and the news of another.
#[derive(Default)]
struct Printed {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    text: String,
    is_over: bool,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (stdout, stderr) = (Arc::<Printed>::default(), Arc::<Printed>::default());
        let readers = vec![
            collect(child.stdout.take().unwrap(), Arc::clone(&stdout)),
            collect(child.stderr.take().unwrap(), Arc::clone(&stderr)),
        ];
        Self { child, stdout, stderr, readers }
    }

    /// Serves the routes file at `path`.
    pub fn serve(path: &Path) -> Self {
        Self::start(program(&["run", "-c", path.to_str().unwrap()]))
    }

    /// The first line of standard output that `wanted` takes something of.
    pub fn stdout_line<T>(&self, wanted: impl FnMut(&str) -> Option<T>) -> T {
        self.stdout.wait(wanted).unwrap_or_else(|| panic!("not printed: {}", self.both()))
    }

    /// The first line of standard error that has `text` in it.
    pub fn log_line(&self, text: &str) -> String {
        let wanted = |line: &str| line.contains(text).then(|| line.to_owned());
        self.stderr.wait(wanted).unwrap_or_else(|| panic!("no `{text}`: {}", self.both()))
    }

    /// The address that the log names with `message`.
    pub fn address(&self, message: &str) -> SocketAddr {
        let line = self.log_line(&format!("\"message\":\"{message}\""));
        let event: Value = serde_json::from_str(&line).unwrap();
        event["address"].as_str().unwrap().parse().unwrap()
    }

    /// What it printed so far on standard error.
    pub fn stderr(&self) -> String {
        self.stderr.state.lock().unwrap().text.clone()
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits for its end.
    pub fn ended(mut self) -> Ended {
        let code = self.exit_code();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let text = |printed: &Printed| printed.state.lock().unwrap().text.clone();
        Ended { code, stdout: text(&self.stdout), stderr: text(&self.stderr) }
    }

    fn exit_code(&mut self) -> Option<i32> {
        let over = |printed: &Printed| printed.wait(|_| None::<()>).is_none();
        // Both ends of its output close with it.
        assert!(over(&self.stdout) && over(&self.stderr));
        self.child.wait().unwrap().code()
    }

    fn both(&self) -> String {
        format!("{}\n{}", self.stdout.state.lock().unwrap().text, self.stderr())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended can't be ended.
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

fn collect(from: impl Read + Send + 'static, into: Arc<Printed>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let mut state = into.state.lock().unwrap();
            state.text.push_str(&line.unwrap());
            state.text.push('\n');
            into.news.notify_all();
        }
        into.state.lock().unwrap().is_over = true;
        into.news.notify_all();
    })
}

impl Printed {
    /// Waits for a line that `wanted` takes something of; `None` when the output ends without.
    fn wait<T>(&self, mut wanted: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let since = Instant::now();
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(found) = state.text.lines().find_map(&mut wanted) {
                return Some(found);
            }
            if state.is_over {
                return None;
            }
            let left = PATIENCE.checked_sub(since.elapsed()).expect("it took too long");
            state = self.news.wait_timeout(state, left).unwrap().0;
        }
    }
}

/// Sends `GET path` on a connection of its own, and gives the whole answer.
pub fn get(address: SocketAddr, path: &str) -> String {
    answer(&mut send(address, path))
}

/// Sends `GET path`; the answer is still to be read.
pub fn send(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    stream
}

/// The whole answer.
pub fn answer(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
