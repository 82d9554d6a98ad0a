//! Several providers: keys, issuers and audiences do not mix.

use super::*;

#[tokio::test]
async fn the_signing_keys_own_issuer_binds_it_to_a_tenant() {
    let clock = Arc::new(Hand(AtomicU64::new(NOW)));
    let signer = Signer::rsa("k");
    let v2_template = "https://login.microsoftonline.com/{tenantid}/v2.0";
    let v1_template = "https://sts.windows.net/{tenantid}/";
    let foreign = "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0";
    for (issuer, takes_v2, takes_v1) in [
        (v2_template, true, true),
        (V2, true, true),
        (v1_template, false, true),
        (foreign, false, false),
        ("https://login.microsoftonline.us/{tenantid}/v2.0", false, false),
        ("", false, false),
    ] {
        let mut jwk = signer.jwk();
        jwk["issuer"] = json!(issuer);
        let provider = provider(&clock, entra_settings(&json!({"keys": [jwk]})));
        let verified = VerifiedTokens::new(Arc::clone(&clock) as _, 0);
        for (claims, takes) in [(v2(), takes_v2), (v1(), takes_v1)] {
            let token = inbound(&signer.token(Algorithm::Rs256, &claims));
            let judged = verify(&token, std::slice::from_ref(&provider), &verified).await;
            assert_eq!(judged.is_ok(), takes, "{issuer}");
        }
    }
}

#[tokio::test]
async fn keys_of_one_provider_do_not_verify_for_another() {
    let clock = Arc::new(Hand(AtomicU64::new(NOW)));
    let (one, other) = (Signer::p256("same"), Signer::p256("same"));
    let at = |issuer: &str, signer: &Signer| {
        let kind = Issuing::Oidc { issuer: issuer.to_owned() };
        let jwks = json!({"keys": [signer.jwk()]}).to_string().into_bytes();
        let settings = ProviderSettings::new(issuer, kind, vec!["orders".to_owned()]);
        provider(&clock, ProviderSettings { jwks: Some(jwks), ..settings })
    };
    let providers = [at("https://one.example", &one), at("https://other.example", &other)];
    let verified = VerifiedTokens::new(Arc::clone(&clock) as _, 0);
    for (issuer, signer, passes) in [
        ("https://one.example", &one, true),
        ("https://one.example", &other, false),
        ("https://other.example", &other, true),
        ("https://other.example", &one, false),
    ] {
        let claims = with(&sso(), json!({"iss": issuer}));
        let token = inbound(&signer.token(Algorithm::Es256, &claims));
        assert_eq!(verify(&token, &providers, &verified).await.is_ok(), passes, "{issuer}");
    }
}

#[tokio::test]
async fn of_two_providers_with_one_issuer_the_audience_chooses() {
    let clock = Arc::new(Hand(AtomicU64::new(NOW)));
    let signer = Signer::p256("k");
    let named = |name: &str, audience: &str| {
        let jwks = json!({"keys": [signer.jwk()]});
        let audiences = vec![audience.to_owned()];
        provider(&clock, ProviderSettings { name: name.into(), audiences, ..sso_settings(&jwks) })
    };
    let providers = [named("first", "orders"), named("second", "invoices")];
    let verified = VerifiedTokens::new(Arc::clone(&clock) as _, 0);
    for (aud, chosen) in [
        (json!("orders"), Some("first")),
        (json!("invoices"), Some("second")),
        (json!(["invoices", "orders"]), Some("first")),
        (json!("other"), None),
    ] {
        let claims = with(&sso(), json!({"aud": aud}));
        let token = inbound(&signer.token(Algorithm::Es256, &claims));
        let judged = verify(&token, &providers, &verified).await;
        assert_eq!(
            judged.ok().as_ref().map(|vouched| &*vouched.unproved().provider),
            chosen,
            "{aud}"
        );
    }
}

#[test]
fn a_key_file_without_a_usable_key_is_refused_at_once() {
    let clock = Arc::new(Hand(AtomicU64::new(NOW)));
    let settings = ProviderSettings { roots: roots(), ..sso_settings(&json!({"keys": []})) };
    let made = Provider::new(settings, clock, Metrics::default());
    assert!(matches!(made, Err(ProviderError::Keys(_))));
}

#[tokio::test]
async fn a_key_that_names_its_algorithm_verifies_no_other() {
    let clock = Arc::new(Hand(AtomicU64::new(NOW)));
    let signer = Signer::rsa("k");
    let verified = VerifiedTokens::new(Arc::clone(&clock) as _, 0);
    for (named, takes_rs256, takes_ps256) in
        [(None, true, true), (Some("RS256"), true, false), (Some("PS256"), false, true)]
    {
        let mut jwk = signer.jwk();
        if let Some(name) = named {
            jwk["alg"] = json!(name);
        }
        let provider = provider(&clock, sso_settings(&json!({"keys": [jwk]})));
        for (algorithm, takes) in [(Algorithm::Rs256, takes_rs256), (Algorithm::Ps256, takes_ps256)]
        {
            let token = inbound(&signer.token(algorithm, &sso()));
            let judged = verify(&token, std::slice::from_ref(&provider), &verified).await;
            assert_eq!(judged.is_ok(), takes, "{algorithm} by a key for {named:?}");
        }
    }
}
