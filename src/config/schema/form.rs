//! The forms of values as editors are told them: schemas of texts with a meaning, and of the
//! types of `spanned.rs`.
//!
//! A schema takes whatever the reader takes, and refuses most of what it refuses: the reader
//! judges texts, a schema sees the types of YAML, and in place of any text `${…}` may stand.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::super::spanned::{List, OneOrMany, Spanned, Table};

/// A variable or a file somewhere in the text, as a pattern.
const REPLACED: &str = r"\$\{";

/// What texts a value may have.
pub(in super::super) enum Form {
    /// Any.
    Scalar,
    /// Those that match this regular expression (of ECMA 262) as a whole.
    Pattern(&'static str),
    /// The same, or `0`.
    ZeroOr(&'static str),
    /// A whole number.
    Number { least: usize, most: usize },
    /// A whole number, or a text that matches.
    NumberOr { least: usize, most: usize, or: &'static str },
    /// One of these.
    Words(&'static [&'static str]),
}

impl Form {
    /// The schema; `takes` is what the reader says it takes.
    pub(in super::super) fn schema(self, takes: &str) -> Schema {
        let message = format!("takes {takes}");
        let text = |pattern: &str| {
            let pattern = format!("^({pattern})$|{REPLACED}");
            json!({ "type": "string", "pattern": pattern, "patternErrorMessage": message })
        };
        let number = |least: usize, most: usize, pattern: &str| {
            let mut schema = object(text(pattern));
            schema.insert("type".to_owned(), json!(["integer", "string"]));
            schema.insert("minimum".to_owned(), json!(least));
            schema.insert("maximum".to_owned(), json!(most));
            schema
        };
        match self {
            Self::Scalar => json_schema!({ "type": ["string", "number"], "minLength": 1 }),
            Self::Pattern(pattern) => object(text(pattern)).into(),
            Self::ZeroOr(pattern) => json_schema!({ "anyOf": [text(pattern), { "enum": [0] }] }),
            Self::Number { least, most } => number(least, most, "[0-9]+").into(),
            Self::NumberOr { least, most, or } => {
                number(least, most, &format!("[0-9]+|{or}")).into()
            }
            Self::Words(words) => words_schema(words.iter().map(|word| (*word, None))).into(),
        }
    }
}

/// One of these words, each with what it means where that is said.
pub(super) fn words_schema<'a>(
    words: impl Iterator<Item = (&'a str, Option<String>)>,
) -> Map<String, Value> {
    let (mut values, mut meanings) = (Vec::new(), Vec::new());
    let (mut typed, mut meanings_again) = (Vec::new(), Vec::new());
    for (word, meaning) in words {
        // Without quotes YAML makes a number or a bool of it, and the reader takes the text.
        if let Ok(number) = word.parse::<u32>() {
            typed.push(json!(number));
            meanings_again.push(json!(meaning));
        }
        if let Ok(truth) = word.parse::<bool>() {
            typed.push(json!(truth));
            meanings_again.push(json!(meaning));
        }
        values.push(json!(word));
        meanings.push(json!(meaning));
    }
    values.append(&mut typed);
    meanings.append(&mut meanings_again);
    let mut word = object(json!({ "enum": values }));
    if meanings.iter().all(Value::is_string) {
        word.insert("enumDescriptions".to_owned(), Value::Array(meanings));
    }
    object(json!({ "anyOf": [word, replaced()] }))
}

/// `true` or `false`; the reader takes them in quotes, too.
pub(super) fn truth() -> Map<String, Value> {
    object(json!({
        "type": ["boolean", "string"],
        "pattern": format!("^(true|false)$|{REPLACED}"),
        "patternErrorMessage": "takes `true` or `false`",
    }))
}

/// A text that comes from outside of the file.
fn replaced() -> Value {
    json!({ "type": "string", "pattern": REPLACED })
}

/// The members of a schema that is written as an object.
pub(super) fn object(schema: Value) -> Map<String, Value> {
    match schema {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Schemas that stand where they are used.
macro_rules! inline {
    ($name:literal $(<$parameter:ident>)?: $type:ty, |$generator:ident| $schema:expr) => {
        impl $(<$parameter: JsonSchema>)? JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

inline!("List" <T>: List<T>, |generator| {
    json_schema!({ "type": "array", "minItems": 1, "items": generator.subschema_for::<T>() })
});

inline!("OneOrMany" <T>: OneOrMany<T>, |generator| {
    let one = generator.subschema_for::<T>();
    json_schema!({ "anyOf": [one, { "type": "array", "minItems": 1, "items": one }] })
});

inline!("Table" <T>: Table<T>, |generator| {
    json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
});
