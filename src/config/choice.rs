//! How a mapping or a word picks the variant of an enum: by its one key, by its key `type`,
//! or by being that word.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor,
};

use super::complaint::{A_MAPPING, ONE_KEY};
use super::failure::Failure;
use super::problem::Problem;
use super::reader::Reader;
use super::spanned::MAPPING;
use super::suggest::did_you_mean;
use super::tree::Value;

/// A variant's name, and the node with its content.
pub(super) struct Choice<'n> {
    variant: &'n str,
    content: Reader<'n>,
}

impl<'n> Choice<'n> {
    /// A word.
    pub(super) fn of_word(word: &'n str, reader: Reader<'n>) -> Self {
        Self { variant: word, content: Reader { key: None, ..reader } }
    }

    /// A mapping where a word might stand too.
    pub(super) fn of_mapping(reader: Reader<'n>) -> Self {
        Self { variant: MAPPING, content: reader }
    }

    /// A mapping with one key out of `variants`.
    pub(super) fn by_key(
        reader: Reader<'n>,
        variants: &'static [&'static str],
    ) -> Result<Self, Failure> {
        if !matches!(reader.node.value(), Value::Mapping(_)) {
            return Err(Failure::Form(format!("{ONE_KEY}{}", list(variants))));
        }
        let is_known = |key: &str| variants.contains(&key);
        for entry in reader.entries().iter().filter(|entry| !is_known(&entry.key.text)) {
            reader.unknown_key(entry, variants);
        }
        let hint = "write exactly one of them";
        if reader.entries().is_empty() {
            reader.say_none_of(variants, hint);
        }
        reader.say_exclusive(variants, hint);
        let mut known = reader.entries().iter().filter(|entry| is_known(&entry.key.text));
        match known.find(|entry| !reader.pass.skips(&entry.value)) {
            Some(entry) => Ok(Self { variant: &entry.key.text, content: reader.value_of(entry) }),
            None => Err(reader.leave_out_quietly()),
        }
    }

    /// A mapping whose key `tag` names the variant.
    pub(super) fn by_tag(
        tag: &'static str,
        reader: Reader<'n>,
        variants: &'static [&'static str],
    ) -> Result<Self, Failure> {
        if !matches!(reader.node.value(), Value::Mapping(_)) {
            return Err(Failure::Form(A_MAPPING.to_owned()));
        }
        let Some(entry) = reader.entries().iter().find(|entry| &*entry.key.text == tag) else {
            let message = format!("{} has no `{tag}`", reader.label());
            let hint = format!("add `{tag}: {}`", variants.join(&format!("` or `{tag}: ")));
            reader.pass.say(reader.node, Problem::error(reader.whole_place(), message).hint(hint));
            return Err(reader.leave_out_quietly());
        };
        let content = Reader { tag: Some(tag), ..reader };
        match entry.value.value() {
            Value::Scalar(word) if variants.contains(&word.text.as_str()) => {
                Ok(Self { variant: &word.text, content })
            }
            Value::Scalar(word) if !word.is_null => {
                let message = format!("`{tag}` can't be `{}`", word.text);
                let hint = did_you_mean(&word.text, "it takes", variants.iter().copied());
                let problem = Problem::error(entry.value.place, message).hint(hint);
                reader.pass.say(&entry.value, problem);
                Err(reader.leave_out_quietly())
            }
            Value::Broken => Err(reader.leave_out_quietly()),
            Value::Scalar(_) | Value::List(_) | Value::Mapping(_) => {
                let said = reader.value_of(entry).say(Failure::Form(list(variants)));
                reader.leave_out_quietly();
                Err(said)
            }
        }
    }
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

impl<'n> EnumAccess<'n> for Choice<'n> {
    type Error = Failure;
    type Variant = Reader<'n>;

    fn variant_seed<S: DeserializeSeed<'n>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Reader<'n>), Failure> {
        let variant: StrDeserializer<'_, Failure> = self.variant.into_deserializer();
        Ok((seed.deserialize(variant)?, self.content))
    }
}

impl<'n> VariantAccess<'n> for Reader<'n> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'n>>(self, seed: S) -> Result<S::Value, Failure> {
        seed.deserialize(self).map_err(|failure| self.say(failure))
    }

    fn tuple_variant<V: Visitor<'n>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'n>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_struct("", fields, visitor)
    }
}
