//! Which tokens were dropped a moment ago because their upstream refused them.
//!
//! An upstream that refuses every token would else cost one exchange for each request, and a
//! single user could bring the provider to throttle everybody.

use std::collections::{HashSet, VecDeque};

use tokio::time::Instant;

use super::terms::Key;
use crate::limits;

/// The drops of the last [`limits::REFUSED_TOKEN_FLOOR`].
#[derive(Default)]
pub(super) struct Refused {
    keys: HashSet<Key>,
    by_time: VecDeque<(Instant, Key)>,
}

impl Refused {
    /// Whether the token under `key` may be dropped: none was a moment ago.
    pub(super) fn may_drop(&mut self, key: &Key) -> bool {
        let now = Instant::now();
        while let Some((at, old)) = self.by_time.front()
            && now.saturating_duration_since(*at) >= limits::REFUSED_TOKEN_FLOOR
        {
            self.keys.remove(old);
            self.by_time.pop_front();
        }
        // Full: what can't be remembered is not done, as the bound is what this is for.
        self.by_time.len() < limits::MAX_REFUSED_TOKENS && !self.keys.contains(key)
    }

    /// Remembers that the token under `key` was dropped now.
    pub(super) fn dropped(&mut self, key: Key) {
        if self.keys.insert(key) {
            self.by_time.push_back((Instant::now(), key));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::terms::tests::terms;
    use super::*;
    use crate::secret::TokenDigest;

    fn key(name: &str) -> Key {
        terms("client", &["scope"]).key(Some(TokenDigest::of(name.as_bytes())))
    }

    #[tokio::test(start_paused = true)]
    async fn one_drop_in_a_while_for_each_key() {
        let mut refused = Refused::default();
        assert!(refused.may_drop(&key("a")));
        refused.dropped(key("a"));
        let last = Duration::from_millis(1);
        tokio::time::advance(limits::REFUSED_TOKEN_FLOOR.saturating_sub(last)).await;
        assert!(!refused.may_drop(&key("a")));
        assert!(refused.may_drop(&key("b")));
        tokio::time::advance(last).await;
        assert!(refused.may_drop(&key("a")));
        assert_eq!((refused.keys.len(), refused.by_time.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let mut refused = Refused::default();
        for n in 0..limits::MAX_REFUSED_TOKENS {
            assert!(refused.may_drop(&key("one more")));
            refused.dropped(key(&n.to_string()));
        }
        assert!(!refused.may_drop(&key("one more")));
        tokio::time::advance(limits::REFUSED_TOKEN_FLOOR).await;
        assert!(refused.may_drop(&key("one more")));
    }
}
