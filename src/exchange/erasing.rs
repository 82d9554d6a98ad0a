//! Tokens that are to be dropped from the shared store, until they are.
//!
//! The store may be away when a token is refused, and other replicas would take it from there when it
//! is back. So what is to be dropped is remembered, and tried again until the store did it or the
//! token has ended. Bounded: the oldest go first, and are counted. Only what is still held back is
//! dropped: a better token that took the place stays.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::barred::{Bar, Both};
use super::cache::Granted;
use super::exchanger::Exchanger;
use super::shared_entry;
use super::terms::Key;
use crate::clock::UnixTime;
use crate::limits;
use crate::observe::shared_cache::{Operation, SharedOutcome};
use crate::shared_store::{Entry, Failure};

/// What is to be dropped.
#[derive(Default)]
pub(super) struct Erasures {
    pending: Mutex<Pending>,
    /// The store is back.
    again: Arc<Notify>,
}

#[derive(Default)]
struct Pending {
    by_key: HashMap<Key, Erasure>,
    by_age: BTreeMap<u64, Key>,
    next: u64,
    /// Whether there is a task that tries again.
    is_tried_again: bool,
}

/// Tokens under a key that are to be dropped.
#[derive(Clone, Copy)]
struct Erasure {
    key: Key,
    bars: Both,
    /// No token that it is about lives longer.
    until: UnixTime,
    number: u64,
}

/// Whether there was room for one more.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    Found,
    /// The oldest had to go for it.
    Made,
}

impl Erasures {
    /// Tries again at once: the store is back.
    pub(super) fn again(&self) {
        self.again.notify_one();
    }

    /// Whether `granted` is still to be dropped from under `key`.
    pub(super) fn holds_back(&self, key: &Key, granted: &Granted) -> bool {
        let bars = self.lock().by_key.get(key).map(|erasure| erasure.bars);
        bars.is_some_and(|bars| bars.holds_back(granted))
    }

    /// Adds what `bar` is about, as of `now`.
    fn add(&self, key: Key, bar: Bar, until: UnixTime, now: UnixTime) -> (Erasure, Room) {
        let mut pending = self.lock();
        let known = pending.remove(&key);
        let mut room = Room::Found;
        if pending.by_key.len() >= limits::MAX_ERASURES
            && let Some((_, oldest)) = pending.by_age.pop_first()
        {
            pending.by_key.remove(&oldest);
            room = Room::Made;
        }
        let mut bars = known.map(|known| known.bars).unwrap_or_default();
        bars.add(bar);
        if known.is_some_and(|known| !known.bars.includes(bar)) {
            // Of single tokens the last one is kept in mind; the store may still hold the one before.
            bars.add(Bar::AskedUntil(now));
        }
        let until = known.map_or(until, |known| known.until.max(until));
        let number = pending.next;
        pending.next += 1;
        let erasure = Erasure { key, bars, until, number };
        pending.by_key.insert(key, erasure);
        pending.by_age.insert(number, key);
        (erasure, room)
    }

    /// Whether the caller is the one to try again: nobody does.
    fn begin(&self) -> bool {
        !std::mem::replace(&mut self.lock().is_tried_again, true)
    }

    /// Those that there are, the oldest first, without what has ended by `now`. Where there are none, who
    /// asked is to try no more.
    fn take_up(&self, now: UnixTime) -> Vec<Erasure> {
        let mut pending = self.lock();
        let ended: Vec<Key> =
            pending.by_key.values().filter(|it| it.until <= now).map(|it| it.key).collect();
        for key in ended {
            pending.remove(&key);
        }
        pending.is_tried_again = !pending.by_key.is_empty();
        pending.by_age.values().filter_map(|key| pending.by_key.get(key)).copied().collect()
    }

    /// It was done, unless there is more to do under the same key by now.
    fn done(&self, erasure: &Erasure) {
        let mut pending = self.lock();
        if pending.by_key.get(&erasure.key).is_some_and(|it| it.number == erasure.number) {
            pending.remove(&erasure.key);
        }
    }

    /// It was tried in vain: others go first next time.
    fn postpone(&self, erasure: &Erasure) {
        let mut pending = self.lock();
        let number = pending.next;
        if let Some(own) = pending.by_key.get_mut(&erasure.key)
            && own.number == erasure.number
        {
            own.number = number;
            pending.by_age.remove(&erasure.number);
            pending.by_age.insert(number, erasure.key);
            pending.next += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn remove(&mut self, key: &Key) -> Option<Erasure> {
        let removed = self.by_key.remove(key)?;
        self.by_age.remove(&removed.number);
        Some(removed)
    }
}

impl Exchanger {
    /// Sees to it that what `bar` is about is taken from the shared store by no replica, and not by
    /// this one whatever the store says. No token that it is about lives longer than `until`.
    pub(super) fn erase(self: &Arc<Self>, key: Key, bar: Bar, until: UnixTime) {
        if !self.store.is_configured() {
            return;
        }
        self.barred.add(key, bar);
        let now = self.clock.now();
        let until = until.min(now.plus(limits::MAX_SHARED_TOKEN_LIFE));
        let (erasure, room) = self.erasures.add(key, bar, until, now);
        match room {
            Room::Found => {}
            Room::Made => self.metrics.shared_cache(Operation::Delete, SharedOutcome::GivenUp),
        }
        let exchanger = Arc::clone(self);
        tokio::spawn(async move {
            if exchanger.try_erasure(&erasure).await.is_err() && exchanger.erasures.begin() {
                let again = Arc::clone(&exchanger.erasures.again);
                tokio::spawn(try_again(Arc::downgrade(&exchanger), again));
            }
        });
    }

    /// Tries all that there are; whether there were any.
    async fn try_erasures(&self) -> bool {
        let erasures = self.erasures.take_up(self.clock.now());
        for some in erasures.chunks(limits::ERASED_AT_ONCE) {
            let tried = join_all(some.iter().map(|erasure| self.try_erasure(erasure))).await;
            // Whoever is tried next would fare no better. Of a server that is left out nothing was asked,
            // and others may be there.
            let is_vain = |tried: &Result<(), Failure>| tried.is_err();
            if tried.iter().all(is_vain) && tried.iter().any(|it| *it != Err(Failure::Away)) {
                break;
            }
        }
        !erasures.is_empty()
    }

    async fn try_erasure(&self, erasure: &Erasure) -> Result<(), Failure> {
        // Another configuration may name none: then no replica of ours takes it from there.
        let erased = match self.store.session() {
            None => Ok(()),
            Some(mut session) => {
                let Erasure { key, bars, .. } = erasure;
                let owner = key.to_bytes();
                let entry = Entry { owner: &owner, maker: &owner };
                // There may be one for each encryption key.
                let (found, heard) = session.find(entry).await;
                async {
                    for value in found {
                        let left = shared_entry::read(&value.plain, key, key, self.clock.now());
                        // What can't be read is used by nobody.
                        if left.is_some_and(|left| bars.holds_back(&left.granted)) {
                            session.renew();
                            session.delete(&value.seen).await?;
                        }
                    }
                    heard
                }
                .await
            }
        };
        match &erased {
            Ok(()) => self.erasures.done(erasure),
            Err(failure) => {
                self.erasures.postpone(erasure);
                tracing::debug!(
                    "a token that is not to be used was not dropped from the shared cache, which is tried again: {failure}"
                );
            }
        }
        erased
    }
}

/// Tries again until there are none left: when the store is back, and now and then.
async fn try_again(exchanger: Weak<Exchanger>, again: Arc<Notify>) {
    let mut pause = limits::SHARED_STORE_PAUSE_MIN;
    loop {
        let is_back = timeout(pause, again.notified()).await.is_ok();
        pause = if is_back { limits::SHARED_STORE_PAUSE_MIN } else { pause * 2 };
        pause = pause.min(limits::SHARED_STORE_PAUSE_MAX);
        let Some(exchanger) = exchanger.upgrade() else { return };
        if !exchanger.try_erasures().await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::super::cache::Source;
    use super::super::terms::tests::terms;
    use super::*;
    use crate::secret::{SecretHeader, TokenDigest};

    const NOW: UnixTime = UnixTime(1000);
    const LATER: UnixTime = UnixTime(2000);

    fn key(name: &str) -> Key {
        terms("client", &["scope"]).key(Some(TokenDigest::of(name.as_bytes())))
    }

    fn bar(token: &str) -> Bar {
        Bar::Token(TokenDigest::of(token.as_bytes()))
    }

    fn granted(token: &'static str) -> Granted {
        Granted {
            header: SecretHeader::new(HeaderValue::from_static(token)),
            asked_at: NOW,
            life: Some(Duration::from_hours(1)),
            refresh_in: None,
            source: Source::Replica,
        }
    }

    #[test]
    fn one_task_sees_to_all_until_they_are_done_or_ended() {
        let erasures = Erasures::default();
        erasures.add(key("a"), bar("x"), LATER, NOW);
        assert!(erasures.begin() && !erasures.begin());
        erasures.add(key("b"), bar("x"), NOW, NOW);
        let held = |name: &str| erasures.holds_back(&key(name), &granted("x"));
        assert!(held("a") && held("b") && !held("c"));
        let due = erasures.take_up(UnixTime(NOW.0 - 1));
        assert_eq!(due.len(), 2);
        assert_eq!(erasures.take_up(NOW).len(), 1, "the other one has ended");
        // Another token of the same key is refused while the first is being dropped.
        erasures.add(key("a"), bar("y"), NOW, NOW);
        erasures.done(&due[0]);
        assert!(held("a"), "it may have come back");
        assert!(erasures.holds_back(&key("a"), &granted("y")));
        for erasure in erasures.take_up(NOW) {
            assert_eq!(erasure.until, LATER);
            erasures.done(&erasure);
        }
        assert!(!held("a"));
        assert!(!erasures.begin());
        assert!(erasures.take_up(NOW).is_empty());
        assert!(erasures.begin(), "nobody tries again any more");
    }

    #[test]
    fn what_was_tried_in_vain_goes_behind_the_others() {
        let erasures = Erasures::default();
        for name in ["a", "b", "c"] {
            erasures.add(key(name), bar("x"), LATER, NOW);
        }
        let first = erasures.take_up(NOW).remove(0);
        erasures.postpone(&first);
        erasures.postpone(&first);
        let order: Vec<Key> = erasures.take_up(NOW).iter().map(|erasure| erasure.key).collect();
        assert!(order == [key("b"), key("c"), key("a")]);
        erasures.done(&first);
        assert_eq!(erasures.take_up(NOW).len(), 3, "it is to be tried again");
    }

    #[test]
    fn a_token_that_is_refused_again_holds_back_no_other() {
        let erasures = Erasures::default();
        for _ in 0..3 {
            erasures.add(key("a"), bar("x"), LATER, NOW);
        }
        assert!(erasures.holds_back(&key("a"), &granted("x")));
        assert!(!erasures.holds_back(&key("a"), &granted("y")), "it may be the one that came next");
    }

    #[test]
    fn the_oldest_go_where_there_is_no_room() {
        let erasures = Erasures::default();
        for n in 0..limits::MAX_ERASURES {
            assert_eq!(erasures.add(key(&n.to_string()), bar("x"), LATER, NOW).1, Room::Found);
        }
        assert_eq!(erasures.add(key("0"), bar("y"), LATER, NOW).1, Room::Found, "no more of them");
        assert_eq!(erasures.add(key("one more"), bar("x"), LATER, NOW).1, Room::Made);
        let held = |name: &str| erasures.holds_back(&key(name), &granted("x"));
        assert!(held("0") && !held("1") && held("2") && held("one more"));
        let pending = erasures.lock();
        assert_eq!(pending.by_key.len(), limits::MAX_ERASURES);
        assert_eq!(pending.by_age.len(), limits::MAX_ERASURES);
    }
}
