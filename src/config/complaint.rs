//! What is said of a value that can't be read: the texts for values of the wrong form, words
//! that are unknown, and keys that are missing.

use super::below::below;
use super::failure::{Failure, message_and_hint};
use super::problem::{Place, Problem};
use super::reader::Reader;
use super::rule::{Needs, Rule};
use super::spanned::MAPPING;
use super::suggest::did_you_mean;
use super::tree::{Entry, Value};

/// What a bool, and what a list, is told to be.
pub(super) const TRUE_OR_FALSE: &str = "`true` or `false`";
pub(super) const A_LIST: &str = "a list";
/// What mappings are told to be: of keys that the file knows, of names that the operator chose, and
/// with one key out of several.
pub(super) const A_MAPPING: &str = "a mapping of keys";
pub(super) const A_MAPPING_OF_NAMES: &str = "a mapping of names";
pub(super) const ONE_KEY: &str = "a mapping with one key of ";

impl Reader<'_> {
    /// What the texts of problems call it.
    pub(super) fn label(self) -> String {
        match (self.key, self.list) {
            (Some(key), _) => format!("`{}`", key.text),
            (None, Some(list)) => format!("an element of `{}`", list.text),
            (None, None) => "the routes file".to_owned(),
        }
    }

    /// Where to point for the whole of a mapping or for something that is missing.
    pub(super) fn whole_place(self) -> Place {
        self.key.map_or(self.node.place, |key| key.place)
    }

    /// Says what is wrong with this node, and leaves it out from now on.
    pub(super) fn say(self, failure: Failure) -> Failure {
        let problem = match failure {
            Failure::Said => return Failure::Said,
            Failure::Text(text) => {
                let (message, hint) = message_and_hint(&text);
                let problem = Problem::error(self.node.place, message);
                Some(hint.into_iter().fold(problem, Problem::hint))
            }
            Failure::Form(expected) => Some(self.wrong_form(&expected, &[])),
            Failure::Keys(keys) => Some(self.wrong_form(A_MAPPING, keys)),
            Failure::Word(word, known) => Some(self.wrong_word(&word, known)),
            Failure::Missing(key) if self.has(key) => None,
            Failure::Missing(key) => {
                let hint = format!(
                    "add `{key}: …`; `obo-gateway schema --format markdown` says what it takes"
                );
                Some(self.missing(key, &hint))
            }
        };
        if let Some(problem) = problem {
            self.pass.say(self.node, problem);
        }
        self.leave_out_quietly()
    }

    /// Leaves this node out because of something within it that has been said.
    pub(super) fn leave_out_quietly(self) -> Failure {
        self.pass.leave_out(self.node);
        Failure::Said
    }

    /// Whether the mapping has `key`, or a rule has already asked for it.
    fn has(self, key: &str) -> bool {
        let asked = |rule: &Rule| matches!(rule.needs, Needs::Key(needed) if needed == key);
        self.entries().iter().any(|entry| &*entry.key.text == key)
            || self.pass.rules.values().flatten().any(|rule| asked(rule))
                && self.pass.blames(self.node)
    }

    pub(super) fn missing(self, key: &str, hint: &str) -> Problem {
        Problem::error(self.whole_place(), format!("{} has no `{key}`", self.label())).hint(hint)
    }

    fn wrong_form(self, expected: &str, keys: &[&str]) -> Problem {
        // What serde's own types call themselves.
        let expected = match expected {
            "path string" => "the path of a file",
            "a string" => "a text",
            own => own,
        };
        let label = self.label();
        let (found, hint) = match self.node.value() {
            Value::Scalar(scalar) if scalar.is_null => {
                let message = format!("{label} has no value");
                let hint = format!("give it {expected}, or remove the key");
                return Problem::error(self.whole_place(), message).hint(hint);
            }
            Value::Scalar(scalar) if expected == A_LIST => {
                (format!("`{}`", scalar.text), Some(format!("write `[{}]`", scalar.text)))
            }
            Value::Scalar(scalar) if expected == TRUE_OR_FALSE => {
                (format!("`{}`", scalar.text), yes_or_no(&scalar.text))
            }
            Value::Scalar(scalar) => (format!("`{}`", scalar.text), None),
            Value::List(_) => ("a list".to_owned(), None),
            Value::Mapping(_) => ("a mapping".to_owned(), None),
            Value::Broken => ("what stands here".to_owned(), None),
        };
        let hint = hint.unwrap_or_else(|| self.form_hint(expected, keys));
        Problem::error(self.node.place, format!("{label} takes {expected}, not {found}")).hint(hint)
    }

    /// How a value of the form `expected` is written where another stands.
    fn form_hint(self, expected: &str, keys: &[&str]) -> String {
        let named: Vec<_> = keys.iter().copied().filter(|key| !key.starts_with('$')).collect();
        // Keys of a struct within are not in the list.
        let more = if named.len() < keys.len() { ", …" } else { "" };
        let known = match *named {
            [] => String::new(),
            _ => format!("; keys here: {}{more}", named.join(", ")),
        };
        let name = self.key.or(self.list).map_or("key", |key| &*key.text);
        match (expected, self.node.value()) {
            (A_MAPPING, _) if self.key.is_none() && self.list.is_none() => {
                format!(
                    "begin with `routes:` at the left margin; `obo-gateway demo` shows a file that works{known}"
                )
            }
            // An element of a list.
            (A_MAPPING, _) if self.key.is_none() => {
                format!(
                    "write its keys behind one `- ` below `{name}:`, as in `- key: value`, each on a line of its own{known}"
                )
            }
            (A_MAPPING, Value::List(_)) => {
                format!("write its keys below `{name}:`, without `-` and brackets{known}")
            }
            (A_MAPPING, _) => {
                format!(
                    "write its keys indented below `{name}:`, or in braces, as in `{name}: {{ key: value }}`{known}"
                )
            }
            (A_MAPPING_OF_NAMES, _) => {
                format!(
                    "write each on a line of its own below `{name}:`, as in `name: value`, without `-`"
                )
            }
            (A_LIST, _) => {
                "write `[one, another]`, or each on a line of its own behind `- `".to_owned()
            }
            (TRUE_OR_FALSE, _) => "write one of these two words".to_owned(),
            (form, Value::Scalar(word))
                if form.starts_with(ONE_KEY) && form.contains(&format!("`{}`", word.text)) =>
            {
                let behind = if SWITCHES.contains(&&*word.text) { "true" } else { "…" };
                format!("write `{name}: {{ {}: {behind} }}`", word.text)
            }
            (form, _) if form.starts_with(ONE_KEY) => {
                format!("write one of these keys below `{name}:`, with its own value behind it")
            }
            (_, Value::List(_)) => "write one value, without brackets or `-`".to_owned(),
            (_, Value::Mapping(_)) => {
                format!(
                    "write one value behind `{name}:`, without keys of its own; quote a value that has braces or `: ` in it"
                )
            }
            (_, Value::Scalar(_) | Value::Broken) => format!("write {expected}"),
        }
    }

    fn wrong_word(self, word: &str, known: &'static [&'static str]) -> Problem {
        let words = known.iter().copied().filter(|word| *word != MAPPING);
        let what = if known.contains(&MAPPING) { "a mapping, or one of" } else { "it takes" };
        Problem::error(self.node.place, format!("{} can't be `{word}`", self.label()))
            .hint(did_you_mean(word, what, words))
    }

    /// Says that the mapping has a key that its struct does not know.
    pub(super) fn unknown_key(self, entry: &Entry, known: &[&'static str]) {
        let known = known.iter().copied().filter(|key| !key.starts_with('$'));
        let problem = Problem::error(entry.key.place, format!("unknown key `{}`", entry.key.text))
            .hint(match below(&entry.key.text, &known) {
                Some(parent) => format!("it belongs below `{parent}:`"),
                None => did_you_mean(&entry.key.text, "keys here", known),
            });
        self.pass.say(&entry.value, problem);
    }
}

/// Keys that are all that there is to say: with `true` behind them.
const SWITCHES: [&str; 2] = ["none", "passthrough"];

/// `yes` and its like are words of older YAML for what is meant.
fn yes_or_no(word: &str) -> Option<String> {
    let meant = match word.to_ascii_lowercase().as_str() {
        "yes" | "on" | "y" | "true" | "1" => "true",
        "no" | "off" | "n" | "false" | "0" => "false",
        _ => return None,
    };
    Some(format!("write `{meant}`"))
}

/// A choice of words, as the form of a value.
pub(super) fn one_of(words: &[&str]) -> String {
    let text: Vec<_> =
        words.iter().filter(|word| **word != MAPPING).map(|word| format!("`{word}`")).collect();
    let also = if words.contains(&MAPPING) { " or a mapping" } else { "" };
    format!("{}{also}", text.join(" | "))
}
