//! What `schemars` makes of the structs, turned into what the reader does with them and editors
//! show well: references filled in, the private names of `spanned.rs` undone, the `RULES` said.

use serde_json::{Map, Value, json};

use super::super::azure;
use super::super::file::RULES;
use super::super::rule::{Needs, Rule};
use super::super::spanned::{BESIDE, MAPPING};
use super::form::{object, truth, words_schema};
use super::words;

type Members = Map<String, Value>;

/// What the names of enums begin with whose reading serde has no words for; `file/` gives them
/// by `#[schemars(rename = …)]`, since their names in serde are all the same.
const ONE_OF: &str = "OneOf_";
const TAGGED: &str = "Tagged_";
const WORD_OR: &str = "WordOr_";

/// The schema of the whole file, from that of `schemars`.
pub(super) fn whole(raw: &Value) -> Value {
    let empty = Members::new();
    let raw = raw.as_object().unwrap_or(&empty);
    let definitions = raw.get("$defs").and_then(Value::as_object).unwrap_or(&empty);
    let shapes = Shapes { definitions };
    let mut whole = shapes.of_struct("RoutesFile", raw);
    whole.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    whole.insert("title".to_owned(), json!("The routes file of obo-gateway"));
    Value::Object(whole)
}

struct Shapes<'a> {
    definitions: &'a Members,
}

impl Shapes<'_> {
    /// The schema of a value.
    fn of(&self, raw: &Members) -> Members {
        let mut shape = self.of_form(raw);
        let own = text(raw, "description");
        let is_inline = raw.contains_key("type");
        let of_type = if is_inline { String::new() } else { text(&shape, "description") };
        let description = words::joined(&words::plain(&own), &of_type);
        if !description.is_empty() {
            shape.insert("description".to_owned(), json!(description));
        }
        shape
    }

    /// The same without what is said of this place.
    fn of_form(&self, raw: &Members) -> Members {
        if let Some(name) = raw.get("$ref").and_then(Value::as_str) {
            let name = name.rsplit('/').next().unwrap_or(name);
            let definition = self.definitions.get(name).and_then(Value::as_object);
            return definition.map(|raw| self.of_type(name, raw)).unwrap_or_default();
        }
        let type_ = raw.get("type");
        if let Some(Value::Array(types)) = type_
            && types.contains(&json!("null"))
        {
            return self.of_form(&without_null(raw, types));
        }
        if let Some(alternatives) = raw.get("anyOf").and_then(Value::as_array) {
            let others = alternatives.iter().filter(|it| **it != json!({ "type": "null" }));
            let mut others: Vec<_> = others.filter_map(Value::as_object).collect();
            if let [only] = *others {
                return self.of(only);
            }
            let others = others.drain(..).map(|it| Value::Object(self.of(it)));
            return object(json!({ "anyOf": others.collect::<Value>() }));
        }
        match type_.and_then(Value::as_str) {
            Some("boolean") => truth(),
            // YAML makes a number of `8080`, and the reader takes its text.
            Some("string") if !raw.contains_key("pattern") && !raw.contains_key("enum") => {
                object(json!({ "type": ["string", "number"] }))
            }
            Some("array") => {
                let mut shape = raw.clone();
                self.replace(&mut shape, "items", Self::of);
                shape.remove("default");
                shape
            }
            Some("object") if !raw.contains_key("properties") => {
                let mut shape = raw.clone();
                self.replace(&mut shape, "additionalProperties", |shapes, it| {
                    with_truth(shapes.of(it))
                });
                shape
            }
            Some(_) | None => raw.clone(),
        }
    }

    fn replace(&self, shape: &mut Members, key: &str, by: impl Fn(&Self, &Members) -> Members) {
        if let Some(value) = shape.get_mut(key) {
            *value = value.as_object().map_or(Value::Null, |it| Value::Object(by(self, it)));
        }
    }

    fn of_type(&self, name: &str, raw: &Members) -> Members {
        let mut shape = if name.starts_with(ONE_OF) {
            self.of_one_key(raw)
        } else if name.starts_with(TAGGED) {
            self.of_tagged(raw)
        } else if name.starts_with(WORD_OR) {
            self.of_word_or_mapping(raw)
        } else if raw.contains_key("oneOf") || raw.contains_key("enum") {
            words_schema(words_of(raw).iter().map(|(word, docs)| (*word, Some(docs.clone()))))
        } else {
            self.of_struct(name, raw)
        };
        let mut description = words::plain(&text(raw, "description"));
        let words = words_of(raw);
        if !words.is_empty() {
            let lines = words.iter().map(|(word, docs)| format!("- `{word}`: {docs}"));
            let lines = lines.collect::<Vec<_>>().join("\n");
            description = [description, lines].join("\n\n");
        }
        shape.insert("description".to_owned(), json!(description));
        shape
    }

    fn of_struct(&self, name: &str, raw: &Members) -> Members {
        let mut keys = Members::new();
        let mut required = raw.get("required").and_then(Value::as_array).cloned();
        let required = required.get_or_insert_default();
        let mut rules = Rules::of(name);
        for (key, value) in raw.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let Some(value) = value.as_object() else { continue };
            let mut shape = self.of(value);
            if key == BESIDE {
                required.retain(|key| key != BESIDE);
                keys.append(&mut members(&shape, "properties"));
                required.extend(list(&shape, "required"));
                rules.add_those_of(&shape);
            } else {
                shape.remove("default");
                keys.insert(key.clone(), Value::Object(shape));
            }
        }
        required.extend(rules.required.iter().map(|key| json!(key)));
        required.retain(|key| !rules.from_environment.iter().any(|known| key == known));
        required.sort_unstable_by_key(ToString::to_string);
        required.dedup();
        add_defaults(&mut keys, required);
        let mut shape = object(json!({
            "type": "object",
            "description": words::plain(&text(raw, "description")),
            "properties": keys,
            "additionalProperties": false,
        }));
        rules.write(&mut shape);
        if !required.is_empty() {
            shape.insert("required".to_owned(), json!(required));
        }
        shape
    }

    /// A mapping with exactly one key: the name of the variant.
    fn of_one_key(&self, raw: &Members) -> Members {
        let mut keys = Members::new();
        for (variant, docs) in variants(raw) {
            for (key, value) in members(variant, "properties") {
                let mut shape = self.of(&object(value));
                let description = words::joined(&docs, &text(&shape, "description"));
                shape.insert("description".to_owned(), json!(description));
                keys.insert(key, Value::Object(shape));
            }
        }
        object(json!({
            "type": "object",
            "properties": keys,
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
        }))
    }

    /// A mapping whose `type` says which other keys it has.
    fn of_tagged(&self, raw: &Members) -> Members {
        let (mut tags, mut branches) = (Vec::new(), Vec::new());
        for (variant, docs) in variants(raw) {
            for (tag, value) in members(variant, "properties") {
                let mut shape = self.of(&object(value));
                let mut keys = members(&shape, "properties");
                // Said by the mapping; here so that it is none of the others.
                keys.insert("type".to_owned(), json!(true));
                shape.insert("properties".to_owned(), Value::Object(keys));
                branches.push(json!({
                    "if": { "properties": { "type": { "enum": [tag] } }, "required": ["type"] },
                    "then": shape,
                }));
                tags.push((tag, docs.clone()));
            }
        }
        let lines = tags.iter().map(|(tag, docs)| format!("- `{tag}`: {docs}"));
        let lines = lines.collect::<Vec<_>>().join("\n");
        let mut tag =
            words_schema(tags.iter().map(|(tag, docs)| (tag.as_str(), Some(docs.clone()))));
        tag.insert(
            "description".to_owned(),
            json!(format!(
                "Of which kind it is; says which other keys it has. Required.\n\n{lines}"
            )),
        );
        object(json!({
            "type": "object",
            "properties": { "type": tag },
            "required": ["type"],
            "allOf": branches,
        }))
    }

    fn of_word_or_mapping(&self, raw: &Members) -> Members {
        let words = words_of(raw);
        let words = words_schema(words.iter().map(|(word, docs)| (*word, Some(docs.clone()))));
        let mut forms = list(&words, "anyOf");
        for (variant, docs) in variants(raw) {
            let mapping = members(variant, "properties").remove(MAPPING).map(object);
            forms.extend(mapping.map(|mapping| {
                let mut shape = self.of(&mapping);
                let description = words::joined(&docs, &text(&shape, "description"));
                shape.insert("description".to_owned(), json!(description));
                Value::Object(shape)
            }));
        }
        object(json!({ "anyOf": forms }))
    }
}

/// What the [`RULES`] ask of a struct.
#[derive(Default)]
struct Rules {
    required: Vec<&'static str>,
    from_environment: &'static [&'static str],
    dependencies: Members,
    all: Vec<Value>,
}

impl Rules {
    fn of(name: &str) -> Self {
        let mut rules = Self::default();
        if name == azure::STRUCT {
            rules.from_environment = &azure::FILLED_IN;
        }
        for rule in RULES.iter().filter(|rule| rule.of == name) {
            rules.add(rule);
        }
        rules
    }

    fn add(&mut self, rule: &Rule) {
        let from_environment = |key: &&str| self.from_environment.contains(key);
        match rule.needs {
            Needs::Key(key) => self.required.push(key),
            Needs::AnyOf(keys) if keys.iter().any(from_environment) => {}
            Needs::AnyOf(keys) => self.all.push(json!({ "anyOf": requires(keys) })),
            Needs::OneOf(keys) => self.all.push(json!({ "oneOf": requires(keys) })),
            Needs::AtMostOneOf(keys) => {
                for (index, one) in keys.iter().enumerate() {
                    for other in keys.iter().skip(index + 1) {
                        self.all.push(json!({ "not": { "required": [one, other] } }));
                    }
                }
            }
            Needs::With { key: _, needs } if from_environment(&needs) => {}
            Needs::With { key, needs } => {
                self.dependencies.insert(key.to_owned(), json!([needs]));
            }
        }
    }

    /// The rules of a struct whose keys stand beside.
    fn add_those_of(&mut self, shape: &Members) {
        self.all.extend(list(shape, "allOf"));
        self.dependencies.append(&mut members(shape, "dependencies"));
    }

    fn write(self, shape: &mut Members) {
        if !self.all.is_empty() {
            shape.insert("allOf".to_owned(), Value::Array(self.all));
        }
        if !self.dependencies.is_empty() {
            shape.insert("dependencies".to_owned(), Value::Object(self.dependencies));
        }
    }
}

fn requires(keys: &[&str]) -> Value {
    keys.iter().map(|key| json!({ "required": [key] })).collect()
}

/// Says the defaults that the descriptions state.
fn add_defaults(keys: &mut Members, required: &[Value]) {
    let names: Vec<_> = keys.keys().cloned().collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for (key, shape) in keys.iter_mut().filter(|(key, _)| !required.iter().any(|it| it == *key)) {
        let Some(shape) = shape.as_object_mut() else { continue };
        let is_list = shape.get("type") == Some(&json!("array"))
            || list(shape, "anyOf").iter().any(|form| form.get("type") == Some(&json!("array")));
        let siblings: Vec<_> = names.iter().copied().filter(|name| name != key).collect();
        if let Some(default) = words::default(&text(shape, "description"), &siblings, is_list) {
            shape.insert("default".to_owned(), default);
        }
    }
}

/// The variants of an enum with their docs.
fn variants(raw: &Members) -> impl Iterator<Item = (&Members, String)> {
    let variants = raw.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let docs = |variant: &Members| words::plain(&text(variant, "description"));
    variants.filter_map(Value::as_object).map(move |variant| (variant, docs(variant)))
}

/// The variants that are words, with their docs.
fn words_of(raw: &Members) -> Vec<(&str, String)> {
    let word = |(variant, docs)| Some((word_of(variant)?, docs));
    variants(raw).filter_map(word).collect()
}

fn word_of(variant: &Members) -> Option<&str> {
    let only = variant.get("enum").and_then(Value::as_array).and_then(|words| words.first());
    variant.get("const").or(only)?.as_str()
}

/// A schema whose value may also be nothing, without that.
fn without_null(raw: &Members, types: &[Value]) -> Members {
    let mut types: Vec<_> = types.iter().filter(|it| **it != json!("null")).cloned().collect();
    let mut raw = raw.clone();
    let left = if types.len() == 1 { types.remove(0) } else { Value::Array(types) };
    raw.insert("type".to_owned(), left);
    raw
}

/// Values under names of the operator's choice are often `true`, which YAML makes a bool of.
fn with_truth(mut shape: Members) -> Members {
    let text = json!(["string", "number"]);
    if shape.get("type") == Some(&text) {
        shape.insert("type".to_owned(), json!(["string", "number", "boolean"]));
    }
    for form in shape.get_mut("anyOf").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(form) = form.as_object_mut() {
            *form = with_truth(std::mem::take(form));
        }
    }
    if let Some(items) = shape.get_mut("items").and_then(Value::as_object_mut) {
        *items = with_truth(std::mem::take(items));
    }
    shape
}

fn text(schema: &Members, key: &str) -> String {
    schema.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn members(schema: &Members, key: &str) -> Members {
    schema.get(key).and_then(Value::as_object).cloned().unwrap_or_default()
}

fn list(schema: &Members, key: &str) -> Vec<Value> {
    schema.get(key).and_then(Value::as_array).cloned().unwrap_or_default()
}
