//! How what is shared is named and sealed: whoever reads the store learns no token, user or scope.
//!
//! Names are HMAC-SHA256 of what they name. Values are AES-256-GCM under a key that is derived for
//! the name of the entry, so that a copy under another name can't be opened and random nonces meet
//! within one entry only; the name is bound in as associated data as well. All keys are derived
//! from an encryption key by HKDF-SHA256 (RFC 5869), with a label each. Knows no network, and
//! nothing of what is in a value.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::{digest, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::limits;

/// The form of sealed values; another one can't be opened.
const VERSION: u8 = 1;

/// How much of a key's digest tells it from the others, in bytes.
const KEY_ID_LEN: usize = 4;

/// What stands before the ciphertext.
const HEAD_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;

/// What Redis has in one block with a value of more than 255 and less than 65,536 bytes: the head and
/// the end of its string.
const REDIS_STRING_BYTES: usize = 6;

/// Length of an encryption key in bytes.
pub(super) const KEY_LEN: usize = 32;

/// An encryption key, as it stands in the routes file.
#[derive(Clone)]
pub struct EncryptionKey([u8; KEY_LEN]);

/// The keys that are derived from an encryption key.
pub(super) struct SealingKey {
    id: [u8; KEY_ID_LEN],
    names: hmac::Key,
    values: Prk,
}

/// All encryption keys: the first names and seals, all of them are looked for and open.
pub(super) struct Keyring {
    first: SealingKey,
    others: Vec<SealingKey>,
}

/// Why a value can't be opened. It is of no use, whatever the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unopened {
    /// It is too short, or begins in another way.
    #[error("it is no value of this program")]
    Foreign,
    /// It names a key that is not in `encryption_keys`.
    #[error("it was sealed with a key that is not in `encryption_keys`")]
    UnknownKey,
    /// It was altered, or stood under another name.
    #[error("it was altered, or was made for another name")]
    Altered,
}

/// The randomness of the system failed: nothing can be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes")]
pub(super) struct NoRandomness;

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl EncryptionKey {
    /// Reads the base64 of 32 bytes, with or without padding, of either alphabet.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_end_matches('=').replace('-', "+").replace('_', "/");
        let bytes = STANDARD_NO_PAD.decode(text).ok()?;
        <[u8; KEY_LEN]>::try_from(bytes).ok().map(Self)
    }

    /// Whether it is so plain that nobody drew it: one byte, again and again.
    pub fn is_plain(&self) -> bool {
        let Self([first, rest @ ..]) = self;
        rest.iter().all(|byte| byte == first)
    }
}

impl PartialEq for EncryptionKey {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for EncryptionKey {}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKey(redacted)")
    }
}

impl SealingKey {
    /// Derives the keys; `None` if the crypto library refuses, which it has no reason to.
    fn new(EncryptionKey(secret): &EncryptionKey) -> Option<Self> {
        let digest = digest::digest(
            &digest::SHA256,
            &[b"obo-gateway key id v1".as_slice(), secret].concat(),
        );
        let id = digest.as_ref().first_chunk().copied()?;
        let master = Salt::new(HKDF_SHA256, b"obo-gateway shared cache v1").extract(secret);
        let mut names = [0; KEY_LEN];
        master.expand(&[b"names"], Length(KEY_LEN)).ok()?.fill(&mut names).ok()?;
        let mut values = [0; KEY_LEN];
        master.expand(&[b"values"], Length(KEY_LEN)).ok()?.fill(&mut values).ok()?;
        let names = hmac::Key::new(hmac::HMAC_SHA256, &names);
        Some(Self { id, names, values: Prk::new_less_safe(HKDF_SHA256, &values) })
    }

    /// The text that stands for `what` in names: as long for all, and told by nobody without the key.
    pub(super) fn digest(&self, what: &[&[u8]]) -> String {
        let mut context = hmac::Context::with_key(&self.names);
        for part in what {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        URL_SAFE_NO_PAD.encode(context.sign())
    }

    /// The key of the entry called `name`.
    fn of_entry(&self, name: &str) -> Option<LessSafeKey> {
        let mut key = [0; KEY_LEN];
        self.values.expand(&[name.as_bytes()], Length(KEY_LEN)).ok()?.fill(&mut key).ok()?;
        UnboundKey::new(&AES_256_GCM, &key).ok().map(LessSafeKey::new)
    }
}

impl Keyring {
    /// Keys of which the first seals; `None` without any.
    pub(super) fn new(keys: &[EncryptionKey]) -> Option<Self> {
        let (first, others) = keys.split_first()?;
        let others = others.iter().map(SealingKey::new).collect::<Option<Vec<_>>>()?;
        Some(Self { first: SealingKey::new(first)?, others })
    }

    /// The key that names and seals.
    pub(super) fn first(&self) -> &SealingKey {
        &self.first
    }

    /// The keys under whose names values may still be.
    pub(super) fn others(&self) -> &[SealingKey] {
        &self.others
    }

    /// Seals `plain` for the entry called `name`, padded so that its length tells little.
    ///
    /// # Errors
    ///
    /// The system gives no random bytes.
    pub(super) fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, NoRandomness> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_unspecified| NoRandomness)?;
        let key = self.first.of_entry(name).ok_or(NoRandomness)?;
        let mut sealed = padded(plain);
        let aad = Aad::from(associated(self.first.id, name));
        let nonce_again = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce_again, aad, &mut sealed)
            .map_err(|_unspecified| NoRandomness)?;
        let mut value = Vec::with_capacity(HEAD_LEN + sealed.len());
        value.push(VERSION);
        value.extend_from_slice(&self.first.id);
        value.extend_from_slice(&nonce);
        value.append(&mut sealed);
        Ok(value)
    }

    /// What was sealed for the entry called `name`.
    ///
    /// # Errors
    ///
    /// It was not, or not with one of these keys, or it was altered.
    pub(super) fn open(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, Unopened> {
        let (&version, rest) = value.split_first().ok_or(Unopened::Foreign)?;
        let (id, rest) = rest.split_first_chunk::<KEY_ID_LEN>().ok_or(Unopened::Foreign)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Unopened::Foreign)?;
        if version != VERSION || value.len() > limits::MAX_SHARED_VALUE_BYTES {
            return Err(Unopened::Foreign);
        }
        let mut keys = std::iter::once(&self.first).chain(&self.others);
        let key = keys.find(|key| key.id == *id).ok_or(Unopened::UnknownKey)?;
        let key = key.of_entry(name).ok_or(Unopened::Altered)?;
        let aad = Aad::from(associated(*id, name));
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut opened = sealed.to_vec();
        let padded =
            key.open_in_place(nonce, aad, &mut opened).map_err(|_unspecified| Unopened::Altered)?;
        unpadded(padded).map(<[u8]>::to_vec).ok_or(Unopened::Foreign)
    }
}

fn associated(id: [u8; KEY_ID_LEN], name: &str) -> Vec<u8> {
    let mut associated = vec![VERSION];
    associated.extend_from_slice(&id);
    associated.extend_from_slice(name.as_bytes());
    associated
}

/// `plain` behind its length, filled up so that Redis has the whole value in one block of its
/// allocator and nothing of that is left over.
fn padded(plain: &[u8]) -> Vec<u8> {
    let around = HEAD_LEN + AES_256_GCM.tag_len() + REDIS_STRING_BYTES;
    let whole = block_of(4 + plain.len() + around) - around;
    let mut padded = Vec::with_capacity(whole + AES_256_GCM.tag_len());
    // A plain text longer than 4 GiB does not exist: a token has its limit.
    padded.extend_from_slice(&u32::try_from(plain.len()).unwrap_or(u32::MAX).to_be_bytes());
    padded.extend_from_slice(plain);
    padded.resize(whole, 0);
    padded
}

/// The size of the block that holds so many bytes: jemalloc has four between one power of two and the
/// next, of which the small ones are left out here.
fn block_of(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(limits::SHARED_VALUE_BLOCK_BYTES);
    bytes.next_multiple_of(step)
}

fn unpadded(padded: &[u8]) -> Option<&[u8]> {
    let (length, rest) = padded.split_first_chunk()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(&EncryptionKey([byte; KEY_LEN])).unwrap()
    }

    fn ring(first: u8, others: &[u8]) -> Keyring {
        let keys =
            std::iter::once(&first).chain(others).map(|&byte| EncryptionKey([byte; KEY_LEN]));
        Keyring::new(&keys.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn keys_are_32_bytes_of_base64() {
        let whole = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd_v8=";
        let key = EncryptionKey::parse(whole).unwrap();
        assert_eq!(EncryptionKey::parse(&whole.replace('_', "/").replace('=', "\n")), Some(key));
        for text in [
            "",
            "AAEC",
            &whole.replace("AAEC", ""),
            &format!("AAAA{whole}"),
            "not base64 at all, is it? it is not!!!",
        ] {
            assert_eq!(EncryptionKey::parse(text), None, "{text}");
        }
        assert!(EncryptionKey([7; KEY_LEN]).is_plain());
        assert!(!EncryptionKey::parse(whole).unwrap().is_plain());
    }

    #[test]
    fn what_was_sealed_is_opened_under_its_name_only() {
        let ring = ring(1, &[]);
        let value = ring.seal("a", b"token").unwrap();
        assert_eq!(ring.open("a", &value).unwrap(), b"token");
        assert_eq!(ring.open("b", &value), Err(Unopened::Altered));
        assert_ne!(ring.seal("a", b"token").unwrap(), value, "nonces are random");
    }

    #[test]
    fn no_bit_of_a_value_can_be_altered() {
        let ring = ring(1, &[2]);
        let value = ring.seal("a", b"token").unwrap();
        for bit in 0..value.len() * 8 {
            let mut altered = value.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(ring.open("a", &altered).is_err(), "bit {bit}");
        }
        for length in 0..value.len() {
            assert!(ring.open("a", &value[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn all_keys_open_and_the_first_seals() {
        let old = ring(1, &[]).seal("a", b"token").unwrap();
        assert_eq!(ring(2, &[1]).open("a", &old).unwrap(), b"token");
        assert_eq!(ring(2, &[]).open("a", &old), Err(Unopened::UnknownKey));
        let new = ring(2, &[1]).seal("a", b"token").unwrap();
        assert_eq!(ring(1, &[]).open("a", &new), Err(Unopened::UnknownKey));
    }

    #[test]
    fn names_tell_all_parts_apart_and_depend_on_the_key() {
        let of = |byte, what: &[&[u8]]| key(byte).digest(what);
        let name = of(1, &[b"ab", b"c"]);
        assert_eq!(name, of(1, &[b"ab", b"c"]));
        assert_eq!(name.len(), 43);
        for other in [of(1, &[b"a", b"bc"]), of(1, &[b"abc"]), of(2, &[b"ab", b"c"])] {
            assert_ne!(name, other);
        }
    }

    #[test]
    fn lengths_are_those_of_whole_blocks_of_redis() {
        let ring = ring(1, &[]);
        let length = |of: usize| ring.seal("a", &vec![0; of]).unwrap().len() + REDIS_STRING_BYTES;
        let longest = |block: usize| block - REDIS_STRING_BYTES - HEAD_LEN - 16 - 4;
        for (block, next) in [
            (512, 1024),
            (1536, 2048),
            (2048, 2560),
            (3584, 4096),
            (4096, 5120),
            (7168, 8192),
            (8192, 10240),
        ] {
            assert_eq!((length(longest(block)), length(longest(block) + 1)), (block, next));
        }
        assert_eq!(length(0), 512);
        // A token of the largest size has room.
        assert_eq!(length(60_000), limits::MAX_SHARED_VALUE_BYTES);
    }
}
