//! The users: the token each of them calls with, and the token the upstream is to receive.
//!
//! Tokens are made before anything runs, so that the load has only bytes to send. It does
//! not know who sends or checks them.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

use crate::Failure;

/// The tenant of all users.
pub(crate) const TENANT: &str = "30000000-0000-4000-8000-000000000001";
/// The proxy's application: the audience of inbound tokens, the client of exchanges.
pub(crate) const CLIENT_ID: &str = "30000000-0000-4000-8000-000000000002";
/// Its secret; worth nothing, both ends are this bench.
pub(crate) const CLIENT_SECRET: &str = "bench-secret";
/// The scope that inbound tokens have.
pub(crate) const INBOUND_SCOPE: &str = "access_as_user";
/// The scope that an exchange has to ask for.
pub(crate) const UPSTREAM_SCOPE: &str = "api://bench-upstream/.default";

const KID: &str = "bench-signing-key-2048-bits";
/// How long a token is good that is not to expire in a run.
pub(crate) const LIFETIME_SECONDS: u64 = 4 * 60 * 60;
/// Brings an inbound token to about 1.5 KiB, as the roles and groups of real ones do.
const GROUPS: usize = 1;
/// Raw bytes of the parts of an outbound token, together 1.7 KiB in base64url.
const OUTBOUND_PARTS: [usize; 3] = [60, 970, 256];

/// All users and the provider's public key.
pub(crate) struct Users {
    all: Vec<User>,
    by_inbound: HashMap<String, usize>,
    /// The key set that the provider publishes.
    pub(crate) jwks: Value,
    /// The same key as PEM.
    pub(crate) public_key_pem: String,
}

/// One user.
pub(crate) struct User {
    /// The compact token that the user calls with.
    pub(crate) inbound: String,
    /// The token that the upstream is to see in its place; opaque and unlike every other.
    pub(crate) outbound: String,
}

impl Users {
    /// Makes a key and the tokens of `count` users, issued by the tenant at `authority`; the one of
    /// number n is good for `lifetime_seconds(n)`.
    pub(crate) fn make(
        authority: &str,
        count: usize,
        lifetime_seconds: impl Fn(usize) -> u64,
    ) -> Result<Self, Failure> {
        let issuer = issuer(authority);
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let signing = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes())?;
        let AlgorithmParameters::RSA(public) =
            Jwk::from_encoding_key(&signing, Algorithm::RS256)?.algorithm
        else {
            return Err("the key just made is no RSA key".into());
        };
        // As Entra publishes them: with the issuer, without `alg`.
        let jwks = json!({ "keys": [{
            "kty": "RSA", "use": "sig", "kid": KID, "n": public.n, "e": public.e, "issuer": issuer,
        }]});

        #[expect(
            clippy::disallowed_methods,
            reason = "the proxies judge these tokens by the real time"
        )]
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let header = Header { kid: Some(KID.to_owned()), ..Header::new(Algorithm::RS256) };
        let mut random = fastrand::Rng::new();
        let mut users = Vec::with_capacity(count);
        for number in 0..count {
            let expires_at = now + lifetime_seconds(number);
            let claims = claims(&issuer, number, now, expires_at, &mut random);
            let inbound = jsonwebtoken::encode(&header, &claims, &signing)?;
            let outbound = OUTBOUND_PARTS
                .map(|length| {
                    let bytes: Vec<u8> =
                        std::iter::repeat_with(|| random.u8(..)).take(length).collect();
                    URL_SAFE_NO_PAD.encode(bytes)
                })
                .join(".");
            users.push(User { inbound, outbound });
        }
        let by_inbound =
            users.iter().enumerate().map(|(number, user)| (user.inbound.clone(), number)).collect();
        Ok(Self { all: users, by_inbound, jwks, public_key_pem: pair.public_key_pem() })
    }

    /// The user of that number.
    pub(crate) fn numbered(&self, number: usize) -> Option<&User> {
        self.all.get(number)
    }

    /// The user who calls with `token`.
    pub(crate) fn calling_with(&self, token: &str) -> Option<&User> {
        self.by_inbound.get(token).and_then(|number| self.numbered(*number))
    }

    /// A token that looks like a user's and is signed by nobody.
    pub(crate) fn forged(&self) -> Option<String> {
        let token = &self.numbered(0)?.inbound;
        let (signed, signature) = token.rsplit_once('.')?;
        // Base64url of other bits, and of as many.
        let (first, rest) = signature.split_at_checked(1)?;
        let first = if first == "A" { "B" } else { "A" };
        Some(format!("{signed}.{first}{rest}"))
    }

    /// All of them, in the order of their numbers.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &User> {
        self.all.iter()
    }
}

/// The `iss` of the tenant's v2 tokens.
pub(crate) fn issuer(authority: &str) -> String {
    format!("{authority}/{TENANT}/v2.0")
}

/// The claims of an Entra v2 access token, in kind and in length.
fn claims(
    issuer: &str,
    number: usize,
    now: u64,
    expires_at: u64,
    random: &mut fastrand::Rng,
) -> Value {
    let oid = guid(random);
    let groups: Vec<String> = std::iter::repeat_with(|| guid(random)).take(GROUPS).collect();
    json!({
        "aud": CLIENT_ID,
        "iss": issuer,
        "iat": now,
        "nbf": now,
        "exp": expires_at,
        "aio": format!("AXQAi/8{:0>60x}", random.u128(..)),
        "azp": "30000000-0000-4000-8000-000000000003",
        "azpacr": "0",
        "groups": groups,
        "name": format!("User {number:06} of the bench"),
        "oid": oid,
        "preferred_username": format!("user{number:06}@bench.example"),
        "rh": format!("1.AXEA{:0>40x}.", random.u128(..)),
        "scp": INBOUND_SCOPE,
        "sid": guid(random),
        "sub": format!("{:0>43x}", random.u128(..)),
        "tid": TENANT,
        "uti": format!("{:0>22x}", random.u64(..)),
        "ver": "2.0",
        "xms_ftd": format!("{:0>64x}", random.u128(..)),
    })
}

fn guid(random: &mut fastrand::Rng) -> String {
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        random.u32(..),
        random.u16(..),
        random.u16(..0x1000),
        random.u16(..0x1000),
        random.u64(..0x1_0000_0000_0000),
    )
}
