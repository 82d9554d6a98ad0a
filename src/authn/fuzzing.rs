//! Fuzz targets of authentication: what a caller or a provider sends, and what must hold of
//! whatever is accepted. In no product; see `src/fuzzing.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "to panic is how a target speaks"
)]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use url::Url;

use crate::clock::{Clock, SystemClock, UnixTime};
use crate::limits;
use crate::observe::metrics::Metrics;
use crate::peer::Peer;
use crate::rejection::{Code, Extra, Rejection};
use crate::route::Target;
use crate::secret::InboundToken;
use crate::trust::Roots;

use super::algorithm::Algorithm;
use super::bearer::Scheme;
use super::discovery;
use super::keys::Material;
use super::keys::{Key, KeySet};
use super::public_place::PublicPlace;
use super::settings::ProviderSettings;
use super::thumbprint::Thumbprint;
use super::token::{Parts, Unverified};
use super::{
    CalledAt, Cloud, DPOP, Issuing, Presented, Provider, UsedProofs, bearer, claims, dpop,
    may_be_called,
};

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const AUDIENCE: &str = "api://gateway";
const OIDC_ISSUER: &str = "https://idp.example/realms/main";
/// Claims are judged at this moment: 2026-01-01.
const NOW: UnixTime = UnixTime(1_767_225_600);
const SKEW: Duration = Duration::from_mins(1);

/// The `Authorization` headers of a request, one a line.
pub(crate) fn bearer(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(value) = HeaderValue::from_bytes(line) else { return };
        headers.append(AUTHORIZATION, value);
    }
    let sent = bearer::token(&headers);
    match sent.and_then(|sent| bearer::check_alphabet(&sent.1).map(|()| sent)) {
        Ok((scheme, token)) => {
            let mut values = headers.get_all(AUTHORIZATION).iter();
            let value = values.next().unwrap();
            assert!(values.next().is_none(), "one of several headers was taken");
            let token = token.expose();
            assert!(token.len() <= limits::MAX_TOKEN_BYTES);
            let before = value.to_str().unwrap().strip_suffix(token).unwrap();
            let wanted = match scheme {
                Scheme::Bearer => "bearer",
                Scheme::Dpop => "dpop",
            };
            assert!(before.trim_end_matches(' ').eq_ignore_ascii_case(wanted), "{before}");
            assert!(before.ends_with(' '));
            assert!(is_b64token(token), "{token}");
        }
        Err(rejection) => {
            let known = [Code::BadRequest, Code::TokenMissing, Code::TokenInvalid];
            assert!(known.contains(&rejection.code()));
            says_nothing_of(&rejection, data);
        }
    }
}

/// A compact token: as it stands, or, if it begins with `{`, its parts before they are encoded,
/// with line feeds between.
pub(crate) fn token(data: &[u8]) {
    let text = if data.starts_with(b"{") {
        let parts = data.split(|byte| *byte == b'\n');
        parts.map(|part| URL_SAFE_NO_PAD.encode(part)).collect::<Vec<_>>().join(".")
    } else {
        String::from_utf8_lossy(data).into_owned()
    };
    let Some(token) = inbound(&text) else { return };
    let wanted = if is_b64token(&text) { Code::TokenInvalid } else { Code::BadRequest };
    let refused = |rejection: Rejection| {
        assert_eq!(rejection.code(), wanted);
        says_nothing_of(&rejection, data);
    };
    let taken_apart = match Parts::of(&token) {
        Ok(parts) => parts,
        Err(rejection) => return refused(rejection),
    };
    let parsed = match Unverified::read(&taken_apart) {
        Ok(parsed) => parsed,
        Err(rejection) => return refused(rejection),
    };
    assert_eq!(wanted, Code::TokenInvalid, "what is not one token was read");
    let parts: Vec<&str> = text.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{} parts", parts.len()) };
    assert!(!signature.is_empty());
    // Any other reader of JSON comes to the same.
    let decoded = |part| {
        let decoded = URL_SAFE_NO_PAD.decode(part).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(&decoded), part, "one token has one spelling");
        serde_json::from_slice::<Value>(&decoded).unwrap()
    };
    let header = decoded(header);
    assert_eq!(header["alg"], parsed.algorithm().name());
    assert_eq!(header["kid"], parsed.kid());
    assert!((1..=limits::MAX_KID_BYTES).contains(&parsed.kid().len()));
    for name in ["crit", "b64", "jwk", "jku", "x5u", "enc", "zip"] {
        assert!(header.get(name).is_none(), "{name}");
    }
    assert_eq!(decoded(payload), Value::Object(parsed.claims().to_map()));
    let again = Unverified::read(&taken_apart).unwrap();
    assert_eq!(
        (again.algorithm(), again.kid(), again.claims()),
        (parsed.algorithm(), parsed.kid(), parsed.claims())
    );
    // Nobody out there has signed with this key.
    assert!(parsed.verify(&SIGNING.key).is_err(), "a token that nobody signed was verified");
}

/// Whether `text` is one token, by the grammar of RFC 6750 §2.1.
fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    !body.is_empty() && body.chars().all(allowed)
}

/// The claims of a token whose signature holds.
pub(crate) fn claims(data: &[u8]) {
    let Some(token) = inbound(&SIGNING.token(data)) else { return };
    if token.expose().len() > limits::MAX_TOKEN_BYTES {
        return;
    }
    let Ok(parts) = Parts::of(&token) else { return };
    let Ok(unverified) = Unverified::read(&parts) else { return };
    let Ok(issuer) = claims::issuer(unverified.claims()) else { return };
    let Some(provider) = PROVIDERS.iter().find(|own| own.issues(issuer)) else { return };
    let said = Value::Object(unverified.claims().to_map());
    let verified = unverified.verify(&SIGNING.key).expect("we have signed it");
    let identity = match claims::judge(verified, &SIGNING.key, provider, NOW) {
        Ok(identity) => identity,
        Err(rejection) => {
            assert!([Code::TokenInvalid, Code::TokenExpired].contains(&rejection.code()));
            is_one_line(&rejection);
            return;
        }
    };
    assert!(identity.expires_at.plus(SKEW) > NOW, "it has expired: {said}");
    assert!(said["exp"].as_f64().is_some_and(|exp| exp >= 1_767_225_540.0), "{said}");
    for begin in ["nbf", "iat"] {
        let begin = said.get(begin).map(|begin| begin.as_f64().expect("a number"));
        assert!(begin.is_none_or(|begin| begin <= 1_767_225_660.0), "it has not begun: {said}");
    }
    let audience = &said["aud"];
    let audiences = audience.as_array().map_or(std::slice::from_ref(audience), Vec::as_slice);
    assert!(audiences.iter().any(|audience| audience == AUDIENCE), "{said}");
    for name in ["nonce", "at_hash", "c_hash", "events"] {
        assert!(said.get(name).is_none(), "{name}: {said}");
    }
    assert!(said["typ"].as_str().is_none_or(|mark| !mark.eq_ignore_ascii_case("ID")), "{said}");
    assert_eq!(said["iss"], *identity.issuer);
    let kept = identity.claims.iter().map(|(name, value)| (name.to_owned(), value));
    assert_eq!(kept.collect::<Value>(), said);
    match provider.settings().kind {
        Issuing::Entra { .. } => {
            assert_eq!(identity.tenant.as_deref(), Some(TENANT));
            let tid = said["tid"].as_str().unwrap();
            assert!(tid.eq_ignore_ascii_case(TENANT), "{said}");
            assert!(said["azp"].is_string() || said["appid"].is_string(), "{said}");
        }
        Issuing::Oidc { .. } => assert_eq!(identity.tenant, None),
    }
}

/// A JWK set.
pub(crate) fn keys(data: &[u8]) {
    let read = KeySet::read(data, &Algorithm::ALL);
    // May have keys that the other has not: two with one `kid`, one of which is RSA.
    let few = KeySet::read(data, &[Algorithm::Es256]);
    let Ok((set, dropped)) = read else { return };
    let document: Value = serde_json::from_slice(data).unwrap();
    let published = document["keys"].as_array().unwrap();
    assert!((1..=limits::MAX_KEYS.min(published.len())).contains(&set.len()));
    assert!(dropped.len() <= published.len());
    for jwk in published {
        let Some(key) = jwk["kid"].as_str().and_then(|kid| set.key(kid)) else { continue };
        assert!((1..=limits::MAX_KID_BYTES).contains(&key.kid().len()));
        assert!(
            Algorithm::ALL.iter().any(|algorithm| key.permits(*algorithm)),
            "{key:?} is for nothing"
        );
    }
    let names = published.iter().filter_map(|jwk| jwk["kid"].as_str());
    let found = names.clone().filter(|kid| set.key(kid).is_some());
    assert!(found.count() >= set.len(), "each key was published");
    for kid in names {
        let of_few = few.as_ref().ok().and_then(|(few, _)| few.key(kid));
        assert!(of_few.is_none_or(|key| key.permits(Algorithm::Es256)));
    }
    let (again, _) = KeySet::read(data, &Algorithm::ALL).unwrap();
    assert!(again.keeps(&set) && set.keeps(&again));
}

/// A discovery document.
pub(crate) fn metadata(data: &[u8]) {
    let Ok(metadata) = discovery::read(data, &oidc()) else { return };
    let endpoints = [metadata.jwks_uri, metadata.endpoints.token, metadata.endpoints.authorization];
    for url in endpoints.into_iter().flatten() {
        assert!(url.starts_with("https://") && may_be_called(&url), "{url}");
        let plain = url.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
        assert!(plain, "it stands in a header, in quotes: {url}");
    }
}

/// The URL that proofs have to be for, with POST.
const PLACE: &str = "https://api.example.com/orders/1";
/// What proofs have to be for: the digest of `token`.
const ATH: &str = "PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A";

/// A DPoP proof for [`PLACE`]: header and claims before they are encoded, with a line feed
/// between, and signed by the key that the token is bound to; or, if it does not begin with `{`,
/// the field as it stands. That is a URL, too.
pub(crate) fn proof(data: &[u8]) {
    let field = if data.starts_with(b"{") {
        let mut lines = data.splitn(2, |byte| *byte == b'\n');
        let (header, claims) = (lines.next().unwrap(), lines.next().unwrap_or_default());
        SIGNING.compact(header, claims).into_bytes()
    } else {
        place(data);
        data.to_vec()
    };
    let Ok(value) = HeaderValue::from_bytes(&field) else { return };
    let request = Request::post(PLACE).header("host", "api.example.com").header(DPOP, value);
    let request = request.body(()).unwrap();
    let target = Target::parse(&request).unwrap();
    let address = ([127, 0, 0, 1], 1).into();
    let presented = Presented {
        target: &target,
        headers: request.headers(),
        peer: &Peer { address, tls: true, certificate: None },
        public_url: None,
    };
    let (token, proofs) = (inbound("token").unwrap(), UsedProofs::new(Arc::new(Then)));
    let check =
        || dpop::check(&token, SIGNING.thumbprint, &presented, CalledAt::PublicUrl, &proofs);
    let refused = |outcome: Result<(), Rejection>| {
        let rejection = outcome.unwrap_err();
        assert_eq!(rejection.code(), Code::TokenInvalid, "{}", rejection.reason());
        assert_eq!(rejection.extra(), &Extra::Dpop("invalid_dpop_proof"));
        says_nothing_of(&rejection, data);
    };
    let outcome = check();
    if outcome.is_err() {
        return refused(outcome);
    }
    assert!(field.len() <= limits::MAX_PROOF_BYTES);
    let parts: Vec<&str> = str::from_utf8(&field).unwrap().split('.').collect();
    let [header, claims, _] = parts[..] else { panic!("{} parts", parts.len()) };
    // Any other reader of JSON comes to the same.
    let decoded = |part| {
        let decoded = URL_SAFE_NO_PAD.decode(part).unwrap();
        serde_json::from_slice::<Value>(&decoded).unwrap()
    };
    let (header, claims) = (decoded(header), decoded(claims));
    assert_eq!((&header["typ"], &header["alg"]), (&json!("dpop+jwt"), &json!("EdDSA")));
    assert_eq!(header["jwk"]["x"], URL_SAFE_NO_PAD.encode(SIGNING.pair.public_key()));
    for name in ["crit", "b64", "jku", "x5u", "enc", "zip"] {
        assert!(header.get(name).is_none(), "{name}");
    }
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        assert!(header["jwk"].get(name).is_none(), "{name}");
    }
    assert_eq!((&claims["htm"], &claims["ath"]), (&json!("POST"), &json!(ATH)));
    let iat = claims["iat"].as_f64().unwrap();
    assert!((1_767_225_540.0..1_767_225_661.0).contains(&iat), "{iat}");
    let jti = claims["jti"].as_str().unwrap();
    assert!((1..=limits::MAX_JTI_BYTES).contains(&jti.len()));
    // And any other reader of URLs.
    let written = claims["htu"].as_str().unwrap();
    let htu = Url::parse(written).unwrap();
    assert_eq!(htu.origin().ascii_serialization(), "https://api.example.com", "{htu}");
    assert!(htu.username().is_empty() && htu.password().is_none(), "{htu}");
    // Of several slashes we make one, as in the targets of requests, and others none.
    if written.matches("//").count() == 1 {
        assert_eq!(percent_decode_str(htu.path()).decode_utf8().unwrap(), "/orders/1", "{htu}");
    }
    refused(check());
}

/// A URL: what is taken for a place is one in one spelling, without secrets.
fn place(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Some(place) = PublicPlace::read(text) else { return };
    let shown = place.to_string();
    assert!(shown.starts_with("https://") || shown.starts_with("http://"), "{shown}");
    assert!(!shown.contains(['?', '#', ' ', '\\']), "{shown}");
    let authority = shown.split('/').nth(2).unwrap();
    assert!(!authority.contains('@') && !authority.starts_with(':'), "{shown}");
    let again = PublicPlace::read(&shown);
    assert!(again.as_ref() == Some(&place), "{shown}");
    assert_eq!(again.unwrap().to_string(), shown);
}

/// The moment at which everything is judged.
#[derive(Debug)]
struct Then;

impl Clock for Then {
    fn now(&self) -> UnixTime {
        NOW
    }
}

/// A key that the targets sign with, and its public half.
struct Signing {
    pair: Ed25519KeyPair,
    key: Arc<Key>,
    thumbprint: Thumbprint,
}

static SIGNING: LazyLock<Signing> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key());
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x});
    let Ok(material) = Material::read(&jwk.as_object().unwrap().into()) else {
        panic!("it is a key")
    };
    let jwks = json!({"keys": [jwk]});
    let (set, _) = KeySet::read(jwks.to_string().as_bytes(), &Algorithm::ALL).unwrap();
    let thumbprint = Thumbprint::of(&material);
    Signing { pair, key: Arc::clone(set.key("k").unwrap()), thumbprint }
});

impl Signing {
    fn token(&self, claims: &[u8]) -> String {
        self.compact(br#"{"alg":"EdDSA","kid":"k","typ":"JWT"}"#, claims)
    }

    fn compact(&self, header: &[u8], claims: &[u8]) -> String {
        let (header, claims) = (URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

static PROVIDERS: LazyLock<[Arc<Provider>; 2]> = LazyLock::new(|| {
    let ca = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = |name, kind| {
        let mut settings = ProviderSettings::new(name, kind, vec![AUDIENCE.to_owned()]);
        settings.clock_skew = SKEW;
        settings.roots = Roots::from_pem(ca.cert.pem().as_bytes()).unwrap();
        Provider::new(settings, Arc::new(SystemClock), Metrics::default()).unwrap()
    };
    [provider("entra", Issuing::entra(TENANT, Cloud::Public, None)), provider("oidc", oidc())]
});

fn oidc() -> Issuing {
    Issuing::Oidc { issuer: OIDC_ISSUER.to_owned() }
}

fn inbound(compact: &str) -> Option<InboundToken> {
    InboundToken::new(HeaderValue::try_from(format!("Bearer {compact}")).ok()?, 7)
}

/// No long word of the input is in the log: it may be a token.
fn says_nothing_of(rejection: &Rejection, data: &[u8]) {
    is_one_line(rejection);
    let reason = rejection.reason();
    let words = data.split(|byte| !byte.is_ascii_alphanumeric() && !b"-_+/".contains(byte));
    for word in words.filter_map(|word| str::from_utf8(word).ok()) {
        // A longer one may be a `kid`, `typ` or `alg`, which are shown, cut at 120 characters.
        assert!(word.len() <= 120 || !reason.contains(word), "{reason}");
    }
}

fn is_one_line(rejection: &Rejection) {
    let reason = rejection.reason();
    assert!(!reason.chars().any(char::is_control), "{reason:?}");
    assert!(reason.len() < 8 * 1024, "{} bytes", reason.len());
}
