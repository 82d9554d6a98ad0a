//! The filter of published keys, in pairs: just kept, just dropped.

use super::*;
use crate::authn::forge::Signer;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1};
use serde_json::{Value, json};

#[allow(clippy::needless_pass_by_value, reason = "rows are written in place")]
fn read(keys: Vec<Value>) -> Result<(KeySet, Vec<Dropped>), KeySetError> {
    KeySet::read(json!({ "keys": keys }).to_string().as_bytes(), &Algorithm::ALL)
}

#[allow(clippy::needless_pass_by_value, reason = "rows are written in place")]
fn changed(jwk: &Value, changes: Value) -> Value {
    let mut jwk = jwk.clone();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            jwk.as_object_mut().unwrap().remove(name);
        } else {
            jwk[name] = value.clone();
        }
    }
    jwk
}

fn flaw(jwk: Value) -> Option<Flaw> {
    let good = Signer::ed25519("good").jwk();
    let (set, dropped) = read(vec![jwk, good]).expect("a bad key does not spoil the good one");
    assert!(set.key("good").is_some());
    dropped.first().map(|dropped| dropped.why)
}

#[test]
fn each_kind_is_kept_with_and_without_its_optional_members() {
    for signer in [Signer::rsa("k"), Signer::p256("k"), Signer::p384("k"), Signer::ed25519("k")] {
        let jwk = signer.jwk();
        assert_eq!(flaw(jwk.clone()), None);
        assert_eq!(flaw(changed(&jwk, json!({"use": "sig"}))), None);
        assert_eq!(flaw(changed(&jwk, json!({"key_ops": ["sign", "verify"]}))), None);
        assert_eq!(flaw(changed(&jwk, json!({"x5c": ["AA"], "x5t": "AA", "more": {}}))), None);
        assert_eq!(flaw(changed(&jwk, json!({"use": "enc"}))), Some(Flaw::Purpose));
        assert_eq!(flaw(changed(&jwk, json!({"use": 1}))), Some(Flaw::Malformed));
        assert_eq!(flaw(changed(&jwk, json!({"key_ops": ["sign"]}))), Some(Flaw::Purpose));
        assert_eq!(flaw(changed(&jwk, json!({"key_ops": []}))), Some(Flaw::Purpose));
        assert_eq!(flaw(changed(&jwk, json!({"key_ops": "verify"}))), Some(Flaw::Malformed));
        assert_eq!(flaw(changed(&jwk, json!({"kid": null}))), Some(Flaw::NoKid));
        assert_eq!(flaw(changed(&jwk, json!({"kid": ""}))), Some(Flaw::NoKid));
        assert_eq!(flaw(changed(&jwk, json!({"kid": 7}))), Some(Flaw::Malformed));
        assert_eq!(flaw(changed(&jwk, json!({"kid": "k".repeat(256)}))), None);
        assert_eq!(flaw(changed(&jwk, json!({"kid": "k".repeat(257)}))), Some(Flaw::NoKid));
        assert_eq!(flaw(changed(&jwk, json!({"alg": "HS256"}))), Some(Flaw::Algorithm));
        assert_eq!(flaw(changed(&jwk, json!({"alg": "none"}))), Some(Flaw::Algorithm));
        assert_eq!(flaw(changed(&jwk, json!({"kty": "oct"}))), Some(Flaw::Kind));
        assert_eq!(flaw(changed(&jwk, json!({"kty": null}))), Some(Flaw::Malformed));
        assert_eq!(flaw(changed(&jwk, json!({"d": "AQ"}))), Some(Flaw::Private));
    }
}

#[test]
fn a_key_fits_only_its_own_algorithms() {
    let rows = [
        (Signer::rsa("k"), &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"][..]),
        (Signer::p256("k"), &["ES256"]),
        (Signer::p384("k"), &["ES384"]),
        (Signer::ed25519("k"), &["EdDSA"]),
    ];
    for (signer, fitting) in rows {
        let (set, _) = read(vec![signer.jwk()]).unwrap();
        for algorithm in Algorithm::ALL {
            let fits = fitting.contains(&algorithm.name());
            assert_eq!(set.key("k").unwrap().permits(algorithm), fits, "{algorithm}");
            let wanted = (!fits).then_some(Flaw::Algorithm);
            let jwk = changed(&signer.jwk(), json!({"alg": algorithm.name()}));
            assert_eq!(flaw(jwk.clone()), wanted, "{algorithm}");
            if fits {
                let (set, _) = read(vec![jwk]).unwrap();
                let permitted: Vec<_> = Algorithm::ALL
                    .into_iter()
                    .filter(|other| set.key("k").unwrap().permits(*other))
                    .collect();
                assert_eq!(permitted, [algorithm]);
            }
        }
    }
}

#[test]
fn a_key_that_no_allowed_algorithm_fits_is_dropped() {
    let text = json!({"keys": [Signer::p256("k").jwk()]}).to_string();
    assert!(KeySet::read(text.as_bytes(), &[Algorithm::Es256]).is_ok());
    let error = KeySet::read(text.as_bytes(), &[Algorithm::Rs256, Algorithm::Es384]);
    assert!(matches!(error, Err(KeySetError::NoneUsable { published: 1, .. })));
}

#[test]
fn a_key_checks_signatures_of_the_algorithm_that_is_asked_for_and_no_other() {
    for signer in [Signer::rsa("k"), Signer::p256("k"), Signer::p384("k"), Signer::ed25519("k")] {
        let (set, _) = read(vec![signer.jwk()]).unwrap();
        let key = set.key("k").unwrap();
        let fitting = || Algorithm::ALL.into_iter().filter(|algorithm| key.permits(*algorithm));
        for signed_with in fitting() {
            let signature = signer.sign(signed_with, b"message");
            for algorithm in fitting() {
                let verifier = key.verifier(algorithm).unwrap();
                let holds = verifier.holds(b"message", &signature);
                assert_eq!(holds, algorithm == signed_with, "{signed_with} as {algorithm}");
                assert!(!verifier.holds(b"massage", &signature), "{algorithm}");
            }
        }
    }
}

#[test]
fn the_same_numbers_of_a_signature_in_der_do_not_hold() {
    for (signer, algorithm, in_der) in [
        (Signer::p256("k"), Algorithm::Es256, &ECDSA_P256_SHA256_ASN1),
        (Signer::p384("k"), Algorithm::Es384, &ECDSA_P384_SHA384_ASN1),
    ] {
        let (set, _) = read(vec![signer.jwk()]).unwrap();
        let key = set.key("k").unwrap();
        let fixed = signer.sign(algorithm, b"message");
        let der = der(&fixed);
        let (Material::P256(point) | Material::P384(point)) = &key.material else {
            panic!("{} is no EC key", key.describe())
        };
        let elsewhere = ParsedPublicKey::new(in_der, point).unwrap();
        assert!(elsewhere.verify_sig(b"message", &der).is_ok(), "it is a good one of its form");
        let verifier = key.verifier(algorithm).unwrap();
        assert!(verifier.holds(b"message", &fixed) && !verifier.holds(b"message", &der));
    }
}

/// The two numbers of an ECDSA signature as RFC 3279 §2.2.3 has them.
fn der(fixed: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let mut bytes = unsigned(number.to_vec());
        if bytes[0] >= 0x80 {
            bytes.insert(0, 0);
        }
        [&[2, u8::try_from(bytes.len()).unwrap()][..], &bytes].concat()
    };
    let (r, s) = fixed.split_at(fixed.len() / 2);
    let numbers = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(numbers.len()).unwrap()][..], &numbers].concat()
}

#[test]
fn a_key_checks_nothing_that_its_provider_may_not_use() {
    let text = json!({"keys": [Signer::rsa("k").jwk()]}).to_string();
    let (set, _) = KeySet::read(text.as_bytes(), &[Algorithm::Es256, Algorithm::Ps256]).unwrap();
    for algorithm in Algorithm::ALL {
        let permits = set.key("k").unwrap().permits(algorithm);
        assert_eq!(permits, algorithm == Algorithm::Ps256, "{algorithm}");
    }
}

#[test]
fn a_point_of_small_order_is_no_key() {
    let point = |first: u8| {
        let mut bytes = [0; 32];
        bytes[0] = first;
        let x = URL_SAFE_NO_PAD.encode(bytes);
        flaw(json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}))
    };
    assert_eq!((point(0), point(1)), (Some(Flaw::Weak), Some(Flaw::Weak)));
    assert_eq!(point(3), None, "a point of large order");
}

#[test]
fn rsa_numbers_have_their_bounds() {
    let modulus = |bits: usize| {
        let mut number = vec![0xff; bits.div_ceil(8)];
        number[0] >>= (8 - bits % 8) % 8;
        URL_SAFE_NO_PAD.encode(number)
    };
    let rsa = |n: String, e: &str| flaw(json!({"kty": "RSA", "kid": "k", "n": n, "e": e}));
    assert_eq!(rsa(modulus(1024), "AQAB"), Some(Flaw::Weak));
    assert_eq!(rsa(modulus(2047), "AQAB"), Some(Flaw::Weak));
    assert_eq!(rsa(modulus(2048), "AQAB"), None);
    assert_eq!(rsa(modulus(8192), "AQAB"), None);
    assert_eq!(rsa(modulus(8193), "AQAB"), Some(Flaw::Weak));
    assert_eq!(rsa(modulus(2048), "Aw"), None, "3");
    for exponent in ["", "AA", "AQ", "Ag", "AQAA", "BA"] {
        assert_eq!(rsa(modulus(2048), exponent), Some(Flaw::Weak), "{exponent}");
    }
    let mut even = vec![0xff; 256];
    even[255] = 0xfe;
    assert_eq!(rsa(URL_SAFE_NO_PAD.encode(even), "AQAB"), Some(Flaw::Weak));
    let padded = [&[0][..], &[0xff; 256]].concat();
    assert_eq!(rsa(URL_SAFE_NO_PAD.encode(padded), "AQAB"), None, "a leading zero");
    assert_eq!(rsa("*".to_owned(), "AQAB"), Some(Flaw::Malformed));
}

#[test]
fn points_lie_on_their_curve() {
    let p256 = Signer::p256("k").jwk();
    assert_eq!(flaw(changed(&p256, json!({"crv": "P-384"}))), Some(Flaw::Invalid));
    assert_eq!(flaw(changed(&p256, json!({"crv": "P-521"}))), Some(Flaw::Kind));
    assert_eq!(flaw(changed(&p256, json!({"crv": "secp256k1"}))), Some(Flaw::Kind));
    assert_eq!(flaw(changed(&p256, json!({"crv": null}))), Some(Flaw::Kind));
    assert_eq!(flaw(changed(&p256, json!({"y": p256["x"]}))), Some(Flaw::Invalid));
    assert_eq!(flaw(changed(&p256, json!({"x": "AQ"}))), Some(Flaw::Invalid));
    let ed25519 = Signer::ed25519("k").jwk();
    assert_eq!(flaw(changed(&ed25519, json!({"x": "AQ"}))), Some(Flaw::Invalid));
    assert_eq!(flaw(changed(&ed25519, json!({"crv": "X25519"}))), Some(Flaw::Kind));
    assert_eq!(flaw(changed(&ed25519, json!({"crv": "Ed448"}))), Some(Flaw::Kind));
}

#[test]
fn two_different_keys_of_one_kid_are_both_dropped() {
    let (one, other, good) =
        (Signer::p256("same").jwk(), Signer::p256("same").jwk(), Signer::p256("good").jwk());
    let (set, dropped) = read(vec![one.clone(), good.clone(), other.clone(), one.clone()]).unwrap();
    assert!(set.key("same").is_none());
    assert!(set.key("good").is_some());
    assert!(dropped.iter().all(|dropped| dropped.why == Flaw::Ambiguous));
    let (set, dropped) = read(vec![one.clone(), one]).unwrap();
    assert!(set.key("same").is_some() && dropped.is_empty(), "one key, published twice");
}

#[test]
fn a_bad_key_does_not_spoil_the_others() {
    let good = Signer::ed25519("good").jwk();
    let text = format!(r#"{{"keys":[{{"kty":"RSA","kid":"a","kid":"b"}},7,null,[],{{}},{good}]}}"#);
    let (set, dropped) = KeySet::read(text.as_bytes(), &Algorithm::ALL).unwrap();
    assert_eq!((set.len(), dropped.len()), (1, 5));
}

#[test]
fn a_document_without_a_usable_key_is_refused() {
    let read = |text: &str| KeySet::read(text.as_bytes(), &Algorithm::ALL);
    assert!(matches!(read("<html>"), Err(KeySetError::Json(_))));
    assert!(matches!(read("{}"), Err(KeySetError::NoKeys)));
    assert!(matches!(read(r#"{"keys":{}}"#), Err(KeySetError::NoKeys)));
    assert!(matches!(read(r#"{"keys":[]}"#), Err(KeySetError::NoneUsable { .. })));
    let oct = r#"{"keys":[{"kty":"oct","kid":"k","k":"c2VjcmV0"}]}"#;
    let error = read(oct).unwrap_err().to_string();
    assert!(error.contains("none of the 1 keys") && error.contains("`kty`"), "{error}");
}

#[test]
fn a_set_keeps_another_only_with_every_key_unchanged() {
    let (a, b) = (Signer::p256("a").jwk(), Signer::p256("b").jwk());
    let set = |keys: Vec<&Value>| read(keys.into_iter().cloned().collect()).unwrap().0;
    assert!(set(vec![&a, &b]).keeps(&set(vec![&a])));
    assert!(!set(vec![&a]).keeps(&set(vec![&a, &b])));
    assert!(!set(vec![&Signer::p256("a").jwk()]).keeps(&set(vec![&a])), "other material");
    let moved = changed(&a, json!({"issuer": "https://elsewhere.example"}));
    assert!(!set(vec![&moved]).keeps(&set(vec![&a])), "another issuer");
}
