//! What the routes file said, for people to look at: without its secrets, and so that two can be
//! compared, for a reload to say what it changed.
//!
//! Nothing of a request depends on it, and how YAML is read is not known here.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// A part of the routes file whose entries have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// `listeners`, by address.
    Listeners,
    /// `providers`.
    Providers,
    /// `upstreams`.
    Upstreams,
    /// `routes`.
    Routes,
    /// All else, by key: `server`, `cache`.
    Settings,
}

/// One entry: where it stands, and a digest of all that it says, secrets too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub section: Section,
    /// Its name.
    pub name: Arc<str>,
    /// Equal for entries that say the same. Good enough to tell people, and for nothing else.
    pub digest: u64,
}

/// Makes JSON of what was read.
type Show = Box<dyn FnOnce() -> Vec<u8> + Send>;

/// The content of a routes file.
pub struct Written {
    /// JSON: few ask for it, and its text is a tenth of its values.
    redacted: LazyLock<Vec<u8>, Show>,
    /// By section and name, of which there are no two alike.
    entries: Vec<Entry>,
}

impl Written {
    /// Of `entries`; `show` makes JSON of all of it without secrets.
    pub fn new(
        show: impl FnOnce() -> Vec<u8> + Send + 'static,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Self {
        let show: Show = Box::new(show);
        let mut entries: Vec<Entry> = entries.into_iter().collect();
        entries.sort_by(Entry::by_name);
        number_repeated(&mut entries);
        Self { redacted: LazyLock::new(show), entries }
    }

    /// The file as JSON: values as they were written, secrets and what came from outside not shown.
    pub fn redacted(&self) -> Value {
        serde_json::from_slice(&self.redacted).unwrap_or_default()
    }

    /// Makes what is shown now, for nobody to wait for it later, and lets go of what it is made of.
    /// That takes long for a large file: a configuration is in force before, and none who serves does it.
    pub fn settle(&self) {
        LazyLock::force(&self.redacted);
    }

    /// What is different from `before`.
    pub fn changes_since(&self, before: &Self) -> Changes {
        let mut changes = Changes::default();
        let (mut olds, mut news) =
            (before.entries.iter().peekable(), self.entries.iter().peekable());
        // Both are sorted: what is first of the two, and no other, is in one only.
        loop {
            let order = match (olds.peek(), news.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.by_name(new),
            };
            let old = if order.is_le() { olds.next() } else { None };
            let new = if order.is_ge() { news.next() } else { None };
            let (names, name) = match (old, new) {
                (Some(old), None) => (&mut changes.of(old.section).removed, &old.name),
                (None, Some(new)) => (&mut changes.of(new.section).added, &new.name),
                (Some(old), Some(new)) if old.digest != new.digest => {
                    (&mut changes.of(new.section).changed, &new.name)
                }
                (Some(_), Some(_)) | (None, None) => continue,
            };
            names.push(name.as_ref().to_owned());
        }
    }
}

impl fmt::Debug for Written {
    // What it is made of has the file's secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Entry {
    fn by_name(&self, other: &Self) -> Ordering {
        (self.section, &self.name).cmp(&(other.section, &other.name))
    }
}

/// Gives a number to each of the sorted `entries` whose name another before it has: two listeners
/// on any free port have the same address.
fn number_repeated(entries: &mut Vec<Entry>) {
    let is_repeated = |two: &[Entry]| matches!(two, [one, other] if one.by_name(other).is_eq());
    if !entries.windows(2).any(is_repeated) {
        return;
    }
    let mut known: BTreeSet<(Section, Arc<str>)> = BTreeSet::new();
    for Entry { section, name, .. } in &mut *entries {
        if !known.insert((*section, Arc::clone(name))) {
            let numbered = (2..).map(|number| Arc::from(format!("{name} ({number})")));
            let free = { numbered }.find(|numbered| known.insert((*section, Arc::clone(numbered))));
            name.clone_from(&free.unwrap_or_default());
        }
    }
    entries.sort_by(Entry::by_name);
}

/// What a reload changed, by the names of the file, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Changes {
    /// Paths of files that the routes file named before and names now, and that are not what they
    /// were: certificates, keys, secrets.
    pub files: Vec<String>,
    /// Of `listeners`, by address.
    pub listeners: Difference,
    /// Of `providers`.
    pub providers: Difference,
    /// Of `upstreams`.
    pub upstreams: Difference,
    /// Of `routes`.
    pub routes: Difference,
    /// Of all other keys at the top of the file.
    pub settings: Difference,
}

/// The names of what came, went and is not what it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    /// Was not there before.
    pub added: Vec<String>,
    /// Is not there any more.
    pub removed: Vec<String>,
    /// Says something else.
    pub changed: Vec<String>,
}

impl Changes {
    fn of(&mut self, section: Section) -> &mut Difference {
        match section {
            Section::Listeners => &mut self.listeners,
            Section::Providers => &mut self.providers,
            Section::Upstreams => &mut self.upstreams,
            Section::Routes => &mut self.routes,
            Section::Settings => &mut self.settings,
        }
    }

    /// Whether the routes file and the files it names say what they said before.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Most names of one kind that are spelled out.
const MAX_NAMES_SHOWN: usize = 10;

/// `files: changed /tls.crt; routes: added a, b, removed c; settings: changed cache`, or `nothing`.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sections = [
            ("listeners", &self.listeners),
            ("providers", &self.providers),
            ("upstreams", &self.upstreams),
            ("routes", &self.routes),
            ("settings", &self.settings),
        ];
        let said = sections.iter().filter(|(_, difference)| **difference != Difference::default());
        let files =
            (!self.files.is_empty()).then(|| format!("files: changed {}", shown(&self.files)));
        let said = said.map(|(name, of)| format!("{name}: {of}"));
        let said: Vec<String> = files.into_iter().chain(said).collect();
        f.write_str(if said.is_empty() { "nothing" } else { "" })?;
        f.write_str(&said.join("; "))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds =
            [("added", &self.added), ("removed", &self.removed), ("changed", &self.changed)];
        let said = kinds.iter().filter(|(_, names)| !names.is_empty());
        let said: Vec<String> =
            said.map(|(kind, names)| format!("{kind} {}", shown(names))).collect();
        f.write_str(&said.join(", "))
    }
}

fn shown(names: &[String]) -> String {
    let first: Vec<&str> = names.iter().take(MAX_NAMES_SHOWN).map(String::as_str).collect();
    let more = names.len().saturating_sub(MAX_NAMES_SHOWN);
    let behind = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{behind}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(entries: &[(Section, &str, u64)]) -> Written {
        let entry = |(section, name, digest): &(Section, &str, u64)| Entry {
            section: *section,
            name: Arc::from(*name),
            digest: *digest,
        };
        Written::new(Vec::new, entries.iter().map(entry))
    }

    #[test]
    fn what_is_shown_is_kept_without_what_it_was_made_of() {
        let secrets = Arc::new(());
        let held = Arc::clone(&secrets);
        let show = move || {
            drop(held);
            b"[1]".to_vec()
        };
        let written = Written::new(show, []);
        assert_eq!(Arc::strong_count(&secrets), 2);
        written.settle();
        assert_eq!(Arc::strong_count(&secrets), 1);
        assert_eq!(written.redacted(), serde_json::json!([1]));
    }

    #[test]
    fn a_reload_says_what_came_went_and_changed() {
        use Section::{Listeners, Providers, Routes, Settings};
        let before = written(&[
            (Listeners, "127.0.0.1:0", 1),
            (Listeners, "127.0.0.1:0", 1),
            (Providers, "entra", 1),
            (Routes, "a", 1),
            (Routes, "b", 1),
        ]);
        assert_eq!(before.changes_since(&before).to_string(), "nothing");
        let after = written(&[
            (Listeners, "127.0.0.1:0", 1),
            (Providers, "entra", 2),
            (Routes, "b", 1),
            (Routes, "c", 1),
            (Routes, "d", 1),
            (Settings, "cache", 1),
        ]);
        assert_eq!(
            after.changes_since(&before).to_string(),
            "listeners: removed 127.0.0.1:0 (2); providers: changed entra; \
             routes: added c, d, removed a; settings: added cache"
        );
    }

    #[test]
    fn a_file_that_changed_alone_is_named() {
        let mut changes = Changes { files: vec!["/tls.crt".to_owned()], ..Changes::default() };
        assert_eq!(changes.to_string(), "files: changed /tls.crt");
        assert!(!changes.is_empty());
        changes.settings.changed.push("cache".to_owned());
        assert_eq!(changes.to_string(), "files: changed /tls.crt; settings: changed cache");
    }

    #[test]
    fn many_names_are_counted() {
        let names: Vec<String> = (10..22).map(|number| format!("r{number}")).collect();
        let many: Vec<_> = names.iter().map(|name| (Section::Routes, name.as_str(), 1)).collect();
        let said = written(&many).changes_since(&written(&[])).to_string();
        assert!(said.ends_with("r18, r19 and 2 more"), "{said}");
    }
}
