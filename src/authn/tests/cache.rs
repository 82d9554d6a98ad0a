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
async fn which_provider_reads_a_token_does_not_depend_on_the_routes_visited_before() {
    let clock = Arc::new(Hand(AtomicU64::new(NOW)));
    let signer = Signer::p256("k");
    let keys = json!({"keys": [signer.jwk()]});
    let named = |name: &str, audience: &str, roles: &str| {
        let (audiences, roles_claims) = (vec![audience.to_owned()], vec![roles.to_owned()]);
        let settings = sso_settings(&keys);
        provider(
            &clock,
            ProviderSettings { name: name.into(), audiences, roles_claims, ..settings },
        )
    };
    let (a, b) = (named("a", "orders", "mild"), named("b", "account", "strong"));
    let entra = provider(&clock, entra_settings(&json!({"keys": [Signer::rsa("rsa").jwk()]})));
    let routes = [
        vec![Arc::clone(&a)],
        vec![Arc::clone(&b)],
        vec![Arc::clone(&a), Arc::clone(&b)],
        vec![Arc::clone(&b), Arc::clone(&a)],
        vec![entra, Arc::clone(&b), a],
    ];
    let reading =
        async |route: &[Arc<Provider>], token: &InboundToken, verified: &VerifiedTokens| {
            let judged = identify(token, route, verified).await;
            let caller = judged.ok()?;
            let caller = caller.unproved();
            Some((caller.provider.to_string(), caller.roles.clone()))
        };
    for aud in [json!(["account", "orders"]), json!("orders"), json!("account"), json!("other")] {
        let claims = with(&sso(), json!({"aud": aud, "mild": "m", "strong": "s"}));
        let token = inbound(&signer.token(Algorithm::Es256, &claims));
        for first in &routes {
            for second in &routes {
                let untouched = VerifiedTokens::new(Arc::clone(&clock) as _, 10);
                let cold = reading(second, &token, &untouched).await;
                let visited = VerifiedTokens::new(Arc::clone(&clock) as _, 10);
                reading(first, &token, &visited).await;
                assert_eq!(reading(second, &token, &visited).await, cold, "{aud}");
            }
        }
    }
    let token = inbound(&signer.token(Algorithm::Es256, &with(&sso(), json!({"aud": "account"}))));
    let verified = VerifiedTokens::new(Arc::clone(&clock) as _, 10);
    let first = identify(&token, &routes[1], &verified).await.unwrap();
    let again = identify(&token, &routes[2], &verified).await.unwrap();
    assert!(
        std::ptr::eq(first.unproved(), again.unproved()),
        "an earlier provider that does not take it is no bar"
    );
}

/// Something of `bytes` bytes that is a token to the cache; the `n`th of them.
fn sized(n: usize, bytes: usize) -> InboundToken {
    inbound(&format!("{n:0>bytes$}"))
}

#[tokio::test]
async fn the_cache_of_verified_tokens_is_bounded_in_number() {
    let world = World::new();
    let identity = world.accepted(&world.ed.token(Algorithm::EdDsa, &sso())).await;
    let vouched = Vouched::new(identity).unwrap();
    let Requirement::Token { providers, .. } = &world.requirement else { panic!() };
    for max in [1, 2, 50] {
        let verified = VerifiedTokens::new(Arc::clone(&world.clock) as _, max);
        for n in 0..500 {
            verified.remember(&sized(n, 8), &providers[1], 0, &vouched);
            assert_eq!(verified.len(), max.min(n + 1));
            assert!(verified.find(&sized(n, 8).digest(), providers).is_some());
        }
        verified.remember(&sized(499, 8), &providers[1], 0, &vouched);
        assert_eq!(verified.len(), max, "the same token is counted once");
    }
    let none = VerifiedTokens::new(Arc::clone(&world.clock) as _, 0);
    none.remember(&sized(1, 8), &providers[1], 0, &vouched);
    assert!(none.is_empty());
}

#[tokio::test]
async fn the_cache_of_verified_tokens_is_bounded_in_bytes() {
    let world = World::new();
    let identity = world.accepted(&world.ed.token(Algorithm::EdDsa, &sso())).await;
    let vouched = Vouched::new(identity).unwrap();
    let Requirement::Token { providers, .. } = &world.requirement else { panic!() };
    let full = limits::MAX_TOKEN_BYTES;
    let one = VerifiedTokens::cost(&sized(0, full));
    for (room, kept) in [(3 * one, 3), (3 * one - 1, 2), (one, 1), (one - 1, 0)] {
        let clock = Arc::clone(&world.clock) as _;
        let verified = VerifiedTokens::within(clock, 1000, room);
        for n in 0..9 {
            verified.remember(&sized(n, full), &providers[1], 0, &vouched);
            let last = verified.find(&sized(n, full).digest(), providers);
            assert_eq!(last.is_some(), kept > 0, "{n}");
        }
        verified.remember(&sized(8, full), &providers[1], 0, &vouched);
        assert_eq!((verified.len(), verified.bytes()), (kept, kept * one));
    }
}

#[tokio::test]
async fn what_has_expired_makes_room_in_small_steps() {
    let world = World::new();
    let identity = world.accepted(&world.ed.token(Algorithm::EdDsa, &sso())).await;
    let Requirement::Token { providers, .. } = &world.requirement else { panic!() };
    let expired = Arc::new(Identity { expires_at: UnixTime(NOW + 1), ..(*identity).clone() });
    let (expired, vouched) = (Vouched::new(expired).unwrap(), Vouched::new(identity).unwrap());
    let verified = VerifiedTokens::new(Arc::clone(&world.clock) as _, 1000);
    let dead = limits::MAX_EXPIRED_SWEPT + 1;
    for n in 0..dead {
        verified.remember(&sized(n, 8), &providers[1], 0, &expired);
    }
    assert_eq!(verified.len(), dead);
    world.clock.0.store(NOW + 1, Ordering::SeqCst);
    verified.remember(&sized(1000, 8), &providers[1], 0, &vouched);
    assert_eq!(verified.len(), 2, "long before the cache is full, and no more at once");
    verified.remember(&sized(1001, 8), &providers[1], 0, &vouched);
    assert_eq!(verified.len(), 2);
    verified.remember(&sized(1002, 8), &providers[1], 0, &expired);
    assert_eq!(verified.len(), 2, "what has expired is not remembered");
}

#[tokio::test]
async fn an_open_route_reads_no_token_and_still_takes_only_one_header() {
    for values in [&[][..], &["Bearer ,,,"], &["DPoP a"], &["Bearer ,,,", "Basic x"]] {
        let request = Request::get("/x").header("host", "gateway");
        let request = values.iter().fold(request, |it, value| it.header("authorization", *value));
        let request = request.body(()).unwrap();
        let judged = presenting(&Requirement::Open, &request, &CLEAR, None).await;
        match judged {
            Ok(nobody) => assert!(nobody.into_caller().is_none() && values.len() < 2),
            Err(rejection) => {
                assert_eq!((rejection.code(), values.len()), (Code::BadRequest, 2));
            }
        }
    }
}

#[test]
fn authentication_can_be_awaited_on_any_thread() {
    fn assert_send<T: Send>(_: &T) {}
    let request = Request::get("/x").header("host", "gateway").body(()).unwrap();
    assert_send(&presenting(&Requirement::Open, &request, &CLEAR, None));
}
