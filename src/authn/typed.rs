//! Claims by type (RFC 7519 §4.1): a claim of the wrong JSON type refuses the token, it is
//! never taken for a missing one.

use serde_json::Number;

use crate::clock::UnixTime;
use crate::identity;
use crate::rejection::Rejection;

use super::json::{Object, Value};
use super::refusal;

/// The greatest integer that every JSON implementation reads alike (RFC 8259 §6).
const MAX_SAFE_INTEGER: u64 = 1 << 53;

/// Which whole second a fraction counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// For what ends: `exp`.
    Down,
    /// For what begins: `nbf` and `iat`.
    Up,
}

fn claim<'a, 'd>(claims: &'a Object<'d>, name: &str) -> Option<&'a Value<'d>> {
    identity::claim(name, |name| claims.get(name), |value, name| value.as_object()?.get(name))
}

/// A claim that is a string, if it is there.
pub(super) fn text<'a>(claims: &'a Object<'_>, name: &str) -> Result<Option<&'a str>, Rejection> {
    match claim(claims, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong_type(name, other, "a string")),
    }
}

/// A claim that is a `NumericDate` (RFC 7519 §2) from 0 to 2^53, if it is there.
pub(super) fn time(
    claims: &Object<'_>,
    name: &str,
    round: Round,
) -> Result<Option<UnixTime>, Rejection> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let Value::Number(number) = value else {
        return Err(wrong_type(name, value, "a number"));
    };
    match seconds(number, round) {
        Some(time) => Ok(Some(time)),
        None => Err(refusal::invalid(format!("`{name}` is {number}, and not a time in seconds"))),
    }
}

/// A `NumericDate` from 0 to 2^53.
pub(super) fn seconds(number: &Number, round: Round) -> Option<UnixTime> {
    let seconds = number.as_u64().or_else(|| whole(number.as_f64()?, round));
    seconds.filter(|seconds| *seconds <= MAX_SAFE_INTEGER).map(UnixTime)
}

fn whole(seconds: f64, round: Round) -> Option<u64> {
    let whole = match round {
        Round::Down => seconds.floor(),
        Round::Up => seconds.ceil(),
    };
    #[allow(clippy::cast_precision_loss, reason = "2^53 is exact in an f64")]
    let in_range = seconds >= 0.0 && whole <= MAX_SAFE_INTEGER as f64;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is a whole number from 0 to 2^53"
    )]
    in_range.then_some(whole as u64)
}

/// A claim that is a string or an array of strings, if it is there; a string is one element.
pub(super) fn texts<'a>(
    claims: &'a Object<'_>,
    name: &str,
) -> Result<Option<Vec<&'a str>>, Rejection> {
    match claim(claims, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(vec![text])),
        Some(Value::Array(elements)) => {
            let texts: Option<Vec<&str>> = elements.iter().map(Value::as_str).collect();
            texts.map(Some).ok_or_else(|| {
                refusal::invalid(format!("`{name}` is an array with something other than strings"))
            })
        }
        Some(other) => Err(wrong_type(name, other, "a string or an array of strings")),
    }
}

/// A claim that is a string of words with spaces between (RFC 6749 §3.3), or an array of
/// strings, if it is there.
pub(super) fn words<'a>(
    claims: &'a Object<'_>,
    name: &str,
) -> Result<Option<Vec<&'a str>>, Rejection> {
    let texts = texts(claims, name)?;
    // An element of an array is one word, whatever is in it.
    if let Some(Value::Array(_)) = claim(claims, name) {
        return Ok(texts);
    }
    Ok(texts.map(|texts| {
        texts.into_iter().flat_map(|text| text.split(' ')).filter(|word| !word.is_empty()).collect()
    }))
}

/// A claim that is a string, an array of strings, or an object whose members are objects and whose
/// names count (ZITADEL's roles, each with the organisations that gave it), if it is there.
pub(super) fn names<'a>(
    claims: &'a Object<'_>,
    name: &str,
) -> Result<Option<Vec<&'a str>>, Rejection> {
    let Some(Value::Object(members)) = claim(claims, name) else { return texts(claims, name) };
    // What `{"admin": false}` would mean is anybody's guess.
    match members.iter().find(|(_, value)| value.as_object().is_none()) {
        None => Ok(Some(members.iter().map(|(name, _)| name).collect())),
        Some((member, _)) => Err(refusal::invalid(format!(
            "`{name}` is an object whose member {} is no object",
            refusal::shown(member)
        ))),
    }
}

fn wrong_type(name: &str, value: &Value<'_>, wanted: &str) -> Rejection {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    refusal::invalid(format!("`{name}` is {found}, and has to be {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;
    use serde_json::json;

    /// Claims of which one is this.
    fn one(value: &serde_json::Value) -> Object<'static> {
        let text = json!({ "c": value }).to_string();
        json::object(text.leak().as_bytes()).unwrap()
    }

    #[test]
    fn a_time_is_a_number_from_0_to_2_to_the_53() {
        for (value, down, up) in [
            (json!(0), 0, 0),
            (json!(-0.0), 0, 0),
            (json!(17), 17, 17),
            (json!(17.0), 17, 17),
            (json!(17.2), 17, 18),
            (json!(0.1), 0, 1),
            (json!(1e3), 1000, 1000),
            (json!(1_u64 << 53), 1 << 53, 1 << 53),
        ] {
            let time = |round| time(&one(&value), "c", round).unwrap().unwrap().0;
            assert_eq!((time(Round::Down), time(Round::Up)), (down, up), "{value}");
        }
        for value in [
            json!(-1),
            json!(-0.5),
            json!((1_u64 << 53) + 1),
            json!(u64::MAX),
            json!(1e300),
            json!("17"),
            json!(null),
            json!([17]),
            json!(true),
        ] {
            assert!(time(&one(&value), "c", Round::Down).is_err(), "{value}");
            assert!(time(&one(&value), "c", Round::Up).is_err(), "{value}");
        }
        assert_eq!(time(&Object::default(), "c", Round::Up).unwrap(), None);
    }

    #[test]
    fn text_is_text_and_nothing_that_looks_like_it() {
        assert_eq!(text(&one(&json!("x")), "c").unwrap(), Some("x"));
        assert_eq!(text(&Object::default(), "c").unwrap(), None);
        for value in [json!(null), json!(1), json!(["x"]), json!({}), json!(false)] {
            assert!(text(&one(&value), "c").is_err(), "{value}");
        }
    }

    #[test]
    fn words_come_from_a_string_or_an_array() {
        let words =
            |value| words(&one(&value), "c").map(|words| words.map(|words| words.join("|")));
        assert_eq!(words(json!("a b  c")).unwrap().unwrap(), "a|b|c");
        assert_eq!(words(json!(["a", "b"])).unwrap().unwrap(), "a|b");
        assert_eq!(words(json!(["a b", "c"])).unwrap().unwrap(), "a b|c");
        assert_eq!(words(json!("")).unwrap().unwrap(), "");
        for value in [json!(null), json!(1), json!(["a", 1]), json!({"a": "b"})] {
            assert!(words(value.clone()).is_err(), "{value}");
        }
    }

    #[test]
    fn names_are_also_those_of_an_objects_members() {
        let names =
            |value| names(&one(&value), "c").map(|names| names.map(|names| names.join("|")));
        assert_eq!(names(json!("a b")).unwrap().unwrap(), "a b");
        assert_eq!(names(json!(["a", "b"])).unwrap().unwrap(), "a|b");
        assert_eq!(names(json!({"a": {"1": "x"}, "b": {}})).unwrap().unwrap(), "a|b");
        assert_eq!(names(json!({})).unwrap().unwrap(), "");
        for value in [
            json!({"a": false}),
            json!({"a": {}, "b": null}),
            json!({"a": ["b"]}),
            json!({"a": "b"}),
            json!(1),
        ] {
            assert!(names(value.clone()).is_err(), "{value}");
        }
    }

    #[test]
    fn one_string_is_one_element() {
        assert_eq!(texts(&one(&json!("a b")), "c").unwrap().unwrap(), ["a b"]);
    }
}
