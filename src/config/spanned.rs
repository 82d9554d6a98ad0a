//! Values that know their place: what the file's structs hold wherever a later step may have
//! something to say about a value.
//!
//! The names here are a private agreement between these types and `reader.rs`: a name that
//! begins with `$` asks the reader for more than serde has words for. No key of a routes file
//! can be mistaken for one, since they are names of Rust types, not of keys.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::complaint::A_MAPPING_OF_NAMES;
use super::problem::Place;

/// Asks for a value together with its places.
pub(super) const SPANNED: &str = "$spanned";
/// Asks for a list that is not empty.
pub(super) const LIST: &str = "$list";
/// Asks for a list of one where a single value stands.
pub(super) const ONE_OR_MANY: &str = "$one or many";
/// A value with the type that JSON would give it.
pub(super) const CLAIM: &str = "$claim";
/// An enum that is a mapping with exactly one key: the variant.
pub(super) const ONE_OF: &str = "$one of";
/// An enum whose variant is told by the mapping's key `type`, beside the variant's own keys.
pub(super) const TAGGED: &str = "$tagged by type";
/// An enum that is a word, or a mapping: the variant [`MAPPING`].
pub(super) const WORD_OR_MAPPING: &str = "$word or mapping";
/// The variant of [`WORD_OR_MAPPING`] that is a mapping.
pub(super) const MAPPING: &str = "$mapping";
/// A field whose keys stand beside those of the struct it is in.
pub(super) const BESIDE: &str = "$beside";

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// The value's place; that of a mapping is its first key or bracket.
    pub place: Place,
    /// The place of the key before it; `None` for an element of a list.
    pub key: Option<Place>,
    /// Whether a variable or a file is in it, so that it is not all written in the routes file.
    pub from_outside: bool,
}

impl<T> Spanned<T> {
    /// A default: a value that stands nowhere.
    pub(super) fn default_of(value: T) -> Self {
        Self { value, place: Place::default(), key: None, from_outside: false }
    }

    /// Where to point for a problem of the whole: the key, where there is one.
    pub fn key_place(&self) -> Place {
        self.key.unwrap_or(self.place)
    }
}

impl<T: Default> Default for Spanned<T> {
    fn default() -> Self {
        Self::default_of(T::default())
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Parts<T> {
            type Value = Spanned<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Spanned<T>, A::Error> {
                let short = |what| serde::de::Error::custom(format_args!("a place without {what}"));
                let place = parts.next_element()?.ok_or_else(|| short("numbers"))?;
                let key = parts.next_element()?.ok_or_else(|| short("a key"))?;
                let value = parts.next_element()?.ok_or_else(|| short("a value"))?;
                let ((place, from_outside), (key, _)) = (place_of(place), place_of(key));
                Ok(Spanned { value, place, key: (key.line > 0).then_some(key), from_outside })
            }
        }

        deserializer.deserialize_newtype_struct(SPANNED, Parts(PhantomData))
    }
}

/// What [`Spanned`] takes a place from: one number, since serde is told of each by itself.
pub(super) fn place_number(place: Place, from_outside: bool) -> u128 {
    let Place { line, column, length } = place;
    [u32::from(from_outside), length, column, line]
        .into_iter()
        .fold(0, |number, part| number << u32::BITS | u128::from(part))
}

fn place_of(number: u128) -> (Place, bool) {
    #[allow(clippy::cast_possible_truncation, reason = "it is put together of such parts")]
    let part = |index: u32| (number >> (index * u32::BITS)) as u32;
    (Place { line: part(0), column: part(1), length: part(2) }, part(3) > 0)
}

/// A mapping whose keys are names that the operator chose, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<T>(pub Vec<(Spanned<String>, T)>);

impl<T> Table<T> {
    /// The value of `name`.
    pub fn find(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(key, _)| key.value == name).map(|(_, value)| value)
    }

    /// The names, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(|(name, _)| name.value.as_str())
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Table<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(A_MAPPING_OF_NAMES)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Table(entries))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// A list of one element or more: an empty one would say nothing, or let nobody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

/// A [`List`] that may also be written as its one element, without brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(LIST, Elements(PhantomData)).map(Self)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(ONE_OR_MANY, Elements(PhantomData)).map(Self)
    }
}

struct Elements<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        // The reader knows, and it is as many as there are in the file.
        let mut elements = Vec::with_capacity(list.size_hint().unwrap_or_default());
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(elements)
    }
}
