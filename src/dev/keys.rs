//! The signing key, made at start: signs tokens, verifies them, publishes itself as a JWKS.
//!
//! It decides only whether a signature is its own. Claims are judged by whoever asked.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Map, Value, json};

use crate::dev::DevError;
use crate::limits;

/// The claims of a token.
pub(super) type Claims = Map<String, Value>;

/// An RSA key of 2,048 bits with a certificate of its own, as Entra's are.
pub(super) struct Keys {
    signing: EncodingKey,
    verifying: DecodingKey,
    /// base64url of the SHA-1 of the certificate; Entra uses it as `x5t` and `kid` alike.
    kid: String,
    certificate: String,
    modulus: String,
    exponent: String,
}

/// Why a token is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotOurs {
    /// No JWT with an object of claims, or too long.
    Malformed,
    /// Another key or algorithm, or the signature does not fit.
    Signature,
}

impl Keys {
    /// Makes a key; takes about a tenth of a second.
    pub(super) fn generate() -> Result<Self, DevError> {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let mut certificate = CertificateParams::default();
        certificate.distinguished_name.push(DnType::CommonName, "obo-gateway development tokens");
        let certificate = certificate.self_signed(&pair)?;

        let signing = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes())?;
        let jwk = Jwk::from_encoding_key(&signing, Algorithm::RS256)?;
        let AlgorithmParameters::RSA(public) = jwk.algorithm else {
            return Err(DevError::NotRsa);
        };
        let thumbprint = digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate.der());
        Ok(Self {
            verifying: DecodingKey::from_rsa_components(&public.n, &public.e)?,
            signing,
            kid: URL_SAFE_NO_PAD.encode(thumbprint),
            certificate: STANDARD.encode(certificate.der()),
            modulus: public.n,
            exponent: public.e,
        })
    }

    /// Signs `claims` into a compact JWT.
    ///
    /// # Errors
    ///
    /// Only if the crypto library fails.
    pub(super) fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, claims, &self.signing)
    }

    /// The claims of a token that this key signed. Nothing about them is checked.
    pub(super) fn verify(&self, token: &str) -> Result<Claims, NotOurs> {
        if token.len() > limits::MAX_TOKEN_BYTES || token.split('.').count() != 3 {
            return Err(NotOurs::Malformed);
        }
        // A header with an algorithm that the library does not know can't be told from a broken one.
        let Ok(header) = jsonwebtoken::decode_header(token) else {
            return Err(NotOurs::Malformed);
        };
        if header.alg != Algorithm::RS256 || header.kid.as_deref() != Some(&self.kid) {
            return Err(NotOurs::Signature);
        }
        let mut validation = Validation::new(Algorithm::RS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        match jsonwebtoken::decode::<Claims>(token, &self.verifying, &validation) {
            Ok(data) => Ok(data.claims),
            Err(error) if *error.kind() == ErrorKind::InvalidSignature => Err(NotOurs::Signature),
            Err(_) => Err(NotOurs::Malformed),
        }
    }

    /// The key set, with the `issuer` member of Entra's v2 key sets. No `alg`: Entra has none.
    pub(super) fn jwks(&self, issuer: &str) -> Value {
        json!({ "keys": [{
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "x5t": self.kid,
            "n": self.modulus,
            "e": self.exponent,
            "x5c": [self.certificate],
            "issuer": issuer,
        }] })
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(sub: &str) -> Claims {
        Claims::from_iter([("sub".to_owned(), json!(sub))])
    }

    #[test]
    fn a_token_is_verified_by_the_key_that_signed_it_and_by_no_other() {
        let (ours, other) = (Keys::generate().unwrap(), Keys::generate().unwrap());
        let token = ours.sign(&claims("alice")).unwrap();
        assert_eq!(ours.verify(&token), Ok(claims("alice")));
        assert_eq!(other.verify(&token), Err(NotOurs::Signature));

        let forged = ours.sign(&claims("bob")).unwrap();
        let parts: Vec<_> = token.split('.').zip(forged.split('.')).collect();
        let swapped = format!("{}.{}.{}", parts[0].0, parts[1].1, parts[2].0);
        assert_eq!(ours.verify(&swapped), Err(NotOurs::Signature));

        for text in ["", "a.b", "a.b.c", "....", &"x".repeat(limits::MAX_TOKEN_BYTES + 1)] {
            assert_eq!(ours.verify(text), Err(NotOurs::Malformed), "{text:.20}");
        }
    }

    #[test]
    fn the_key_set_has_the_members_of_entras() {
        let keys = Keys::generate().unwrap();
        let set = keys.jwks("https://idp/{tenantid}/v2.0");
        let key = &set["keys"][0];
        assert_eq!(key["kty"], "RSA");
        assert_eq!(key["use"], "sig");
        assert_eq!(key["e"], "AQAB");
        assert_eq!(key["kid"], key["x5t"]);
        assert_eq!(key["issuer"], "https://idp/{tenantid}/v2.0");
        assert!(key.get("alg").is_none() && key.get("d").is_none(), "{key}");
        assert_eq!(URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap().len(), 256);

        let published: jsonwebtoken::jwk::JwkSet = serde_json::from_value(set.clone()).unwrap();
        let decoding = DecodingKey::from_jwk(&published.keys[0]).unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.required_spec_claims.clear();
        let token = keys.sign(&claims("alice")).unwrap();
        jsonwebtoken::decode::<Claims>(&token, &decoding, &validation).unwrap();
    }
}
