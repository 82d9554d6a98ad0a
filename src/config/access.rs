//! What serde walks through: the entries of a mapping, the elements of a list, the text of a
//! key, the parts of a value with its place.

use serde::de::value::{StrDeserializer, U128Deserializer};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::failure::Failure;
use super::problem::Place;
use super::reader::Reader;
use super::spanned::{BESIDE, SPANNED, place_number};
use super::tree::{Entry, Key, Node};

/// A key's text, with its place where asked for.
#[derive(Clone, Copy)]
struct KeyReader<'n>(&'n Key);

impl<'de> Deserializer<'de> for KeyReader<'de> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_str(&self.0.text)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        if name == SPANNED {
            visitor.visit_seq(Placed::new(self.0.place, None, false, self))
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct option seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The parts of a `Spanned`: its place, that of its key, then its value.
pub(super) struct Placed<R> {
    places: std::array::IntoIter<u128, 2>,
    value: Option<R>,
}

impl<R> Placed<R> {
    /// `value` with its place and that of its key, where it has one.
    pub(super) fn new(place: Place, key: Option<Place>, from_outside: bool, value: R) -> Self {
        let key = place_number(key.unwrap_or_default(), false);
        Self { places: [place_number(place, from_outside), key].into_iter(), value: Some(value) }
    }
}

impl<'n, R: Deserializer<'n, Error = Failure>> SeqAccess<'n> for Placed<R> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'n>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failure> {
        if let Some(place) = self.places.next() {
            let place: U128Deserializer<Failure> = place.into_deserializer();
            return seed.deserialize(place).map(Some);
        }
        self.value.take().map(|value| seed.deserialize(value)).transpose()
    }
}

/// The elements of a list that can be read.
pub(super) struct Elements<'n> {
    of: Reader<'n>,
    /// Whether the reader is the one element itself.
    is_one: bool,
    rest: std::slice::Iter<'n, Node>,
}

impl<'n> Elements<'n> {
    /// Those of the `list` that `reader` reads.
    pub(super) fn of(reader: Reader<'n>, list: &'n [Node]) -> Self {
        Self { of: reader, is_one: false, rest: list.iter() }
    }

    /// A list of the one element that `reader` reads.
    pub(super) fn one(reader: Reader<'n>) -> Self {
        Self { of: reader, is_one: true, rest: [].iter() }
    }

    fn next(&mut self) -> Option<Reader<'n>> {
        if std::mem::take(&mut self.is_one) {
            return Some(self.of);
        }
        self.rest.next().map(|node| self.of.element(node))
    }
}

impl<'n> SeqAccess<'n> for Elements<'n> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'n>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failure> {
        while let Some(reader) = self.next() {
            if !reader.pass.skips(reader.node) {
                reader.pass.give_way();
                return seed.deserialize(reader).map(Some).map_err(|failure| reader.say(failure));
            }
        }
        Ok(None)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len() + usize::from(self.is_one))
    }
}

/// The entries of a mapping, for a struct with these fields or for a map of any names.
pub(super) struct Entries<'n> {
    reader: Reader<'n>,
    fields: Option<&'static [&'static str]>,
    rest: std::slice::Iter<'n, Entry>,
    beside: bool,
    value: Option<Reader<'n>>,
}

impl<'n> Entries<'n> {
    pub(super) fn new(reader: Reader<'n>, fields: Option<&'static [&'static str]>) -> Self {
        let beside = fields.is_some_and(|fields| fields.contains(&BESIDE));
        Self { reader, fields, rest: reader.entries().iter(), beside, value: None }
    }

    /// Whether the struct takes this key; says so if nobody does.
    fn takes(&self, entry: &Entry) -> bool {
        let Some(fields) = self.fields else { return true };
        let key = &*entry.key.text;
        if fields.contains(&key) && !key.starts_with('$') {
            return true;
        }
        let (outer, tag) = (self.reader.beside, self.reader.tag);
        let is_anothers = outer.contains(&key) || tag == Some(key) || fields.contains(&BESIDE);
        if !is_anothers {
            let known: Vec<_> =
                tag.into_iter().chain(outer.iter().chain(fields).copied()).collect();
            self.reader.unknown_key(entry, &known);
        }
        false
    }
}

impl<'n> MapAccess<'n> for Entries<'n> {
    type Error = Failure;

    fn next_key_seed<S: DeserializeSeed<'n>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Failure> {
        while let Some(entry) = self.rest.next() {
            if self.takes(entry) && !self.reader.pass.skips(&entry.value) {
                self.value = Some(self.reader.value_of(entry));
                return seed.deserialize(KeyReader(&entry.key)).map(Some);
            }
        }
        if std::mem::take(&mut self.beside) {
            let beside = self.fields.unwrap_or_default();
            self.value = Some(Reader { beside, ..self.reader });
            let key: StrDeserializer<'_, Failure> = BESIDE.into_deserializer();
            return seed.deserialize(key).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let Some(reader) = self.value.take() else { return Err(Failure::Said) };
        seed.deserialize(reader).map_err(|failure| reader.say(failure))
    }
}
