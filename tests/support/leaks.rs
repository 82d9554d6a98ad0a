//! The search in what is kept outside of us for whatever it must not tell: tokens, their parts,
//! users, scopes and names, as they are, in base64 and in hex.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use foldhash::fast::RandomState;

use super::redis::contents::Entry;
use super::replicas::{Fleet, User};

/// The shortest spelling that is searched for, in bytes: less comes up by chance.
const SHORTEST: usize = 12;

/// So much of a longer one is enough, in bytes: who has that has too much.
const ENOUGH: usize = 48;

/// What is searched for, by its first bytes, so that each place is looked at once. Capitals do not
/// count.
pub struct Leaks(HashMap<First, Vec<Spelling>, RandomState>);

/// How a spelling begins.
type First = [u8; SHORTEST];

/// What it is of, and itself.
type Spelling = (&'static str, Vec<u8>);

impl Leaks {
    /// All that `fleet` and its `users` have to hide.
    pub fn of(fleet: &Fleet, users: &[User]) -> Self {
        let mut leaks = Self(HashMap::default());
        for (what, text) in Fleet::names() {
            leaks.add(what, text);
        }
        for token in fleet.provider.issued_tokens() {
            leaks.add("outbound token", &token);
        }
        for user in users {
            leaks.add("user", &user.oid);
            for part in user.token.split('.') {
                leaks.add("part of an inbound token", part);
            }
        }
        leaks
    }

    fn add(&mut self, what: &'static str, text: &str) {
        for spelling in spellings(text) {
            let spelling = spelling[..spelling.len().min(ENOUGH)].to_ascii_lowercase();
            let first = spelling.first_chunk().expect("names of tests are long");
            let known = self.0.entry(*first).or_default();
            if !known.iter().any(|(_, other)| *other == spelling) {
                known.push((what, spelling));
            }
        }
    }

    /// What of it is in `dump`.
    pub fn found(&self, dump: &[Entry]) -> Vec<&'static str> {
        let places = dump.iter().flat_map(|entry| std::iter::once(&entry.key).chain(&entry.pieces));
        places.flat_map(|place| self.found_in(place)).collect()
    }

    fn found_in(&self, place: &[u8]) -> Vec<&'static str> {
        let place = place.to_ascii_lowercase();
        let mut found = Vec::new();
        for (at, window) in place.windows(SHORTEST).enumerate() {
            let Some(known) = self.0.get(window) else { continue };
            let rest = &place[at..];
            let hits = known.iter().filter(|(_, spelling)| rest.starts_with(spelling));
            found.extend(hits.map(|(what, _)| *what));
        }
        found
    }
}

/// `text` in the spellings that it might be kept in.
fn spellings(text: &str) -> Vec<Vec<u8>> {
    let mut spellings = vec![text.as_bytes().to_vec()];
    // Base64 at each of the places where it may begin; what depends on the neighbours is cut off.
    for before in 0..3 {
        let padded = [&b"\0\0"[..before], text.as_bytes()].concat();
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&padded);
            let (from, to) = ([0, 2, 3][before], padded.len() * 8 / 6);
            spellings.push(encoded.as_bytes()[from..to].to_vec());
        }
    }
    let digit = |number: u8| b"0123456789abcdef"[usize::from(number)];
    spellings.push(text.bytes().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect());
    // Identifiers are 128 bits, and might be kept as such, too.
    let digits = text.replace('-', "");
    if digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let pairs = (0..32).step_by(2);
        spellings
            .push(pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect());
        spellings.push(digits.into_bytes());
    }
    spellings
}
