//! The refusals of authentication: what the caller reads is one fixed sentence per code,
//! whatever was wrong, so that an answer tells an attacker nothing about the check that failed.
//!
//! Only the operator's `reason` differs. Values from a token enter it through [`shown`].

use std::fmt::Write;
use std::time::Duration;

use crate::rejection::{Code, Extra, Rejection};

/// Longest value from a token in the log, in characters.
const MAX_SHOWN_CHARS: usize = 120;

/// 400: the `Authorization` header is not what RFC 6750 §2.1 describes.
pub(super) fn malformed(reason: impl Into<String>) -> Rejection {
    let detail = "The Authorization header must be sent once, as one Bearer token";
    Rejection::new(Code::BadRequest, detail, reason)
}

/// 401: there is no bearer token.
pub(super) fn missing(reason: impl Into<String>) -> Rejection {
    Rejection::new(Code::TokenMissing, "This resource needs a bearer token", reason)
}

/// 401: the token is not accepted. `why` goes on after "token refused: ".
pub(super) fn invalid(why: impl AsRef<str>) -> Rejection {
    let reason = format!("token refused: {}", why.as_ref());
    Rejection::new(Code::TokenInvalid, "The bearer token is not accepted here", reason)
}

/// 401: the token is past `exp`. `why` goes on after "token refused: ".
pub(super) fn expired(why: impl AsRef<str>) -> Rejection {
    let reason = format!("token refused: {}", why.as_ref());
    Rejection::new(Code::TokenExpired, "The bearer token has expired; get a new one", reason)
}

/// 503: the keys that judge the token can't be had now.
pub(super) fn unavailable(reason: impl Into<String>, retry_after: Duration) -> Rejection {
    let detail = "The identity provider can't be asked at the moment; try again later";
    Rejection::new(Code::ProviderUnavailable, detail, reason).with(Extra::RetryAfter(retry_after))
}

/// A value that came from outside, in backticks: bounded, and escaped so that it can't
/// forge a line of the log.
pub(crate) fn shown(value: &str) -> String {
    let mut text = String::from("`");
    for (count, character) in value.chars().enumerate() {
        if count == MAX_SHOWN_CHARS {
            text.push('…');
            break;
        }
        match character {
            '`' => text.push('\''),
            ' '..='~' => text.push(character),
            // Also what is printable beyond ASCII: bidirectional marks would reorder the line.
            // Writing to a `String` can't fail.
            other => drop(write!(text, "{}", other.escape_unicode())),
        }
    }
    text.push('`');
    text
}

/// Several values in backticks, with commas between them; at most ten of them.
pub(crate) fn shown_all<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let mut values = values.into_iter();
    let mut listed: Vec<String> = values.by_ref().take(10).map(shown).collect();
    let left = values.count();
    if left > 0 {
        listed.push(format!("and {left} more"));
    }
    if listed.is_empty() { "nothing".to_owned() } else { listed.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_outside_is_bounded_and_on_one_line() {
        assert_eq!(shown("k7"), "`k7`");
        assert_eq!(shown("a\nb`c\u{202e}"), "`a\\u{a}b'c\\u{202e}`");
        let long = shown(&"x".repeat(5000));
        assert_eq!(long.chars().count(), MAX_SHOWN_CHARS + 3);
        assert!(long.ends_with("…`"));
    }

    #[test]
    fn a_long_list_is_cut() {
        assert_eq!(shown_all([]), "nothing");
        assert_eq!(shown_all(["a", "b"]), "`a`, `b`");
        assert!(shown_all(["x"; 12]).ends_with("`x`, and 2 more"));
    }
}
