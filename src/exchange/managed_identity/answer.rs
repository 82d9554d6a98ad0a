//! What a host of managed identities answers: a token, or the little that is kept of a refusal.
//!
//! As strict about what is a token as `exchange/answer.rs`, whose parts these are; lenient
//! about how its life is told. Of a refusal only the bare `error` is kept: descriptions name
//! tenants and identities.

use std::time::Duration;

use http::StatusCode;

use super::super::answer::{Life, Members, bearer, life, plain};
use crate::authn::json::Value;
use crate::clock::UnixTime;
use crate::secret::SecretHeader;

/// A token, ready to be sent to an upstream.
#[derive(Debug)]
pub(super) struct Token {
    /// `Bearer …`.
    pub(super) header: SecretHeader,
    /// How long it lives from now on; `None` if that was not said.
    pub(super) life: Option<Duration>,
}

/// An answer that is no token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A success by its status, but no token: why.
    NoToken(&'static str),
    /// A redirect.
    Redirect,
    /// Any other status, with the `error` of the body.
    Status(Option<String>),
}

/// Judges an answer by its status and body; `now` is what `expires_on` is compared with.
pub(super) fn read(status: StatusCode, body: &[u8], now: UnixTime) -> Result<Token, Refusal> {
    if status.is_redirection() {
        return Err(Refusal::Redirect);
    }
    let members = Members::read(body);
    match members {
        Some(members) if status == StatusCode::OK && *members.get("error") == Value::Null => {
            token(&members, now).map_err(Refusal::NoToken)
        }
        None if status == StatusCode::OK => {
            Err(Refusal::NoToken("not a JSON object that reads in one way only"))
        }
        members => {
            let of_error = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            let error = members.as_ref().and_then(|members| plain(members.get("error"), of_error));
            Err(Refusal::Status(error.map(str::to_owned)))
        }
    }
}

fn token(members: &Members<'_>, now: UnixTime) -> Result<Token, &'static str> {
    const OVER: &str =
        "a token that has already expired; compare this machine's clock with the real time";

    let header = bearer(members.get("access_token"), members.get("token_type"))?;
    // Both are told by hosts that keep tokens, and not all count `expires_in` from now; a
    // clock that is off spoils `expires_on`: the shorter one is safe.
    let left = match life(members.get("expires_in")) {
        Life::Unknown => None,
        Life::Seconds(seconds) => Some(seconds),
        Life::Over => return Err(OVER),
    };
    let until = match life(members.get("expires_on")) {
        Life::Unknown => None,
        Life::Seconds(second) if second > now.0 => Some(second - now.0),
        Life::Seconds(_) | Life::Over => return Err(OVER),
    };
    let seconds = left.into_iter().chain(until).min();
    Ok(Token { header, life: seconds.map(Duration::from_secs) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: UnixTime = UnixTime(1_000_000);

    fn read_json(status: u16, body: &Value) -> Result<Token, Refusal> {
        read(StatusCode::from_u16(status).unwrap(), body.to_string().as_bytes(), NOW)
    }

    fn life_of(members: &Value) -> Result<Option<u64>, Refusal> {
        let mut body = json!({ "access_token": "t", "token_type": "Bearer" });
        let body_members = body.as_object_mut().unwrap();
        body_members.extend(members.as_object().unwrap().clone());
        read_json(200, &body).map(|token| token.life.map(|life| life.as_secs()))
    }

    #[test]
    fn the_life_of_a_token_is_told_in_many_ways() {
        for (members, expected) in [
            (json!({}), None),
            (json!({ "expires_in": "3599" }), Some(3599)),
            (json!({ "expires_in": 3599.9 }), Some(3599)),
            (json!({ "expires_on": "1003600" }), Some(3600)),
            (json!({ "expires_on": 1_003_600 }), Some(3600)),
            (json!({ "expires_on": 1_000_001 }), Some(1)),
            (json!({ "expires_on": "1003600", "expires_in": "86400" }), Some(3600)),
            (json!({ "expires_on": "1086400", "expires_in": "3600" }), Some(3600)),
            // The form of an old version of App Service, which is not asked for.
            (json!({ "expires_on": "09/14/2017 00:00:00 PM +00:00" }), None),
            (json!({ "expires_on": null, "expires_in": [] }), None),
        ] {
            assert_eq!(life_of(&members), Ok(expected), "{members}");
        }
        for over in [
            json!({ "expires_in": 0 }),
            json!({ "expires_in": "-1" }),
            json!({ "expires_on": 1_000_000, "expires_in": 3600 }),
            json!({ "expires_on": "999999" }),
            json!({ "expires_on": -5 }),
        ] {
            assert!(matches!(life_of(&over), Err(Refusal::NoToken(_))), "{over}");
        }
    }

    #[test]
    fn what_is_in_doubt_is_no_token() {
        let header = |token: Token| token.header.expose().clone();
        let good = read_json(200, &json!({ "access_token": "t", "token_type": "bearer" }));
        assert_eq!(header(good.unwrap()), "Bearer t");
        for bad in [
            json!({ "token_type": "Bearer" }),
            json!({ "access_token": "", "token_type": "Bearer" }),
            json!({ "access_token": 7, "token_type": "Bearer" }),
            json!({ "access_token": "t" }),
            json!({ "access_token": "t", "token_type": "pop" }),
            json!({ "access_token": "a\r\nb", "token_type": "Bearer" }),
            json!({ "access_token": "t".repeat(32 * 1024 + 1), "token_type": "Bearer" }),
            json!(["t"]),
        ] {
            assert!(matches!(read_json(200, &bad), Err(Refusal::NoToken(_))), "{bad}");
        }
        let twice = br#"{"access_token":"a","access_token":"b","token_type":"Bearer"}"#;
        assert!(matches!(read(StatusCode::OK, twice, NOW), Err(Refusal::NoToken(_))));
        let body = json!({ "access_token": "t", "token_type": "Bearer" });
        assert!(matches!(read_json(201, &body), Err(Refusal::Status(None))));
        assert!(matches!(read_json(302, &body), Err(Refusal::Redirect)));
    }

    #[test]
    fn of_a_refusal_only_a_plain_error_is_kept() {
        let refused = |body: &Value| read_json(400, body).unwrap_err();
        let known =
            json!({ "error": "invalid_request", "error_description": "Identity not found" });
        assert_eq!(refused(&known), Refusal::Status(Some("invalid_request".into())));
        assert_eq!(refused(&json!({ "error": "of Alice" })), Refusal::Status(None));
        assert_eq!(refused(&json!({ "error": { "code": "x" } })), Refusal::Status(None));
        let both = json!({ "error": "x", "access_token": "t", "token_type": "Bearer" });
        assert_eq!(read_json(200, &both).unwrap_err(), Refusal::Status(Some("x".into())));
        assert_eq!(
            read(StatusCode::BAD_GATEWAY, b"<html>", NOW).unwrap_err(),
            Refusal::Status(None)
        );
    }
}
