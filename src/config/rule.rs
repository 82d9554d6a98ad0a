//! What mappings must have beyond what the types of their structs say: serde names one missing
//! key and gives up, and knows nothing of keys that exclude each other.

use super::problem::Problem;
use super::reader::Reader;
use super::suggest::nearest;
use super::tree::Entry;

/// What the mapping of a struct must have beyond what the types of its fields say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// The struct, by serde's name for it.
    pub(super) of: &'static str,
    /// What it must have.
    pub(super) needs: Needs,
    /// What to write, where it has not.
    pub(super) hint: &'static str,
}

/// What a mapping must have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Needs {
    /// This key.
    Key(&'static str),
    /// One of these keys, and no second one.
    OneOf(&'static [&'static str]),
    /// One of these keys, or more.
    AnyOf(&'static [&'static str]),
    /// No two of these keys.
    AtMostOneOf(&'static [&'static str]),
    /// This key wherever that one is.
    With { key: &'static str, needs: &'static str },
}

impl<'n> Reader<'n> {
    /// Says what the rules of the struct `name` find missing.
    pub(super) fn check_rules(self, name: &str, fields: &[&str]) {
        for rule in self.pass.rules.get(name).into_iter().flatten() {
            match rule.needs {
                Needs::Key(key) => {
                    if self.lacks(&[key], fields) {
                        self.pass.say(self.node, self.missing(key, rule.hint));
                    }
                }
                Needs::OneOf(keys) if !self.lacks(keys, fields) => {
                    self.say_exclusive(keys, rule.hint);
                }
                Needs::AtMostOneOf(keys) => self.say_exclusive(keys, rule.hint),
                Needs::OneOf(keys) | Needs::AnyOf(keys) => {
                    if self.lacks(keys, fields) {
                        self.say_none_of(keys, rule.hint);
                    }
                }
                Needs::With { key, needs } => {
                    let there = self.present(&[key]).next();
                    if let (Some(entry), None) = (there, self.present(&[needs]).next()) {
                        let message = format!("`{key}` without `{needs}`");
                        let problem = Problem::error(entry.key.place, message).hint(rule.hint);
                        self.pass.say(self.node, problem);
                    }
                }
            }
        }
    }

    /// Whether none of `keys` is there, not even misspelt, which is said of the unknown key.
    fn lacks(self, keys: &[&str], fields: &[&str]) -> bool {
        let misspelt = |entry: &Entry| {
            let key = &*entry.key.text;
            !fields.contains(&key) && nearest(key, keys.iter().copied()).is_some()
        };
        self.present(keys).next().is_none() && !self.entries().iter().any(misspelt)
    }

    fn present(self, keys: &[&str]) -> impl Iterator<Item = &'n Entry> {
        self.entries().iter().filter(|entry| keys.contains(&&*entry.key.text))
    }

    /// Says of each of `keys` that is there beside the first.
    pub(super) fn say_exclusive(self, keys: &[&str], hint: &str) {
        let mut present = self.present(keys);
        let Some(first) = present.next() else { return };
        for other in present {
            let (one, two) = (&first.key, &other.key);
            let message = format!("`{}` and `{}` exclude each other", one.text, two.text);
            let problem = Problem::error(two.place, message)
                .related(one.place, format!("`{}` is here", one.text))
                .hint(hint);
            self.pass.say(self.node, problem);
        }
    }

    /// Says that none of `keys` is there.
    pub(super) fn say_none_of(self, keys: &[&str], hint: &str) {
        let keys: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
        let message = format!("{} has none of {}", self.label(), keys.join(", "));
        self.pass.say(self.node, Problem::error(self.whole_place(), message).hint(hint));
    }
}
