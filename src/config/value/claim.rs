//! The claims and the status of a policy test.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::super::failure::WrongText;
use super::super::schema::Form;
use super::super::spanned::CLAIM;
use super::Written;

/// A claim as JSON: the one place of the file where a value has a type of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim(pub Value);

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Typed;

        impl<'de> Visitor<'de> for Typed {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the value of a claim")
            }

            fn visit_unit<E: Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
                Ok(text.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(Claim(element)) = list.next_element()? {
                    elements.push(element);
                }
                Ok(Value::Array(elements))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut members = Map::new();
                while let Some((name, Claim(value))) = map.next_entry::<String, _>()? {
                    members.insert(name, value);
                }
                Ok(Value::Object(members))
            }
        }

        deserializer.deserialize_newtype_struct(CLAIM, Typed).map(Self)
    }
}

impl JsonSchema for Claim {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Claim".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "Any JSON value." })
    }
}

/// What a text without quotes is by the types of JSON, if it is no text.
pub(in super::super) enum Plain {
    Bool(bool),
    Integer(i64),
    Float(f64),
}

impl Plain {
    /// `true`, `false`, or a number as JSON writes it.
    pub(in super::super) fn of(text: &str) -> Option<Self> {
        match serde_json::from_str(text).ok()? {
            Value::Bool(value) => Some(Self::Bool(value)),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => Some(Self::Integer(integer)),
                None => number.as_f64().map(Self::Float),
            },
            Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// `status` of `expect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedStatus {
    /// The request reaches the upstream.
    Forward,
    /// The gateway answers with this.
    Number(http::StatusCode),
}

impl Written for ExpectedStatus {
    const FORM: &'static str = "`forward`, or a status such as `403`";

    fn form() -> Form {
        Form::NumberOr { least: 100, most: 599, or: "forward" }
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        if text == "forward" {
            return Ok(Self::Forward);
        }
        let status = text.parse().ok().filter(|it: &http::StatusCode| it.as_u16() <= 599);
        status.map(Self::Number).ok_or_else(|| {
            WrongText::new(
                format!("`{text}` is not what becomes of a request"),
                "write `forward`, or the status that the gateway answers with: `403`",
            )
        })
    }
}
