//! The keys of one provider (a JWK set, RFC 7517), filtered.
//!
//! Decides which published keys may judge a token at all, and for which algorithms. A bad
//! key is dropped by itself; the others stay. It does not know where key sets come from
//! (`provider.rs`) or what is signed with them (`token.rs`).
//!
//! A key is parsed when it is read, for each algorithm that it may judge by, and checks signatures
//! of no other: what a header names can't lead to another use of it. jsonwebtoken, which would
//! parse it for each token, has no part in this.

mod small_order;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::limits;

use super::algorithm::Algorithm;
use super::json::{self, JsonError, Object, Value};

/// Smallest and largest RSA modulus, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A published key that passed the filter.
pub struct Key {
    kid: String,
    material: Material,
    algorithm: Option<Algorithm>,
    issuer: Option<String>,
    /// One for each algorithm that it may judge by, made once: to do so takes a tenth of the time
    /// that a signature's check does.
    verifiers: Vec<(Algorithm, Verifier)>,
}

/// A key of which only signatures of one algorithm are checked.
pub(super) struct Verifier(ParsedPublicKey);

impl Verifier {
    /// Whether `signature` is one over `signed`.
    pub(super) fn holds(&self, signed: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(signed, signature).is_ok()
    }
}

/// The public numbers of a key: two keys with the same are the same key.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Material {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Longest RSA exponent: the library verifies nothing with a longer one, and a key that verifies
/// nothing must not take the place of one that does. Real ones are 65537.
const MAX_EXPONENT_BITS: usize = 33;

/// The usable keys of a provider, by `kid`.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: HashMap<String, Arc<Key>>,
}

/// A key that was left out, for the log.
#[derive(Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its `kid`, if it has one that is text.
    pub kid: Option<String>,
    /// Why.
    pub why: Flaw,
}

/// What keeps a published key out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Not an object, a member of the wrong type, bad base64url, or a repeated member.
    #[error("it is malformed")]
    Malformed,
    /// No `kid`, or one that is empty or longer than [`limits::MAX_KID_BYTES`].
    #[error("it has no usable `kid`")]
    NoKid,
    /// `kty` is not RSA, EC or OKP, or the curve is not one of ours. `oct` is among them.
    #[error("its `kty` or `crv` is not one that verifies tokens here")]
    Kind,
    /// `use` or `key_ops` say that it is for something else.
    #[error("its `use` or `key_ops` is not for signatures")]
    Purpose,
    /// `alg` is not one the provider may use, or none of those fits the key.
    #[error("its `alg` is not among the provider's `algorithms`, or does not fit the key")]
    Algorithm,
    /// RSA outside 2,048 to 8,192 bits, an even modulus, or an exponent that is even or below 3; a point
    /// of small order.
    #[error("its numbers are weak")]
    Weak,
    /// The numbers are no public key, such as a point that is not on the curve.
    #[error("its numbers are not a public key")]
    Invalid,
    /// The private half is published with it: anyone can sign.
    #[error("its private key is published with it")]
    Private,
    /// It stands behind the [`limits::MAX_KEYS`] that are read.
    #[error(
        "the set has more than {} keys, and this and those behind it are not read",
        limits::MAX_KEYS
    )]
    TooMany,
    /// Another, different key has the same `kid`.
    #[error("two different keys have this `kid`")]
    Ambiguous,
}

impl Flaw {
    /// Whether a sound provider publishes such keys too, for other purposes than ours.
    pub fn is_ordinary(self) -> bool {
        match self {
            Self::Kind | Self::Purpose | Self::Algorithm => true,
            Self::Malformed
            | Self::NoKid
            | Self::Weak
            | Self::Invalid
            | Self::Private
            | Self::TooMany
            | Self::Ambiguous => false,
        }
    }
}

/// Why a whole key set can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// Not JSON, or not an object.
    #[error("the key set can't be read")]
    Json(#[source] JsonError),
    /// No `keys` array (RFC 7517 §5.1).
    #[error("the key set has no `keys` array")]
    NoKeys,
    /// Not one key passed the filter.
    #[error("none of the {published} keys of the key set can be used{}", first.map(|flaw| format!(" (of the first, {flaw})")).unwrap_or_default())]
    NoneUsable {
        /// How many were published.
        published: usize,
        /// What was wrong with the first.
        first: Option<Flaw>,
    },
}

impl KeySet {
    /// Their ids, in no order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// Reads a JWK set and keeps what may verify tokens signed with one of `algorithms`.
    ///
    /// # Errors
    ///
    /// A document that is no key set, or one without any usable key.
    pub fn read(
        text: &[u8],
        algorithms: &[Algorithm],
    ) -> Result<(Self, Vec<Dropped>), KeySetError> {
        let document = json::object_with_holes(text).map_err(KeySetError::Json)?;
        let Some(Value::Array(published)) = document.get("keys") else {
            return Err(KeySetError::NoKeys);
        };
        let mut dropped = Vec::new();
        // `None` marks a `kid` with two different keys.
        let mut found: HashMap<String, Option<Arc<Key>>> = HashMap::new();
        for jwk in published.iter().take(limits::MAX_KEYS) {
            let key = match Key::read(jwk, algorithms) {
                Ok(key) => key,
                Err(why) => {
                    dropped.push(Dropped { kid: named(jwk), why });
                    continue;
                }
            };
            match found.entry(key.kid.clone()) {
                Entry::Vacant(vacant) => {
                    vacant.insert(Some(Arc::new(key)));
                }
                Entry::Occupied(mut occupied) => {
                    if occupied.get().as_deref() != Some(&key) {
                        dropped.push(Dropped { kid: Some(key.kid), why: Flaw::Ambiguous });
                        occupied.insert(None);
                    }
                }
            }
        }
        if let Some(first) = published.get(limits::MAX_KEYS) {
            dropped.push(Dropped { kid: named(first), why: Flaw::TooMany });
        }
        let keys: HashMap<_, _> =
            found.into_iter().filter_map(|(kid, key)| Some((kid, key?))).collect();
        if keys.is_empty() {
            let first = dropped.first().map(|dropped| dropped.why);
            return Err(KeySetError::NoneUsable { published: published.len(), first });
        }
        Ok((Self { keys }, dropped))
    }

    /// The key with this `kid`, compared byte for byte.
    pub fn key(&self, kid: &str) -> Option<&Arc<Key>> {
        self.keys.get(kid)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none; never so for a set that was read.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether every key of `earlier` is here, unchanged: what was verified with it stays verified.
    pub fn keeps(&self, earlier: &Self) -> bool {
        earlier.keys.iter().all(|(kid, key)| self.keys.get(kid) == Some(key))
    }
}

impl Key {
    fn read(published: &Value<'_>, algorithms: &[Algorithm]) -> Result<Self, Flaw> {
        let jwk = published.as_object().ok_or(Flaw::Malformed)?;
        let material = Material::read(jwk)?;
        let algorithm = match text(jwk, "alg")? {
            Some(name) => Some(Algorithm::named(name).ok_or(Flaw::Algorithm)?),
            None => None,
        };
        let usable = |candidate: &&Algorithm| {
            material.fits(**candidate) && algorithm.is_none_or(|own| own == **candidate)
        };
        let verifier = |usable: &Algorithm| Ok((*usable, material.verifier(*usable)?));
        let verifiers: Vec<_> =
            algorithms.iter().filter(usable).map(verifier).collect::<Result<_, Flaw>>()?;
        if verifiers.is_empty() {
            return Err(Flaw::Algorithm);
        }
        let kid = text(jwk, "kid")?.ok_or(Flaw::NoKid)?;
        if kid.is_empty() || kid.len() > limits::MAX_KID_BYTES {
            return Err(Flaw::NoKid);
        }
        let issuer = text(jwk, "issuer")?.map(str::to_owned);
        Ok(Self { kid: kid.to_owned(), material, algorithm, issuer, verifiers })
    }

    /// Whether a token signed with `algorithm` may be judged by this key.
    pub fn permits(&self, algorithm: Algorithm) -> bool {
        self.verifier(algorithm).is_some()
    }

    /// What checks signatures of `algorithm`; `None` where the key is not for that.
    pub(super) fn verifier(&self, algorithm: Algorithm) -> Option<&Verifier> {
        let found = self.verifiers.iter().find(|(own, _)| *own == algorithm);
        found.map(|(_, verifier)| verifier)
    }

    /// The `issuer` member that Entra adds: for tokens of which issuer the key may be used.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Its `kid`.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What kind of key it is, for the log.
    pub fn describe(&self) -> String {
        match &self.material {
            Material::Rsa { modulus, .. } => format!("RSA of {} bits", bits(modulus)),
            Material::P256(_) => "EC on P-256".to_owned(),
            Material::P384(_) => "EC on P-384".to_owned(),
            Material::Ed25519(_) => "Ed25519".to_owned(),
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        // The verifiers are made from `material`, for what the provider's `algorithms` allow.
        self.kid == other.kid
            && self.material == other.material
            && self.algorithm == other.algorithm
            && self.issuer == other.issuer
    }
}

impl Eq for Key {}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("kind", &self.describe())
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl Material {
    /// The numbers of a JWK that is for signatures, and public.
    pub(super) fn read(jwk: &Object<'_>) -> Result<Self, Flaw> {
        let family = text(jwk, "kty")?.ok_or(Flaw::Malformed)?;
        check_purpose(jwk)?;
        let curve = text(jwk, "crv")?;
        let material = match (family, curve) {
            ("RSA", _) => Self::Rsa {
                modulus: unsigned(bytes(jwk, "n")?),
                exponent: unsigned(bytes(jwk, "e")?),
            },
            ("EC", Some("P-256")) => Self::P256(point(jwk, 32)?),
            ("EC", Some("P-384")) => Self::P384(point(jwk, 48)?),
            ("OKP", Some("Ed25519")) => Self::Ed25519(bytes(jwk, "x")?),
            _ => return Err(Flaw::Kind),
        };
        if jwk.has("d") { Err(Flaw::Private) } else { Ok(material) }
    }

    /// Whether the key is of the kind that `algorithm` signs with.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => matches!(self, Self::Rsa { .. }),
            Algorithm::Es256 => matches!(self, Self::P256(_)),
            Algorithm::Es384 => matches!(self, Self::P384(_)),
            Algorithm::EdDsa => matches!(self, Self::Ed25519(_)),
        }
    }

    /// What checks signatures of `algorithm`.
    ///
    /// # Errors
    ///
    /// The key is not for that, or its numbers are no public key of a strength we accept.
    pub(super) fn verifier(&self, algorithm: Algorithm) -> Result<Verifier, Flaw> {
        if !self.fits(algorithm) {
            return Err(Flaw::Algorithm);
        }
        let parsed = match self {
            Self::Rsa { modulus, exponent } => {
                check_strength(modulus, exponent)?;
                let scheme = rsa_scheme(algorithm).ok_or(Flaw::Algorithm)?;
                RsaPublicKeyComponents { n: modulus, e: exponent }.to_parsed_public_key(scheme)
            }
            Self::P256(point) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point),
            Self::P384(point) => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point),
            Self::Ed25519(point) if small_order::is_small(point) => return Err(Flaw::Weak),
            Self::Ed25519(point) if point.len() == 32 => ParsedPublicKey::new(&ED25519, point),
            Self::Ed25519(_) => return Err(Flaw::Invalid),
        };
        match parsed {
            Ok(parsed) => Ok(Verifier(parsed)),
            Err(_) => Err(Flaw::Invalid),
        }
    }
}

/// Padding and digest of an algorithm of RSA; `None` of another.
fn rsa_scheme(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => None,
    }
}

fn check_strength(modulus: &[u8], exponent: &[u8]) -> Result<(), Flaw> {
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let at_least_three = exponent.len() > 1 || exponent.first() >= Some(&3);
    let is_sound = RSA_BITS.contains(&bits(modulus))
        && odd(modulus)
        && odd(exponent)
        && at_least_three
        && bits(exponent) <= MAX_EXPONENT_BITS;
    if is_sound { Ok(()) } else { Err(Flaw::Weak) }
}

/// `use` absent or `sig` (RFC 7517 §4.2), `key_ops` absent or with `verify` (§4.3).
fn check_purpose(jwk: &Object<'_>) -> Result<(), Flaw> {
    if text(jwk, "use")?.is_some_and(|purpose| purpose != "sig") {
        return Err(Flaw::Purpose);
    }
    match jwk.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) => {
            let verifies = operations.iter().any(|operation| operation.as_str() == Some("verify"));
            if verifies { Ok(()) } else { Err(Flaw::Purpose) }
        }
        Some(_) => Err(Flaw::Malformed),
    }
}

/// The `kid` of a key that is left out.
fn named(jwk: &Value<'_>) -> Option<String> {
    jwk.as_object()?.get("kid")?.as_str().map(str::to_owned)
}

/// A member that is text, if it is there.
fn text<'a>(jwk: &'a Object<'_>, name: &str) -> Result<Option<&'a str>, Flaw> {
    jwk.get(name).map(|value| value.as_str().ok_or(Flaw::Malformed)).transpose()
}

/// A member that is bytes in base64url without padding (RFC 7518 §2).
fn bytes(jwk: &Object<'_>, name: &str) -> Result<Vec<u8>, Flaw> {
    let encoded = text(jwk, name)?.ok_or(Flaw::Malformed)?;
    URL_SAFE_NO_PAD.decode(encoded).or(Err(Flaw::Malformed))
}

/// The uncompressed point of an EC key whose coordinates have `size` bytes (RFC 7518 §6.2.1).
fn point(jwk: &Object<'_>, size: usize) -> Result<Vec<u8>, Flaw> {
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != size || y.len() != size {
        return Err(Flaw::Invalid);
    }
    Ok([&[4][..], &x, &y].concat())
}

/// A big-endian number without leading zeros, which some providers send.
fn unsigned(number: Vec<u8>) -> Vec<u8> {
    number.into_iter().skip_while(|byte| *byte == 0).collect()
}

/// How many bits a number without leading zeros has.
fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests;
