//! The program as a process of its own: one that can be killed in the middle of its work.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};

use serde_json::Value;

use super::PATIENCE;
use super::client::Client;
use super::registry;

/// The process; its log is searched for tokens and secrets when it is dropped.
pub struct Replica {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Replica {
    /// Starts one with this routes file and `variables` in its environment; it listens.
    ///
    /// # Panics
    ///
    /// When it ends before, with what it printed.
    pub fn start(yaml: &str, variables: &[(String, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes.yaml");
        std::fs::write(&path, yaml).unwrap();
        let mut child = Command::new(binary())
            .args(["run", "--log-format", "json", "--log-level", "info", "--config"])
            .arg(&path)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (places, heard) = mpsc::sync_channel(2);
        let output = child.stderr.take().unwrap();
        let reader = std::thread::spawn({
            let log = Arc::clone(&log);
            move || listen(output, &log, &places)
        });
        let (mut address, mut admin) = (None, None);
        while address.is_none() || admin.is_none() {
            match heard.recv_timeout(PATIENCE) {
                Ok((true, place)) => admin = Some(place),
                Ok((false, place)) => address = Some(place),
                Err(_) => {
                    child.kill().ok();
                    child.wait().unwrap();
                    panic!("the gateway does not start:\n{}", log.lock().unwrap());
                }
            }
        }
        let (address, admin) = (address.unwrap(), admin.unwrap());
        Self { child, address, admin, log, reader: Some(reader), _folder: folder }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its admin port listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it knows the keys of its providers.
    pub async fn ready(&self) {
        let mut client = Client::http1(self.admin).await;
        client.is_not_a_gateway();
        let ready = async {
            while client.get("/readyz").await.status != 200 {
                // Nothing tells of readiness but asking; the interval only spares the processor.
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        super::within("the gateway to be ready", ready).await;
    }

    /// Its metrics, in Prometheus' text format.
    pub async fn metrics(&self) -> String {
        let mut client = Client::http1(self.admin).await;
        client.is_not_a_gateway();
        String::from_utf8(client.get("/metrics").await.body.to_vec()).unwrap()
    }

    /// Waits until its metrics contain `text`.
    pub async fn metrics_when(&self, text: &str) {
        let there = async {
            while !self.metrics().await.contains(text) {
                // Metrics are asked for; the interval only spares the processor.
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        super::within(text, there).await;
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.ended();
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    pub fn terminate(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
        let code = self.ended();
        assert_eq!(code, Some(0), "{}", self.log());
    }

    /// Waits for its end and all that it printed.
    fn ended(&mut self) -> Option<i32> {
        let code = self.child.wait().unwrap().code();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        code
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().unwrap();
            self.ended();
        }
        if std::thread::panicking() {
            eprintln!("the log of the replica at {}:\n{}", self.address, self.log());
        } else {
            registry::assert_clean("a replica's log", self.log().as_bytes());
        }
    }
}

/// The program that cargo built for the tests, or the one that `REPLICA_BINARY` names.
#[allow(clippy::disallowed_methods, reason = "a test's own setting")]
fn binary() -> PathBuf {
    let other = std::env::var_os("REPLICA_BINARY").map(PathBuf::from);
    other.unwrap_or_else(|| env!("CARGO_BIN_EXE_obo-gateway").into())
}

/// Reads all that it logs, and tells where it listens: whether it is the admin port, and the place.
fn listen(output: impl Read, log: &Mutex<String>, places: &mpsc::SyncSender<(bool, SocketAddr)>) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { return };
        let event: Option<Value> = serde_json::from_str(&line).ok();
        if let Some(event) = event
            && let Some(place) = event["address"].as_str().and_then(|place| place.parse().ok())
        {
            match event["message"].as_str() {
                Some("listening") => places.try_send((false, place)).unwrap_or_default(),
                Some("admin port") => places.try_send((true, place)).unwrap_or_default(),
                _ => {}
            }
        }
        // What each request says would be many megabytes, and is searched elsewhere.
        if !line.contains("\"request_id\"") {
            log.lock().unwrap().push_str(&(line + "\n"));
        }
    }
}
