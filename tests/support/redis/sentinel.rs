//! A master, its replica, and a sentinel that makes the replica the master when the master is gone.

use std::time::{Duration, Instant};

use super::Redis;
use super::contents::Entry;
use super::process::{Process, Program};
use super::resp::{Connection, Value};
use crate::support::PATIENCE;

/// What the sentinel calls the master.
const SERVICE: &str = "obo-tokens";

/// The three.
pub struct Watched {
    first: Redis,
    second: Redis,
    sentinel: Process,
}

impl Watched {
    /// Starts them, and waits until the replica has what its master has and the sentinel knows both.
    pub fn start() -> Self {
        let first = Redis::start();
        let second = Redis::start_with(&format!("replicaof 127.0.0.1 {}\n", first.port()));
        let settings = format!(
            "sentinel monitor {SERVICE} 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds {SERVICE} 500\n\
             sentinel failover-timeout {SERVICE} 5000\n",
            first.port()
        );
        let sentinel = Process::start(Program::Sentinel, |_, _| settings.clone());
        let watched = Self { first, second, sentinel };
        until("the replica to follow", || {
            watched.second.ask(&[b"INFO", b"replication"]).text().contains("master_link_status:up")
        });
        until("the sentinel to know both", || {
            let known = watched.ask_sentinel(&[b"SENTINEL", b"REPLICAS", SERVICE.as_bytes()]);
            known.list().len() == 1
        });
        watched
    }

    /// `redis-sentinel://…`.
    pub fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:{}/{SERVICE}", self.sentinel.port())
    }

    /// What the first master has.
    pub fn dump_of_the_first(&self) -> Vec<Entry> {
        self.first.dump()
    }

    /// What the other one has: the replica, and master after a failover.
    pub fn dump_of_the_second(&self) -> Vec<Entry> {
        self.second.dump()
    }

    /// The master is gone; waits until the replica took its place.
    pub fn fail_over(&self) {
        self.first.kill();
        until("the failover", || {
            // Whoever is connected is sent away when the roles change.
            let Ok(role) = self.second.try_ask(&[b"ROLE"]) else { return false };
            let role = role.list().swap_remove(0);
            let place =
                self.ask_sentinel(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", SERVICE.as_bytes()]);
            let port = Value::Bytes(self.second.port().to_string().into_bytes());
            role == Value::Bytes(b"master".to_vec()) && place.list()[1] == port
        });
    }

    /// Asks the second one.
    pub fn ask_the_second(&self, words: &[&[u8]]) -> Value {
        self.second.ask(words)
    }

    fn ask_sentinel(&self, words: &[&[u8]]) -> Value {
        Connection::open(self.sentinel.port()).unwrap().ask(words)
    }
}

fn until(what: &str, mut there: impl FnMut() -> bool) {
    let since = Instant::now();
    while !there() {
        assert!(since.elapsed() < PATIENCE, "waited in vain for: {what}");
        // They are asked, as they tell nobody; the interval only spares the processor.
        std::thread::sleep(Duration::from_millis(20));
    }
}
