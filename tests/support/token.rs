//! Builds the tokens that callers present, good and hostile.
//!
//! A [`Token`] starts as its issuer would make it; a test then changes one thing, so that the
//! one thing is what the gateway judges. Everything built is registered for the search.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::{LazyLock, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use obo_gateway::clock::UnixTime;
use serde_json::{Map, Value, json};

use super::clock::START;
use super::keys::{self, Alg, Key, encode};
use super::registry;

/// The tenant of all tests.
pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";
/// A domain of it.
pub const DOMAIN: &str = "contoso.example";
/// A tenant that is not.
pub const OTHER_TENANT: &str = "aaaaaaaa-2222-3333-4444-555555555555";
/// The gateway's application.
pub const CLIENT_ID: &str = "66666666-7777-8888-9999-000000000000";
/// Its secret at the provider.
pub const CLIENT_SECRET: &str = "it-client-secret-7f3d9a52c1e84b06";
/// The application that callers use.
pub const CALLER_CLIENT: &str = "77777777-7777-8888-9999-000000000000";
/// The user of a token unless said otherwise: `oid`.
pub const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";
/// Another user.
pub const BOB: &str = "b0b00000-0000-4000-8000-000000000002";
/// The audience of the generic OIDC provider.
pub const OIDC_AUDIENCE: &str = "orders";
/// The gateway's client there: Keycloak lets only whom a token is for exchange it.
pub const OIDC_CLIENT: &str = OIDC_AUDIENCE;

/// What was built whole, by the key that it names.
static GENUINE: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// A token in the making.
#[derive(Clone)]
pub struct Token {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    key: Key,
    alg: Alg,
    raw_header: Option<String>,
    raw_claims: Option<String>,
}

impl Token {
    /// A v2 token of Entra for [`ALICE`] in [`TENANT`], with the scope `access_as_user`;
    /// `issuer` is `{base}/{tenant}/v2.0`.
    pub fn entra_v2(issuer: &str) -> Self {
        Self::of(json!({
            "aud": CLIENT_ID,
            "iss": issuer,
            "azp": CALLER_CLIENT,
            "azpacr": "0",
            "name": "Alice",
            "oid": ALICE,
            "preferred_username": "alice@example.com",
            "scp": "access_as_user",
            "sub": "pairwise-alice",
            "tid": TENANT,
            "ver": "2.0",
        }))
    }

    /// A v1 token of Entra: its issuer is that of the cloud, whatever the authority.
    pub fn entra_v1() -> Self {
        Self::of(json!({
            "aud": format!("api://{CLIENT_ID}"),
            "iss": format!("https://sts.windows.net/{TENANT}/"),
            "appid": CALLER_CLIENT,
            "appidacr": "0",
            "oid": ALICE,
            "scp": "access_as_user",
            "sub": "pairwise-alice",
            "tid": TENANT,
            "unique_name": "alice@example.com",
            "ver": "1.0",
        }))
        .header("x5t", keys::rsa().kid())
    }

    /// Moves it to `tenant`: `tid`, and wherever [`TENANT`] stands in `iss`.
    #[must_use]
    pub fn of_tenant(self, tenant: &str) -> Self {
        let issuer = self.claims["iss"].as_str().unwrap().replace(TENANT, tenant);
        self.claim("iss", issuer).claim("tid", tenant)
    }

    /// An app-only v2 token of Entra with the role `Orders.Read.All`.
    pub fn entra_app(issuer: &str) -> Self {
        Self::entra_v2(issuer)
            .without("scp")
            .without("name")
            .without("preferred_username")
            .claim("idtyp", "app")
            .claim("azpacr", "1")
            .claim("oid", "d0000000-0000-4000-8000-000000000003")
            .claim("sub", "d0000000-0000-4000-8000-000000000003")
            .claim("roles", json!(["Orders.Read.All"]))
    }

    /// An access token as RFC 9068 has it.
    pub fn oidc(issuer: &str) -> Self {
        Self::of(json!({
            "iss": issuer,
            "aud": OIDC_AUDIENCE,
            "sub": "alice",
            "client_id": "web",
            "scope": "openid access_as_user",
            "jti": "1",
        }))
        .header("typ", "at+jwt")
    }

    fn of(claims: Value) -> Self {
        let key = keys::rsa();
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        let token = Self {
            header: Map::new(),
            claims,
            alg: key.alg(),
            key: key.clone(),
            raw_header: None,
            raw_claims: None,
        };
        token.header("typ", "JWT").signed_by(&key).issued_at(START)
    }

    /// Sets `iat` and `nbf` to `now` and `exp` to an hour later.
    #[must_use]
    pub fn issued_at(self, now: UnixTime) -> Self {
        self.claim("iat", now.0).claim("nbf", now.0).claim("exp", now.0 + 3600)
    }

    /// Sets `exp` to so many seconds after [`START`]; negative for before it. `iat` and `nbf`
    /// go an hour before `exp`.
    #[must_use]
    pub fn expires_in(self, seconds: i64) -> Self {
        let exp = START.0.checked_add_signed(seconds).unwrap();
        self.claim("iat", exp - 3600).claim("nbf", exp - 3600).claim("exp", exp)
    }

    /// Names the user: `oid` and `sub`.
    #[must_use]
    pub fn user(self, oid: &str) -> Self {
        self.claim("oid", oid).claim("sub", oid)
    }

    /// Sets a claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Removes a claim.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets a member of the header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Removes a member of the header.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name);
        self
    }

    /// Signs with `key` in its own way; the header says so and names it.
    #[must_use]
    pub fn signed_by(mut self, key: &Key) -> Self {
        self.key = key.clone();
        let kid = key.kid().to_owned();
        self.alg(key.alg()).header("kid", kid)
    }

    /// Signs with `key`, but the header keeps what it says.
    #[must_use]
    pub fn forged_by(mut self, key: &Key) -> Self {
        self.key = key.clone();
        self.alg = key.alg();
        self
    }

    /// Signs with `alg`; the header says so.
    #[must_use]
    pub fn alg(mut self, alg: Alg) -> Self {
        self.alg = alg;
        self.header("alg", alg.name())
    }

    /// Takes `text` for the header as it stands: duplicates, wrong types, no JSON at all.
    #[must_use]
    pub fn raw_header(mut self, text: impl Into<String>) -> Self {
        self.raw_header = Some(text.into());
        self
    }

    /// Takes `text` for the payload as it stands.
    #[must_use]
    pub fn raw_claims(mut self, text: impl Into<String>) -> Self {
        self.raw_claims = Some(text.into());
        self
    }

    /// Adds `members` (JSON text, `"name":value`) behind the last member of the payload, also a
    /// second time.
    #[must_use]
    pub fn also_claims(self, members: &str) -> Self {
        let text = spliced(&self.claims, members);
        self.raw_claims(text)
    }

    /// Adds `members` behind the last member of the header, also a second time.
    #[must_use]
    pub fn also_header(self, members: &str) -> Self {
        let text = spliced(&self.header, members);
        self.raw_header(text)
    }

    /// The claims so far.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The token, signed, in its compact form.
    pub fn build(&self) -> String {
        let text = |raw: &Option<String>, map: &Map<String, Value>| {
            raw.clone().unwrap_or_else(|| serde_json::to_string(map).unwrap())
        };
        self.build_parts(
            text(&self.raw_header, &self.header).as_bytes(),
            text(&self.raw_claims, &self.claims).as_bytes(),
        )
    }

    /// A signed token of these bytes for header and payload.
    pub fn build_parts(&self, header: &[u8], payload: &[u8]) -> String {
        let mut token = format!("{}.{}", encode(header), encode(payload));
        let signature = self.key.sign(self.alg, token.as_bytes());
        write!(token, ".{}", encode(signature)).unwrap();
        if self.header.get("kid").is_some_and(|kid| kid == self.key.kid()) {
            GENUINE.lock().unwrap().insert(token.clone());
        }
        registered(token)
    }

    /// A good token of exactly `bytes` bytes, padded by a claim. Lengths that base64url can't
    /// meet are missed by one, downwards.
    pub fn build_sized(&self, bytes: usize) -> String {
        let mut filler =
            bytes.checked_sub(self.clone().claim("filler", "").build().len()).unwrap() * 3 / 4;
        loop {
            let token = self.clone().claim("filler", "x".repeat(filler)).build();
            if token.len() <= bytes {
                return token;
            }
            filler -= 1;
        }
    }
}

/// Whether `token` came out of [`Token::build`] signed by the key that it names, and is unchanged.
pub fn is_genuine(token: &str) -> bool {
    GENUINE.lock().unwrap().contains(token)
}

/// The value of an `Authorization` header.
pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// `token` with its part number `part` (0 to 2) changed.
pub fn with_part(token: &str, part: usize, change: impl FnOnce(&str) -> String) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts[part] = change(&parts[part]);
    registered(parts.join("."))
}

/// `token` with one bit of the first byte of its signature flipped.
pub fn with_flipped_bit(token: &str) -> String {
    with_part(token, 2, |signature| {
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[0] ^= 1;
        encode(bytes)
    })
}

/// `token`, signed with ES256, with the same numbers in the form that ECDSA has elsewhere (RFC 3279
/// §2.2.3) and a JWS has not (RFC 7518 §3.4).
pub fn with_signature_in_der(token: &str) -> String {
    with_part(token, 2, |signature| {
        let fixed = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let (r, s) = fixed.split_at(32);
        let numbers = [der_integer(r), der_integer(s)].concat();
        let length = u8::try_from(numbers.len()).unwrap();
        encode([&[0x30, length][..], &numbers].concat())
    })
}

/// A positive number in DER: as short as it can be, its top bit clear.
fn der_integer(number: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
    if bytes.first().is_none_or(|first| *first >= 0x80) {
        bytes.insert(0, 0);
    }
    [&[2, u8::try_from(bytes.len()).unwrap()][..], &bytes].concat()
}

/// The payload of `token`, if it is one.
pub fn decode_claims(token: &str) -> Option<Map<String, Value>> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// Registers what a test put together by hand, and hands it back.
pub fn registered(token: String) -> String {
    registry::inbound(&token);
    token
}

fn spliced(map: &Map<String, Value>, members: &str) -> String {
    let text = serde_json::to_string(map).unwrap();
    format!("{},{members}}}", text.strip_suffix('}').unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

    /// An independent judge: jsonwebtoken, with the published key.
    fn verified(token: &str, key: &Key, alg: Algorithm) -> Option<Map<String, Value>> {
        let jwk: Jwk = serde_json::from_value(key.jwk()).unwrap();
        let mut validation = Validation::new(alg);
        validation.validate_exp = false;
        validation.set_audience(&[CLIENT_ID]);
        decode(token, &DecodingKey::from_jwk(&jwk).unwrap(), &validation)
            .ok()
            .map(|token| token.claims)
    }

    #[test]
    fn tokens_of_every_algorithm_verify_with_the_published_key() {
        let cases = [
            (keys::rsa(), Alg::Rs256, Algorithm::RS256),
            (keys::rsa(), Alg::Rs384, Algorithm::RS384),
            (keys::rsa(), Alg::Ps256, Algorithm::PS256),
            (keys::rsa3072(), Alg::Rs512, Algorithm::RS512),
            (keys::p256(), Alg::Es256, Algorithm::ES256),
            (keys::p384(), Alg::Es384, Algorithm::ES384),
            (keys::ed25519(), Alg::EdDsa, Algorithm::EdDSA),
            (
                Key::symmetric("h", b"0123456789abcdef0123456789abcdef"),
                Alg::Hs256,
                Algorithm::HS256,
            ),
        ];
        for (key, alg, judge) in cases {
            let token = Token::entra_v2("https://i").signed_by(&key).alg(alg).build();
            let claims = verified(&token, &key, judge).unwrap_or_else(|| panic!("{alg:?}"));
            assert_eq!(claims["oid"], ALICE);
            assert!(verified(&with_flipped_bit(&token), &key, judge).is_none(), "{alg:?}");
            assert!(registry::is_inbound(&token));
        }
    }

    #[test]
    fn a_forged_token_says_one_key_and_is_signed_by_another() {
        let token = Token::entra_v2("https://i").forged_by(&keys::rsa_other()).build();
        assert!(verified(&token, &keys::rsa(), Algorithm::RS256).is_none());
        assert!(verified(&token, &keys::rsa_other(), Algorithm::RS256).is_some());
    }

    #[test]
    fn members_can_be_there_twice() {
        let token = Token::entra_v2("https://i").also_claims(r#""aud":"x""#).build();
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        assert_eq!(String::from_utf8(payload).unwrap().matches(r#""aud""#).count(), 2);
    }

    #[test]
    fn a_token_can_be_made_to_measure() {
        let token = Token::entra_v2("https://i").build_sized(16 * 1024);
        assert!((16 * 1024 - 1..=16 * 1024).contains(&token.len()), "{}", token.len());
    }
}
