//! Until when a token is good: what a stream that outlives it goes by.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Requirement;
use super::provider::Provider;
use crate::clock::UnixTime;
use crate::identity::Identity;

/// The end of one token, by the clock that it was judged by.
#[derive(Clone)]
pub struct TokenEnd {
    provider: Arc<Provider>,
    at: UnixTime,
}

impl TokenEnd {
    /// The first second in which the token is worth nothing.
    pub fn at(&self) -> UnixTime {
        self.at
    }

    /// How long it is still good; zero: it is not. The clock has whole seconds: it may be up to one
    /// less.
    pub fn left(&self) -> Duration {
        self.at.since(self.provider.now())
    }
}

impl Requirement {
    /// The end of the token of `identity`, which met this requirement: its `exp`, or, of one that was
    /// past that and passed for the clocks' sake, that and `clock_skew`. `None` on an open route.
    pub fn token_end(&self, identity: &Identity) -> Option<TokenEnd> {
        let Self::Token { providers, .. } = self else { return None };
        let provider = providers.iter().find(|own| *own.name() == identity.provider)?;
        let at = end(identity.expires_at, provider.now(), provider.settings().clock_skew);
        Some(TokenEnd { provider: Arc::clone(provider), at })
    }
}

fn end(expires_at: UnixTime, now: UnixTime, skew: Duration) -> UnixTime {
    if expires_at > now { expires_at } else { expires_at.plus(skew) }
}

impl fmt::Debug for TokenEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEnd").field("at", &self.at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_passed_for_the_skew_ends_with_it() {
        let skew = Duration::from_mins(1);
        assert_eq!(end(UnixTime(100), UnixTime(99), skew), UnixTime(100));
        assert_eq!(end(UnixTime(100), UnixTime(100), skew), UnixTime(160));
        assert_eq!(end(UnixTime(100), UnixTime(159), skew), UnixTime(160));
    }
}
