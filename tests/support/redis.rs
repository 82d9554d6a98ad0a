//! Real Redis servers: alone, behind a password or TLS, as a cluster, watched by a sentinel. They
//! keep nothing on disk, and end with the test.

pub mod cluster;
pub mod contents;
pub mod process;
pub mod resp;
pub mod sentinel;

use std::path::Path;
use std::sync::Mutex;

use self::contents::Entry;
use self::process::{Process, Program};
use self::resp::{Connection, Value};
use super::registry;
use super::tls_upstream::{Authority, Purpose};

/// Nothing is written to disk, and a test never waits for a fork.
const IN_MEMORY: &str = "save \"\"\nappendonly no\nrepl-diskless-sync-delay 0\n";

/// The user of a server with users: [`Redis::start_with_users`].
pub const USER: &str = "obo-gateway-user";

/// The user of the tests there.
const TESTS_USER: &str = "tests";

/// One server.
pub struct Redis {
    process: Process,
    door: Door,
    /// The connection of the tests; none when it is not known to be good.
    connection: Mutex<Option<Connection>>,
}

/// How one gets in.
#[derive(Clone)]
enum Door {
    Open,
    /// By the passwords of [`USER`] and of [`TESTS_USER`].
    Users {
        gateway: String,
        tests: String,
    },
    /// By TLS, with the certificate of this authority.
    Tls {
        ca: String,
    },
}

impl Redis {
    /// One that asks for nothing.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with further settings.
    pub fn start_with(settings: &str) -> Self {
        Self::behind(Door::Open, |_, _| settings.to_owned())
    }

    /// One that lets only [`USER`] in, with a password, and lets it see only keys and channels that
    /// begin with `key_prefix`; nothing that operators do is allowed to it.
    pub fn start_with_users(key_prefix: &str) -> Self {
        let password = || format!("redis-password-{:032x}", fastrand::u128(..));
        let (gateway, tests) = (password(), password());
        registry::secret(&gateway);
        let settings = format!(
            "user default off\nuser {TESTS_USER} on >{tests} ~* &* +@all\n\
             user {USER} on >{gateway} ~{key_prefix}* resetchannels &{key_prefix}* +@all -@admin -@dangerous\n"
        );
        Self::behind(Door::Users { gateway, tests }, |_, _| settings.clone())
    }

    /// One that speaks nothing but TLS, with a certificate of `authority` for `127.0.0.1`.
    pub fn start_with_tls(authority: &Authority) -> Self {
        Self::start_with_tls_for(authority, "127.0.0.1")
    }

    /// The same with a certificate for `name`.
    pub fn start_with_tls_for(authority: &Authority, name: &str) -> Self {
        let issued = authority.issue(Purpose::Server, name);
        Self::behind(Door::Tls { ca: authority.pem() }, |port, folder| {
            let (chain, key) = issued.write(folder, "server");
            let ca = folder.join("ca.pem");
            std::fs::write(&ca, authority.pem()).unwrap();
            format!(
                "tls-port {port}\ntls-auth-clients no\ntls-cert-file {}\ntls-key-file {}\n\
                 tls-ca-cert-file {}\n",
                chain.display(),
                key.display(),
                ca.display()
            )
        })
    }

    fn behind(door: Door, settings: impl Fn(u16, &Path) -> String) -> Self {
        let settings = |port, folder: &Path| format!("{IN_MEMORY}{}", settings(port, folder));
        let process = Process::start(Program::Server, settings);
        let redis = Self { process, door, connection: Mutex::new(None) };
        redis.answers();
        redis
    }

    /// It says that it is ready; now it does answer.
    fn answers(&self) {
        // A certificate for another name keeps the tests out, too.
        if let Ok(answer) = self.try_ask(&[b"PING"]) {
            assert_eq!(answer, Value::Bytes(b"PONG".to_vec()));
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.process.port()
    }

    /// `redis://…`, or `rediss://…`, with what the gateway has to know.
    pub fn url(&self) -> String {
        let port = self.port();
        match &self.door {
            Door::Open => format!("redis://127.0.0.1:{port}"),
            Door::Users { gateway, .. } => format!("redis://{USER}:{gateway}@127.0.0.1:{port}/0"),
            Door::Tls { .. } => format!("rediss://127.0.0.1:{port}"),
        }
    }

    /// Asks as the tests; they may do anything.
    ///
    /// # Panics
    ///
    /// When it does not answer, or refuses.
    pub fn ask(&self, words: &[&[u8]]) -> Value {
        let answer = self.try_ask(words).expect("Redis answers");
        if let Value::Error(error) = &answer {
            panic!("Redis refuses {}: {error}", words[0].escape_ascii());
        }
        answer
    }

    /// The same for who wants to know.
    pub fn try_ask(&self, words: &[&[u8]]) -> std::io::Result<Value> {
        self.with_connection(|connection| connection.try_ask(words))
    }

    fn with_connection<T>(
        &self,
        act: impl FnOnce(&mut Connection) -> std::io::Result<T>,
    ) -> std::io::Result<T> {
        let mut held = self.connection.lock().unwrap();
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let done = act(&mut connection)?;
        *held = Some(connection);
        Ok(done)
    }

    fn connect(&self) -> std::io::Result<Connection> {
        match &self.door {
            Door::Open => Connection::open(self.port()),
            Door::Users { tests, .. } => {
                let mut connection = Connection::open(self.port())?;
                connection.ask(&[b"AUTH", TESTS_USER.as_bytes(), tests.as_bytes()]);
                Ok(connection)
            }
            Door::Tls { ca } => Connection::open_tls(self.port(), ca),
        }
    }

    /// Stops in the middle of whatever it does (SIGSTOP): connections stand, and nothing answers.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Goes on.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Ends at once (SIGKILL).
    pub fn kill(&self) {
        *self.connection.lock().unwrap() = None;
        self.process.kill();
    }

    /// Starts again where it was, with nothing in it; is ended first, if it runs.
    pub fn restart_empty(&self) {
        if self.process.is_running() {
            self.kill();
        }
        self.process.run();
        self.answers();
    }

    /// From now on it has no room: it answers, and takes nothing new.
    pub fn full(&self) {
        self.ask(&[b"CONFIG", b"SET", b"maxmemory-policy", b"noeviction", b"maxmemory", b"1"]);
    }

    /// It has room again.
    pub fn roomy(&self) {
        self.ask(&[b"CONFIG", b"SET", b"maxmemory", b"0"]);
    }

    /// All that is in it.
    pub fn dump(&self) -> Vec<Entry> {
        self.with_connection(|connection| Ok(contents::dump(connection))).expect("it answers")
    }

    /// Puts random bytes in place of every value; how many values that was.
    pub fn fill_with_garbage(&self, random: &mut fastrand::Rng) -> usize {
        let fill =
            |connection: &mut Connection| Ok(contents::fill_with_garbage(connection, random));
        self.with_connection(fill).expect("it answers")
    }

    /// How long each of its keys still lives, in milliseconds; those without an end are left out.
    pub fn lives(&self) -> std::collections::BTreeMap<Vec<u8>, i64> {
        self.with_connection(|connection| Ok(contents::lives(connection))).expect("it answers")
    }

    /// Which connections there are, those of the tests left out.
    pub fn connection_ids(&self) -> std::collections::BTreeSet<i64> {
        let own = self.ask(&[b"CLIENT", b"ID"]).number();
        let list = self.ask(&[b"CLIENT", b"LIST"]).text();
        let ids = list.lines().map(|line| line.split([' ', '=']).nth(1).unwrap().parse().unwrap());
        ids.filter(|id| *id != own).collect()
    }
}

#[cfg(test)]
mod tests;
