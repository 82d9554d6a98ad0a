//! Dry runs say what real ones do: behind every token of these tables, honest or hostile, each check by
//! itself and the supposition about its claims are held against the verdict.

use super::*;
use crate::authn::supposition::{self, Outcome, examine, suppose};

/// Names of the checks that look at more than the claims.
const OF_SIGNATURE: [&str; 6] = ["form", "alg", "typ", "kid", "signature", "key's issuer"];

/// Holds what a dry run says of a request with a bearer token against what became of it.
pub(super) async fn assert_agrees(
    requirement: &Requirement,
    request: &Request<()>,
    verdict: &Result<Authenticated, Rejection>,
) {
    let target = Target::parse(request).unwrap();
    let headers = request.headers();
    let presented = Presented { target: &target, headers, peer: &CLEAR, public_url: None };
    let seen = examine(requirement, presented).await;
    let failed: Vec<_> = seen.checks.iter().filter(|it| it.outcome != Outcome::Passed).collect();
    let supposed = seen.claims.as_ref().map(|claims| suppose(requirement, claims));
    match verdict {
        Ok(authenticated) => {
            assert!(failed.is_empty() && seen.checks.len() >= 9, "{:#?}", seen.checks);
            let real = format!("{:?}", authenticated.identity().unwrap());
            assert_eq!(format!("{:?}", seen.supposed.unwrap()), real);
            assert_eq!(format!("{:?}", supposed.unwrap().unwrap().unwrap()), real);
        }
        Err(rejection) => {
            let reason = rejection.reason();
            let first = failed.first();
            let is_bound = seen.claims.as_ref().is_some_and(|claims| claims.contains_key("cnf"));
            let is_seen = first.is_some() || is_bound || seen.checks.is_empty();
            assert!(is_seen, "{reason}: {:#?}", seen.checks);
            let of_claims = first.filter(|it| !OF_SIGNATURE.contains(&it.name));
            if let (Some(check), false) = (of_claims, is_bound) {
                let supposed = supposed.unwrap().unwrap_err().reason();
                assert_eq!(supposed, reason, "{check:?}");
                assert!(failed.iter().any(|it| it.reason.as_ref() == Some(&reason)), "{failed:?}");
            } else if let Some(check) = first.filter(|it| it.outcome == Outcome::Failed) {
                assert_eq!(check.reason.as_ref(), Some(&reason));
            }
        }
    }
}

fn providers(world: &World) -> &[Arc<Provider>] {
    let Requirement::Token { providers, .. } = &world.requirement else { panic!() };
    providers
}

/// What a test's token of the provider called `name` would come to.
fn tested(world: &World, name: &str, given: Value) -> Result<Identity, Rejection> {
    let provider = providers(world).iter().find(|own| &**own.name() == name).unwrap();
    let Value::Object(given) = given else { panic!("{given}") };
    let claims = supposition::with_defaults(provider, given);
    suppose(&world.requirement, &claims).map(Option::unwrap)
}

#[test]
fn a_tests_token_is_good_by_default() {
    let world = World::new();
    for name in ["entra", "sso"] {
        let identity = tested(&world, name, json!({})).unwrap();
        assert_eq!((&*identity.provider, identity.kind), (name, CallerKind::App));
        let identity = tested(&world, name, json!({"scp": "a b", "oid": "u1"})).unwrap();
        assert_eq!((identity.kind, identity.scopes.len()), (CallerKind::User, 2));
        assert_eq!(identity.user.as_deref(), Some("u1"));
    }
    assert_eq!(tested(&world, "entra", json!({})).unwrap().tenant.as_deref(), Some(TENANT));
}

#[test]
fn every_claim_of_a_tests_token_can_be_another() {
    let world = World::new();
    let other = "aaaaaaaa-2222-3333-4444-555555555555";
    for (given, code, why) in [
        (json!({"exp": NOW - 61}), Code::TokenExpired, "expired 61 s ago"),
        (json!({"exp": 1}), Code::TokenExpired, "expired"),
        (json!({"exp": "soon"}), Code::TokenInvalid, "`exp` is a string"),
        (json!({"exp": null}), Code::TokenInvalid, "no `exp`"),
        (json!({"nbf": NOW + 61}), Code::TokenInvalid, "begins in 61 s"),
        (json!({"aud": "another"}), Code::TokenInvalid, "audience `another`"),
        (json!({"aud": null}), Code::TokenInvalid, "no `aud`"),
        (json!({"iss": "https://evil.example"}), Code::TokenInvalid, "`https://evil.example`"),
        (json!({"tid": other}), Code::TokenInvalid, "iss"),
        (json!({"iss": V2, "tid": other}), Code::TokenInvalid, "`tid`"),
        (json!({"azp": null}), Code::TokenInvalid, "ID token"),
        (json!({"nonce": "x"}), Code::TokenInvalid, "ID token"),
        (json!({"cnf": {"jkt": "x"}}), Code::TokenInvalid, "cnf"),
    ] {
        let rejection = tested(&world, "entra", given.clone()).unwrap_err();
        assert_eq!(rejection.code(), code, "{given}: {rejection}");
        assert!(rejection.reason().contains(why), "{given}: {rejection}");
    }
    for given in [json!({"exp": NOW - 59}), json!({"iss": V1, "ver": "1.0", "appid": "client"})] {
        assert!(tested(&world, "entra", given.clone()).is_ok(), "{given}");
    }
    let digest = "A".repeat(43);
    let rejection = tested(&world, "sso", json!({"cnf": {"jkt": digest}})).unwrap_err();
    assert!(rejection.reason().contains("claims alone prove nothing"), "{rejection}");
}

#[test]
fn on_an_open_route_claims_make_nobody() {
    assert!(suppose(&Requirement::Open, &Map::new()).unwrap().is_none());
}

#[tokio::test]
async fn without_keys_a_signature_is_not_checked() {
    let world = World::new();
    let settings = ProviderSettings { jwks: None, ..sso_settings(&json!({})) };
    let provider = provider(&world.clock, settings);
    let Requirement::Token { verified, proofs, called_at, .. } = &world.requirement else {
        panic!()
    };
    let requirement = Requirement::Token {
        providers: vec![provider],
        verified: Arc::clone(verified),
        proofs: Arc::clone(proofs),
        called_at: *called_at,
    };
    let token = world.ed.token(Algorithm::EdDsa, &sso());
    let request = Request::get("/x").header("host", "gateway");
    let request = request.header("authorization", format!("Bearer {token}")).body(()).unwrap();
    let verdict = presenting(&requirement, &request, &CLEAR, None).await;
    assert_eq!(verdict.as_ref().unwrap_err().code(), Code::ProviderUnavailable);
    assert_agrees(&requirement, &request, &verdict).await;
    let target = Target::parse(&request).unwrap();
    let headers = request.headers();
    let presented = Presented { target: &target, headers, peer: &CLEAR, public_url: None };
    let seen = examine(&requirement, presented).await;
    let outcome = |name| seen.checks.iter().find(|it| it.name == name).unwrap().outcome;
    assert_eq!((outcome("kid"), outcome("signature")), (Outcome::NotChecked, Outcome::NotChecked));
    assert_eq!((outcome("audience"), outcome("exp")), (Outcome::Passed, Outcome::Passed));
    assert_eq!(seen.supposed.unwrap().user.as_deref(), Some("u2"));
}
