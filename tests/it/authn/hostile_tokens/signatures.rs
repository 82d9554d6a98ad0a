//! `alg`, the key behind it, and what else a header may hold.

use serde_json::{Value, json};

use super::Expect::Forwarded;
use super::{INVALID, Row, any, row, shared_secret, text};
use crate::support::keys::{self, Alg, Key, encode};
use crate::support::token::{self, Token};

/// `alg` and the key behind it.
pub(super) fn algorithms() -> Vec<Row> {
    vec![
        row("alg none, no signature", INVALID, |i| any(&i.v2().alg(Alg::None))),
        row("alg None", INVALID, |i| any(&i.v2().alg(Alg::None).header("alg", "None"))),
        row("alg nOnE", INVALID, |i| any(&i.v2().alg(Alg::None).header("alg", "nOnE"))),
        row("alg none over a good signature", INVALID, |i| any(&i.v2().header("alg", "none"))),
        row("alg none at the OIDC provider", INVALID, |i| any(&i.oidc().alg(Alg::None))),
        row("HS256 with the public key as PEM", INVALID, |i| {
            any(&confused(i.v2(), keys::rsa().public_pem().as_bytes()))
        }),
        row("HS256 with the public key as DER", INVALID, |i| {
            any(&confused(i.v2(), &keys::rsa().public_der()))
        }),
        row("HS256 with the public key at the OIDC provider", INVALID, |i| {
            any(&confused(i.oidc(), keys::rsa().public_pem().as_bytes()))
        }),
        row("HS256 with an `oct` key that is published", INVALID, |i| {
            any(&i.v2().signed_by(&shared_secret()))
        }),
        row("HS512 with an `oct` key that is published", INVALID, |i| {
            any(&i.oidc().signed_by(&shared_secret()).alg(Alg::Hs512))
        }),
        row("no alg", INVALID, |i| any(&i.v2().without_header("alg"))),
        row("alg is a number", INVALID, |i| any(&i.v2().header("alg", 256))),
        row("alg is an array", INVALID, |i| any(&i.v2().header("alg", json!(["RS256"])))),
        row("alg is empty", INVALID, |i| any(&i.v2().header("alg", ""))),
        row("alg in lower case", INVALID, |i| any(&i.v2().header("alg", "rs256"))),
        row("RS384 at Entra", INVALID, |i| any(&i.v2().alg(Alg::Rs384))),
        row("PS256 at Entra", INVALID, |i| any(&i.v2().alg(Alg::Ps256))),
        row("ES256 at Entra", INVALID, |i| any(&i.v2().signed_by(&keys::p256()))),
        row("RS256 with 3,072 bits", Forwarded, |i| any(&i.v2().signed_by(&keys::rsa3072()))),
        row("PS256 at the OIDC provider", Forwarded, |i| any(&i.oidc().alg(Alg::Ps256))),
        row("ES256 at the OIDC provider", Forwarded, |i| any(&i.oidc().signed_by(&keys::p256()))),
        row("EdDSA at the OIDC provider", Forwarded, |i| {
            any(&i.oidc().signed_by(&keys::ed25519()))
        }),
        row("RS512 at the OIDC provider", INVALID, |i| any(&i.oidc().alg(Alg::Rs512))),
        row("ES384 at the OIDC provider", INVALID, |i| any(&i.oidc().signed_by(&keys::p384()))),
        row("ES256 with a P-384 key", INVALID, |i| {
            any(&i.oidc().signed_by(&keys::p384()).header("alg", "ES256"))
        }),
        row("ES256 with an RSA key", INVALID, |i| any(&i.oidc().header("alg", "ES256"))),
        row("RS256 with an EC key", INVALID, |i| {
            any(&i.oidc().signed_by(&keys::p256()).header("alg", "RS256"))
        }),
        row("EdDSA with an EC key", INVALID, |i| {
            any(&i.oidc().signed_by(&keys::p256()).header("alg", "EdDSA"))
        }),
        row("PS256 that says RS256", INVALID, |i| {
            any(&i.oidc().alg(Alg::Ps256).header("alg", "RS256"))
        }),
        row("an ES256 signature of zeros", INVALID, |i| {
            text(&token::with_part(&i.oidc().signed_by(&keys::p256()).build(), 2, |_| {
                encode([0; 64])
            }))
        }),
        row("an ES256 signature in DER", INVALID, |i| {
            text(&token::with_signature_in_der(&i.oidc().signed_by(&keys::p256()).build()))
        }),
        row("an RSA key of 1,024 bits", INVALID, |i| any(&i.v2().signed_by(&keys::weak_rsa1024()))),
        row("an RSA key with the exponent 1", INVALID, |i| {
            any(&i.v2().signed_by(&keys::exponent_one()))
        }),
        row("a key for encryption", INVALID, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("encrypts")))
        }),
        row("a key that may not verify", INVALID, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("signs")))
        }),
        row("a key that may verify", Forwarded, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("verifies")))
        }),
        row("a key whose alg is not allowed", INVALID, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("rs512")))
        }),
        row("a key whose alg is allowed", Forwarded, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("rs256")))
        }),
        row("a key whose alg is another than the token's", INVALID, |i| {
            any(&i.oidc().signed_by(&keys::rsa_other().named("ps256")))
        }),
        row("two different keys of one name", INVALID, |i| {
            any(&i.v2().signed_by(&keys::rsa().named("twin")))
        }),
        row("one key published twice", Forwarded, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("same")))
        }),
        row("a key of another tenant", INVALID, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("elsewhere")))
        }),
        row("a key of every tenant", Forwarded, |i| {
            any(&i.v2().signed_by(&keys::rsa_other().named("template")))
        }),
    ]
}

/// The key-confusion attack: an HMAC with what everybody knows.
pub(super) fn confused(token: Token, public: &[u8]) -> Token {
    token.forged_by(&Key::symmetric("kid-rsa", public)).alg(Alg::Hs256)
}

/// `kid`, `typ`, `crit` and what else a header may hold.
pub(super) fn header_members() -> Vec<Row> {
    vec![
        row("no kid", INVALID, |i| any(&i.v2().without_header("kid"))),
        row("kid is a number", INVALID, |i| any(&i.v2().header("kid", 1))),
        row("kid is null", INVALID, |i| any(&i.v2().header("kid", Value::Null))),
        row("kid is empty", INVALID, |i| any(&i.v2().header("kid", ""))),
        row("a kid of 10,000 bytes", INVALID, |i| any(&i.v2().header("kid", "k".repeat(10_000)))),
        row("an unknown kid", INVALID, |i| any(&i.v2().header("kid", "unknown"))),
        row("a kid in another case", INVALID, |i| any(&i.v2().header("kid", "KID-RSA"))),
        row("a kid that is a path", INVALID, |i| any(&i.v2().header("kid", "../../dev/null"))),
        row("no typ", Forwarded, |i| any(&i.v2().without_header("typ"))),
        row("typ at+jwt", Forwarded, |i| any(&i.v2().header("typ", "at+jwt"))),
        row("typ application/at+jwt", Forwarded, |i| {
            any(&i.v2().header("typ", "application/at+jwt"))
        }),
        row("typ application/JWT", Forwarded, |i| any(&i.v2().header("typ", "application/JWT"))),
        row("typ dpop+jwt", INVALID, |i| any(&i.v2().header("typ", "dpop+jwt"))),
        row("typ logout+jwt", INVALID, |i| any(&i.v2().header("typ", "logout+jwt"))),
        row("typ secevent+jwt", INVALID, |i| any(&i.v2().header("typ", "secevent+jwt"))),
        row("typ JOSE+JSON", INVALID, |i| any(&i.v2().header("typ", "JOSE+JSON"))),
        row("typ pop", INVALID, |i| any(&i.v2().header("typ", "pop"))),
        row("typ is empty", INVALID, |i| any(&i.v2().header("typ", ""))),
        row("typ is a number", INVALID, |i| any(&i.v2().header("typ", 1))),
        row("jku", INVALID, |i| any(&i.v2().header("jku", "http://127.0.0.1:1/keys"))),
        row("x5u", INVALID, |i| any(&i.v2().header("x5u", "http://127.0.0.1:1/cert"))),
        row("jwk, with the attacker's key", INVALID, |i| {
            any(&i.v2().header("jwk", keys::rsa_other().jwk()).forged_by(&keys::rsa_other()))
        }),
        row("jwk, with the right key", INVALID, |i| any(&i.v2().header("jwk", keys::rsa().jwk()))),
        row("x5c and x5t are ignored", Forwarded, |i| {
            any(&i.v2().header("x5c", json!(["MIIB"])).header("x5t", "abc"))
        }),
        row("crit", INVALID, |i| any(&i.v2().header("crit", json!(["exp"])).header("exp", 1))),
        row("an empty crit", INVALID, |i| any(&i.v2().header("crit", json!([])))),
        row("crit with b64 false", INVALID, |i| {
            any(&i.v2().header("crit", json!(["b64"])).header("b64", false))
        }),
        row("crit is null", INVALID, |i| any(&i.v2().header("crit", Value::Null))),
        row("alg twice", INVALID, |i| any(&i.v2().also_header(r#""alg":"RS256""#))),
        row("kid twice", INVALID, |i| any(&i.v2().also_header(r#""kid":"kid-rsa""#))),
        row("kid twice, once escaped", INVALID, |i| {
            any(&i.v2().also_header(r#""\u006bid":"kid-rsa""#))
        }),
        row("an unknown member twice", INVALID, |i| any(&i.v2().also_header(r#""x":1,"x":1"#))),
    ]
}
