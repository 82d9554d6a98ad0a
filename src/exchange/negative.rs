//! Refusals of a provider, remembered for a short while.
//!
//! A client in a loop gets its refusal again without reaching the provider, which would throttle
//! everybody. What is remembered, and for whom, the failure says itself: mostly for one inbound
//! token and what was asked for, so that a user who signed in again is not touched by it; for
//! all callers only where the provider refused the gateway as its client. A provider that is down
//! is never remembered here.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::failure::{ExchangeError, Memory};
use super::terms::Key;
use crate::limits;

/// The refusals that still hold.
#[derive(Default)]
pub(super) struct Refusals(Mutex<Remembered>);

/// A stretch of time between two reloads, in which refusals speak of the same configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Era(u64);

#[derive(Default)]
struct Remembered {
    era: Era,
    by_key: HashMap<Key, (Instant, Arc<ExchangeError>)>,
    by_end: BTreeSet<(Instant, Key)>,
}

impl Refusals {
    /// The refusal that still holds for `key`, worded for one who asks again.
    pub(super) fn recall(&self, key: &Key) -> Option<ExchangeError> {
        let now = Instant::now();
        let remembered = self.lock();
        let found = [*key, key.terms_alone()].iter().find_map(|key| {
            let (until, error) = remembered.by_key.get(key)?;
            let left = until.saturating_duration_since(now);
            (!left.is_zero()).then(|| (left, Arc::clone(error)))
        });
        drop(remembered);
        found.map(|(left, error)| error.again(left))
    }

    /// The era that an exchange which starts now belongs to.
    pub(super) fn era(&self) -> Era {
        self.lock().era
    }

    /// Remembers `error`, which `key` met in an exchange of `era`, for whom and as long as it says
    /// itself. One of an earlier era is not: the secret that it is about may be another one now.
    pub(super) fn remember(&self, key: Key, error: &Arc<ExchangeError>, era: Era) {
        let (key, time) = match error.memory() {
            Memory::None => return,
            Memory::Token(time) => (key, time),
            Memory::Client(time) => (key.terms_alone(), time),
        };
        let (now, mut remembered) = (Instant::now(), self.lock());
        if remembered.era != era {
            return;
        }
        while let Some(&(until, old)) = remembered.by_end.first()
            && (until <= now || remembered.by_end.len() >= limits::MAX_REMEMBERED_REFUSALS)
        {
            remembered.remove(&old);
        }
        remembered.remove(&key);
        remembered.by_end.insert((now + time, key));
        remembered.by_key.insert(key, (now + time, Arc::clone(error)));
    }

    /// Forgets them all, and those that exchanges under way will meet.
    pub(super) fn clear(&self) {
        let mut remembered = self.lock();
        let era = Era(remembered.era.0 + 1);
        *remembered = Remembered { era, ..Remembered::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn remove(&mut self, key: &Key) {
        if let Some((until, _)) = self.by_key.remove(key) {
            self.by_end.remove(&(until, *key));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::advice::Class;
    use super::super::terms::tests::terms;
    use super::*;
    use crate::rejection::{Code, Extra};
    use crate::secret::TokenDigest;

    const MINUTE: Duration = Duration::from_mins(1);

    fn key(user: &str, scope: &str) -> Key {
        terms("client", &[scope]).key(Some(TokenDigest::of(user.as_bytes())))
    }

    fn error(class: Class, memory: Memory) -> Arc<ExchangeError> {
        Arc::new(ExchangeError::new(class, "no".to_owned()).remembered(memory))
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_holds_for_its_token_and_scopes_for_its_time() {
        let refusals = Refusals::default();
        refusals.remember(
            key("a", "s"),
            &error(Class::Consent, Memory::Token(MINUTE)),
            refusals.era(),
        );
        assert!(refusals.recall(&key("b", "s")).is_none());
        assert!(refusals.recall(&key("a", "t")).is_none());
        let last = Duration::from_millis(1);
        tokio::time::advance(MINUTE.saturating_sub(last)).await;
        let again = refusals.recall(&key("a", "s")).unwrap().rejection();
        assert_eq!(again.code(), Code::ConsentRequired);
        assert_eq!(again.reason(), "no; remembered for 1 s more, the provider was not asked again");
        tokio::time::advance(last).await;
        assert!(refusals.recall(&key("a", "s")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_the_client_holds_for_all_on_its_terms() {
        let refusals = Refusals::default();
        refusals.remember(
            key("a", "s"),
            &error(Class::Gateway, Memory::Client(MINUTE)),
            refusals.era(),
        );
        assert!(refusals.recall(&key("b", "s")).is_some());
        assert!(refusals.recall(&key("b", "t")).is_none());
        refusals.clear();
        assert!(refusals.recall(&key("a", "s")).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_exchange_meets_that_began_before_a_reload_is_not_remembered() {
        let refusals = Refusals::default();
        let (before, refusal) = (refusals.era(), error(Class::Gateway, Memory::Client(MINUTE)));
        refusals.clear();
        refusals.remember(key("a", "s"), &refusal, before);
        assert!(refusals.recall(&key("a", "s")).is_none());
        refusals.remember(key("a", "s"), &refusal, refusals.era());
        assert!(refusals.recall(&key("a", "s")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_is_down_is_not_remembered() {
        let refusals = Refusals::default();
        refusals.remember(key("a", "s"), &error(Class::Unavailable, Memory::None), refusals.era());
        assert!(refusals.recall(&key("a", "s")).is_none());
        assert!(refusals.lock().by_key.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_what_is_left_of_it() {
        let refusals = Refusals::default();
        let held = ExchangeError::unavailable("loop".to_owned(), None);
        refusals.remember(
            key("a", "s"),
            &Arc::new(held.remembered(Memory::Token(MINUTE))),
            refusals.era(),
        );
        tokio::time::advance(Duration::from_secs(20)).await;
        let again = refusals.recall(&key("a", "s")).unwrap().rejection();
        assert_eq!(*again.extra(), Extra::RetryAfter(Duration::from_secs(41)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let refusals = Refusals::default();
        let refusal = error(Class::Invalid, Memory::Token(MINUTE));
        for n in 0..=limits::MAX_REMEMBERED_REFUSALS {
            refusals.remember(key(&n.to_string(), "s"), &refusal, refusals.era());
        }
        let most = limits::MAX_REMEMBERED_REFUSALS;
        let sizes = |refusals: &Refusals| {
            let remembered = refusals.lock();
            (remembered.by_key.len(), remembered.by_end.len())
        };
        assert_eq!(sizes(&refusals), (most, most));
        assert!(refusals.recall(&key(&most.to_string(), "s")).is_some());
        tokio::time::advance(MINUTE).await;
        refusals.remember(key("a", "s"), &refusal, refusals.era());
        assert_eq!(sizes(&refusals), (1, 1));
    }
}
