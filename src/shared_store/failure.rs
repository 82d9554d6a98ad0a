//! What it means for others that the store did not answer as it should.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::limits;

/// Why a command has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The store is left out now and was not asked: it could not be reached, or failed too often, or the
    /// request has waited for it long enough.
    #[error(
        "the shared cache is left out, as it can't be reached, failed too often, or took too long before"
    )]
    Away,
    /// It did not answer in time.
    #[error("no answer within `cache.redis.timeout`")]
    Late,
    /// The connection is of no more use.
    #[error("{0}")]
    Lost(String),
    /// It says that it can't answer for now.
    #[error("{0}")]
    Passing(String),
    /// It answered that it will not, or with something that is no answer to the question.
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    /// What `error` means.
    #[allow(clippy::wildcard_enum_match_arm, reason = "kinds of the library, which adds some")]
    pub(super) fn of(error: &RedisError) -> Self {
        let what = shown(&error.to_string());
        if error.is_timeout() {
            return Self::Late;
        }
        if error.is_connection_dropped() || error.is_io_error() {
            return Self::Lost(what);
        }
        if is_of_a_replica(error) {
            return Self::Lost(what);
        }
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => {
                Self::Refused(format!(
                    "the server is a node of a cluster: write `redis-cluster://` or `rediss-cluster://` in `cache.redis.url` ({what})"
                ))
            }
            // No Redis at all: it has to be looked for again.
            ErrorKind::Parse
            | ErrorKind::AuthenticationFailed
            | ErrorKind::ClusterConnectionNotFound => Self::Lost(what),
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown,
            ) => Self::Passing(what),
            // What others there are says nothing of the whole store; `TRYAGAIN` is of a slot on its way.
            _ => Self::Refused(what),
        }
    }

    /// An answer that is none to the question.
    pub(super) fn strange() -> Self {
        Self::Refused("the answer is none to what was asked".to_owned())
    }

    /// Whether it says something of the whole store, so that the next who asks would fare no better.
    pub(super) fn counts(&self) -> bool {
        match self {
            Self::Late | Self::Lost(_) | Self::Passing(_) => true,
            Self::Away | Self::Refused(_) => false,
        }
    }
}

/// Whether a server says that it is not the master any more: the master has to be looked for again.
/// Up to Redis 6 an error within a script is told inside of another one.
fn is_of_a_replica(error: &RedisError) -> bool {
    let is_within = |detail: &str| detail.contains(" -READONLY ");
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || (error.code() == Some("ERR") && error.detail().is_some_and(is_within))
}

/// A text that the store may have written, for the log: cut, and on one line.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == limits::MAX_SHOWN_CHARS {
            shown.push('…');
            break;
        }
        match character {
            ' '..='~' => shown.push(character),
            // Also what is printable beyond ASCII: bidirectional marks would reorder the line.
            other => shown.extend(other.escape_unicode()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn of(kind: ServerErrorKind) -> Failure {
        Failure::of(&RedisError::from((ErrorKind::Server(kind), "no")))
    }

    #[test]
    fn a_replica_in_the_masters_place_is_left_and_a_full_store_is_not() {
        assert!(matches!(of(ServerErrorKind::ReadOnly), Failure::Lost(_)));
        let said = |text: &str| {
            let answer = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
            Failure::of(&answer.extract_error().unwrap_err())
        };
        assert!(matches!(
            said("READONLY You can't write against a read only replica."),
            Failure::Lost(_)
        ));
        // As Redis 6 says it of a script.
        let told = "ERR Error running script (call to f_7c1a): @user_script:4: @user_script: 4: -READONLY You can't write against a read only replica.";
        assert!(matches!(said(told), Failure::Lost(_)));
        let other = "ERR Error running script (call to f_7c1a): @user_script:4: @user_script: 4: -OOM command not allowed";
        assert!(matches!(said(other), Failure::Refused(_)));
        assert!(matches!(of(ServerErrorKind::BusyLoading), Failure::Passing(_)));
        assert!(matches!(of(ServerErrorKind::NoPerm), Failure::Refused(_)));
        let oom = redis::make_extension_error("OOM".to_owned(), None);
        assert!(!Failure::of(&oom).counts());
        let gone: RedisError = io::Error::from(io::ErrorKind::ConnectionReset).into();
        assert!(matches!(Failure::of(&gone), Failure::Lost(_)));
    }

    #[test]
    fn what_the_store_says_is_cut_and_on_one_line() {
        let said = |text: &str| {
            let error = redis::make_extension_error("ERR".to_owned(), Some(text.to_owned()));
            Failure::of(&error).to_string()
        };
        assert!(said("unknown command").ends_with("unknown command"));
        let forged = said("no\r\nlevel=INFO all is well\u{202e}\u{1b}[31m");
        assert!(forged.contains("no\\u{d}\\u{a}level=INFO"), "{forged}");
        assert!(forged.chars().all(|c| matches!(c, ' '..='~')), "{forged}");
        let long = said(&"x".repeat(limits::MAX_SHOWN_CHARS * 100));
        assert_eq!(long.chars().count(), limits::MAX_SHOWN_CHARS + 1);
        assert!(long.ends_with('…'));
        let moved = RedisError::from((
            ErrorKind::Server(ServerErrorKind::Moved),
            "no",
            "x".repeat(limits::MAX_SHOWN_CHARS * 100),
        ));
        assert!(Failure::of(&moved).to_string().len() < limits::MAX_SHOWN_CHARS * 2 + 100);
    }
}
