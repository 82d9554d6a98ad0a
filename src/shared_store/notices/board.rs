//! How a replica reads notices: all that are there before the store is used at all, then what comes,
//! over a connection of its own, so that no request waits behind a read that waits.
//!
//! Where what it read last is gone, the store lost something or was set right, and all is read again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use redis::{RedisError, RedisResult, Value as Answer};
use tokio::time::{Instant, sleep, timeout};

use super::stream::{READ, Range, announce, entries_of, is_of_wrong_type, parts, wake};
use super::{Audiences, Heard, Notice, Part, Position};
use crate::clock::{Clock as _, SystemClock, UnixTime};
use crate::limits;
use crate::observe::Metrics;
use crate::observe::shared_cache::{Operation, SharedOutcome};
use crate::shared_store::complaints::Complaints;
use crate::shared_store::connection::Connection;
use crate::shared_store::failure::Failure;
use crate::shared_store::link::{find, pause_about};
use crate::shared_store::seal::Keyring;
use crate::shared_store::url::StoreAddress;

/// The notices of one store.
pub(in crate::shared_store) struct Board {
    name: String,
    keyring: Arc<Keyring>,
    audience: Audiences,
    metrics: Metrics,
    complaints: Complaints,
    /// What was read, the oldest first, and when: it is put up again where the store lost it.
    read: Mutex<VecDeque<(Instant, Vec<u8>)>>,
}

impl Board {
    /// Tells that the store can be used.
    pub(in crate::shared_store) fn reached(&self) {
        if let Some(audience) = self.audience.get().and_then(Weak::upgrade) {
            audience.reached();
        }
    }

    pub(in crate::shared_store) fn new(
        key_prefix: &str,
        keyring: Arc<Keyring>,
        audience: Audiences,
        metrics: Metrics,
    ) -> Self {
        let (name, complaints) = (Self::name_in(key_prefix), Complaints::default());
        Self { name, keyring, audience, metrics, complaints, read: Mutex::default() }
    }

    /// What the store calls notices: fixed, as all replicas must find it, and it says nothing of anybody.
    pub(in crate::shared_store) fn name_in(key_prefix: &str) -> String {
        format!("{key_prefix}forgotten")
    }

    /// What the store calls these.
    pub(in crate::shared_store) fn name(&self) -> &str {
        &self.name
    }

    /// Reads what came after `at`, or all there is if that is not there any more: then the store lost
    /// something, and what this replica knows of it is put up again for the others.
    pub(in crate::shared_store) async fn catch_up(
        &self,
        connection: &mut Connection,
        at: &mut Position,
    ) -> Result<(), Failure> {
        let caught_up = timeout(limits::SHARED_STORE_LONGEST_ANSWER, async {
            if *at > Position::default()
                && !read(&self.name, connection, Range::At(*at), 1).await?.is_empty()
            {
                return self.read_next(connection, at).await;
            }
            let is_lost = *at > Position::default();
            let there = self.read_all(connection, at).await?;
            if is_lost {
                self.put_up_again(connection, &there).await?;
                self.read_next(connection, at).await?;
            }
            Ok(())
        });
        match caught_up.await {
            Ok(caught_up) => caught_up.map_err(|error| Failure::of(&error)),
            Err(_elapsed) => Err(Failure::Late),
        }
    }

    /// Reads on after `at`, over connections of its own, until that failed for
    /// [`limits::SHARED_NOTICES_MISSED`]: a store that does not say what is forgotten is not to be believed.
    pub(in crate::shared_store) async fn follow(
        &self,
        address: &StoreAddress,
        at: &mut Position,
    ) -> Failure {
        let mut pause = limits::SHARED_STORE_PAUSE_MIN;
        let mut is_told = false;
        let mut failures: u32 = 0;
        let mut heard_at = Instant::now();
        loop {
            let since = Instant::now();
            let failure = self.read_on(address, at, &mut is_told, &mut heard_at).await;
            if heard_at.elapsed() >= limits::SHARED_NOTICES_MISSED {
                return failure;
            }
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
            sleep(pause_about(pause)).await;
            pause = (pause * 2).min(limits::SHARED_STORE_PAUSE_MAX);
        }
    }

    /// Reads until that fails.
    async fn read_on(
        &self,
        address: &StoreAddress,
        at: &mut Position,
        is_told: &mut bool,
        heard_at: &mut Instant,
    ) -> Failure {
        let servers = match find(address).await {
            Ok(servers) => servers,
            Err(failure) => return failure,
        };
        let mut connection = match servers.connect(address, &self.name).await {
            Ok(connection) => connection,
            Err(error) => return Failure::of(&error),
        };
        loop {
            // Also whenever nothing came for a while: the store may have lost what it had.
            if let Err(failure) = self.catch_up(&mut connection, at).await {
                return failure;
            }
            *heard_at = Instant::now();
            if std::mem::take(is_told) {
                tracing::info!("the shared cache tells again what is to be forgotten");
            }
            loop {
                let (before, since) = (*at, Instant::now());
                let read = match self.is_woken(&mut connection, *at).await {
                    Ok(true) => self.read_next(&mut connection, at).await,
                    Ok(false) => Ok(()),
                    Err(failure) => return failure,
                };
                if let Err(error) = read {
                    return Failure::of(&error);
                }
                if *at > before {
                    continue;
                }
                // It was to wait, and did not: without this one it would be asked without an end.
                let wait = limits::SHARED_NOTICES_WAIT;
                if since.elapsed() < wait / 2 {
                    sleep(wait).await;
                }
                break;
            }
        }
    }

    /// Waits until something came after `at`, but not for ever; whether that came. What it is, is read
    /// by who asks: it may be longer than is to be held here, and then the connection breaks.
    async fn is_woken(&self, connection: &mut Connection, at: Position) -> Result<bool, Failure> {
        let wait = limits::SHARED_NOTICES_WAIT;
        let question = wake(&self.name, at, Some(wait));
        let woken = connection.ask_within(&question, limits::MAX_SHARED_NOTICE_ANSWER_BYTES);
        match timeout(wait + limits::SHARED_STORE_CONNECT_TIMEOUT, woken).await {
            Ok(Ok(answer)) => Ok(matches!(answer, Answer::Array(some) if !some.is_empty())),
            Ok(Err(error)) if is_of_wrong_type(&error) => Ok(false),
            Ok(Err(error)) => Err(Failure::of(&error)),
            Err(_elapsed) => Err(Failure::Late),
        }
    }

    /// Asks all that it takes to read what is called `name`, and waits for nothing.
    pub(in crate::shared_store) async fn try_reading(
        connection: &mut Connection,
        name: &str,
    ) -> Result<(), Failure> {
        let failed = |error: RedisError| Failure::of(&error);
        for range in [Range::Until(None), Range::From(Position::default())] {
            read(name, connection, range, 1).await.map_err(failed)?;
        }
        match connection.ask(&wake(name, Position::default(), None)).await {
            Ok(_entries) => Ok(()),
            Err(error) if is_of_wrong_type(&error) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Puts up what was read and is not `there`.
    async fn put_up_again(
        &self,
        connection: &mut Connection,
        there: &[Vec<u8>],
    ) -> RedisResult<()> {
        let known: Vec<Vec<u8>> = self.read().iter().map(|(_, plain)| plain.clone()).collect();
        for plain in known.iter().filter(|plain| !there.contains(plain)) {
            let Ok(sealed) = self.keyring.seal(&self.name, plain) else { continue };
            announce(connection.clone(), &self.name, &sealed).await?;
        }
        Ok(())
    }

    /// Keeps in mind what was read: as much as the store has, and as long.
    fn remember(&self, notices: &[Notice]) {
        let (now, mut read) = (Instant::now(), self.read());
        for notice in notices {
            if !read.iter().any(|(_, plain)| *plain == notice.plain) {
                read.push_back((now, notice.plain.clone()));
            }
        }
        while read.len() > limits::MAX_FORGETTINGS
            || read.front().is_some_and(|(since, _)| {
                now.saturating_duration_since(*since) >= limits::SHARED_NOTICES_KEPT
            })
        {
            read.pop_front();
        }
    }

    fn read(&self) -> MutexGuard<'_, VecDeque<(Instant, Vec<u8>)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the newest ones, as many as there are of ours at most; gives those that opened.
    async fn read_all(
        &self,
        connection: &mut Connection,
        at: &mut Position,
    ) -> RedisResult<Vec<Vec<u8>>> {
        let most = limits::MAX_FORGETTINGS;
        let (mut entries, mut range) = (Vec::new(), Range::Until(None));
        while entries.len() < most {
            let page = limits::SHARED_NOTICES_PAGE.min(most - entries.len());
            let mut more = read(&self.name, connection, range, page).await?;
            let last = more.last().and_then(parts).and_then(|(position, _)| position.previous());
            let is_last = more.len() < page;
            entries.append(&mut more);
            match last {
                Some(last) if !is_last => range = Range::Until(Some(last)),
                Some(_) | None => break,
            }
        }
        entries.reverse();
        let part = if entries.len() >= most { Part::Newest } else { Part::All };
        if entries.is_empty() && *at == Position::default() {
            return Ok(Vec::new());
        }
        *at = Position::default();
        Ok(self.tell(&entries, at, part).await)
    }

    /// Reads what came after `at`.
    async fn read_next(&self, connection: &mut Connection, at: &mut Position) -> RedisResult<()> {
        let page = limits::SHARED_NOTICES_PAGE;
        while let Some(from) = at.next() {
            let entries = read(&self.name, connection, Range::From(from), page).await?;
            if entries.is_empty() {
                break;
            }
            self.tell(&entries, at, Part::Next).await;
            if entries.len() < page || *at < from {
                break;
            }
        }
        Ok(())
    }

    /// Opens `entries`, and gives them to whoever listens; returns what opened.
    pub(super) async fn tell(
        &self,
        entries: &[Answer],
        at: &mut Position,
        part: Part,
    ) -> Vec<Vec<u8>> {
        let mut notices = Vec::new();
        for entry in entries {
            let Some((position, sealed)) = parts(entry) else { continue };
            *at = position.max(*at);
            match sealed.map(|sealed| self.keyring.open(&self.name, sealed)) {
                Some(Ok(plain)) => notices.push(Notice { position, plain }),
                Some(Err(why)) => self.pass_over(&why.to_string()),
                None => self.pass_over("it has another form, or is longer than one"),
            }
        }
        self.remember(&notices);
        let plains = notices.iter().map(|notice| notice.plain.clone()).collect();
        let until = until(&notices, *at, part, SystemClock.now());
        let heard = Heard { notices, until, part };
        let Some(audience) = self.audience.get().cloned() else { return plains };
        let told = tokio::task::spawn_blocking(move || {
            if let Some(audience) = audience.upgrade() {
                audience.hear(heard);
            }
        });
        if let Err(error) = told.await {
            tracing::error!(%error, "what is to be forgotten was not");
        }
        plains
    }

    /// Counts a notice that is of no use, and says so once in a while.
    fn pass_over(&self, why: &str) {
        self.metrics.shared_cache(Operation::Forget, SharedOutcome::Unreadable);
        if self.complaints.is_due() {
            tracing::warn!(
                "a notice in the shared cache (`cache.redis`) of what is to be forgotten is passed over: {why}"
            );
        }
    }
}

/// A page of what stands in `range`.
async fn read(
    name: &str,
    connection: &Connection,
    range: Range,
    page: usize,
) -> RedisResult<Vec<Answer>> {
    let [command, from, to] = range.words();
    let (page, most) = (page.to_string(), limits::MAX_SHARED_NOTICE_BYTES.to_string());
    let arguments = [&command, &from, &to, &page, &most].map(String::as_bytes);
    READ.run(connection.clone(), &[name], &arguments).await.map(entries_of)
}

/// How far replicas have heard by `notices`, read up to `at`. Who copies one to a place that the store
/// has not given yet does not move it.
pub(super) fn until(notices: &[Notice], at: Position, part: Part, now: UnixTime) -> Position {
    let opened = notices.iter().map(|notice| notice.position);
    let opened = opened.filter(|position| position.is_believable(now)).max();
    opened.unwrap_or_else(|| match part {
        Part::All | Part::Next => Position::default(),
        // What may have been lost is another with each such reading: one place each, before all that
        // the store gives.
        Part::Newest => Position { milliseconds: 0, sequence: at.milliseconds },
    })
}
