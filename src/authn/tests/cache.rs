//! The cache of verified tokens, and the outcome of authentication.

use super::*;

#[tokio::test]
async fn a_token_is_verified_once_and_not_past_its_end() {
    let world = World::new();
    let token = world.ed.token(Algorithm::EdDsa, &with(&sso(), json!({"exp": NOW + 100})));
    let first = world.accepted(&token).await;
    assert_eq!(world.verified.len(), 1);
    let second = world.accepted(&token).await;
    assert!(Arc::ptr_eq(&first, &second), "remembered");
    world.clock.0.store(NOW + 99, Ordering::SeqCst);
    assert!(Arc::ptr_eq(&first, &world.accepted(&token).await), "until its end");
    world.clock.0.store(NOW + 100, Ordering::SeqCst);
    let within_leeway = world.accepted(&token).await;
    assert!(!Arc::ptr_eq(&first, &within_leeway), "judged anew within the leeway");
    world.clock.0.store(NOW + 160, Ordering::SeqCst);
    assert_eq!(world.judge(&token).await.unwrap_err().code(), Code::TokenExpired);
}

#[tokio::test]
async fn a_remembered_token_counts_only_where_its_provider_does() {
    let clock = Arc::new(Hand(AtomicU64::new(NOW)));
    let signer = Signer::p256("k");
    let keys = json!({"keys": [signer.jwk()]});
    let one = provider(&clock, sso_settings(&keys));
    let again = provider(&clock, sso_settings(&keys));
    let entra = provider(&clock, entra_settings(&json!({"keys": [Signer::rsa("rsa").jwk()]})));
    let verified = VerifiedTokens::new(Arc::clone(&clock) as _, 10);
    let token = inbound(&signer.token(Algorithm::Es256, &sso()));
    verify(&token, &[Arc::clone(&one)], &verified).await.unwrap();
    let digest = token.digest();
    assert!(verified.find(&digest, &[Arc::clone(&entra), one]).is_some());
    assert!(verified.find(&digest, &[entra]).is_none(), "not a provider of the route");
    assert!(verified.find(&digest, &[again]).is_none(), "a provider that was set up anew");
}

#[tokio::test]
async fn the_cache_of_verified_tokens_is_bounded() {
    let world = World::new();
    let identity = world.accepted(&world.ed.token(Algorithm::EdDsa, &sso())).await;
    let Requirement::Token { providers, .. } = &world.requirement else { panic!() };
    let digest = |n: u32| crate::secret::TokenDigest::of(&n.to_be_bytes());
    for max in [1, 2, 50] {
        let verified = VerifiedTokens::new(Arc::clone(&world.clock) as _, max);
        for n in 0..500 {
            verified.remember(digest(n), &providers[1], 0, &identity);
            assert!(verified.len() <= max);
            assert!(verified.find(&digest(n), providers).is_some());
        }
    }
    let expired = Arc::new(Identity { expires_at: UnixTime(NOW + 1), ..(*identity).clone() });
    let verified = VerifiedTokens::new(Arc::clone(&world.clock) as _, 50);
    for n in 0..50 {
        verified.remember(digest(n), &providers[1], 0, &expired);
    }
    world.clock.0.store(NOW + 1, Ordering::SeqCst);
    verified.remember(digest(99), &providers[1], 0, &identity);
    assert_eq!(verified.len(), 1, "the expired ones went first");
    verified.remember(digest(100), &providers[1], 0, &expired);
    assert_eq!(verified.len(), 1, "what has expired is not remembered");
    let none = VerifiedTokens::new(Arc::clone(&world.clock) as _, 0);
    none.remember(digest(1), &providers[1], 0, &identity);
    assert!(none.is_empty());
}

#[tokio::test]
async fn an_open_route_reads_no_token_and_still_takes_only_one_header() {
    let mut headers = HeaderMap::new();
    assert!(authenticate(&Requirement::Open, &headers).await.unwrap().into_caller().is_none());
    headers.append(http::header::AUTHORIZATION, HeaderValue::from_static("Bearer ,,,"));
    assert!(authenticate(&Requirement::Open, &headers).await.unwrap().into_caller().is_none());
    headers.append(http::header::AUTHORIZATION, HeaderValue::from_static("Basic x"));
    let rejection = authenticate(&Requirement::Open, &headers).await.unwrap_err();
    assert_eq!(rejection.code(), Code::BadRequest);
}

#[test]
fn authentication_can_be_awaited_on_any_thread() {
    fn assert_send<T: Send>(_: &T) {}
    let headers = HeaderMap::new();
    assert_send(&authenticate(&Requirement::Open, &headers));
}
