//! Which values of a routes file are secrets, by the keys above them: what is never printed.
//!
//! Errs on the side of hiding: a misspelt `client_secret` is one, so that the message about
//! the misspelling does not print it.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::listing::Listing;
use crate::secret::names_a_credential;

/// The keys above a value, the outermost first.
#[derive(Default)]
pub(super) struct Path {
    keys: Vec<Above>,
    /// What is known of keys: a large file has the same few again and again.
    known: HashMap<Arc<str>, Traits, RandomState>,
}

/// A key above a value.
struct Above {
    key: Arc<str>,
    traits: Traits,
    /// Whether it names a secret, or one above it does.
    is_secret: bool,
}

/// What a key says, whatever it is below.
#[derive(Clone, Copy)]
struct Traits {
    names_a_secret: bool,
    is_like_token: bool,
}

impl Path {
    /// Goes below `key`.
    pub(super) fn push(&mut self, key: &Arc<str>) {
        let traits = self.traits(key);
        let is_secret = traits.names_a_secret || self.keys.last().is_some_and(|it| it.is_secret);
        self.keys.push(Above { key: Arc::clone(key), traits, is_secret });
    }

    /// Comes back up.
    pub(super) fn pop(&mut self) {
        self.keys.pop();
    }

    /// The keys.
    pub(super) fn keys(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.keys.iter().map(|it| &*it.key)
    }

    /// Whether a scalar here is a secret.
    pub(super) fn is_secret(&self) -> bool {
        let Some((last, above)) = self.keys.split_last() else { return false };
        let mut upwards = above.iter().rev().map(|it| &*it.key);
        let (parent, grandparent) = (upwards.next(), upwards.next());
        let is_header = || {
            above.iter().any(|it| it.key.ends_with("headers"))
                && !above.iter().any(|it| &*it.key == "match")
        };
        last.is_secret
            // A text where a mapping with the secret belongs.
            || last.traits.is_like_token
            || matches!(&*last.key, "credential" | "header")
            || &*last.key == "value" && parent == Some("header")
            || &*last.key == "url" && parent == Some("redis")
            // Keys of vendors go by names of their own.
            || (grandparent, parent) == (Some("otlp"), Some("headers"))
            || is_header() && names_a_credential(&last.key)
    }

    fn traits(&mut self, key: &Arc<str>) -> Traits {
        if let Some(known) = self.known.get(key) {
            return *known;
        }
        let traits =
            Traits { names_a_secret: names_a_secret(key), is_like_token: is_like(key, "token", 1) };
        self.known.insert(Arc::clone(key), traits);
        traits
    }
}

/// Whether `text` is a word of the file's language, which no secret is.
pub(super) fn is_harmless(text: &str) -> bool {
    let ways_of_tokens = ["on_behalf_of", "client_credentials", "managed_identity", "header"];
    matches!(text, "" | "none" | "any" | "passthrough" | "true" | "false" | "off")
        || ways_of_tokens.contains(&text)
}

/// Whether `text` is a URL with a password in it, whatever its key.
pub(super) fn has_password(text: &str) -> bool {
    if !text.contains('@') {
        return false;
    }
    let authority = text.split_once("://").map(|(_, behind)| behind.split('/').next());
    authority.flatten().is_some_and(|authority| authority.contains('@'))
}

fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["secret", "passw", "encryption_key", "api_key", "apikey"].iter().any(|part| key.contains(part))
        || is_like(&key, "client_secret", 3)
}

fn is_like(key: &str, name: &str, edits: usize) -> bool {
    strsim::osa_distance(key, name) <= edits
}

/// Hides what may be a secret in a text that is no YAML, and so has no keys: everything behind
/// a key that names a secret, on its line and on those further in.
pub(super) fn hide_in_text(listing: &mut Listing) {
    let text = listing.text().to_owned();
    let mut deeper_than = None;
    for (number, line) in (1..).zip(text.split('\n')) {
        let indent = line.chars().take_while(|c| matches!(c, ' ' | '\t' | '-')).count();
        let end = (number, u32::MAX);
        if line.trim().is_empty() {
            continue;
        }
        if deeper_than.is_some_and(|outer| indent > outer) {
            listing.hide((number, 1), end);
            continue;
        }
        deeper_than = None;
        let Some((column, value)) = behind_secret_key(line) else { continue };
        let whole = value.trim().trim_matches(['"', '\'']);
        let outside = super::source::is_only_an_expression(whole);
        if !outside && !value.trim().is_empty() {
            let blanks = value.chars().take_while(|c| *c == ' ').count();
            listing.hide((number, column.saturating_add(number_of(blanks))), end);
        }
        if !outside && (!value.trim().is_empty() || !line.trim_start().starts_with("token")) {
            deeper_than = Some(indent);
        }
    }
}

fn number_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The column (from 1) and the text behind the first key of `line` that names a secret.
fn behind_secret_key(line: &str) -> Option<(u32, &str)> {
    let mut column = 1;
    let mut word = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        column += 1;
        match character {
            ':' if is_secret_word(&word) => return Some((column, characters.as_str())),
            '"' | '\'' => {}
            c if c.is_alphanumeric() || matches!(c, '_' | '-') => word.push(c),
            ' ' => {}
            _ => word.clear(),
        }
        if character == ':' {
            word.clear();
        }
    }
    None
}

fn is_secret_word(word: &str) -> bool {
    let word = word.trim_start_matches('-');
    names_a_secret(word)
        || names_a_credential(word) && !matches!(word, "auth" | "token_endpoint" | "key_file")
        || matches!(word, "value" | "credential" | "header")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(path: &str) -> bool {
        let mut keys = Path::default();
        for key in path.split('/') {
            keys.push(&Arc::from(key));
        }
        keys.is_secret()
    }

    #[test]
    fn secrets_are_known_by_their_keys_misspelt_or_not() {
        for path in [
            "providers/entra/credential/client_secret",
            "providers/entra/credential/client_secert",
            "providers/entra/clientSecret",
            "providers/sso/credential/client_secret_post",
            "admin/token",
            "admin/tokn",
            "upstreams/a/token/header/value",
            "upstreams/a/token",
            "cache/redis/url",
            "cache/redis/encryption_keys",
            "routes/request_headers/set/Authorization",
            "telemetry/otlp/headers/x-honeycomb-team",
        ] {
            assert!(secret(path), "{path}");
        }
        for path in [
            "providers/entra/tenant",
            "providers/entra/token_endpoint",
            "upstreams/a/url",
            "upstreams/a/token/header/name",
            "upstreams/a/token/none",
            "routes/match/headers/x-api-version",
            "routes/request_headers/set/x-team",
        ] {
            assert!(!secret(path), "{path}");
        }
    }

    #[test]
    fn text_that_is_no_yaml_hides_what_follows_such_a_key() {
        let text = "a: b\n  client_secret: hunter2\n  x: y\n  client_secret: ${S}\n\
                    token: { header: { name: x, value: hunter2 } }\ntoken: |\n  hunter2\nurl: z\n";
        let mut listing = Listing::new("f", text);
        hide_in_text(&mut listing);
        let shown: Vec<_> = (1..=8)
            .map(|line| {
                let place = crate::config::Place { line, column: 1, length: 1 };
                listing.excerpt(place).unwrap().text
            })
            .collect();
        assert!(!shown.join("\n").contains("hunter2"), "{shown:#?}");
        assert_eq!(shown[0], "a: b");
        assert_eq!(shown[2], "  x: y");
        assert_eq!(shown[3], "  client_secret: ${S}");
        assert_eq!(shown[7], "url: z");
    }
}
