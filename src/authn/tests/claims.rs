//! Tables of claims: just accepted, just refused.

use super::*;

#[tokio::test]
async fn honest_tokens_of_both_kinds_are_accepted() {
    let world = World::new();
    for claims in [v2(), v1()] {
        let identity = world.accepted(&world.rsa.token(Algorithm::Rs256, &claims)).await;
        assert_eq!(&*identity.provider, "entra");
        assert_eq!(identity.tenant.as_deref(), Some(TENANT));
        assert_eq!(identity.user.as_deref(), Some("u1"));
        assert_eq!(identity.client_id.as_deref(), Some("client"));
        assert_eq!(identity.kind, CallerKind::User);
        assert_eq!(identity.scopes, ["access_as_user", "read"]);
        assert_eq!(identity.roles, ["Admin"]);
        assert_eq!(identity.expires_at, UnixTime(NOW + 3600));
        assert_eq!(*identity.issuer, *claims["iss"].as_str().unwrap());
    }
    let identity = world.accepted(&world.ed.token(Algorithm::EdDsa, &sso())).await;
    assert_eq!((&*identity.provider, identity.tenant.as_deref()), ("sso", None));
    assert_eq!(identity.user.as_deref(), Some("u2"));
    assert_eq!(identity.scopes, ["openid", "orders.read"]);
    assert_eq!(identity.roles, ["clerk"]);
}

#[tokio::test]
async fn claims_of_every_provider() {
    let world = World::new();
    let judge = |claims: Value| world.ed.token(Algorithm::EdDsa, &claims);
    for changes in [
        json!({"nbf": NOW + 60}),
        json!({"iat": NOW + 60}),
        json!({"nbf": NOW, "exp": NOW}),
        json!({"exp": NOW - 59}),
        json!({"exp": f64::from(1_767_225_912_u32) + 0.9}),
        json!({"aud": "orders"}),
        json!({"aud": ["orders"]}),
        json!({"iat": null, "sub": null, "jti": null, "azp": null, "typ": null}),
        json!({"scope": ["a", "b"]}),
        json!({"realm_access": "odd"}),
    ] {
        world.accepted(&judge(with(&sso(), changes))).await;
    }
    for (changes, why) in [
        (json!({"iss": null}), "no `iss`"),
        (json!({"iss": [SSO]}), "`iss` is not a string"),
        (json!({"iss": format!("{SSO}/")}), "the providers of this route (`entra`, `sso`)"),
        (json!({"iss": "https://evil.example"}), "`iss` is `https://evil.example`"),
        (json!({"iss": ""}), "`iss` is ``"),
        (json!({"aud": null}), "no `aud`"),
        (json!({"aud": {"$": null}}), "`aud` is null"),
        (json!({"aud": "Orders"}), "audience `Orders`, and provider `sso` accepts `orders`"),
        (json!({"aud": "orders/"}), "audience"),
        (json!({"aud": ""}), "audience"),
        (json!({"aud": []}), "audience nothing"),
        (json!({"aud": ["account"]}), "audience"),
        (json!({"aud": ["orders", 1]}), "`aud` is an array with something"),
        (json!({"aud": {"orders": 1}}), "`aud` is an object"),
        (json!({"aud": 1}), "`aud` is a number"),
        (json!({"exp": null}), "no `exp`"),
        (json!({"exp": {"$": null}}), "`exp` is null"),
        (json!({"exp": (NOW + 3600).to_string()}), "`exp` is a string"),
        (json!({"exp": true}), "`exp` is a boolean"),
        (json!({"exp": -1}), "not a time"),
        (json!({"exp": 1e300}), "not a time"),
        (json!({"exp": (1_u64 << 53) + 1}), "not a time"),
        (json!({"exp": u64::MAX}), "not a time"),
        (json!({"nbf": NOW + 61}), "begins in 61 s"),
        (json!({"nbf": f64::from(1_767_225_912_u32) + 60.5}), "begins in 61 s"),
        (json!({"nbf": NOW.to_string()}), "`nbf` is a string"),
        (json!({"nbf": {"$": null}}), "`nbf` is null"),
        (json!({"nbf": NOW + 1, "exp": NOW}), "begins after its end"),
        (json!({"iat": NOW + 61}), "begins in 61 s (iat"),
        (json!({"iat": [NOW]}), "`iat` is an array"),
        (json!({"sub": 1}), "`sub` is a number"),
        (json!({"oid": ["u1"]}), "`oid` is an array"),
        (json!({"jti": 1}), "`jti` is a number"),
        (json!({"azp": {"$": null}}), "`azp` is null"),
        (json!({"client_id": 1, "azp": null}), "`client_id` is a number"),
        (json!({"scope": 1}), "`scope` is a number"),
        (json!({"scope": ["a", null]}), "`scope` is an array with something"),
        (json!({"scp": {"a": 1}}), "`scp` is an object"),
        (json!({"realm_access": {"roles": {"a": 1}}}), "`realm_access.roles` is an object"),
        (json!({"realm_access": {"roles": ["a", 1]}}), "`realm_access.roles` is an array with"),
        (json!({"idtyp": true}), "`idtyp` is a boolean"),
        (json!({"nonce": "n"}), "ID token (it has `nonce`)"),
        (json!({"nonce": {"$": null}}), "ID token"),
        (json!({"at_hash": "n"}), "ID token"),
        (json!({"c_hash": "n"}), "ID token"),
        (json!({"typ": "ID"}), "`typ` is `ID`"),
        (json!({"typ": "Refresh"}), "`typ` is `Refresh`"),
        (json!({"typ": 1}), "`typ` is a number"),
        (json!({"events": {}}), "logout"),
        (json!({"cnf": {"jkt": "x"}}), "`cnf.jkt`"),
        (json!({"cnf": {"x5t#S256": "x"}}), "`cnf.x5t#S256`"),
        (json!({"cnf": {"$": null}}), "`cnf`"),
    ] {
        let token = judge(with(&sso(), changes.clone()));
        let reason = world.refused(&changes.to_string(), &token).await;
        assert!(reason.contains(why), "{changes}: {reason}");
    }
}

#[tokio::test]
async fn repeated_and_nested_claims() {
    let world = World::new();
    let claims = sso().to_string();
    let header = r#"{"alg":"EdDSA","kid":"ed"}"#;
    let sign = |claims: &str| world.ed.compact(Algorithm::EdDsa, header, claims);
    let plus = |more: &str| format!("{{{more},{}", claims.trim_start_matches('{'));
    world.accepted(&sign(&plus(r#""x":{"aud":1},"y":[{"a":1},{"a":1}]"#))).await;
    for more in [
        r#""aud":"orders""#.to_owned(),
        r#""iss":"https://evil.example""#.to_owned(),
        r#""\u0065xp":9999999999"#.to_owned(),
        r#""x":{"a":1,"a":1}"#.to_owned(),
        r#""x":[[{"a":1,"b":1,"a":2}]]"#.to_owned(),
        format!(r#""x":{}{}"#, "[".repeat(40), "]".repeat(40)),
        format!(r#""x":{}{}"#, "[".repeat(4000), "]".repeat(4000)),
    ] {
        world.refused(&more, &sign(&plus(&more))).await;
    }
}

#[tokio::test]
async fn claims_of_entra() {
    let world = World::new();
    let judge = |claims: Value| world.rsa.token(Algorithm::Rs256, &claims);
    let other = "99999999-2222-3333-4444-55555555aaaa";
    for claims in [
        with(&v2(), json!({"ver": null})),
        with(&v2(), json!({"idtyp": "user"})),
        with(&v2(), json!({"idtyp": "app", "scp": null})),
        with(&v2(), json!({"azp": null, "appid": "client"})),
        with(&v1(), json!({"aud": "gateway-id"})),
    ] {
        world.accepted(&judge(claims)).await;
    }
    for (claims, why) in [
        (with(&v2(), json!({"tid": null})), "no `tid`"),
        (with(&v2(), json!({"tid": other})), "`tid` is"),
        (with(&v2(), json!({"tid": "{tenantid}"})), "`tid` is"),
        (with(&v2(), json!({"tid": ""})), "`tid` is"),
        (with(&v2(), json!({"tid": [TENANT]})), "`tid` is an array"),
        (with(&v2(), json!({"tid": TENANT.replace('-', "")})), "`tid` is"),
        (with(&v2(), json!({"iss": V2.replace(TENANT, other), "tid": other})), "`iss` is"),
        (with(&v2(), json!({"iss": V2.replace(TENANT, "{tenantid}")})), "`iss` is"),
        (with(&v2(), json!({"iss": V2.replace(".com", ".us")})), "`iss` is"),
        (with(&v2(), json!({"iss": V2.trim_end_matches(".0")})), "`iss` is"),
        (with(&v1(), json!({"iss": V1.trim_end_matches('/')})), "`iss` is"),
        (with(&v2(), json!({"iss": V2.replace("https", "http")})), "`iss` is"),
        (with(&v2(), json!({"ver": "1.0"})), "`ver` is `1.0`"),
        (with(&v1(), json!({"ver": "2.0"})), "`ver` is `2.0`"),
        (with(&v2(), json!({"ver": 2})), "`ver` is a number"),
        (with(&v2(), json!({"azp": null})), "ID token (it has neither"),
        (with(&v2(), json!({"appid": 7})), "`appid` is a number"),
        (with(&v2(), json!({"azp": 7})), "`azp` is a number"),
        (with(&v2(), json!({"idtyp": "device"})), "`idtyp` is `device`"),
        (with(&v2(), json!({"idtyp": "App"})), "`idtyp` is `App`"),
        (with(&v2(), json!({"nonce": "x"})), "ID token"),
        (with(&v2(), json!({"aud": "https://graph.microsoft.com"})), "audience"),
        (with(&v2(), json!({"roles": 7})), "`roles` is a number"),
    ] {
        let reason = world.refused(&claims.to_string(), &judge(claims.clone())).await;
        assert!(reason.contains(why), "{claims}: {reason}");
    }
}

#[tokio::test]
async fn users_and_apps_are_told_apart() {
    let world = World::new();
    for (changes, kind) in [
        (json!({}), CallerKind::User),
        (json!({"scp": null}), CallerKind::App),
        (json!({"scp": null, "idtyp": "user"}), CallerKind::User),
        (json!({"idtyp": "app"}), CallerKind::App),
        (json!({"scp": ""}), CallerKind::User),
        // `scope` is not a scope claim at Entra.
        (json!({"scp": null, "scope": "x"}), CallerKind::App),
    ] {
        let token = world.rsa.token(Algorithm::Rs256, &with(&v2(), changes.clone()));
        assert_eq!(world.accepted(&token).await.kind, kind, "{changes}");
    }
}

#[tokio::test]
async fn expiry_has_its_own_code_and_both_clocks_in_the_log() {
    let world = World::new();
    let exp = NOW - 312;
    let claims = with(&sso(), json!({"exp": exp, "iat": exp - 10}));
    let rejection = world.judge(&world.ed.token(Algorithm::EdDsa, &claims)).await.unwrap_err();
    assert_eq!(rejection.code(), Code::TokenExpired);
    assert_eq!(
        rejection.reason(),
        format!("token refused: expired 312 s ago (exp {exp}, now {NOW}, leeway 60 s)")
    );
    let just = with(&sso(), json!({"exp": NOW - 60, "iat": null}));
    let rejection = world.judge(&world.ed.token(Algorithm::EdDsa, &just)).await.unwrap_err();
    assert_eq!(rejection.code(), Code::TokenExpired);
    // A forged token is not told that it has expired.
    let forged = Signer::ed25519("ed").token(Algorithm::EdDsa, &just);
    world.refused("forged and expired", &forged).await;
}
