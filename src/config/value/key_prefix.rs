//! What names in a shared store begin with.

use super::super::failure::WrongText;
use super::super::file::Redis;
use super::super::schema::Form;
use super::Written;

/// Longest prefix in bytes: it is part of each name.
const MAX_LENGTH: usize = 64;

/// The beginning of all names of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefix(pub String);

impl Default for KeyPrefix {
    fn default() -> Self {
        Self(Redis::DEFAULT_KEY_PREFIX.to_owned())
    }
}

impl Written for KeyPrefix {
    const FORM: &'static str = "a prefix such as `obo-gateway:`";

    fn form() -> Form {
        Form::Pattern("[A-Za-z0-9:._/-]{1,64}")
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        // No braces: they would say which slot of a cluster an entry is in.
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b":._/-".contains(&byte);
        if text.is_empty() || text.len() > MAX_LENGTH || !text.bytes().all(is_fit) {
            let message = format!("`{text}` can't begin the names of entries");
            let hint = "use 1 to 64 letters, digits and `: . _ / -`, as in `obo-gateway:`";
            return Err(WrongText::new(message, hint));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_names_no_slot_and_no_pattern() {
        let longest = "p".repeat(MAX_LENGTH);
        for text in ["obo-gateway:", "a", "team/app.v1_:", &longest] {
            assert_eq!(KeyPrefix::parse(text).unwrap().0, text);
        }
        for text in ["", "{x}", "a b", "a*", "ä", &format!("{longest}p")] {
            assert!(KeyPrefix::parse(text).is_err(), "{text}");
        }
    }
}
