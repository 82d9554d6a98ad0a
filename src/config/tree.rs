//! A routes file as a tree in which every key and value knows its place.
//!
//! Decides nothing; `parse.rs` grows it and `reader.rs` reads it.

use std::path::PathBuf;
use std::sync::Arc;

use super::problem::Place;

/// A value with its place. No `Debug`: its text may be a secret.
// There are a hundred thousand: they stand in the lists and mappings that they are of.
#[derive(Clone)]
pub(super) struct Node {
    /// Names it among the nodes of its tree; aliases have it too.
    pub(super) id: u32,
    /// How many nodes it is, those that aliases repeat counted each time.
    pub(super) weight: u32,
    /// Where it begins; one character for a mapping or list.
    pub(super) place: Place,
    /// Where it ends: line and column, from 1.
    pub(super) end: (u32, u32),
    /// What it is.
    pub(super) held: Held,
}

/// How a node has its value.
#[derive(Clone)]
pub(super) enum Held {
    /// For itself.
    Own(Value),
    /// Together with its aliases.
    Shared(Arc<Value>),
}

impl Node {
    /// What it is.
    pub(super) fn value(&self) -> &Value {
        match &self.held {
            Held::Own(value) => value,
            Held::Shared(value) => value,
        }
    }

    /// Whether it is nothing at all.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.value(), Value::Scalar(scalar) if scalar.is_null)
    }
}

/// What a node is.
#[derive(Clone)]
pub(super) enum Value {
    /// Text.
    Scalar(Scalar),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file, without repeated keys.
    Mapping(Vec<Entry>),
    /// Something whose problem has been said.
    Broken,
}

/// The text of a scalar: as written, `${…}` replaced.
#[derive(Clone)]
pub(super) struct Scalar {
    /// The text; YAML's types are not consulted, so `NO`, `0777` and `1e3` are just that.
    pub(super) text: String,
    /// Whether a variable or a file is in it.
    pub(super) from_outside: bool,
    /// Whether it is written without quotes, and all of it in the file: claims have types by that.
    pub(super) is_plain: bool,
    /// Whether it is nothing at all: no text, `~` or `null`, without quotes.
    pub(super) is_null: bool,
}

/// A key of a mapping and its value.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) value: Node,
}

/// A key of a mapping.
#[derive(Clone)]
pub(super) struct Key {
    /// Shared by all keys of the tree that say the same.
    pub(super) text: Arc<str>,
    pub(super) place: Place,
}

/// A tree, and the files that `${file:…}` read for it.
pub(super) struct Tree {
    pub(super) root: Node,
    pub(super) files: Vec<PathBuf>,
}

impl Tree {
    /// The names under the root's `section`: the keys of its mapping. Where something else stands there, which
    /// is said of the section, those that are meant, so that nothing follows from their absence.
    pub(super) fn names_under(&self, section: &str) -> Vec<String> {
        let Value::Mapping(root) = self.root.value() else { return Vec::new() };
        let Some(entry) = root.iter().find(|it| &*it.key.text == section) else {
            return Vec::new();
        };
        match entry.value.value() {
            Value::Mapping(entries) => {
                entries.iter().map(|it| it.key.text.as_ref().to_owned()).collect()
            }
            Value::List(elements) => elements.iter().filter_map(meant_name).collect(),
            Value::Scalar(_) => meant_name(&entry.value).into_iter().collect(),
            Value::Broken => Vec::new(),
        }
    }
}

/// The name that an element of a list is meant to give: `- name`, `- name: …` or `- { name: NAME, … }`.
fn meant_name(node: &Node) -> Option<String> {
    match node.value() {
        Value::Scalar(word) => (!word.is_null).then(|| word.text.clone()),
        Value::Mapping(entries) => {
            let named = entries.iter().find(|it| &*it.key.text == "name");
            match named.map(|it| it.value.value()) {
                Some(Value::Scalar(name)) => Some(name.text.clone()),
                Some(Value::List(_) | Value::Mapping(_) | Value::Broken) | None => {
                    entries.first().map(|it| it.key.text.as_ref().to_owned())
                }
            }
        }
        Value::List(_) | Value::Broken => None,
    }
}
