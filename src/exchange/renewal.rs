//! When a token in use is renewed, ahead of its end.
//!
//! Pure: times in, times out. Only a request that uses a token has it renewed, behind its back
//! and that of all others; a token that nobody uses runs out.

use std::time::Duration;

use crate::limits;

/// How long after it was asked for a token is renewed that is of use for `of_use`: when the
/// provider says so, else at three quarters, give or take some by `chance`, which is in `0..1`.
pub(super) fn after(of_use: Duration, refresh_in: Option<Duration>, chance: f64) -> Duration {
    // Neither at once, as that would be for ever, nor when it is of no more use.
    let said = refresh_in.filter(|said| *said < of_use).map(|said| said.max(of_use / 4));
    let spread = (of_use / 10).min(limits::MAX_RENEWAL_JITTER);
    let planned = said.unwrap_or(of_use / 4 * 3).min(of_use.saturating_sub(spread));
    let after = planned.saturating_sub(spread) + (spread * 2).mul_f64(chance);
    Duration::from_secs(after.as_secs().max(1))
}

/// How long after one try to renew a token the next one may follow.
pub(super) fn pause(chance: f64) -> Duration {
    limits::RENEWAL_PAUSE / 2 + limits::RENEWAL_PAUSE.mul_f64(chance)
}

/// How long a renewal gives way for which the provider has no lane to spare.
pub(super) fn give_way(chance: f64) -> Duration {
    let most = limits::RENEWAL_YIELD.as_secs();
    Duration::from_secs(1) + Duration::from_secs(most - 1).mul_f64(chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provider_decides_else_three_quarters_with_jitter() {
        // (of use, refresh_in, earliest, latest)
        let rows = [
            (3600, None, 2400, 3000),
            (3600, Some(1800), 1500, 2100),
            (3600, Some(3599), 3000, 3600),
            (3600, Some(3600), 2400, 3000),
            (3600, Some(86_400), 2400, 3000),
            (3600, Some(1), 600, 1200),
            (1000, None, 650, 850),
            (86_400, None, 64_500, 65_100),
            (60, None, 39, 51),
            (5, None, 3, 4),
            (1, None, 1, 1),
        ];
        for (of_use, said, earliest, latest) in rows {
            let at = |chance| {
                let said = said.map(Duration::from_secs);
                after(Duration::from_secs(of_use), said, chance).as_secs()
            };
            assert_eq!((at(0.0), at(1.0)), (earliest, latest), "{of_use} {said:?}");
        }
    }

    #[test]
    fn pauses_spread_the_tries() {
        let seconds = |of: fn(f64) -> Duration| (of(0.0).as_secs(), of(1.0).as_secs());
        assert_eq!(seconds(pause), (15, 45));
        assert_eq!(seconds(give_way), (1, 5));
    }
}
