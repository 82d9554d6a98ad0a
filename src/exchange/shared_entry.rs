//! A token as replicas hand it to each other, inside of what is sealed.
//!
//! Whoever holds an encryption key may have written it, another version of this program too: all of
//! it is looked at when it is read, and what is of another form or another exchange is nothing.

use std::time::Duration;

use http::HeaderValue;

use super::cache::{Granted, Source};
use super::terms::{KEY_BYTES, Key};
use crate::clock::UnixTime;
use crate::limits;
use crate::secret::SecretHeader;
use crate::shared_store::{POSITION_BYTES, Position};

/// The form of what is written here.
const VERSION: u8 = 1;

/// What stands for a time that the provider did not say.
const UNSAID: u64 = u64::MAX;

/// What every outbound token begins with, as a header.
const SCHEME: &[u8] = b"Bearer ";

/// A token that a replica left.
pub(super) struct Left {
    pub(super) granted: Granted,
    /// How far the replica had heard what all are told to forget, when it asked for the token.
    pub(super) heard: Position,
}

/// `granted` as bytes, the token under `key` that the exchange called `flight` gave, which began when
/// this replica had `heard` so much; `None` if its life is not known, and it can't be kept.
pub(super) fn write(
    granted: &Granted,
    key: &Key,
    flight: &Key,
    heard: Position,
) -> Option<Vec<u8>> {
    let life = granted.life?.as_secs();
    let refresh_in = granted.refresh_in.map_or(UNSAID, |time| time.as_secs());
    let token = granted.header.expose().as_bytes();
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&key.to_bytes());
    bytes.extend_from_slice(&flight.to_bytes());
    for number in [granted.asked_at.0, life, refresh_in] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(&heard.to_bytes());
    bytes.extend_from_slice(token);
    Some(bytes)
}

/// The token under `key` that `flight` gives, as another replica wrote it down; any flight's will do
/// where it is called as the key. `None` if it is none, or says what can't be.
pub(super) fn read(bytes: &[u8], key: &Key, flight: &Key, now: UnixTime) -> Option<Left> {
    let (&version, rest) = bytes.split_first()?;
    let (of, rest) = rest.split_first_chunk::<KEY_BYTES>()?;
    let (by, rest) = rest.split_first_chunk::<KEY_BYTES>()?;
    let is_right =
        version == VERSION && *of == key.to_bytes() && (flight == key || *by == flight.to_bytes());
    if !is_right {
        return None;
    }
    let (asked_at, rest) = number(rest)?;
    let (life, rest) = number(rest)?;
    let (refresh_in, rest) = number(rest)?;
    let (heard, token) = rest.split_first_chunk::<POSITION_BYTES>()?;
    let is_sane = asked_at <= now.plus(limits::SHARED_CLOCK_SKEW).0
        && (1..=limits::MAX_SHARED_TOKEN_LIFE.as_secs()).contains(&life);
    if !is_sane || !token.starts_with(SCHEME) || token.len() == SCHEME.len() {
        return None;
    }
    let header = SecretHeader::new(HeaderValue::from_bytes(token).ok()?);
    let granted = Granted {
        header,
        // The other's clock may be ahead of ours; so it ends earlier, not later.
        asked_at: UnixTime(asked_at.min(now.0)),
        life: Some(Duration::from_secs(life)),
        refresh_in: (refresh_in != UNSAID).then(|| Duration::from_secs(refresh_in)),
        source: Source::Replica,
    };
    Some(Left { granted, heard: Position::of_bytes(*heard) })
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::super::terms::tests::terms;
    use super::*;
    use crate::secret::TokenDigest;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn key(name: &str) -> Key {
        terms("client", &["scope"]).key(Some(TokenDigest::of(name.as_bytes())))
    }

    fn heard() -> Position {
        Position::of_bytes([7; POSITION_BYTES])
    }

    fn granted() -> Granted {
        Granted {
            header: SecretHeader::new(HeaderValue::from_static("Bearer abc")),
            asked_at: NOW,
            life: Some(Duration::from_hours(1)),
            refresh_in: Some(Duration::from_mins(30)),
            source: Source::Provider,
        }
    }

    #[test]
    fn what_is_written_is_read_by_the_same_exchange_only() {
        let (a, claims) = (key("a"), key("a").with_claims("{}"));
        let bytes = write(&granted(), &a, &a, heard()).unwrap();
        let left = read(&bytes, &a, &a, NOW.plus(Duration::from_secs(5))).unwrap();
        assert_eq!(left.heard, heard());
        let read_back = left.granted;
        assert_eq!(read_back.header, granted().header);
        assert_eq!((read_back.asked_at, read_back.life), (NOW, granted().life));
        assert_eq!(
            (read_back.refresh_in, read_back.source),
            (granted().refresh_in, Source::Replica)
        );
        assert!(read(&bytes, &key("b"), &key("b"), NOW).is_none());
        assert!(read(&bytes, &a, &claims, NOW).is_none(), "it says nothing of the claims");
        let better = write(&granted(), &a, &claims, heard()).unwrap();
        assert!(read(&better, &a, &claims, NOW).is_some());
        assert!(read(&better, &a, &a, NOW).is_some(), "a token with claims is one without, too");
        assert!(write(&Granted { life: None, ..granted() }, &a, &a, heard()).is_none());
    }

    #[test]
    fn times_that_cannot_be_are_not_believed() {
        let a = key("a");
        let at = |asked_at, life| {
            let life = Some(Duration::from_secs(life));
            let bytes = write(&Granted { asked_at, life, ..granted() }, &a, &a, heard()).unwrap();
            read(&bytes, &a, &a, NOW).map(|left| left.granted)
        };
        let ahead = NOW.plus(limits::SHARED_CLOCK_SKEW);
        assert_eq!(at(ahead, 3600).unwrap().asked_at, NOW);
        assert!(at(UnixTime(ahead.0 + 1), 3600).is_none());
        let longest = limits::MAX_SHARED_TOKEN_LIFE.as_secs();
        assert!(at(NOW, longest).is_some());
        assert!(at(NOW, longest + 1).is_none());
        assert!(at(NOW, 0).is_none());
    }

    #[test]
    fn bytes_of_another_form_are_no_token() {
        let a = key("a");
        let good = write(&granted(), &a, &a, heard()).unwrap();
        for length in 0..good.len() - 3 {
            assert!(read(&good[..length], &a, &a, NOW).is_none(), "cut to {length}");
        }
        let token = good.len() - "Bearer abc".len();
        for (at, byte) in [(0, 2), (token, b'b'), (good.len() - 1, b'\n')] {
            let mut other = good.clone();
            other[at] = byte;
            assert!(read(&other, &a, &a, NOW).is_none(), "byte {at}");
        }
    }
}
