//! Client assertions: JWTs that the gateway signs to prove that it is its client (RFC 7523 §2.2).
//!
//! Decides what they say and how long they live. Which key signs, and that it fits, is
//! `signing_key.rs`; whether one is needed, `credential.rs`. Each is made for one request and
//! never sent twice: its `jti` is new, so that a server may refuse to see it again.

use std::sync::Arc;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::failure::ExchangeError;
use super::signing_key::{KeyName, SigningKey};
use super::terms::Terms;
use crate::clock::UnixTime;
use crate::limits;
use crate::secret::Secret;

/// RFC 7523 §2.2.
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// RFC 7515 §4.1. The JSON of the library that reads tokens would do, but it parses and checks
/// the private key anew for each signature, which takes longer than the signature.
#[derive(Serialize)]
struct Header<'a> {
    typ: &'static str,
    alg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
    #[serde(rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    thumbprint: Option<&'a str>,
}

/// RFC 7523 §3.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    /// One text: Keycloak refuses an array since 26.
    aud: &'a str,
    jti: String,
    iat: u64,
    nbf: u64,
    exp: u64,
}

/// An assertion by `key` for one request on these `terms`, made at `now`.
///
/// A signature of RSA takes a millisecond or several: it is made beside the threads that serve
/// requests.
///
/// # Errors
///
/// The system gives no random numbers, or the key does not sign: neither is expected.
pub(super) async fn assert(
    key: &Arc<SigningKey>,
    terms: &Terms,
    now: UnixTime,
) -> Result<Secret, ExchangeError> {
    let message = message(key, &terms.client_id, &terms.token_endpoint, now)?;
    let key = Arc::clone(key);
    let signed = tokio::task::spawn_blocking(move || {
        let signature = key.sign(message.as_bytes())?;
        Ok(Secret::new(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))))
    });
    let signed = signed.await.map_err(|_panicked| broken("its task ended early"));
    signed?.map_err(|aws_lc_rs::error::Unspecified| broken("the key does not sign"))
}

/// Header and claims, encoded: what is signed (RFC 7515 §5.1).
fn message(
    key: &SigningKey,
    client_id: &str,
    audience: &str,
    now: UnixTime,
) -> Result<String, ExchangeError> {
    let (kid, thumbprint, life) = match key.name() {
        KeyName::Id(id) => (Some(id.as_str()), None, limits::ASSERTION_LIFE),
        KeyName::Thumbprint(print) => (None, Some(&**print), limits::CERTIFICATE_ASSERTION_LIFE),
    };
    let header = Header { typ: "JWT", alg: key.algorithm().name(), kid, thumbprint };
    let claims = Claims {
        iss: client_id,
        sub: client_id,
        aud: audience,
        jti: fresh_id()?,
        iat: now.0,
        // Our clock may be ahead of the provider's.
        nbf: now.minus(limits::ASSERTION_BACKDATING).0,
        exp: now.plus(life).0,
    };
    Ok(format!("{}.{}", encoded(&header)?, encoded(&claims)?))
}

fn encoded<T: Serialize>(part: &T) -> Result<String, ExchangeError> {
    let json = serde_json::to_vec(part).map_err(|_impossible| broken("it is no JSON"))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

/// A UUID of version 4, from the system's generator: nobody can tell the next.
fn fresh_id() -> Result<String, ExchangeError> {
    let mut random = [0; 16];
    rand::fill(&mut random)
        .map_err(|aws_lc_rs::error::Unspecified| broken("the system gives no random numbers"))?;
    Ok(uuid::Builder::from_random_bytes(random).into_uuid().to_string())
}

fn broken(why: &str) -> ExchangeError {
    ExchangeError::internal(&format!("no client assertion could be made: {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::signing_key::tests::{certificate, key_by_id};
    use super::super::terms::tests::terms;
    use super::*;

    fn parts(assertion: &Secret) -> (Value, Value) {
        let parts: Vec<_> = assertion.expose().split('.').collect();
        assert_eq!(parts.len(), 3);
        let json =
            |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        (json(parts[0]), json(parts[1]))
    }

    #[tokio::test]
    async fn an_assertion_of_a_certificate_is_what_entra_asks_for() {
        let key = Arc::new(certificate().into_key());
        let now = UnixTime(1_767_225_600);
        let assertion = assert(&key, &terms("c1", &["s"]), now).await.unwrap();
        let (header, claims) = parts(&assertion);
        assert_eq!((&header["alg"], &header["typ"]), (&"PS256".into(), &"JWT".into()));
        assert_eq!(header["x5t#S256"].as_str().unwrap().len(), 43);
        assert!(header.get("kid").is_none());
        assert_eq!((&claims["iss"], &claims["sub"]), (&"c1".into(), &"c1".into()));
        assert_eq!(claims["aud"], "https://login.example/t1/oauth2/v2.0/token");
        let time = |name: &str| claims[name].as_u64().unwrap();
        assert_eq!(time("iat"), now.0);
        assert!(time("nbf") <= now.0 && (300..=600).contains(&(time("exp") - now.0)));
        // RFC 9562 §5.4: version 4, variant 10.
        let jti = claims["jti"].as_str().unwrap();
        let bytes = jti.as_bytes();
        assert_eq!((bytes.len(), bytes[14]), (36, b'4'));
        assert!(matches!(bytes[19], b'8' | b'9' | b'a' | b'b'));
    }

    #[tokio::test]
    async fn no_two_assertions_have_one_id() {
        let key = Arc::new(key_by_id("k1"));
        let mut ids = std::collections::HashSet::new();
        for _ in 0..50 {
            let (header, claims) =
                parts(&assert(&key, &terms("c", &["s"]), UnixTime(9)).await.unwrap());
            assert_eq!((&header["kid"], &header["alg"]), (&"k1".into(), &"ES256".into()));
            assert!(header.get("x5t#S256").is_none());
            assert!(claims["exp"].as_u64().unwrap() <= 9 + 120);
            ids.insert(claims["jti"].to_string());
        }
        assert_eq!(ids.len(), 50);
    }
}
