//! What all replicas are told: notices in one stream of the store, which each replica reads.
//!
//! A notice is sealed like a value, and put up for longer than any token lives. A replica has read
//! all that is there before it uses the store at all, and reads on over a connection of its own, so
//! that no request waits behind a read that waits. Where what it read last is gone, the store lost
//! something, and all is read again. Decides nothing of what a notice means, and may give one twice.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, RedisResult, Value as Answer};
use tokio::time::{Instant, sleep, timeout};

use super::connection::Connection;
use super::failure::Failure;
use super::script::Script;
use super::seal::Keyring;
use super::url::StoreAddress;
use super::{Session, SharedStore};
use crate::limits;
use crate::observe::shared_cache::{Operation, SharedOutcome};

/// The field of a notice.
const FIELD: &str = "v";

/// Puts up a notice; what stands in its place and is no stream is dropped.
pub(super) const ANNOUNCE: Script = Script::new(
    "if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then redis.call('DEL', KEYS[1]) end\n\
     local id = redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], '*', 'v', ARGV[1])\n\
     redis.call('PEXPIRE', KEYS[1], ARGV[3])\n\
     return id",
);

/// Where a notice stands among the others; the default is before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    milliseconds: u64,
    sequence: u64,
}

/// Length of a [`Position`] in bytes.
pub const POSITION_BYTES: usize = 16;

/// A notice that was opened: somebody with an encryption key put it up.
#[derive(Debug)]
pub struct Notice {
    /// Where it stands.
    pub position: Position,
    /// What was sealed.
    pub plain: Vec<u8>,
}

/// What was read.
#[derive(Debug)]
pub struct Heard {
    /// The notices that can be opened, in their order.
    pub notices: Vec<Notice>,
    /// How far that is: where the last of them stands. Whoever can write to the store has no say in
    /// it, as others believe what was asked for behind the notices that it had heard of.
    pub until: Position,
    /// Which part of all that is.
    pub part: Part,
}

/// Which part of all notices was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All that there are.
    All,
    /// All that there are, and there may have been others before them.
    Newest,
    /// What came after those that were read before.
    Next,
}

/// Who is told of notices.
pub trait Audience: Send + Sync {
    /// Takes note that the store can be used again; must not block.
    fn reached(&self);

    /// Takes in what was read; called on a thread that may be held up.
    fn hear(&self, heard: Heard);
}

/// Who is told of notices, once there is anybody.
pub(super) type Audiences = Arc<OnceLock<Weak<dyn Audience>>>;

/// The notices of one store.
pub(super) struct Board {
    name: String,
    keyring: Arc<Keyring>,
    audience: Audiences,
    complained: Mutex<Option<Instant>>,
}

impl SharedStore {
    /// From now on `audience` is told of notices; the first one that is named stays. To be called
    /// before the store is configured.
    pub fn listen(&self, audience: Weak<dyn Audience>) {
        self.audience.get_or_init(|| audience);
    }

    /// Puts up a notice for all replicas, this one included; `None` if there is no store. No request
    /// waits for it, and so it has [`limits::SHARED_ANNOUNCEMENT_PATIENCE`].
    pub async fn announce(&self, plain: &[u8]) -> Option<Result<Position, Failure>> {
        let mut session = self.session()?;
        session.grant(limits::SHARED_ANNOUNCEMENT_PATIENCE);
        let announced = session.announce(plain).await;
        session.count(Operation::Forget, announced.as_ref().map(|_position| SharedOutcome::Done));
        Some(announced)
    }
}

impl Session {
    async fn announce(&mut self, plain: &[u8]) -> Result<Position, Failure> {
        let name = name(&self.site.settings.key_prefix);
        let sealed = self.site.keyring.seal(&name, plain);
        let sealed = sealed.map_err(|error| Failure::Refused(error.to_string()))?;
        let most = limits::MAX_FORGETTINGS.to_string();
        let time = limits::SHARED_NOTICES_KEPT.as_millis().to_string();
        let (keys, arguments) = ([name.as_str()], [&*sealed, most.as_bytes(), time.as_bytes()]);
        let ask = |connection| ANNOUNCE.run(connection, &keys, &arguments);
        let answer = self.site.link.ask(&mut self.budget, ask).await?;
        Position::of(&answer).ok_or_else(Failure::strange)
    }
}

impl Board {
    pub(super) fn new(key_prefix: &str, keyring: Arc<Keyring>, audience: Audiences) -> Self {
        Self { name: name(key_prefix), keyring, audience, complained: Mutex::default() }
    }

    /// Tells that the store can be used.
    pub(super) fn reached(&self) {
        if let Some(audience) = self.audience.get().and_then(Weak::upgrade) {
            audience.reached();
        }
    }

    /// Reads what came after `at`, or all there is if that is not there any more.
    pub(super) async fn catch_up(
        &self,
        connection: &mut Connection,
        at: &mut Position,
    ) -> Result<(), Failure> {
        let caught_up = timeout(limits::SHARED_STORE_LONGEST_ANSWER, async {
            if *at > Position::default() && self.is_there(connection, *at).await? {
                return self.read_next(connection, at, None).await;
            }
            self.read_all(connection, at).await
        });
        match caught_up.await {
            Ok(caught_up) => caught_up.map_err(|error| Failure::of(&error)),
            Err(_elapsed) => Err(Failure::Late),
        }
    }

    /// Reads on after `at` for ever, over connections of its own.
    pub(super) async fn follow(&self, address: &StoreAddress, at: &mut Position) -> Infallible {
        let mut pause = limits::SHARED_STORE_PAUSE_MIN;
        let mut is_told = false;
        let mut failures: u32 = 0;
        loop {
            let since = Instant::now();
            let failure = self.read_on(address, at, &mut is_told).await;
            if since.elapsed() >= limits::SHARED_STORE_PAUSE_MAX {
                (pause, failures) = (limits::SHARED_STORE_PAUSE_MIN, 0);
            }
            failures += 1;
            // One that was lost is no matter; that there is no other is.
            if failures > 1 && !is_told {
                tracing::warn!(
                    "the shared cache (`cache.redis`) does not tell this replica what is to be forgotten, which is tried again: {failure}"
                );
                is_told = true;
            }
            sleep(pause / 2 + (pause / 2).mul_f64(fastrand::f64())).await;
            pause = (pause * 2).min(limits::SHARED_STORE_PAUSE_MAX);
        }
    }

    /// Reads until that fails.
    async fn read_on(
        &self,
        address: &StoreAddress,
        at: &mut Position,
        is_told: &mut bool,
    ) -> Failure {
        let opened = timeout(limits::SHARED_STORE_LONGEST_ANSWER, Connection::open(address)).await;
        let mut connection = match opened {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Failure::of(&error),
            Err(_elapsed) => return Failure::Late,
        };
        loop {
            // Also whenever nothing came for a while: the store may have lost what it had.
            if let Err(failure) = self.catch_up(&mut connection, at).await {
                return failure;
            }
            if std::mem::take(is_told) {
                tracing::info!("the shared cache tells again what is to be forgotten");
            }
            loop {
                let wait = limits::SHARED_NOTICES_WAIT;
                let (before, since) = (*at, Instant::now());
                let read = self.read_next(&mut connection, at, Some(wait));
                match timeout(wait + limits::SHARED_STORE_CONNECT_TIMEOUT, read).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) if is_of_wrong_type(&error) => {}
                    Ok(Err(error)) => return Failure::of(&error),
                    Err(_elapsed) => return Failure::Late,
                }
                if *at > before {
                    continue;
                }
                // It was to wait, and did not: without this one it would be asked without an end.
                if since.elapsed() < wait / 2 {
                    sleep(wait).await;
                }
                break;
            }
        }
    }

    /// Asks all that it takes to read, and waits for nothing.
    pub(super) async fn try_reading(
        connection: &mut Connection,
        key_prefix: &str,
    ) -> Result<(), Failure> {
        let (name, at) = (name(key_prefix), Position::default());
        for question in [newest(&name, 1), one(&name, at), next(&name, at, 1, None)] {
            match connection.ask(&question).await {
                Ok(_entries) => {}
                Err(error) if is_of_wrong_type(&error) => {}
                Err(error) => return Err(Failure::of(&error)),
            }
        }
        Ok(())
    }

    async fn is_there(&self, connection: &mut Connection, at: Position) -> RedisResult<bool> {
        match connection.ask(&one(&self.name, at)).await {
            Ok(answer) => Ok(matches!(answer, Answer::Array(entries) if !entries.is_empty())),
            Err(error) if is_of_wrong_type(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn read_all(&self, connection: &mut Connection, at: &mut Position) -> RedisResult<()> {
        let most = limits::MAX_FORGETTINGS;
        let entries = match connection.ask(&newest(&self.name, most)).await {
            Ok(Answer::Array(mut entries)) => {
                entries.reverse();
                entries
            }
            Ok(_none) => Vec::new(),
            // Something else took its place: whoever puts up the next one drops that.
            Err(error) if is_of_wrong_type(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        let part = if entries.len() >= most { Part::Newest } else { Part::All };
        if entries.is_empty() && *at == Position::default() {
            return Ok(());
        }
        *at = Position::default();
        self.tell(&entries, at, part).await;
        Ok(())
    }

    /// Reads what came after `at`, and waits for it if that is said.
    async fn read_next(
        &self,
        connection: &mut Connection,
        at: &mut Position,
        wait: Option<Duration>,
    ) -> RedisResult<()> {
        let question = next(&self.name, *at, limits::MAX_FORGETTINGS, wait);
        let entries = entries_of(connection.ask(&question).await?);
        if !entries.is_empty() {
            self.tell(&entries, at, Part::Next).await;
        }
        Ok(())
    }

    /// Opens `entries`, and gives them to whoever listens.
    async fn tell(&self, entries: &[Answer], at: &mut Position, part: Part) {
        let mut notices = Vec::new();
        for entry in entries {
            let Some((position, sealed)) = parts(entry) else { continue };
            *at = position.max(*at);
            match sealed.map(|sealed| self.keyring.open(&self.name, sealed)) {
                Some(Ok(plain)) => notices.push(Notice { position, plain }),
                Some(Err(why)) => self.complain(&why.to_string()),
                None => self.complain("it has another form"),
            }
        }
        let until = until(&notices, *at, part);
        let heard = Heard { notices, until, part };
        let Some(audience) = self.audience.get().cloned() else { return };
        let told = tokio::task::spawn_blocking(move || {
            if let Some(audience) = audience.upgrade() {
                audience.hear(heard);
            }
        });
        if let Err(error) = told.await {
            tracing::error!(%error, "what is to be forgotten was not");
        }
    }

    /// Says once in a while that a notice is of no use.
    fn complain(&self, why: &str) {
        let now = Instant::now();
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = limits::SHARED_STORE_COMPLAINT_PAUSE;
        if complained.is_some_and(|last| now.saturating_duration_since(last) < pause) {
            return;
        }
        *complained = Some(now);
        drop(complained);
        tracing::warn!(
            "a notice in the shared cache (`cache.redis`) of what is to be forgotten is passed over: {why}"
        );
    }
}

impl Position {
    /// As bytes.
    pub fn to_bytes(self) -> [u8; POSITION_BYTES] {
        let whole = (u128::from(self.milliseconds) << 64) | u128::from(self.sequence);
        whole.to_be_bytes()
    }

    /// The one that these bytes say.
    pub fn of_bytes(bytes: [u8; POSITION_BYTES]) -> Self {
        let [milliseconds, sequence] = [0, 8].map(|from| {
            let half = bytes.iter().skip(from).take(8);
            half.fold(0, |number, byte| (number << 8) | u64::from(*byte))
        });
        Self { milliseconds, sequence }
    }

    fn of(answer: &Answer) -> Option<Self> {
        let Answer::BulkString(id) = answer else { return None };
        let (milliseconds, sequence) = std::str::from_utf8(id).ok()?.split_once('-')?;
        Some(Self { milliseconds: milliseconds.parse().ok()?, sequence: sequence.parse().ok()? })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.milliseconds, self.sequence)
    }
}

/// How far replicas have heard by `notices`, read up to `at`.
fn until(notices: &[Notice], at: Position, part: Part) -> Position {
    let opened = notices.iter().map(|notice| notice.position).max();
    opened.unwrap_or_else(|| match part {
        Part::All | Part::Next => Position::default(),
        // What may have been lost is another with each such reading: one place each, before all that
        // the store gives.
        Part::Newest => Position { milliseconds: 0, sequence: at.milliseconds },
    })
}

/// Fixed, as all replicas must find it: it says nothing of anybody.
fn name(key_prefix: &str) -> String {
    format!("{key_prefix}forgotten")
}

/// Asks for the newest entries, the newest one first.
fn newest(name: &str, most: usize) -> Cmd {
    let mut question = Cmd::new();
    question.arg("XREVRANGE").arg(name).arg("+").arg("-").arg("COUNT").arg(most);
    question
}

/// Asks for the entry at this place.
fn one(name: &str, at: Position) -> Cmd {
    let (mut question, at) = (Cmd::new(), at.to_string());
    question.arg("XRANGE").arg(name).arg(&at).arg(&at).arg("COUNT").arg(1);
    question
}

/// Asks for what came after `at`, and has the store wait for it if that is said.
fn next(name: &str, at: Position, most: usize, wait: Option<Duration>) -> Cmd {
    let mut question = Cmd::new();
    question.arg("XREAD").arg("COUNT").arg(most);
    if let Some(wait) = wait {
        question.arg("BLOCK").arg(wait.as_millis().to_string());
    }
    question.arg("STREAMS").arg(name).arg(at.to_string());
    question
}

/// The entries in the answer of `XREAD` about one stream.
fn entries_of(answer: Answer) -> Vec<Answer> {
    let Answer::Array(streams) = answer else { return Vec::new() };
    let Some(Answer::Array(stream)) = streams.into_iter().next() else { return Vec::new() };
    let Some(Answer::Array(entries)) = stream.into_iter().nth(1) else { return Vec::new() };
    entries
}

/// The position of an entry, and what is sealed in it.
fn parts(entry: &Answer) -> Option<(Position, Option<&[u8]>)> {
    let Answer::Array(parts) = entry else { return None };
    let position = Position::of(parts.first()?)?;
    let sealed = if let Some(Answer::Array(fields)) = parts.get(1)
        && let [Answer::BulkString(field), Answer::BulkString(sealed)] = fields.as_slice()
        && field == FIELD.as_bytes()
    {
        Some(sealed.as_slice())
    } else {
        None
    };
    Some((position, sealed))
}

fn is_of_wrong_type(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Extension && error.code() == Some("WRONGTYPE")
}

#[cfg(test)]
mod tests;
