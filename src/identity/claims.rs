//! All claims of a verified token, as small as they can be kept: one for each cached token, and most
//! requests ask for none of them.

use std::ops::Range;

use serde::Serialize;
use serde_json::Value;

/// Room for the text of most claims; what is too much is given back.
const USUAL_BYTES: usize = 1536;

/// The claims of one token. Each is JSON text, read when it is asked for: as a map of values they
/// would take four times the room, in a hundred pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Name, value, name, value, …; the values as JSON.
    text: Box<str>,
    /// Where each ends, in bytes.
    ends: Box<[Ends]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    name: u32,
    value: u32,
}

impl Claims {
    /// The claim of just this name.
    pub fn get(&self, name: &str) -> Option<Value> {
        let mut begin = 0;
        for ends in &self.ends {
            // Most names differ in their length.
            let is_as_long = (ends.name - begin) as usize == name.len();
            if is_as_long && self.part(begin..ends.name)? == name {
                return self.part(ends.name..ends.value).map(read);
            }
            begin = ends.value;
        }
        None
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value)> {
        self.texts().map(|(name, value)| (name, read(value)))
    }

    /// Names, and values as JSON.
    fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut begin = 0;
        self.ends.iter().map_while(move |ends| {
            let name = self.part(begin..ends.name)?;
            begin = ends.value;
            Some((name, self.part(ends.name..ends.value)?))
        })
    }

    fn part(&self, range: Range<u32>) -> Option<&str> {
        self.text.get(range.start as usize..range.end as usize)
    }
}

/// What a token claims under one name.
pub trait Claimed: Serialize {
    /// The text of a string.
    fn text(&self) -> Option<&str>;
}

impl Claimed for &Value {
    fn text(&self) -> Option<&str> {
        self.as_str()
    }
}

/// Whether the text of a string stands in JSON as it is (RFC 8259 §7). No early end, so that many
/// bytes are compared at once.
fn is_plain(text: &str) -> bool {
    let is_special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    text.bytes().fold(0, |special, byte| special | u8::from(is_special(byte))) == 0
}

impl<'c, V: Claimed> FromIterator<(&'c str, V)> for Claims {
    /// Takes claims, each once, in the order of their names.
    fn from_iter<I: IntoIterator<Item = (&'c str, V)>>(claims: I) -> Self {
        let mut text = Vec::with_capacity(USUAL_BYTES);
        // A token is far shorter than that.
        let end = |text: &Vec<u8>| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let put = |(name, value): (&str, V)| {
            text.extend_from_slice(name.as_bytes());
            let name = text.len();
            if let Some(plain) = value.text().filter(|text| is_plain(text)) {
                text.push(b'"');
                text.extend_from_slice(plain.as_bytes());
                text.push(b'"');
            } else if serde_json::to_writer(&mut text, &value).is_err() {
                // As of one that can't be read.
                text.truncate(name);
                text.extend_from_slice(b"null");
            }
            Ends { name: u32::try_from(name).unwrap_or(u32::MAX), value: end(&text) }
        };
        let ends = claims.into_iter().map(put).collect();
        Self { text: String::from_utf8(text).unwrap_or_default().into(), ends }
    }
}

#[cfg(test)]
impl From<serde_json::Map<String, Value>> for Claims {
    fn from(claims: serde_json::Map<String, Value>) -> Self {
        claims.iter().map(|(name, value)| (name.as_str(), value)).collect()
    }
}

/// A value that could not be read would be null, which meets nothing: a claim that binds a token is
/// never taken for absent.
fn read(value: &str) -> Value {
    serde_json::from_str(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    fn claims(value: Value) -> Claims {
        let Value::Object(members) = value else { panic!("{value}") };
        members.into()
    }

    #[test]
    fn a_claim_is_found_by_its_whole_name_alone() {
        let claims = claims(json!({"a": 1, "ab": "\"x\"", "b": {"a": [null, true]}, "": 2}));
        assert_eq!(claims.get("a"), Some(json!(1)));
        assert_eq!(claims.get("ab"), Some(json!("\"x\"")));
        assert_eq!(claims.get("b"), Some(json!({"a": [null, true]})));
        assert_eq!(claims.get(""), Some(json!(2)));
        for absent in ["a1", "abb", "c", "1", "A"] {
            assert_eq!(claims.get(absent), None, "{absent}");
        }
        assert_eq!(Claims::default().get(""), None);
    }

    #[test]
    fn a_text_stands_there_as_json_would_write_it() {
        for byte in 0..=0x7f_u8 {
            let text = format!("a{}é", char::from(byte));
            let value = json!(text);
            let (json, quoted) = (value.to_string(), format!("\"{text}\""));
            assert_eq!(is_plain(&text), json == quoted, "{byte}");
            assert_eq!(*claims(json!({ "c": value })).text, format!("c{}", json!(text)));
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(members in prop::collection::btree_map(any::<String>(), value(), 0..8)) {
            let map: Map<String, Value> = members.into_iter().collect();
            let claims = Claims::from(map.clone());
            let again: Map<String, Value> =
                claims.iter().map(|(name, value)| (name.to_owned(), value)).collect();
            prop_assert_eq!(&again, &map);
            for (name, value) in &map {
                prop_assert_eq!(&claims.get(name), &Some(value.clone()));
            }
        }
    }
}
