//! When a provider's keys are fetched, and what a request meets while they are.
//!
//! One task fetches ([`KeyStore::keep`]); requests only read. Their usual path is one atomic
//! load. A request with an unknown `kid` asks that task for a fetch and waits for its end: so
//! there is never more than one fetch at a time, none that dies with the caller who caused it,
//! and at most one per [`limits::FORCED_REFRESH_FLOOR`] that unknown keys can cause. How keys are
//! fetched is not known here.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::limits;

use super::keys::{Key, KeySet};

/// The keys of a provider, as they are now.
#[derive(Debug)]
pub(super) struct KeyStore {
    published: ArcSwapOption<Published>,
    progress: watch::Sender<Progress>,
    wanted: Notify,
}

/// A key set, and since when it holds.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) keys: KeySet,
    /// Goes up when a key disappears or changes: what was verified before is then judged anew.
    pub(super) generation: u64,
    /// When it was fetched; `None` for keys from a file, which don't go stale.
    pub(super) fetched: Option<Instant>,
}

/// How far the fetching is. Locked for moments only, and not at all by requests whose key is known.
#[derive(Debug, Default)]
struct Progress {
    /// The task that fetches is gone (dropped, or it has panicked), and there is no second one; or
    /// there is to be one fetch only. No other can be asked for.
    ended: bool,
    /// A fetch is going on, or was asked for and is about to begin.
    in_flight: bool,
    /// How many fetches have ended.
    finished: u64,
    /// Why the last one failed; `None` if it did not.
    failure: Option<Arc<str>>,
    /// When an unknown `kid` last asked for one.
    forced_at: Option<Instant>,
}

/// What a request finds.
#[derive(Debug)]
pub(super) enum Lookup {
    /// The key, and the generation of the set that it is from.
    Found(Arc<Key>, u64),
    /// The provider does not publish it.
    Unknown(Arc<Published>),
    /// Whether it publishes it can't be said.
    Unavailable(Outage),
}

/// Why no key can be had.
#[derive(Debug)]
pub(super) struct Outage {
    /// For the operator.
    pub(super) why: String,
    /// For the caller.
    pub(super) retry_after: Duration,
}

impl Published {
    pub(super) fn age(&self) -> Option<Duration> {
        self.fetched.map(|fetched| fetched.elapsed())
    }

    /// Whether the keys are too old to judge by.
    fn is_stale(&self) -> bool {
        self.age().is_some_and(|age| age > limits::KEYS_MAX_STALE)
    }

    fn find(&self, kid: &str) -> Option<Lookup> {
        let key = self.keys.key(kid)?;
        Some(Lookup::Found(Arc::clone(key), self.generation))
    }
}

impl KeyStore {
    /// A store without keys.
    pub(super) fn empty() -> Self {
        let (progress, _) = watch::channel(Progress::default());
        Self { published: ArcSwapOption::empty(), progress, wanted: Notify::new() }
    }

    /// A store with the keys of a file.
    pub(super) fn fixed(keys: KeySet) -> Self {
        let store = Self::empty();
        store.published.store(Some(Arc::new(Published { keys, generation: 0, fetched: None })));
        store
    }

    /// Begins with the keys of another store, as old as they are, if it has none of its own.
    pub(super) fn inherit(&self, other: &Self) {
        if let (None, Some(keys)) = (self.published(), other.published()) {
            self.published.store(Some(keys));
        }
    }

    /// What was published last, however old.
    pub(super) fn published(&self) -> Option<Arc<Published>> {
        self.published.load_full()
    }

    /// The generation of the keys; `None` while there are none to judge by.
    pub(super) fn generation(&self) -> Option<u64> {
        let published = self.published.load();
        published.as_ref().filter(|published| !published.is_stale()).map(|keys| keys.generation)
    }

    /// Why the last fetch failed; `None` if it did not.
    pub(super) fn failure(&self) -> Option<Arc<str>> {
        self.progress.borrow().failure.clone()
    }

    /// How long until an unknown `kid` may cause the next fetch.
    pub(super) fn next_forced(&self) -> Duration {
        let forced_at = self.progress.borrow().forced_at;
        forced_at
            .map_or(Duration::ZERO, |at| limits::FORCED_REFRESH_FLOOR.saturating_sub(at.elapsed()))
    }

    /// Looks for the key `kid`, and has the keys fetched anew if it is unknown; waits at most
    /// `patience` for that.
    ///
    /// # Cancel safety
    ///
    /// A fetch that was begun goes on without the one who asked for it.
    pub(super) async fn find(&self, kid: &str, patience: Duration) -> Lookup {
        let published = match self.usable() {
            Ok(published) => published,
            Err(outage) => return Lookup::Unavailable(outage),
        };
        if let Some(found) = published.find(kid) {
            return found;
        }
        if published.fetched.is_none() {
            return Lookup::Unknown(published);
        }
        let deadline = Instant::now() + patience;
        let mut progress = self.progress.subscribe();
        // Twice: a fetch that was already going on may have begun before the key was published.
        for _ in 0..2 {
            let Some(finished) = self.join_or_ask() else { break };
            let ended = progress.wait_for(|progress| progress.finished > finished);
            if tokio::time::timeout_at(deadline, ended).await.is_err() {
                let why = format!("its keys were not fetched within {} s", patience.as_secs_f32());
                let retry_after = limits::DEFAULT_RETRY_AFTER;
                return Lookup::Unavailable(Outage { why, retry_after });
            }
            if let Some(found) = self.published.load().as_ref().and_then(|now| now.find(kid)) {
                return found;
            }
        }
        if let Some(failure) = self.failure() {
            let retry_after = self.next_forced().max(Duration::from_secs(1));
            let why = format!("its keys can't be fetched ({failure})");
            return Lookup::Unavailable(Outage { why, retry_after });
        }
        Lookup::Unknown(self.published().unwrap_or(published))
    }

    fn usable(&self) -> Result<Arc<Published>, Outage> {
        let retry_after = limits::DEFAULT_RETRY_AFTER;
        let failure = || match self.failure() {
            Some(failure) => format!(" ({failure})"),
            None => String::new(),
        };
        let Some(published) = self.published() else {
            let why = format!("its keys have not been loaded yet{}", failure());
            return Err(Outage { why, retry_after });
        };
        if published.is_stale() {
            let why = format!(
                "its keys are older than {} h and can't be fetched{}",
                limits::KEYS_MAX_STALE.as_secs() / 3600,
                failure()
            );
            return Err(Outage { why, retry_after });
        }
        Ok(published)
    }

    /// Joins the fetch that goes on, or asks for one if the floor allows it; gives the number of
    /// fetches that ended before. `None` if there is none to wait for.
    fn join_or_ask(&self) -> Option<u64> {
        let mut joined = None;
        let mut ask = false;
        self.progress.send_if_modified(|progress| {
            let now = Instant::now();
            let rested =
                progress.forced_at.is_none_or(|at| now - at >= limits::FORCED_REFRESH_FLOOR);
            let may_ask = rested && !progress.ended;
            if !progress.in_flight && may_ask {
                progress.in_flight = true;
                progress.forced_at = Some(now);
                ask = true;
            }
            joined = progress.in_flight.then_some(progress.finished);
            false // nobody waits for a beginning
        });
        if ask {
            self.wanted.notify_one();
        }
        joined
    }

    /// Fetches the keys now, every `refresh` (10 % more or less, so that replicas drift apart),
    /// when asked, and after a failure with back-off. A fetch that panics is one that failed.
    /// Never returns.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the fetching; requests that wait are told so, and later ones don't wait.
    pub(super) async fn keep<F, Fut>(&self, name: &str, refresh: Duration, mut fetch: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<KeySet, String>>,
    {
        let _keeping = Keeping(self);
        let mut failures = 0_u32;
        loop {
            let flight = Flight::begin(self);
            // Nothing outlives a fetch but its outcome, so that none is left half changed.
            let fetched = AssertUnwindSafe(async { fetch().await }).catch_unwind().await;
            let fetched = fetched.unwrap_or_else(|_| Err("the fetch panicked; see the log".into()));
            let pause = match fetched {
                Ok(keys) => {
                    log_loaded(name, &keys, failures > 0 || self.published().is_none());
                    failures = 0;
                    self.publish(keys);
                    flight.end(None);
                    refresh.mul_f64(0.9 + 0.2 * fastrand::f64())
                }
                Err(failure) => {
                    log_failed(name, &failure, failures, self.published().as_deref());
                    flight.end(Some(failure.into()));
                    failures = failures.saturating_add(1);
                    back_off(failures)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// Fetches the keys once, if there are none, for who asks one question and is gone: what they lack
    /// afterwards is not published, and why they can't be had is the failure of that fetch.
    ///
    /// # Cancel safety
    ///
    /// As of [`Self::keep`].
    pub(super) async fn fill_once<Fut>(&self, name: &str, fetch: Fut)
    where
        Fut: Future<Output = Result<KeySet, String>>,
    {
        if self.published().is_some() {
            return;
        }
        let flight = Flight::begin(self);
        self.progress.send_modify(|progress| progress.ended = true);
        match fetch.await {
            Ok(keys) => {
                log_loaded(name, &keys, true);
                self.publish(keys);
                flight.end(None);
            }
            Err(failure) => {
                log_failed(name, &failure, 0, None);
                flight.end(Some(failure.into()));
            }
        }
    }

    fn publish(&self, keys: KeySet) {
        // Only the one task that fetches publishes, so that nothing comes between load and store.
        let before = self.published();
        let generation =
            before.map_or(0, |before| before.generation + u64::from(!keys.keeps(&before.keys)));
        let published = Published { keys, generation, fetched: Some(Instant::now()) };
        self.published.store(Some(Arc::new(published)));
    }
}

/// The fetching as a whole: when it ends, by whatever, nobody goes on to wait for it.
struct Keeping<'a>(&'a KeyStore);

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        self.0.progress.send_modify(|progress| {
            progress.ended = true;
            // One that was asked for and had not begun; those who wait for it are told.
            progress.finished += u64::from(progress.in_flight);
            progress.in_flight = false;
            progress.failure = Some(Arc::from("the fetching of its keys has ended"));
        });
    }
}

/// A fetch on its way: whatever becomes of it, those who wait are told.
struct Flight<'a> {
    store: &'a KeyStore,
    ended: bool,
}

impl<'a> Flight<'a> {
    fn begin(store: &'a KeyStore) -> Self {
        store.progress.send_if_modified(|progress| {
            progress.in_flight = true;
            false
        });
        Self { store, ended: false }
    }

    fn end(mut self, failure: Option<Arc<str>>) {
        self.ended = true;
        self.tell(failure);
    }

    fn tell(&self, failure: Option<Arc<str>>) {
        self.store.progress.send_modify(|progress| {
            progress.in_flight = false;
            progress.finished += 1;
            progress.failure = failure;
        });
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(Some(Arc::from("the fetching was stopped")));
        }
    }
}

/// The pause after so many failures in a row: doubles to a limit, half of it at random.
pub(super) fn back_off(failures: u32) -> Duration {
    let doubled = limits::LOAD_BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(limits::LOAD_BACKOFF_MAX).mul_f64(0.5 + 0.5 * fastrand::f64())
}

fn log_loaded(name: &str, keys: &KeySet, is_news: bool) {
    if is_news {
        tracing::info!("the keys of provider `{name}` are loaded: {}", keys.len());
    } else {
        tracing::debug!("the keys of provider `{name}` are refreshed: {}", keys.len());
    }
}

/// Warns of the 1st, 2nd, 4th, 8th … failure in a row: an outage is seen and does not fill the log.
fn log_failed(name: &str, failure: &str, failures: u32, published: Option<&Published>) {
    if !failures.saturating_add(1).is_power_of_two() {
        return;
    }
    let since = match published.and_then(Published::age) {
        Some(age) => format!("those of {} s ago are still used", age.as_secs()),
        None => "until they are there, routes that need it answer 503".to_owned(),
    };
    tracing::warn!("the keys of provider `{name}` can't be fetched: {failure}; {since}");
}

#[cfg(test)]
mod tests;
