//! Every token and secret of the whole process, and the search for them in texts.
//!
//! Whatever makes a token registers it before anyone can send it, so that a search after the
//! fact knows all there is to find. Texts are searched for the parts of a token too: a
//! payload or a signature alone is as much a leak as the whole.

use std::collections::HashMap;
use std::sync::{LazyLock, RwLock};

/// What a registered text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A caller's token.
    Inbound,
    /// A token that a provider issued to the gateway.
    Outbound,
    /// A secret of the gateway.
    Secret,
}

/// The shortest text worth searching for: shorter ones are found by chance.
const SHORTEST: usize = 16;

type Prefix = [u8; SHORTEST];

/// By their first bytes, so that a search looks at each place of a text once.
type Known = HashMap<Prefix, Vec<(Kind, String)>>;

static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(RwLock::default);

/// Registers a caller's token.
pub fn inbound(token: &str) {
    register(Kind::Inbound, token);
}

/// Registers a token that the gateway was given.
pub fn outbound(token: &str) {
    register(Kind::Outbound, token);
}

/// Registers a secret of the gateway.
///
/// # Panics
///
/// On a secret that is too short to be searched for.
pub fn secret(secret: &str) {
    assert!(secret.len() >= SHORTEST, "give tests secrets of {SHORTEST} bytes or more");
    register(Kind::Secret, secret);
}

fn register(kind: Kind, text: &str) {
    let mut known = KNOWN.write().unwrap();
    // The header of a token is the same for many and says nothing; payload and signature count.
    let parts = text.split('.').skip(1);
    for needle in std::iter::once(text).chain(parts) {
        if let Some(prefix) = needle.as_bytes().first_chunk::<SHORTEST>() {
            let known = known.entry(*prefix).or_default();
            if !known.iter().any(|(_, other)| other == needle) {
                known.push((kind, needle.to_owned()));
            }
        }
    }
}

/// Whether `text` is, whole, a registered token of a caller.
pub fn is_inbound(text: &str) -> bool {
    let Some(prefix) = text.as_bytes().first_chunk::<SHORTEST>() else { return false };
    let known = KNOWN.read().unwrap();
    known.get(prefix).is_some_and(|known| {
        known.iter().any(|(kind, needle)| *kind == Kind::Inbound && needle == text)
    })
}

/// The first registered text of one of `kinds` that occurs in `text`: its kind and where.
pub fn find(text: &[u8], kinds: &[Kind]) -> Option<(Kind, usize)> {
    let known = KNOWN.read().unwrap();
    text.windows(SHORTEST).enumerate().find_map(|(at, window)| {
        let prefix: &Prefix = window.try_into().ok()?;
        let mut hits = known.get(prefix)?.iter();
        hits.find(|(kind, needle)| {
            kinds.contains(kind) && text[at..].starts_with(needle.as_bytes())
        })
        .map(|(kind, _)| (*kind, at))
    })
}

/// Fails if a registered token or secret occurs in `text`, which `place` names.
///
/// # Panics
///
/// With the text before the find; never with the find itself.
pub fn assert_clean(place: &str, text: &[u8]) {
    if let Some((kind, at)) = find(text, &[Kind::Inbound, Kind::Outbound, Kind::Secret]) {
        let before = String::from_utf8_lossy(&text[at.saturating_sub(200)..at]);
        panic!("a registered text ({kind:?}) is in {place}, behind: {before}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_whole_and_in_parts_and_nothing_else_is() {
        inbound("regtest-header0.regtest-payload0.regtest-signature0");
        let kinds = &[Kind::Inbound];
        assert_eq!(find(b"x regtest-payload0", kinds), Some((Kind::Inbound, 2)));
        assert_eq!(find(b"regtest-signature0", kinds), Some((Kind::Inbound, 0)));
        assert_eq!(find(b"regtest-header0 regtest-payload", kinds), None);
        assert_eq!(find(b"regtest-payload0", &[Kind::Secret]), None);
        assert!(is_inbound("regtest-header0.regtest-payload0.regtest-signature0"));
        assert!(!is_inbound("regtest-header0.regtest-payload0.regtest-signature1"));
    }

    #[test]
    #[should_panic(expected = "(Secret) is in a log, behind: secret=")]
    fn a_leak_fails_without_showing_it() {
        secret("regtest-hunter-two-hunter-two");
        assert_clean("a log", b"secret=regtest-hunter-two-hunter-two");
    }
}
