//! JSON from outside, read strictly: one reading of a document, or none.
//!
//! `serde_json` keeps the last of two members of one name, and another parser the first; a
//! token that means two things is how checks are passed by. So a repeated member is refused
//! at any depth (RFC 7519 §4 leaves the choice), and so is nesting deeper than
//! [`limits::MAX_JSON_DEPTH`]. What the members mean is not known here.

use std::borrow::Cow;
use std::fmt;
use std::str::Utf8Error;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Number};

use crate::identity::Claimed;
use crate::limits;

/// A value of a document. Its text is the document's own, where that has no escapes.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'d> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number that an `f64` can hold.
    Number(Number),
    /// A string.
    String(Cow<'d, str>),
    /// An array.
    Array(Vec<Value<'d>>),
    /// An object.
    Object(Object<'d>),
}

/// An object of a document: no two of its members have one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<'d> {
    /// In the order of their names.
    members: Vec<(Cow<'d, str>, Value<'d>)>,
}

impl<'d> Value<'d> {
    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// A number.
    pub fn as_number(&self) -> Option<&Number> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(elements) = self { Some(elements) } else { None }
    }

    /// The members of an object.
    pub fn as_object(&self) -> Option<&Object<'d>> {
        if let Self::Object(members) = self { Some(members) } else { None }
    }

    /// A copy that needs no document.
    pub fn to_owned(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Number(number) => number.clone().into(),
            Self::String(text) => (**text).into(),
            Self::Array(elements) => elements.iter().map(Self::to_owned).collect(),
            Self::Object(members) => members.to_map().into(),
        }
    }
}

impl Claimed for &Value<'_> {
    fn text(&self) -> Option<&str> {
        self.as_str()
    }
}

impl<'d> Object<'d> {
    /// The member called `name`.
    pub fn get(&self, name: &str) -> Option<&Value<'d>> {
        let place = self.members.binary_search_by(|(own, _)| (**own).cmp(name)).ok()?;
        self.members.get(place).map(|(_, value)| value)
    }

    /// Whether there is a member called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All members, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value<'d>)> {
        self.members.iter().map(|(name, value)| (&**name, value))
    }

    /// A copy that needs no document.
    pub fn to_map(&self) -> Map<String, serde_json::Value> {
        self.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

impl<'d> From<&'d serde_json::Value> for Value<'d> {
    fn from(value: &'d serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => Self::Number(number.clone()),
            serde_json::Value::String(text) => Self::String(text.into()),
            serde_json::Value::Array(elements) => {
                Self::Array(elements.iter().map(Self::from).collect())
            }
            serde_json::Value::Object(members) => Self::Object(members.into()),
        }
    }
}

impl<'d> From<&'d Map<String, serde_json::Value>> for Object<'d> {
    fn from(members: &'d Map<String, serde_json::Value>) -> Self {
        let mut members: Vec<_> =
            members.iter().map(|(name, value)| (name.into(), value.into())).collect();
        members.sort_unstable_by(by_name);
        Self { members }
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(elements) => serializer.collect_seq(elements),
            Self::Object(members) => serializer.collect_map(members.iter()),
        }
    }
}

fn by_name<'d>(
    (one, _): &(Cow<'d, str>, Value<'d>),
    (other, _): &(Cow<'d, str>, Value<'d>),
) -> std::cmp::Ordering {
    one.cmp(other)
}

/// Reads one JSON object.
///
/// # Errors
///
/// What is not JSON in UTF-8, is not an object, nests too deep, or repeats a member. The
/// text of the error holds no value of the document.
pub fn object(text: &[u8]) -> Result<Object<'_>, JsonError> {
    read(text, Repeated::Refuse)
}

/// Reads one JSON object, and puts `null` in place of an inner object that repeats a member.
///
/// For documents whose other parts stay good, such as a key set with one bad key.
///
/// # Errors
///
/// As [`object`]; a repeated member of the outermost object is among them.
pub fn object_with_holes(text: &[u8]) -> Result<Object<'_>, JsonError> {
    read(text, Repeated::Null)
}

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not UTF-8.
    #[error("it is not plain JSON: not UTF-8 from byte {} on", .0.valid_up_to())]
    NotText(Utf8Error),
    /// Not JSON, too deep, or a repeated member.
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

fn read(text: &[u8], repeated: Repeated) -> Result<Object<'_>, JsonError> {
    // All at once: each string by itself would take ten times as long.
    let text = str::from_utf8(text).map_err(JsonError::NotText)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
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

/// How many members an object has room for before it grows; a token has some twenty claims.
const USUAL_MEMBERS: usize = 24;

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

    /// Room for the members of an object at this depth.
    fn room<'d>(self) -> Vec<(Cow<'d, str>, Value<'d>)> {
        if self.depth == 1 { Vec::with_capacity(USUAL_MEMBERS) } else { Vec::new() }
    }
}

impl<'d> DeserializeSeed<'d> for Strict {
    type Value = Value<'d>;

    fn deserialize<D: Deserializer<'d>>(self, deserializer: D) -> Result<Value<'d>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'d> Visitor<'d> for Strict {
    type Value = Value<'d>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'d>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value<'d>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value<'d>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value<'d>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value<'d>, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'d str) -> Result<Value<'d>, E> {
        Text.visit_borrowed_str(value).map(Value::String)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value<'d>, E> {
        Text.visit_str(value).map(Value::String)
    }

    fn visit_seq<A: SeqAccess<'d>>(self, mut access: A) -> Result<Value<'d>, A::Error> {
        let inner = self.inner()?;
        let mut elements = Vec::new();
        while let Some(element) = access.next_element_seed(inner)? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'d>>(self, mut access: A) -> Result<Value<'d>, A::Error> {
        let inner = self.inner()?;
        let mut members = self.room();
        let mut is_in_order = true;
        while let Some(name) = access.next_key_seed(Text)? {
            is_in_order &= members.last().is_none_or(|(last, _)| *last < name);
            members.push((name, access.next_value_seed(inner)?));
        }
        if !is_in_order {
            members.sort_unstable_by(by_name);
            if members.windows(2).any(|pair| matches!(pair, [(one, _), (next, _)] if one == next)) {
                return match self.repeated {
                    Repeated::Null if self.depth > 1 => Ok(Value::Null),
                    Repeated::Null | Repeated::Refuse => Err(A::Error::custom(REPEATED)),
                };
            }
        }
        Ok(Value::Object(Object { members }))
    }
}

/// Reads a string, which is borrowed where it stands in the document as it is.
struct Text;

impl<'d> DeserializeSeed<'d> for Text {
    type Value = Cow<'d, str>;

    fn deserialize<D: Deserializer<'d>>(self, deserializer: D) -> Result<Cow<'d, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'d> Visitor<'d> for Text {
    type Value = Cow<'d, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'d str) -> Result<Cow<'d, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cow<'d, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

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
        assert_eq!(read.to_map(), *json!({"keys": [null, {"b": 1}]}).as_object().unwrap());
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
            let read = object(text.as_bytes()).unwrap();
            let whole = json!({"v": value});
            prop_assert_eq!(&Value::Object(read.to_map()), &whole);
            prop_assert_eq!(&read, &Object::from(whole.as_object().unwrap()));
            let written = read.iter().map(|(_, value)| serde_json::to_string(value).unwrap());
            prop_assert_eq!(written.collect::<String>(), value.to_string());
        }

        #[test]
        fn no_bytes_panic_and_the_strict_reading_is_the_usual_one(text in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(members) = object(&text) {
                prop_assert_eq!(Value::Object(members.to_map()), serde_json::from_slice::<Value>(&text).unwrap());
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
