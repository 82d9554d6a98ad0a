//! JSON from outside, read strictly: one reading of a document, or none.
//!
//! `serde_json` keeps the last of two members of one name, and another parser the first; a
//! token that means two things is how checks are passed by. So a repeated member is refused
//! at any depth (RFC 7519 §4 leaves the choice), and so is nesting deeper than
//! [`limits::MAX_JSON_DEPTH`]. What the members mean is not known here.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::limits;

/// Reads one JSON object.
///
/// # Errors
///
/// What is not JSON in UTF-8, is not an object, nests too deep, or repeats a member. The
/// text of the error holds no value of the document.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, JsonError> {
    read(text, Repeated::Refuse)
}

/// Reads one JSON object, and puts `null` in place of an inner object that repeats a member.
///
/// For documents whose other parts stay good, such as a key set with one bad key.
///
/// # Errors
///
/// As [`object`]; a repeated member of the outermost object is among them.
pub fn object_with_holes(text: &[u8]) -> Result<Map<String, Value>, JsonError> {
    read(text, Repeated::Null)
}

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, not UTF-8, too deep, or a repeated member.
    #[error("it is not plain JSON (line {line}, column {column}): {what}", line = .0.line(), column = .0.column(), what = kind(.0))]
    Syntax(serde_json::Error),
    /// JSON, but not an object.
    #[error("it is not a JSON object")]
    NotAnObject,
}

/// What a repeated member makes of the object that has it.
#[derive(Clone, Copy)]
enum Repeated {
    Refuse,
    Null,
}

fn read(text: &[u8], repeated: Repeated) -> Result<Map<String, Value>, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let seed = Strict { depth: 1, repeated };
    let value = seed.deserialize(&mut deserializer).map_err(JsonError::Syntax)?;
    deserializer.end().map_err(JsonError::Syntax)?;
    match value {
        Value::Object(members) => Ok(members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(JsonError::NotAnObject)
        }
    }
}

/// The kind of a syntax error, without the text that `serde_json` may quote.
fn kind(error: &serde_json::Error) -> &'static str {
    let text = error.to_string();
    if text.starts_with(REPEATED) {
        REPEATED
    } else if text.starts_with(TOO_DEEP) || text.starts_with("recursion limit") {
        TOO_DEEP
    } else {
        "a syntax error"
    }
}

const REPEATED: &str = "a member is repeated";
const TOO_DEEP: &str = "it nests too deep";

/// Reads a value `depth` levels down.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
    repeated: Repeated,
}

impl Strict {
    fn inner<E: Error>(self) -> Result<Self, E> {
        if self.depth > limits::MAX_JSON_DEPTH {
            return Err(E::custom(TOO_DEEP));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut elements = Vec::new();
        while let Some(element) = access.next_element_seed(inner)? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut members = Map::new();
        let mut hole = false;
        while let Some(name) = access.next_key::<String>()? {
            let value = access.next_value_seed(inner)?;
            if members.insert(name, value).is_some() {
                hole = match self.repeated {
                    Repeated::Null if self.depth > 1 => true,
                    Repeated::Null | Repeated::Refuse => return Err(A::Error::custom(REPEATED)),
                };
            }
        }
        Ok(if hole { Value::Null } else { Value::Object(members) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_repeated_member_is_refused_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[[{"a":1,"b":2,"a":2}]]}"#,
        ] {
            let error = object(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("repeated"), "{text}: {error}");
        }
        assert!(object(br#"{"a":{"a":[{"a":1},{"a":1}]},"A":1}"#).is_ok());
    }

    #[test]
    fn with_holes_only_the_object_that_repeats_is_lost() {
        let read = object_with_holes(br#"{"keys":[{"a":1,"a":2},{"b":1}]}"#).unwrap();
        assert_eq!(Value::Object(read), json!({"keys": [null, {"b": 1}]}));
        assert!(object_with_holes(br#"{"keys":[],"keys":[]}"#).is_err());
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested = |depth: usize| {
            format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1)).into_bytes()
        };
        assert!(object(&nested(limits::MAX_JSON_DEPTH)).is_ok());
        let error = object(&nested(limits::MAX_JSON_DEPTH + 1)).unwrap_err();
        assert!(error.to_string().contains("too deep"), "{error}");
        assert!(object(&nested(5000)).is_err());
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for text in [
            &b""[..],
            b"null",
            b"[]",
            b"\"a\"",
            b"1",
            b"{} {}",
            b"{}x",
            b"{\"a\":1,}",
            b"{'a':1}",
            b"{\"a\":1e999}",
            b"{\"a\":NaN}",
            b"{\"a\":01}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":\"\xff\"}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\n\"}",
        ] {
            assert!(object(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_error_quotes_nothing() {
        let error = object(br#"{"secret-claim": hunter2}"#).unwrap_err().to_string();
        assert!(!error.contains("hunter2") && !error.contains("secret"), "{error}");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "\\PC{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-c]{0,2}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_writes_is_read_back(value in any_json()) {
            let text = json!({"v": value}).to_string();
            prop_assert_eq!(Value::Object(object(text.as_bytes()).unwrap()), json!({"v": value}));
        }

        #[test]
        fn no_bytes_panic_and_the_strict_reading_is_the_usual_one(text in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(members) = object(&text) {
                prop_assert_eq!(Value::Object(members), serde_json::from_slice::<Value>(&text).unwrap());
            }
        }

        #[test]
        fn a_repetition_anywhere_is_found(value in any_json(), depth in 0_usize..8) {
            let pair = format!("{{\"d\":{value},\"d\":{value}}}");
            let text = (0..depth).fold(pair, |inner, _| format!("{{\"w\":[{inner}]}}"));
            prop_assert!(object(text.as_bytes()).is_err());
        }
    }
}
