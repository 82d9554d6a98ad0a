//! What has to be done to believe a token, and nothing else: the yardstick of a first sight.
//!
//! Each key is parsed once, as the gateway does it: a library that parses it for each token would be
//! a tenth slower, and flatter the gateway. It knows one algorithm and the claims that it looks at.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::Failure;
use crate::users::CLIENT_ID;

const ALGORITHM: &str = "RS256";

/// The keys of the provider, and who it says it is.
pub(super) struct Verifier {
    keys: HashMap<String, ParsedPublicKey>,
    issuer: String,
}

#[derive(Deserialize)]
struct KeySet<'a> {
    #[serde(borrow)]
    keys: Vec<RsaKey<'a>>,
}

#[derive(Deserialize)]
struct RsaKey<'a> {
    kid: &'a str,
    n: &'a str,
    e: &'a str,
}

#[derive(Deserialize)]
struct Header<'a> {
    alg: &'a str,
    kid: &'a str,
}

#[derive(Deserialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    exp: u64,
}

impl Verifier {
    /// Reads the key set that the provider of `issuer` publishes.
    pub(super) fn new(jwks: &[u8], issuer: String) -> Result<Self, Failure> {
        let set: KeySet<'_> = serde_json::from_slice(jwks)?;
        let mut keys = HashMap::new();
        for RsaKey { kid, n, e } in set.keys {
            let (n, e) = (URL_SAFE_NO_PAD.decode(n)?, URL_SAFE_NO_PAD.decode(e)?);
            let public = RsaPublicKeyComponents { n, e };
            keys.insert(kid.to_owned(), public.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)?);
        }
        Ok(Self { keys, issuer })
    }

    /// # Errors
    ///
    /// If `token` is none that the provider signed for us, or is good no longer.
    pub(super) fn verify(&self, token: &str) -> Result<(), Failure> {
        let (signed, signature) = token.rsplit_once('.').ok_or("no signature")?;
        let (header, payload) = signed.split_once('.').ok_or("no payload")?;
        let header = URL_SAFE_NO_PAD.decode(header)?;
        let header: Header<'_> = serde_json::from_slice(&header)?;
        if header.alg != ALGORITHM {
            return Err(format!("`alg` is {}, and not {ALGORITHM}", header.alg).into());
        }
        let key = self.keys.get(header.kid).ok_or("unknown kid")?;
        key.verify_sig(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature)?)?;
        let payload = URL_SAFE_NO_PAD.decode(payload)?;
        let claims: Claims<'_> = serde_json::from_slice(&payload)?;
        #[expect(clippy::disallowed_methods, reason = "tokens are judged by the real time")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        if claims.iss != self.issuer || claims.aud != CLIENT_ID || claims.exp <= now {
            return Err("its issuer, audience or end".into());
        }
        Ok(())
    }
}
