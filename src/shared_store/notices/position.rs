//! Where notices stand: the ids of Redis' streams.

use std::fmt;
use std::time::Duration;

use redis::Value as Answer;

use crate::clock::UnixTime;
use crate::limits;

/// Where a notice stands among the others; the default is before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub(super) milliseconds: u64,
    pub(super) sequence: u64,
}

/// Length of a [`Position`] in bytes.
pub const POSITION_BYTES: usize = 16;

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

    /// The next one that there can be.
    pub(super) fn next(self) -> Option<Self> {
        let Self { milliseconds, sequence } = self;
        match sequence.checked_add(1) {
            Some(sequence) => Some(Self { milliseconds, sequence }),
            None => Some(Self { milliseconds: milliseconds.checked_add(1)?, sequence: 0 }),
        }
    }

    /// The last one that there can be before it.
    pub(super) fn previous(self) -> Option<Self> {
        let Self { milliseconds, sequence } = self;
        match sequence.checked_sub(1) {
            Some(sequence) => Some(Self { milliseconds, sequence }),
            None => Some(Self { milliseconds: milliseconds.checked_sub(1)?, sequence: u64::MAX }),
        }
    }

    /// Whether the store can have given it until `now`: it gives its own time.
    pub(super) fn is_believable(self, now: UnixTime) -> bool {
        let given = Duration::from_millis(self.milliseconds).as_secs();
        given <= now.plus(limits::SHARED_CLOCK_SKEW).0
    }

    /// The one that the store says.
    pub(super) fn of(answer: &Answer) -> Option<Self> {
        let Answer::BulkString(id) = answer else { return None };
        let (milliseconds, sequence) = std::str::from_utf8(id).ok()?.split_once('-')?;
        Some(Self { milliseconds: milliseconds.parse().ok()?, sequence: sequence.parse().ok()? })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.milliseconds, self.sequence)
    }
}
