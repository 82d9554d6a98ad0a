//! Signing keys, made once a process, and the algorithms tokens are signed with.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::weak_rsa;

/// A way to sign; what the header says may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alg {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
    Hs256,
    Hs384,
    Hs512,
    /// No signature: the part is empty.
    None,
}

impl Alg {
    /// Its name in a header (RFC 7518 §3.1).
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::None => "none",
        }
    }
}

/// A signing key with its name; cheap to clone.
#[derive(Clone)]
pub struct Key {
    kid: String,
    material: Arc<Material>,
}

enum Material {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Weak,
    ExponentOne(RsaKeyPair),
    Symmetric(Vec<u8>),
}

fn shared(kid: &str, material: Material) -> Key {
    Key { kid: kid.to_owned(), material: Arc::new(material) }
}

macro_rules! made_once {
    ($($(#[$doc:meta])* $name:ident = $make:expr;)*) => {
        $($(#[$doc])*
        pub fn $name() -> Key {
            static KEY: LazyLock<Key> = LazyLock::new(|| shared(concat!("kid-", stringify!($name)), $make));
            KEY.clone()
        })*
    };
}

made_once! {
    /// RSA of 2,048 bits: the key of a provider unless a test says otherwise.
    rsa = Material::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
    /// Another of 2,048 bits, for rotations and forgeries.
    rsa_other = Material::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
    /// RSA of 3,072 bits.
    rsa3072 = Material::Rsa(RsaKeyPair::generate(KeySize::Rsa3072).unwrap());
    /// For ES256.
    p256 = Material::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
    /// For ES384.
    p384 = Material::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap());
    /// For `EdDSA`.
    ed25519 = Material::Ed25519(Ed25519KeyPair::generate().unwrap());
    /// RSA of 1,024 bits: too weak, though its signatures hold.
    weak_rsa1024 = Material::Weak;
    /// RSA whose public exponent is 1: anyone can sign.
    exponent_one = Material::ExponentOne(RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
}

impl Key {
    /// A symmetric key.
    pub fn symmetric(kid: &str, secret: &[u8]) -> Self {
        shared(kid, Material::Symmetric(secret.to_vec()))
    }

    /// The same key by another name.
    #[must_use]
    pub fn named(&self, kid: &str) -> Self {
        Self { kid: kid.to_owned(), material: Arc::clone(&self.material) }
    }

    /// Its name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What it signs with unless told otherwise.
    pub fn alg(&self) -> Alg {
        match *self.material {
            Material::Rsa(_) | Material::Weak | Material::ExponentOne(_) => Alg::Rs256,
            Material::P256(_) => Alg::Es256,
            Material::P384(_) => Alg::Es384,
            Material::Ed25519(_) => Alg::EdDsa,
            Material::Symmetric(_) => Alg::Hs256,
        }
    }

    /// Signs `message`. Only RSA and symmetric keys heed `alg`; the others know one way.
    pub fn sign(&self, alg: Alg, message: &[u8]) -> Vec<u8> {
        if alg == Alg::None {
            return Vec::new();
        }
        match &*self.material {
            Material::Rsa(key) => {
                let padding: &dyn signature::RsaEncoding = match alg {
                    Alg::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Alg::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Alg::Ps256 => &signature::RSA_PSS_SHA256,
                    Alg::Ps384 => &signature::RSA_PSS_SHA384,
                    Alg::Ps512 => &signature::RSA_PSS_SHA512,
                    Alg::Rs256 => &signature::RSA_PKCS1_SHA256,
                    Alg::Es256
                    | Alg::Es384
                    | Alg::EdDsa
                    | Alg::Hs256
                    | Alg::Hs384
                    | Alg::Hs512
                    | Alg::None => {
                        panic!("an RSA key can't sign {}", alg.name())
                    }
                };
                let mut made = vec![0; key.public_modulus_len()];
                key.sign(padding, &SystemRandom::new(), message, &mut made).unwrap();
                made
            }
            Material::P256(key) | Material::P384(key) => {
                key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
            }
            Material::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Material::Weak => weak_rsa::sign(message),
            Material::ExponentOne(key) => {
                weak_rsa::forge_for_exponent_one(message, key.public_modulus_len())
            }
            Material::Symmetric(secret) => {
                let algorithm = if alg == Alg::Hs512 {
                    hmac::HMAC_SHA512
                } else if alg == Alg::Hs384 {
                    hmac::HMAC_SHA384
                } else {
                    hmac::HMAC_SHA256
                };
                hmac::sign(&hmac::Key::new(algorithm, secret), message).as_ref().to_vec()
            }
        }
    }

    /// Its public half as a JWK (RFC 7517), with `kid` and `use`, without `alg`, as Entra publishes it.
    pub fn jwk(&self) -> Value {
        let rsa = |n: &[u8], e: &[u8]| json!({"kty": "RSA", "n": encode(n), "e": encode(e)});
        let point = |curve: &str, point: &[u8]| {
            let (x, y) = point[1..].split_at(point.len() / 2);
            json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
        };
        let mut jwk = match &*self.material {
            Material::Rsa(key) => {
                let (n, e) = rsa_numbers(key);
                rsa(&n, &e)
            }
            Material::P256(key) => point("P-256", key.public_key().as_ref()),
            Material::P384(key) => point("P-384", key.public_key().as_ref()),
            Material::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key().as_ref())})
            }
            Material::Weak => rsa(&weak_rsa::modulus(), &[1, 0, 1]),
            Material::ExponentOne(key) => rsa(&rsa_numbers(key).0, &[1]),
            Material::Symmetric(secret) => json!({"kty": "oct", "k": encode(secret)}),
        };
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The public half of an RSA key as SPKI in PEM: what a key-confusion attack uses as HMAC secret.
    pub fn public_pem(&self) -> String {
        let lines = STANDARD.encode(self.public_der());
        let lines: Vec<_> =
            lines.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// The public half of an RSA key as SPKI in DER.
    pub fn public_der(&self) -> Vec<u8> {
        let Material::Rsa(key) = &*self.material else { panic!("not an RSA key") };
        let der: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        der.as_ref().to_vec()
    }
}

/// base64url without padding (RFC 7515 §2).
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Modulus and exponent, big-endian, out of the `RSAPublicKey` of RFC 8017 §A.1.1.
fn rsa_numbers(key: &RsaKeyPair) -> (Vec<u8>, Vec<u8>) {
    let der = key.public_key().as_ref();
    let (sequence, _) = der_value(der);
    let (modulus, rest) = der_value(sequence);
    let (exponent, _) = der_value(rest);
    let unsigned = |number: &[u8]| number[usize::from(number[0] == 0)..].to_vec();
    (unsigned(modulus), unsigned(exponent))
}

/// The value of the first DER element, and what follows it.
fn der_value(der: &[u8]) -> (&[u8], &[u8]) {
    let long = usize::from(der[1]).checked_sub(0x80);
    let length = match long {
        None => usize::from(der[1]),
        Some(bytes) => {
            der[2..2 + bytes].iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
        }
    };
    der[2 + long.unwrap_or(0)..].split_at(length)
}
