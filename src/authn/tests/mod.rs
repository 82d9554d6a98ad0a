//! Whole verification: tables of tokens, honest and hostile, against providers whose keys come
//! from memory; then the cache; then a provider on a real socket. The world they share is here.

mod cache;
mod claims;
mod dry;
mod hostile;
mod live;
mod proof;
mod providers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use serde_json::{Map, Value, json};

use super::forge::{Signer, encoded, inbound};
use super::*;
use crate::clock::{Clock, SharedClock, UnixTime};
use crate::identity::CallerKind;
use crate::limits;
use crate::observe::metrics::Metrics;
use crate::rejection::Code;
use crate::trust::Roots;

const NOW: u64 = 1_767_225_912;
const TENANT: &str = "11111111-2222-3333-4444-55555555aaaa";
const V1: &str = "https://sts.windows.net/11111111-2222-3333-4444-55555555aaaa/";
const V2: &str = "https://login.microsoftonline.com/11111111-2222-3333-4444-55555555aaaa/v2.0";
const SSO: &str = "https://sso.example.com/realms/main";

/// A connection without TLS.
const CLEAR: Peer = Peer {
    address: std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1),
    tls: false,
    certificate: None,
};

/// Authenticates a request that came over a connection from `peer`.
async fn presenting(
    requirement: &Requirement,
    request: &Request<()>,
    peer: &Peer,
    public_url: Option<&str>,
) -> Result<Authenticated, Rejection> {
    let target = Target::parse(request).unwrap();
    let presented = Presented { target: &target, headers: request.headers(), peer, public_url };
    authenticate(requirement, presented).await
}

#[derive(Debug)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> UnixTime {
        UnixTime(self.0.load(Ordering::SeqCst))
    }
}

struct World {
    clock: Arc<Hand>,
    rsa: Signer,
    p256: Signer,
    p384: Signer,
    ed: Signer,
    requirement: Requirement,
    verified: Arc<VerifiedTokens>,
}

fn roots() -> Roots {
    let ca = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    Roots::from_pem(ca.cert.pem().as_bytes()).unwrap()
}

fn provider(clock: &Arc<Hand>, settings: ProviderSettings) -> Arc<Provider> {
    let settings = ProviderSettings { roots: roots(), ..settings };
    Provider::new(settings, Arc::clone(clock) as _, Metrics::default()).unwrap()
}

fn entra_settings(jwks: &Value) -> ProviderSettings {
    let kind = Issuing::entra(TENANT, Cloud::Public, None);
    let audiences = vec!["api://orders".to_owned(), "gateway-id".to_owned()];
    let jwks = Some(jwks.to_string().into_bytes());
    ProviderSettings { jwks, ..ProviderSettings::new("entra", kind, audiences) }
}

fn sso_settings(jwks: &Value) -> ProviderSettings {
    let kind = Issuing::Oidc { issuer: SSO.to_owned() };
    let jwks = Some(jwks.to_string().into_bytes());
    let settings = ProviderSettings::new("sso", kind, vec!["orders".to_owned()]);
    let algorithms = Algorithm::ALL.to_vec();
    let roles_claims = vec!["realm_access.roles".to_owned()];
    ProviderSettings { algorithms, jwks, roles_claims, ..settings }
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(Hand(AtomicU64::new(NOW)));
        let (rsa, p256) = (Signer::rsa("rsa"), Signer::p256("p256"));
        let (p384, ed) = (Signer::p384("p384"), Signer::ed25519("ed"));
        let entra = provider(&clock, entra_settings(&json!({"keys": [rsa.jwk()]})));
        let keys = json!({"keys": [rsa.jwk(), p256.jwk(), p384.jwk(), ed.jwk()]});
        let sso = provider(&clock, sso_settings(&keys));
        let verified = Arc::new(VerifiedTokens::new(Arc::clone(&clock) as _, 100));
        let proofs = Arc::new(UsedProofs::new(Arc::clone(&clock) as SharedClock));
        let verified_here = Arc::clone(&verified);
        let requirement = Requirement::Token {
            providers: vec![entra, sso],
            verified: verified_here,
            proofs,
            called_at: CalledAt::PublicUrl,
        };
        Self { clock, rsa, p256, p384, ed, requirement, verified }
    }

    async fn judge(&self, token: &str) -> Result<Arc<Identity>, Rejection> {
        let request = Request::get("/x").header("host", "gateway");
        let request = request.header("authorization", format!("Bearer {token}"));
        let request = request.body(()).unwrap();
        let authenticated = presenting(&self.requirement, &request, &CLEAR, None).await;
        dry::assert_agrees(&self.requirement, &request, &authenticated).await;
        let authenticated = authenticated?;
        let caller = authenticated.into_caller().unwrap();
        assert_eq!(caller.token().expose(), token);
        Ok(Arc::clone(caller.identity()))
    }

    async fn accepted(&self, token: &str) -> Arc<Identity> {
        match self.judge(token).await {
            Ok(identity) => identity,
            Err(rejection) => panic!("refused: {}", rejection.reason()),
        }
    }

    /// The reason for the operator, after a look at what the caller is told.
    async fn refused(&self, what: &str, token: &str) -> String {
        let Err(rejection) = self.judge(token).await else { panic!("accepted: {what}") };
        assert_eq!(rejection.code(), Code::TokenInvalid, "{what}: {}", rejection.reason());
        assert_eq!(rejection.detail(), "The bearer token is not accepted here", "{what}");
        let reason = rejection.reason();
        assert!(reason.starts_with("token refused: "), "{reason}");
        assert!(reason.len() < 1000 && !reason.contains('\n'), "{what}: {reason}");
        assert!(!token.contains('.') || !reason.contains(token), "{what}: {reason}");
        reason
    }
}

fn v2() -> Value {
    json!({
        "iss": V2, "aud": "gateway-id", "tid": TENANT, "ver": "2.0", "exp": NOW + 3600,
        "nbf": NOW - 5, "iat": NOW - 5, "oid": "u1", "sub": "pairwise", "azp": "client",
        "scp": "access_as_user read", "roles": ["Admin"], "uti": "x",
    })
}

fn v1() -> Value {
    with(
        &v2(),
        json!({"iss": V1, "aud": "api://orders", "ver": "1.0", "azp": null, "appid": "client"}),
    )
}

fn sso() -> Value {
    json!({
        "iss": SSO, "aud": ["account", "orders"], "exp": NOW + 3600, "iat": NOW, "sub": "u2",
        "azp": "spa", "scope": "openid orders.read", "typ": "Bearer", "jti": "1",
        "realm_access": {"roles": ["clerk"]},
    })
}

/// `claims` with changes; null takes a claim away, `{"$": x}` sets it to what it holds, also null.
#[allow(clippy::needless_pass_by_value, reason = "rows are written in place")]
fn with(claims: &Value, changes: Value) -> Value {
    let mut claims = claims.clone();
    for (name, value) in changes.as_object().unwrap() {
        match value.get("$") {
            Some(literal) => claims[name] = literal.clone(),
            None if value.is_null() => drop(claims.as_object_mut().unwrap().remove(name)),
            None => claims[name] = value.clone(),
        }
    }
    claims
}
