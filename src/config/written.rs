//! The tree of a routes file as it may be shown, and what of it can be told apart after a reload.
//!
//! Secrets are left out by the rules of `hidden.rs`; so is every value that came from the
//! environment or another file, of which only the expression is shown.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::quality::FixedState;

use super::hidden::{self, Path};
use super::listing::{BLOT, Listing};
use super::tree::{Entry as TreeEntry, Held, Node, Scalar, Value};
use crate::giving_way::{Turn, drop_giving_way, giving_way};
use crate::secret::names_a_credential;
use crate::written::{Entry, Section, Written};

/// The content of a file, before its routes have names.
#[derive(Default)]
pub(super) struct Draft {
    /// All of it, and what of that is not shown.
    all: Option<(Node, Listing)>,
    /// All but the routes.
    entries: Vec<Entry>,
    /// The digests of the routes, in the order of the file.
    routes: Vec<u64>,
}

impl Draft {
    /// Of the file's tree.
    pub(super) fn of(root: Node, listing: &Listing) -> Self {
        let mut draft = Self::default();
        for TreeEntry { key, value } in entries(&root) {
            match &*key.text {
                "providers" => draft.named(Section::Providers, value),
                "upstreams" => draft.named(Section::Upstreams, value),
                "listeners" => {
                    let listeners = elements(value).map(|node| (address(node), digest(node)));
                    let listeners: Vec<_> = listeners.collect();
                    draft.add(Section::Listeners, listeners);
                }
                "routes" => draft.routes = giving_way(elements(value)).map(digest).collect(),
                _ => draft.add(Section::Settings, [(Arc::clone(&key.text), digest(value))]),
            }
        }
        draft.all = Some((root, listing.clone()));
        draft
    }

    fn named(&mut self, section: Section, table: &Node) {
        let named = entries(table).map(|it| (Arc::clone(&it.key.text), digest(&it.value)));
        self.add(section, named.collect::<Vec<_>>());
    }

    fn add(&mut self, section: Section, named: impl IntoIterator<Item = (Arc<str>, u64)>) {
        let entry = |(name, digest)| Entry { section, name, digest };
        self.entries.extend(named.into_iter().map(entry));
    }

    /// With the names of the routes, in the order of the file.
    pub(super) fn with_route_names(self, names: impl IntoIterator<Item = Arc<str>>) -> Written {
        let routes = names.into_iter().zip(self.routes);
        let routes = routes.map(|(name, digest)| Entry { section: Section::Routes, name, digest });
        let all = self.all;
        let show = move || {
            let Some((root, listing)) = all else { return Vec::new() };
            let json = redacted(&root, &listing);
            take_apart(root);
            json
        };
        Written::new(show, self.entries.into_iter().chain(routes))
    }
}

impl fmt::Debug for Draft {
    // The tree has the file's secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("routes", &self.routes.len()).finish_non_exhaustive()
    }
}

fn entries(node: &Node) -> impl Iterator<Item = &TreeEntry> {
    let entries: &[TreeEntry] = match node.value() {
        Value::Mapping(entries) => entries,
        Value::Scalar(_) | Value::List(_) | Value::Broken => &[],
    };
    entries.iter()
}

fn elements(node: &Node) -> impl Iterator<Item = &Node> {
    let (list, one): (&[_], _) = match node.value() {
        Value::List(list) => (list, None),
        Value::Mapping(_) => (&[], Some(node)),
        Value::Scalar(_) | Value::Broken => (&[], None),
    };
    list.iter().chain(one)
}

/// Where a listener listens, as it is written.
fn address(listener: &Node) -> Arc<str> {
    let address = entries(listener).find(|it| &*it.key.text == "address");
    match address.map(|it| it.value.value()) {
        Some(Value::Scalar(scalar)) => Arc::from(scalar.text.as_str()),
        Some(_) | None => Arc::from("?"),
    }
}

fn digest(node: &Node) -> u64 {
    // The same for all files of this process.
    let mut hasher = FixedState::default().build_hasher();
    feed(node, &mut hasher);
    hasher.finish()
}

fn feed(node: &Node, hasher: &mut impl Hasher) {
    std::mem::discriminant(node.value()).hash(hasher);
    match node.value() {
        Value::Scalar(scalar) => (&scalar.text, scalar.is_null).hash(hasher),
        Value::List(list) => {
            list.len().hash(hasher);
            for element in list {
                feed(element, hasher);
            }
        }
        Value::Mapping(entries) => {
            entries.len().hash(hasher);
            for entry in entries {
                entry.key.text.hash(hasher);
                feed(&entry.value, hasher);
            }
        }
        Value::Broken => {}
    }
}

/// JSON of `root` without secrets.
fn redacted(root: &Node, listing: &Listing) -> Vec<u8> {
    let (path, json, turn) = (Path::default(), Vec::new(), Turn::begin());
    let mut shown = Shown { listing, path, json, turn };
    shown.node(root);
    shown.json
}

/// Drops a tree, in pieces: it is large where a section of it is.
fn take_apart(root: Node) {
    let Held::Own(Value::Mapping(sections)) = root.held else { return };
    for section in sections {
        match section.value.held {
            Held::Own(Value::List(list)) => drop_giving_way(list),
            Held::Own(Value::Mapping(entries)) => drop_giving_way(entries),
            Held::Own(Value::Scalar(_) | Value::Broken) | Held::Shared(_) => {}
        }
    }
}

/// What is shown, written as it is met: whoever looks at it is rare, and nobody else needs its parts.
struct Shown<'a> {
    listing: &'a Listing,
    /// The keys above the node at hand.
    path: Path,
    json: Vec<u8>,
    turn: Turn,
}

impl Shown<'_> {
    fn node(&mut self, node: &Node) {
        match node.value() {
            Value::Scalar(scalar) => self.scalar(scalar, node),
            Value::List(list) => {
                self.json.push(b'[');
                for (position, element) in list.iter().enumerate() {
                    self.turn.give_way();
                    self.comma(position);
                    self.node(element);
                }
                self.json.push(b']');
            }
            Value::Mapping(entries) => {
                self.json.push(b'{');
                for (position, entry) in entries.iter().enumerate() {
                    self.comma(position);
                    self.text(&entry.key.text);
                    self.json.push(b':');
                    self.path.push(&entry.key.text);
                    self.node(&entry.value);
                    self.path.pop();
                }
                self.json.push(b'}');
            }
            Value::Broken => self.null(),
        }
    }

    fn scalar(&mut self, scalar: &Scalar, node: &Node) {
        if scalar.is_null {
            return self.null();
        }
        let text = &scalar.text;
        let is_secret = self.path.is_secret() && !hidden::is_harmless(text);
        match self.listing.shown(node.place, text) {
            // What the listing knows it knows by place; what the gateway filled in has none.
            shown if shown == text && (is_secret || is_private(&self.path, text)) => {
                self.text(BLOT);
            }
            // Without a place there is no expression either.
            shown if shown == text && scalar.from_outside => self.text("${…}"),
            shown if shown == text => self.text(&without_query(text)),
            shown => self.text(shown),
        }
    }

    fn comma(&mut self, position: usize) {
        if position > 0 {
            self.json.push(b',');
        }
    }

    fn null(&mut self) {
        self.json.extend_from_slice(b"null");
    }

    fn text(&mut self, text: &str) {
        // Writing to memory can't fail, and neither can text.
        serde_json::to_writer(&mut self.json, text).ok();
    }
}

/// What problems may show to whoever wrote the file, and the admin port does not: fields that may
/// be API keys under any name, and whom tests are about.
fn is_private(path: &Path, text: &str) -> bool {
    let below = |section: &str, key: &str| {
        path.keys().next() == Some(section) && path.keys().any(|it| it == key)
    };
    let is_condition = || ["headers", "query"].iter().any(|kind| below("routes", kind));
    let names_one = || path.keys().next_back().is_some_and(names_a_credential);
    hidden::has_password(text)
        || below("routes", "request_headers")
        || below("routes", "response_headers")
        || is_condition() && names_one()
        || below("tests", "claims")
        || below("tests", "headers")
}

/// The text of a URL or path up to its query, which may have a key in it.
fn without_query(text: &str) -> Cow<'_, str> {
    match text.split_once('?') {
        Some((before, _)) if before.contains('/') => Cow::Owned(format!("{before}?{BLOT}")),
        Some(_) | None => Cow::Borrowed(text),
    }
}
