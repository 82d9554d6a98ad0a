//! The tree as the file's structs, with every problem found in one go.
//!
//! serde gives up at the first error, so a value that can't be read is said, left out, and
//! the tree is read again until nothing fails. Knows no key by name, the structs and their
//! [`Rule`]s come from `file/`, and no text: those are in `complaint.rs`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};

use foldhash::fast::RandomState;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::access::{Elements, Entries, Placed};
use super::choice::Choice;
use super::complaint::{A_LIST, A_MAPPING, TRUE_OR_FALSE, one_of};
use super::failure::{Failure, WrongText};
use super::problem::{Problem, Problems};
use super::rule::Rule;
use super::spanned::{CLAIM, LIST, ONE_OF, ONE_OR_MANY, SPANNED, TAGGED, WORD_OR_MAPPING};
use super::tree::{Entry, Key, Node, Scalar, Value};
use super::value::Plain;
use crate::giving_way::Turn;

/// Most readings of one tree; each finds at least one problem more.
const MAX_PASSES: usize = 100;

/// Reads `root`, saying all that is wrong. With problems the result is what remains of the
/// file: without the routes, upstreams and so on that had any, so that a check of meaning can
/// go on; `None` if too little does.
pub(super) fn read<T: DeserializeOwned>(
    root: &Node,
    rules: &'static [Rule],
    problems: &mut Problems,
) -> Option<T> {
    let (said, left_out, blamed) = Default::default();
    // Whatever is broken has been said.
    let may_be_broken = problems.refuse();
    let (rules, turn) = (by_struct(rules), Cell::new(Turn::begin()));
    let pass = Pass { rules, turn, may_be_broken, said, left_out, blamed };
    let mut read = pass.read_until_clean(root);
    if pass.blames(root) {
        pass.leave_out_what_is_blamed(root);
        read = pass.read_until_clean(root);
    }
    let is_refused = read.is_none() || pass.blames(root);
    for problem in pass.said.into_inner() {
        problems.push(problem);
    }
    if is_refused && !problems.refuse() {
        // Can't happen: whoever leaves something out has said why. If it does, refuse.
        problems.push(
            Problem::of_file("the routes file can't be read, and no reason is known")
                .hint("this is a mistake of this program: please report it"),
        );
    }
    read
}

fn by_struct(rules: &'static [Rule]) -> HashMap<&'static str, Vec<&'static Rule>, RandomState> {
    let mut by_struct: HashMap<_, Vec<_>, _> = HashMap::default();
    for rule in rules {
        by_struct.entry(rule.of).or_default().push(rule);
    }
    by_struct
}

/// What the readings of one tree share.
pub(super) struct Pass {
    /// The rules, by the struct that they are of.
    pub(super) rules: HashMap<&'static str, Vec<&'static Rule>, RandomState>,
    /// The turn of reading.
    pub(super) turn: Cell<Turn>,
    /// Whether the tree may have broken nodes.
    may_be_broken: bool,
    /// What is wrong; a set, since every reading finds the same again.
    said: RefCell<BTreeSet<Problem>>,
    /// Nodes that can't be read, by id.
    left_out: RefCell<HashSet<u32>>,
    /// Nodes that have a problem, by id, whether they can be read or not.
    blamed: RefCell<HashSet<u32>>,
}

impl Pass {
    fn read_until_clean<T: DeserializeOwned>(&self, root: &Node) -> Option<T> {
        let reader = Reader::of_root(root, self);
        for _ in 0..MAX_PASSES {
            if self.skips(root) {
                return None;
            }
            match T::deserialize(reader) {
                Ok(value) => return Some(value),
                Err(failure) => reader.say(failure),
            };
        }
        None
    }

    /// Lets other threads go first now and then.
    pub(super) fn give_way(&self) {
        let mut turn = self.turn.get();
        turn.give_way();
        self.turn.set(turn);
    }

    pub(super) fn say(&self, node: &Node, problem: Problem) {
        self.blamed.borrow_mut().insert(node.id);
        self.said.borrow_mut().insert(problem);
    }

    pub(super) fn leave_out(&self, node: &Node) {
        self.left_out.borrow_mut().insert(node.id);
        self.blamed.borrow_mut().insert(node.id);
    }

    pub(super) fn skips(&self, node: &Node) -> bool {
        matches!(node.value(), Value::Broken) || self.left_out.borrow().contains(&node.id)
    }

    pub(super) fn blames(&self, node: &Node) -> bool {
        let blamed = self.blamed.borrow();
        if blamed.is_empty() && !self.may_be_broken {
            return false;
        }
        if blamed.contains(&node.id) {
            return true;
        }
        match node.value() {
            Value::Scalar(_) => false,
            Value::Broken => true,
            Value::List(list) => list.iter().any(|element| self.blames(element)),
            Value::Mapping(entries) => entries.iter().any(|entry| self.blames(&entry.value)),
        }
    }

    /// Leaves out each route, upstream and so on (what is two levels down) that has a problem.
    fn leave_out_what_is_blamed(&self, root: &Node) {
        for node in children(root).flat_map(children).filter(|node| self.blames(node)) {
            self.leave_out(node);
        }
    }
}

fn children(node: &Node) -> impl Iterator<Item = &Node> {
    let (list, mapping): (&[_], &[Entry]) = match node.value() {
        Value::Scalar(_) | Value::Broken => (&[], &[]),
        Value::List(list) => (list, &[]),
        Value::Mapping(entries) => (&[], entries),
    };
    list.iter().chain(mapping.iter().map(|entry| &entry.value))
}

/// One node, to be read as what serde asks for.
#[derive(Clone, Copy)]
pub(super) struct Reader<'n> {
    pub(super) node: &'n Node,
    pub(super) pass: &'n Pass,
    /// The key whose value this is.
    pub(super) key: Option<&'n Key>,
    /// The key of the list this is an element of.
    pub(super) list: Option<&'n Key>,
    /// The key of this mapping that told the enum's variant.
    pub(super) tag: Option<&'static str>,
    /// The keys of the struct in which this one's keys stand too.
    pub(super) beside: &'static [&'static str],
}

impl<'n> Reader<'n> {
    fn of_root(node: &'n Node, pass: &'n Pass) -> Self {
        Self { node, pass, key: None, list: None, tag: None, beside: &[] }
    }

    pub(super) fn value_of(self, entry: &'n Entry) -> Self {
        Self { key: Some(&entry.key), ..Self::of_root(&entry.value, self.pass) }
    }

    pub(super) fn element(self, node: &'n Node) -> Self {
        Self { list: self.key, ..Self::of_root(node, self.pass) }
    }

    pub(super) fn entries(self) -> &'n [Entry] {
        match self.node.value() {
            Value::Mapping(entries) => entries,
            Value::Scalar(_) | Value::List(_) | Value::Broken => &[],
        }
    }

    fn scalar(self) -> Option<&'n Scalar> {
        match self.node.value() {
            Value::Scalar(scalar) => Some(scalar),
            Value::List(_) | Value::Mapping(_) | Value::Broken => None,
        }
    }

    /// The mapping's entries that can be read, or `expected` for what is no mapping.
    fn mapping(self, expected: &dyn de::Expected) -> Result<&'n [Entry], Failure> {
        match self.node.value() {
            Value::Mapping(entries) => Ok(entries),
            Value::Scalar(_) | Value::List(_) | Value::Broken => {
                Err(Failure::Form(expected.to_string()))
            }
        }
    }

    /// The elements of a list that must have some.
    fn visit_list<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node.value() {
            Value::List(list) if !list.is_empty() => self.deserialize_any(visitor),
            Value::List(_) => Err(Failure::Text(
                WrongText::new(
                    format!("{} is an empty list", self.label()),
                    "give it one element at least; a key that is not required can be left out",
                )
                .to_string(),
            )),
            Value::Scalar(_) | Value::Mapping(_) | Value::Broken => {
                Err(Failure::Form(A_LIST.to_owned()))
            }
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node.value() {
            Value::Scalar(scalar) if scalar.is_null => visitor.visit_unit(),
            Value::Scalar(scalar) => visitor.visit_str(&scalar.text),
            Value::List(list) => visitor.visit_seq(Elements::of(self, list)),
            Value::Mapping(_) => visitor.visit_map(Entries::new(self, None)),
            Value::Broken => Err(Failure::Said),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.scalar().map(|scalar| scalar.text.as_str()) {
            Some("true") => visitor.visit_bool(true),
            Some("false") => visitor.visit_bool(false),
            Some(_) | None => Err(Failure::Form(TRUE_OR_FALSE.to_owned())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        // A key without a value is a slip, not the default.
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match name {
            SPANNED => {
                let from_outside = self.scalar().is_some_and(|scalar| scalar.from_outside);
                let key = self.key.map(|key| key.place);
                visitor.visit_seq(Placed::new(self.node.place, key, from_outside, self))
            }
            ONE_OR_MANY if self.scalar().is_some_and(|scalar| !scalar.is_null) => {
                visitor.visit_seq(Elements::one(self))
            }
            LIST | ONE_OR_MANY => self.visit_list(visitor),
            CLAIM => match self.scalar().filter(|it| it.is_plain).map(|it| Plain::of(&it.text)) {
                Some(Some(Plain::Bool(value))) => visitor.visit_bool(value),
                Some(Some(Plain::Integer(value))) => visitor.visit_i64(value),
                Some(Some(Plain::Float(value))) => visitor.visit_f64(value),
                Some(None) | None => self.deserialize_any(visitor),
            },
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node.value() {
            Value::List(_) => self.deserialize_any(visitor),
            Value::Scalar(_) | Value::Mapping(_) | Value::Broken => {
                Err(Failure::Form(A_LIST.to_owned()))
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.mapping(&visitor)?;
        visitor.visit_map(Entries::new(self, None))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.mapping(&A_MAPPING).map_err(|_form| Failure::Keys(fields))?;
        self.check_rules(name, fields);
        visitor.visit_map(Entries::new(self, Some(fields)))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let choice = match name {
            TAGGED => Choice::by_tag("type", self, variants)?,
            ONE_OF => Choice::by_key(self, variants)?,
            WORD_OR_MAPPING if matches!(self.node.value(), Value::Mapping(_)) => {
                Choice::of_mapping(self)
            }
            _ => match self.scalar() {
                Some(scalar) if !scalar.is_null => Choice::of_word(&scalar.text, self),
                Some(_) | None => return Err(Failure::Form(one_of(variants))),
            },
        };
        visitor.visit_enum(choice)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct identifier ignored_any
    }
}
