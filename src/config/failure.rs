//! Why one value could not be read, on its way from where serde found out to the reader that
//! knows the place.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

/// Why a value could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The problem has been said, further in.
    Said,
    /// A sentence, and behind [`HINT`] what to do.
    Text(String),
    /// A value of another form than this one.
    Form(String),
    /// No mapping, where one of these keys should be.
    Keys(&'static [&'static str]),
    /// A word that is none of these.
    Word(String, &'static [&'static str]),
    /// A mapping without this key.
    Missing(&'static str),
}

/// Parts the sentence of a value's own error from its hint: [`de::Error::custom`] takes only
/// one text.
const HINT: &str = "\nhint: ";

/// What is wrong with a value's text, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongText {
    pub(super) message: String,
    pub(super) hint: String,
}

impl WrongText {
    /// A sentence with the value in backticks, and what to do.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for WrongText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{HINT}{}", self.message, self.hint)
    }
}

/// The two parts of a [`WrongText`] that went through serde.
pub(super) fn message_and_hint(text: &str) -> (&str, Option<&str>) {
    text.split_once(HINT).map_or((text, None), |(message, hint)| (message, Some(hint)))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Text(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Form(expected.to_string())
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Form(expected.to_string())
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::Word(word.to_owned(), known)
    }

    fn missing_field(key: &'static str) -> Self {
        Self::Missing(key)
    }
}
