//! YAML text to a tree.
//!
//! Decides what of YAML a routes file may use: one document of mappings, lists and scalars
//! whose text counts as written; anchors and aliases within limits; no other tags than
//! `!!str`, no merge keys, no key twice. Fills in `${…}`. Knows no key's meaning.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde_yaml::granit_parser::{
    self, Event, Parser, ScalarStyle, Span, StrInput, StructureStyle, Tag,
};

use super::hidden::{self, Path};
use super::problem::{Place, Problem, Problems};
use super::source::{self, Environment};
use super::syntax::{self, number};
use super::tree::{Entry, Held, Key, Node, Scalar, Tree, Value};
use crate::giving_way::Turn;

/// Deepest nesting; the deepest key of the contract is 8 levels down.
const MAX_DEPTH: usize = 32;

/// Most nodes, those that aliases repeat counted each time: 20,000 routes of 50 nodes.
const MAX_NODES: u32 = 1_000_000;

/// Nodes that are read in a few microseconds.
const NODES_OF_A_STEP: u32 = 8;

/// Parses `text`, or says what is wrong with it; `None` if there is no tree at all.
pub(super) fn parse(
    text: &str,
    environment: &Environment,
    problems: &mut Problems,
) -> Option<Tree> {
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH * 2,
        block_nesting_limit: MAX_DEPTH * 2,
    };
    let mut builder = Builder {
        text,
        parser: Parser::new_from_str_with_options(text, options),
        environment,
        problems,
        path: Path::default(),
        words: HashSet::default(),
        anchors: HashMap::new(),
        elements: Vec::new(),
        entries: Vec::new(),
        nodes: 0,
        turn: Turn::begin(),
        files: Vec::new(),
    };
    match builder.document() {
        Ok(root) => Some(Tree { root: root?, files: builder.files }),
        Err(Stop(problem)) => {
            let problems = builder.problems;
            let problem = conflict(text).unwrap_or(problem);
            hidden::hide_in_text(problems.listing_mut());
            problems.push(problem);
            None
        }
    }
}

/// Text that git left where two changes met is no YAML, and says of itself what it is.
fn conflict(text: &str) -> Option<Problem> {
    let line = text.lines().position(|line| line.starts_with("<<<<<<< "))?;
    let place = Place { line: number(line + 1), column: 1, length: 7 };
    let hint = "keep one of the two sides, and remove the lines `<<<<<<<`, `=======` and `>>>>>>>`";
    Some(Problem::error(place, "a merge conflict of git that nobody resolved").hint(hint))
}

/// Where a file that is empty should begin.
const BEGINNING: Place = Place { line: 1, column: 1, length: 1 };

/// Why reading ends early: text behind this point can't be understood.
struct Stop(Problem);

/// What a mapping holds.
struct Content {
    entries: Vec<Entry>,
    end: (u32, u32),
    weight: u32,
}

/// Most keys of a mapping that are looked through; among more of them one is looked up.
const FEW_KEYS: usize = 8;

/// Where the keys of one mapping stand, once there are many.
#[derive(Default)]
struct FirstPlaces(HashMap<Arc<str>, Place, RandomState>);

impl FirstPlaces {
    /// Where `key` stands in `entries`, which grow by one from call to call at most.
    fn of(&mut self, key: &Key, entries: &[Entry]) -> Option<Place> {
        let mut keys = entries.iter().map(|entry| &entry.key);
        if entries.len() <= FEW_KEYS {
            return keys.find(|it| it.text == key.text).map(|it| it.place);
        }
        let is_new = if self.0.is_empty() { entries.len() } else { 1 };
        self.0.extend(keys.rev().take(is_new).map(|it| (Arc::clone(&it.text), it.place)));
        self.0.get(&key.text).copied()
    }
}

struct Builder<'t> {
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    environment: &'t Environment,
    problems: &'t mut Problems,
    /// The keys above the node at hand.
    path: Path,
    /// The keys met so far: a large file has the same few again and again.
    words: HashSet<Arc<str>, RandomState>,
    anchors: HashMap<usize, Node>,
    /// What was read of the lists, and of the mappings, that have not ended: so each of them is as
    /// large as what it holds.
    elements: Vec<Node>,
    entries: Vec<Entry>,
    nodes: u32,
    turn: Turn,
    files: Vec<PathBuf>,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(Stop(syntax::problem(&error))),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the parser's enum may grow")]
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_none() => {}
                Event::DocumentStart(..) => {
                    return Err(Stop(
                        Problem::error(start(&span), "a second YAML document begins here")
                            .hint("a routes file is one document: remove the `---` or `...`"),
                    ));
                }
                event => root = Some(self.node(event, &span, 0)?),
            }
        }
        if root.as_ref().is_none_or(Node::is_null) {
            self.problems.push(Problem::error(BEGINNING, "the routes file is empty").hint(
                "a routes file needs `routes` at least; `obo-gateway demo` shows one that works",
            ));
            return Ok(None);
        }
        Ok(root)
    }

    fn node(&mut self, event: Event<'t>, span: &Span, depth: usize) -> Result<Node, Stop> {
        let in_brackets = matches!(
            event,
            Event::SequenceStart(StructureStyle::Flow, ..)
                | Event::MappingStart(StructureStyle::Flow, ..)
        );
        let node = self.node_of(event, span, depth);
        let bracket = start(span);
        node.map_err(|Stop(problem)| {
            Stop(if in_brackets { syntax::in_bracket(problem, bracket) } else { problem })
        })
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the parser's enum may grow")]
    fn node_of(&mut self, event: Event<'t>, span: &Span, depth: usize) -> Result<Node, Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop(
                Problem::error(
                    start(span),
                    format!("this is nested deeper than {MAX_DEPTH} levels"),
                )
                .hint("a routes file needs about 8 levels; is a bracket or a `-` repeated?"),
            ));
        }
        match event {
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain && tag.is_none();
                let value = match tag {
                    Some(tag) if !is_text_tag(&tag) => self.foreign_tag(&tag, span),
                    Some(_) | None => self.scalar(&text, is_plain, span),
                };
                self.done(anchor, span, end(span), value, 1)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let broken = tag.map(|tag| self.foreign_tag(&tag, span));
                let (begin, mut weight) = (self.elements.len(), 1);
                let until = loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break end(&span);
                    }
                    let element = self.node(event, &span, depth + 1)?;
                    weight = self.heavier(weight, &element, start(&span))?;
                    self.elements.push(element);
                };
                let list = self.elements.drain(begin..).collect();
                self.done(anchor, span, until, broken.unwrap_or(Value::List(list)), weight)
            }
            Event::MappingStart(_, anchor, tag) => {
                let broken = tag.map(|tag| self.foreign_tag(&tag, span));
                let Content { entries, end, weight } = self.entries(depth)?;
                self.done(anchor, span, end, broken.unwrap_or(Value::Mapping(entries)), weight)
            }
            other => Err(Stop(Problem::error(
                start(span),
                format!("the YAML parser gave an event that is unknown here ({other:?})"),
            ))),
        }
    }

    fn entries(&mut self, depth: usize) -> Result<Content, Stop> {
        let (begin, mut weight) = (self.entries.len(), 1);
        let mut first_places = FirstPlaces::default();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                let entries = self.entries.drain(begin..).collect();
                return Ok(Content { entries, end: end(&span), weight });
            }
            let key = self.key(event, &span, depth)?;
            let (event, span) = self.next()?;
            match &key {
                Some(key) => self.path.push(&key.text),
                None => self.path.push(&Arc::default()),
            }
            let value = self.node(event, &span, depth + 1);
            self.path.pop();
            let (value, Some(key)) = (value?, key) else { continue };
            weight = self.heavier(weight, &value, start(&span))?;
            let entries = self.entries.get(begin..).unwrap_or_default();
            if let Some(first) = first_places.of(&key, entries) {
                self.problems.push(
                    Problem::error(key.place, format!("key `{}` is given twice", key.text))
                        .related(first, "first given here")
                        .hint("keep one of the two"),
                );
            } else {
                self.entries.push(Entry { key, value });
            }
        }
    }

    /// A mapping's key; `None` if it is unfit to be one, which has been said.
    #[allow(clippy::wildcard_enum_match_arm, reason = "the parser's enum may grow")]
    fn key(&mut self, event: Event<'t>, span: &Span, depth: usize) -> Result<Option<Key>, Stop> {
        let place = place(span);
        match event {
            Event::Scalar(text, style, _, None) => {
                let plain = style == ScalarStyle::Plain;
                let (message, hint) = if plain && text == "<<" {
                    (
                        "merge keys (`<<`) are not supported",
                        "write the keys out, or repeat a whole value with `&name` and `*name`",
                    )
                } else if plain && is_null(&text) {
                    ("a key without a name", "write `key: value`")
                } else if let Some(known) = self.words.get(&*text) {
                    return Ok(Some(Key { text: Arc::clone(known), place }));
                } else if text.contains("${") {
                    ("`${…}` is replaced in values, not in keys", "write the key itself")
                } else {
                    let text: Arc<str> = Arc::from(text);
                    self.words.insert(Arc::clone(&text));
                    return Ok(Some(Key { text, place }));
                };
                self.problems.push(Problem::error(place, message).hint(hint));
            }
            other => {
                self.node(other, span, depth + 1)?;
                self.problems.push(
                    Problem::error(place, "a key must be plain text").hint("write `key: value`"),
                );
            }
        }
        Ok(None)
    }

    fn scalar(&mut self, text: &str, is_plain: bool, span: &Span) -> Value {
        let filled = source::fill(text, self.environment);
        let has_password = filled.as_ref().is_ok_and(|it| hidden::has_password(&it.text));
        let secret = has_password || self.path.is_secret() && !hidden::is_harmless(text);
        let listing = self.problems.listing_mut();
        if secret && !source::is_only_an_expression(text) {
            listing.hide(position(&span.start), end(span));
        }
        match filled {
            Ok(filled) => {
                if secret {
                    listing.keep_secret(&filled.text);
                }
                if filled.from_outside {
                    listing.replaced(place(span), &filled.text, text);
                }
                let is_plain = is_plain && !filled.from_outside;
                let is_null = is_plain && is_null(text);
                if !filled.files.is_empty() {
                    self.files.extend(filled.files);
                }
                let (text, from_outside) = (filled.text, filled.from_outside);
                Value::Scalar(Scalar { text, from_outside, is_plain, is_null })
            }
            Err(wrong) => {
                for wrong in wrong {
                    let place = self.within(span, &wrong.expression);
                    self.problems.push(Problem::error(place, wrong.message).hint(wrong.hint));
                }
                Value::Broken
            }
        }
    }

    /// The place of `part` within the scalar at `span`, or the scalar's if it can't be found.
    fn within(&self, span: &Span, part: &str) -> Place {
        let whole = place(span);
        let source = span.slice(self.text).and_then(|source| source.lines().next());
        let before = source.and_then(|source| source.split_once(part)).map(|(before, _)| before);
        match before {
            Some(before) if !part.is_empty() => Place {
                column: whole.column.saturating_add(number(before.chars().count())),
                length: number(part.chars().count()),
                ..whole
            },
            Some(_) | None => whole,
        }
    }

    fn alias(&mut self, anchor: usize, span: &Span) -> Result<Node, Stop> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            self.problems.push(
                Problem::error(place(span), "an alias inside of what it refers to")
                    .hint("move the anchor (`&name`) to a value that is complete above"),
            );
            return self.done(0, span, end(span), Value::Broken, 1);
        };
        if let (true, Value::Scalar(scalar)) = (self.path.is_secret(), node.value()) {
            let listing = self.problems.listing_mut();
            listing.hide((node.place.line, node.place.column), node.end);
            listing.keep_secret(&scalar.text);
        }
        Ok(node)
    }

    fn foreign_tag(&mut self, tag: &Tag, span: &Span) -> Value {
        let place = span.tag_span().map_or_else(|| start(span), |tag| place(&tag));
        let message = format!("the YAML tag `{}` is not supported", tag.original());
        self.problems.push(Problem::error(place, message).hint("remove the tag"));
        Value::Broken
    }

    /// The weight of a collection with `element` in it too.
    fn heavier(&self, weight: u32, element: &Node, place: Place) -> Result<u32, Stop> {
        let weight = weight.saturating_add(element.weight);
        if weight.max(self.nodes) > MAX_NODES {
            let message = format!("the file has more than {MAX_NODES} values, aliases counted");
            return Err(Stop(Problem::error(place, message).hint("repeat less with aliases")));
        }
        Ok(weight)
    }

    fn done(
        &mut self,
        anchor: usize,
        span: &Span,
        end: (u32, u32),
        value: Value,
        weight: u32,
    ) -> Result<Node, Stop> {
        self.nodes += 1;
        if self.nodes.is_multiple_of(NODES_OF_A_STEP) {
            self.turn.give_way();
        }
        let place = match value {
            Value::Scalar(_) => place(span),
            // Where the first key begins the mapping, it is what is pointed at.
            Value::Mapping(ref entries) => match entries.first().map(|entry| entry.key.place) {
                Some(key) if (key.line, key.column) == position(&span.start) => key,
                Some(_) | None => start(span),
            },
            Value::List(_) | Value::Broken => start(span),
        };
        let held = if anchor > 0 { Held::Shared(Arc::new(value)) } else { Held::Own(value) };
        let node = Node { id: self.nodes, weight, place, end, held };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.heavier(0, &node, place)?;
        Ok(node)
    }
}

/// The null of YAML 1.2's core schema (§10.3.2).
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// `!!str` and `!` say that a scalar is text, which it is here anyway.
fn is_text_tag(tag: &Tag) -> bool {
    tag.is_yaml_core_schema_tag("str") || tag.original() == "!"
}

fn start(span: &Span) -> Place {
    Place { length: 1, ..place(span) }
}

fn place(span: &Span) -> Place {
    let (line, column) = position(&span.start);
    let length = number(span.end.index().saturating_sub(span.start.index()).max(1));
    Place { line, column, length }
}

fn end(span: &Span) -> (u32, u32) {
    position(&span.end)
}

fn position(marker: &granit_parser::Marker) -> (u32, u32) {
    (number(marker.line()), number(marker.col()).saturating_add(1))
}
