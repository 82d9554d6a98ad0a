//! Descriptions: the docs of keys and types as sentences for whoever writes a routes file, and
//! the default that they state.

use serde_json::{Value, json};

use super::constants::constant;

/// What stands before a default in the docs of a key.
const DEFAULT: &str = "Default: ";

/// A doc comment without what only rustdoc understands: lines of a paragraph become one, and
/// constants their values.
pub(super) fn plain(docs: &str) -> String {
    let lines = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let paragraphs: Vec<_> = docs.split("\n\n").map(lines).collect();
    without_links(&paragraphs.join("\n\n"))
}

/// ``[`X`]`` and ``[`X`](path)`` as the value of the constant, else as `X`.
fn without_links(text: &str) -> String {
    let Some((before, behind)) = text.split_once("[`") else { return text.to_owned() };
    let Some((name, behind)) = behind.split_once("`]") else { return text.to_owned() };
    let behind = match behind.strip_prefix('(').and_then(|target| target.split_once(')')) {
        Some((_, behind)) => behind,
        None => behind,
    };
    let value = constant(name).unwrap_or_else(|| name.to_owned());
    format!("{before}`{value}`{}", without_links(behind))
}

/// The docs of a key and those of the type of its value, without saying anything twice.
pub(super) fn joined(of_key: &str, of_type: &str) -> String {
    let of_type = without_subject(of_type);
    match (of_key, of_type.as_str()) {
        (only, "") | ("", only) => only.to_owned(),
        (key, of_type) if key.to_lowercase().contains(&of_type.to_lowercase()) => key.to_owned(),
        // What it is goes before what stands in for it.
        (key, of_type) if key.starts_with(DEFAULT) || key.starts_with("Required") => {
            format!("{of_type} {key}")
        }
        (key, of_type) => format!("{key}\n\n{of_type}"),
    }
}

/// The docs of a type without the name of the key that it is the value of: ``` `tls` of a
/// listener. Says … ``` is known where the key stands.
fn without_subject(docs: &str) -> String {
    let names_a_key = docs.starts_with('`') || docs.starts_with("An element of `");
    let end = docs.find(['.', ':']).filter(|_| names_a_key || docs.starts_with("A value of `"));
    let Some((_, rest)) = end.and_then(|end| docs.split_at_checked(end + 1)) else {
        return docs.to_owned();
    };
    let mut letters = rest.trim_start().chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}", first.unwrap_or_default(), letters.as_str())
}

/// The default that a description states as a literal: ``Default: `30s` ``. Names of other keys
/// are no literals: `siblings` are those beside this one.
pub(super) fn default(description: &str, siblings: &[&str], is_list: bool) -> Option<Value> {
    let (_, behind) = description.split_once(DEFAULT)?;
    let mut literals = Vec::new();
    let mut rest = behind;
    let end = loop {
        let (literal, behind) = rest.strip_prefix('`')?.split_once('`')?;
        literals.push(literal);
        match behind.strip_prefix(", `") {
            Some(_) => rest = behind.strip_prefix(", ")?,
            None => break behind,
        }
    };
    let is_key = |literal: &&str| {
        siblings.contains(literal)
            || literal.split_once('.').is_some_and(|(section, _)| {
                section.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            })
    };
    if end.starts_with(" and ") || literals.iter().any(is_key) {
        return None;
    }
    let first = literals.first()?;
    Some(match list(first) {
        Some(list) => list,
        None if is_list => literals.into_iter().map(scalar).collect(),
        None => scalar(first),
    })
}

/// `[a, b]`.
fn list(literal: &str) -> Option<Value> {
    let elements = literal.strip_prefix('[')?.strip_suffix(']')?;
    let elements = elements.split(',').map(str::trim).filter(|element| !element.is_empty());
    Some(elements.map(scalar).collect())
}

fn scalar(literal: &str) -> Value {
    if let Some((key, value)) = literal.split_once(": ") {
        return json!({ key: scalar(value) });
    }
    match (literal.parse::<bool>(), literal.parse::<u64>()) {
        (Ok(truth), _) => json!(truth),
        (_, Ok(number)) => json!(number),
        (Err(_), Err(_)) => json!(literal),
    }
}

/// A description without the sentence that says nothing but the default.
pub(super) fn without_default(description: &str) -> String {
    let Some((before, behind)) = description.split_once(DEFAULT) else {
        return description.to_owned();
    };
    let literal = behind.strip_prefix('`').and_then(|behind| behind.split_once('`'));
    match literal.and_then(|(_, behind)| behind.strip_prefix('.')) {
        Some(rest) => format!("{}{rest}", before.trim_end()).trim().to_owned(),
        None => description.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_become_sentences_with_values() {
        let docs = "Where it\nlistens, or `off`. Default: [`Admin::DEFAULT_ADDRESS`].\n\nMore, see\n[`MAX_HEADER_FIELDS`](crate::limits::MAX_HEADER_FIELDS) of it.";
        assert_eq!(
            plain(docs),
            "Where it listens, or `off`. Default: `127.0.0.1:9901`.\n\nMore, see `100` of it."
        );
    }

    #[test]
    fn docs_of_types_lose_the_name_of_their_key() {
        for (of_key, of_type, joint) in [
            ("How.", "`tls` of a listener.", "How."),
            ("Default: `a`.", "`x`: what becomes of it.", "What becomes of it. Default: `a`."),
            ("", "`x`: what becomes of it.", "What becomes of it."),
            ("How.", "A text.", "How.\n\nA text."),
            ("How.", "", "How."),
        ] {
            assert_eq!(joined(of_key, of_type), joint);
        }
    }

    #[test]
    fn defaults_are_literals_and_not_the_names_of_keys() {
        let stated = |text: &str| default(text, &["requests"], false);
        assert_eq!(stated("So. Default: `30s`; at least `10ms`."), Some(json!("30s")));
        assert_eq!(stated("Default: `false`."), Some(json!(false)));
        assert_eq!(stated("Default: `128`."), Some(json!(128)));
        assert_eq!(stated("Default: `none: true`."), Some(json!({ "none": true })));
        assert_eq!(stated("Default: `[a, b]`; `[]` for none."), Some(json!(["a", "b"])));
        assert_eq!(default("Default: `a`, `b`.", &[], true), Some(json!(["a", "b"])));
        for none in [
            "Nothing.",
            "Default: none.",
            "Default: `requests`.",
            "Default: `server.max_body_bytes`.",
            "Default: `client_id` and more.",
        ] {
            assert_eq!(stated(none), None, "{none}");
        }
    }

    #[test]
    fn a_default_is_not_said_twice() {
        assert_eq!(without_default("So. Default: `30s`. And more."), "So. And more.");
        assert_eq!(without_default("Default: `a`."), "");
        let more = "Default: `auto`, one for each CPU.";
        assert_eq!(without_default(more), more);
    }
}
