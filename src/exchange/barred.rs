//! Tokens that are not taken from the shared store, whatever it holds.
//!
//! One that its upstream refused, and those of a caller whom the provider does not let in any more,
//! are dropped there, too; but the store may not hear of it, or hear of it late.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::cache::Granted;
use super::terms::Key;
use crate::clock::UnixTime;
use crate::limits;
use crate::secret::{SecretHeader, TokenDigest};

/// Which tokens under a key are held back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bar {
    /// This one.
    Token(TokenDigest),
    /// All that were asked for until then, by any replica's clock.
    AskedUntil(UnixTime),
}

/// What is held back under a key: neither bar lifts the other.
#[derive(Clone, Copy, Default)]
pub(super) struct Both {
    token: Option<TokenDigest>,
    asked_until: Option<UnixTime>,
}

/// What is held back, for [`limits::BARRED_FOR`].
#[derive(Default)]
pub(super) struct Barred(Mutex<Bars>);

#[derive(Default)]
struct Bars {
    by_key: HashMap<Key, (Instant, Both)>,
    by_time: VecDeque<(Instant, Key)>,
}

impl Bar {
    /// The one about `header` alone.
    pub(super) fn of(header: &SecretHeader) -> Self {
        Self::Token(TokenDigest::of(header.expose().as_bytes()))
    }

    /// Whether it is about `granted`.
    pub(super) fn holds_back(self, granted: &Granted) -> bool {
        match self {
            Self::Token(_) => self == Self::of(&granted.header),
            // Where the writer's clock is ahead, the token is older than it says: so it may be by the
            // most that is believed. One that comes from the store says `now` where the writer said a
            // later time: with that more is held back, and never less.
            Self::AskedUntil(time) => granted.asked_at <= time.plus(limits::SHARED_CLOCK_SKEW),
        }
    }
}

impl Both {
    pub(super) fn add(&mut self, bar: Bar) {
        match bar {
            Bar::Token(token) => self.token = Some(token),
            Bar::AskedUntil(time) => self.asked_until = self.asked_until.max(Some(time)),
        }
    }

    /// Whether `bar` adds nothing.
    pub(super) fn includes(self, bar: Bar) -> bool {
        match bar {
            Bar::Token(token) => self.token == Some(token),
            Bar::AskedUntil(time) => self.asked_until >= Some(time),
        }
    }

    pub(super) fn holds_back(self, granted: &Granted) -> bool {
        let bars = [self.token.map(Bar::Token), self.asked_until.map(Bar::AskedUntil)];
        bars.into_iter().flatten().any(|bar| bar.holds_back(granted))
    }
}

impl Barred {
    /// Holds back what `bar` says under `key`: of single tokens the last one, of times the latest.
    pub(super) fn add(&self, key: Key, bar: Bar) {
        let (now, mut bars) = (Instant::now(), self.lock());
        while let Some(&(since, old)) = bars.by_time.front()
            && (now.saturating_duration_since(since) >= limits::BARRED_FOR
                || bars.by_time.len() >= limits::MAX_BARRED)
        {
            bars.by_time.pop_front();
            // Unless it was barred anew meanwhile.
            if bars.by_key.get(&old).is_some_and(|(at, _)| *at == since) {
                bars.by_key.remove(&old);
            }
        }
        let (since, both) = bars.by_key.entry(key).or_insert((now, Both::default()));
        *since = now;
        both.add(bar);
        bars.by_time.push_back((now, key));
    }

    /// Whether `granted` is not to be used under `key`.
    pub(super) fn holds_back(&self, key: &Key, granted: &Granted) -> bool {
        let both = self.lock().by_key.get(key).map(|(_, both)| *both);
        both.is_some_and(|both| both.holds_back(granted))
    }

    fn lock(&self) -> MutexGuard<'_, Bars> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::cache::Source;
    use super::super::terms::tests::terms;
    use super::*;

    fn key(name: &str) -> Key {
        terms("client", &["scope"]).key(Some(TokenDigest::of(name.as_bytes())))
    }

    fn granted(token: &'static str, asked_at: u64) -> Granted {
        Granted {
            header: SecretHeader::new(HeaderValue::from_static(token)),
            asked_at: UnixTime(asked_at),
            life: None,
            refresh_in: None,
            source: Source::Replica,
        }
    }

    #[test]
    fn one_token_or_all_until_a_time_are_held_back() {
        let barred = Barred::default();
        barred.add(key("a"), Bar::Token(TokenDigest::of(b"Bearer x")));
        barred.add(key("b"), Bar::AskedUntil(UnixTime(10)));
        let held =
            |of: &str, token, asked_at| barred.holds_back(&key(of), &granted(token, asked_at));
        assert!(held("a", "Bearer x", 20));
        assert!(!held("a", "Bearer y", 1));
        let skew = limits::SHARED_CLOCK_SKEW.as_secs();
        assert!(held("b", "Bearer y", 10));
        assert!(held("b", "Bearer y", 10 + skew), "by a clock that is ahead");
        assert!(!held("b", "Bearer y", 11 + skew));
        assert!(!held("c", "Bearer x", 1));
    }

    #[test]
    fn one_bar_does_not_lift_another() {
        let barred = Barred::default();
        let held = |token, asked_at| barred.holds_back(&key("a"), &granted(token, asked_at));
        barred.add(key("a"), Bar::AskedUntil(UnixTime(1000)));
        barred.add(key("a"), Bar::Token(TokenDigest::of(b"Bearer x")));
        barred.add(key("a"), Bar::AskedUntil(UnixTime(900)));
        assert!(held("Bearer y", 1000), "who was shut out still is");
        assert!(held("Bearer x", 5000), "and the refused token is refused");
        assert!(!held("Bearer y", 5000));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let barred = Barred::default();
        for n in 0..=limits::MAX_BARRED {
            barred.add(key("same"), Bar::AskedUntil(UnixTime(1)));
            barred.add(key(&n.to_string()), Bar::AskedUntil(UnixTime(1)));
        }
        let bars = barred.lock();
        assert_eq!(bars.by_time.len(), limits::MAX_BARRED);
        assert!(bars.by_key.len() <= limits::MAX_BARRED);
        assert!(bars.by_key.contains_key(&key("same")));
    }
}
