//! Form, header and signature: what is refused before a claim is looked at.

use super::*;

#[tokio::test]
async fn headers() {
    let world = World::new();
    let claims = v2().to_string();
    let sign = |header: &str| world.rsa.compact(Algorithm::Rs256, header, &claims);
    let changed = |changes: Value| {
        let header = json!({"typ": "JWT", "alg": "RS256", "kid": "rsa"});
        with(&header, changes).to_string()
    };
    for header in [
        changed(json!({"typ": null})),
        changed(json!({"typ": "jwt"})),
        changed(json!({"typ": "at+jwt"})),
        changed(json!({"typ": "AT+JWT"})),
        changed(json!({"typ": "application/jwt"})),
        changed(json!({"typ": "Application/at+jwt"})),
        changed(json!({"x5t": "rsa", "x5c": ["AA"], "x5t#S256": "AA", "more": [1]})),
        changed(json!({"cty": "application/json"})),
    ] {
        world.accepted(&sign(&header)).await;
    }
    for (header, why) in [
        (changed(json!({"typ": "dpop+jwt"})), "`typ`"),
        (changed(json!({"typ": "logout+jwt"})), "`typ`"),
        (changed(json!({"typ": "secevent+jwt"})), "`typ`"),
        (changed(json!({"typ": "pop"})), "`typ`"),
        (changed(json!({"typ": "JOSE+JSON"})), "`typ`"),
        (changed(json!({"typ": ""})), "`typ`"),
        (changed(json!({"typ": "application/application/jwt"})), "`typ`"),
        (changed(json!({"typ": ["JWT"]})), "not a string"),
        (changed(json!({"typ": {"$": null}})), "not a string"),
        (changed(json!({"cty": "JWT"})), "`cty`"),
        (changed(json!({"crit": ["exp"]})), "`crit`"),
        (changed(json!({"crit": []})), "`crit`"),
        (changed(json!({"crit": {"$": null}})), "`crit`"),
        (changed(json!({"b64": false})), "`b64`"),
        (changed(json!({"b64": true})), "`b64`"),
        (changed(json!({"jku": "https://evil.example/keys"})), "`jku`"),
        (changed(json!({"x5u": "https://evil.example/cert"})), "`x5u`"),
        (changed(json!({"jwk": world.rsa.jwk()})), "`jwk`"),
        (changed(json!({"enc": "A128GCM"})), "`enc`"),
        (changed(json!({"zip": "DEF"})), "`zip`"),
        (changed(json!({"kid": null})), "no `kid`"),
        (changed(json!({"kid": ""})), "no `kid`"),
        (changed(json!({"kid": 1})), "not a string"),
        (changed(json!({"kid": ["rsa"]})), "not a string"),
        (changed(json!({"kid": "RSA"})), "does not publish (1 keys, from its `jwks_file`)"),
        (changed(json!({"kid": "../../dev/null"})), "does not publish"),
        (changed(json!({"kid": "x' OR '1'='1\n"})), "does not publish"),
        (changed(json!({"kid": "k".repeat(257)})), "257 bytes"),
        (changed(json!({"kid": null, "x5t": "rsa"})), "no `kid`"),
        (changed(json!({"alg": null})), "no `alg`"),
        (changed(json!({"alg": ""})), "never accepted"),
        (changed(json!({"alg": ["RS256"]})), "not a string"),
        (changed(json!({"alg": "none"})), "never accepted"),
        (changed(json!({"alg": "None"})), "never accepted"),
        (changed(json!({"alg": "NONE"})), "never accepted"),
        (changed(json!({"alg": "nOnE"})), "never accepted"),
        (changed(json!({"alg": "rs256"})), "never accepted"),
        (changed(json!({"alg": "HS256"})), "never accepted"),
        (changed(json!({"alg": "ES512"})), "never accepted"),
        (changed(json!({"alg": "RS384"})), "provider `entra` accepts `RS256`"),
        (r#"{"alg":"RS256","kid":"rsa","alg":"RS256"}"#.to_owned(), "repeated"),
        (r#"{"alg":"RS256","kid":"rsa","k\u0069d":"rsa"}"#.to_owned(), "repeated"),
        (r#"{"alg":"RS256","kid":"rsa","x":{"y":1,"y":1}}"#.to_owned(), "repeated"),
        (r#"["RS256"]"#.to_owned(), "not a JSON object"),
        (r#"{"alg":"RS256","kid":"rsa"} x"#.to_owned(), "not plain JSON"),
        (String::new(), "not plain JSON"),
    ] {
        let reason = world.refused(&header, &sign(&header)).await;
        assert!(reason.contains(why), "{header}: {reason}");
    }
}

#[tokio::test]
async fn forms_and_signatures() {
    let world = World::new();
    let good = world.rsa.token(Algorithm::Rs256, &v2());
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let none = encoded(r#"{"alg":"none","kid":"rsa"}"#);
    let hs256 = encoded(r#"{"alg":"HS256","kid":"rsa"}"#);
    let stranger = Signer::p256("p256");
    let mut flipped = good.clone().into_bytes();
    let last = flipped.len() - 10;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    // RS/HS confusion (CVE-2016-10555): HMAC under what everybody knows, the public key.
    let message = format!("{hs256}.{payload}");
    let public = world.rsa.jwk()["n"].as_str().unwrap().to_owned();
    let hmac_key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
    let hmac = encoded(aws_lc_rs::hmac::sign(&hmac_key, message.as_bytes()));
    let es256 = encoded(r#"{"alg":"ES256","kid":"p256"}"#);
    let sso_payload = encoded(sso().to_string());
    for (what, token) in [
        ("opaque", "opaque".to_owned()),
        ("one dot", format!("{header}.{payload}")),
        ("only dots", "..".to_owned()),
        ("three dots", format!("{good}.")),
        ("a JWE", format!("{header}.a.b.c.d")),
        ("a part too many", format!("{good}.x")),
        ("no header", format!(".{payload}.{signature}")),
        ("no payload", format!("{header}..{signature}")),
        ("no signature", format!("{header}.{payload}.")),
        ("none, no signature", format!("{none}.{payload}.")),
        ("none, the old signature", format!("{none}.{payload}.{signature}")),
        ("HS256 under the public key", format!("{message}.{hmac}")),
        ("a bit of the signature", String::from_utf8(flipped).unwrap()),
        (
            "half a signature",
            format!("{header}.{payload}.{}", signature.split_at(signature.len() / 2).0),
        ),
        ("a padded signature", format!("{good}=")),
        ("other base64", format!("{header}.{payload}.{}", signature.replace(['-', '_'], "+"))),
        ("another payload", format!("{header}.{}.{signature}", encoded(v1().to_string()))),
        ("another header", {
            let other = encoded(r#"{"alg":"RS256","kid":"rsa"}"#);
            format!("{other}.{payload}.{signature}")
        }),
        ("a stranger's key of the same kid", stranger.token(Algorithm::Es256, &sso())),
        ("r = s = 0 (CVE-2022-21449)", format!("{es256}.{sso_payload}.{}", encoded([0; 64]))),
        ("an empty ES256 signature", format!("{es256}.{sso_payload}.AA")),
        ("not JSON", world.rsa.compact(Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa"}"#, "x")),
        ("an array", world.rsa.compact(Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa"}"#, "[]")),
        ("a key of the other provider", world.p256.token(Algorithm::Es256, &v2())),
    ] {
        world.refused(what, &token).await;
    }
    for junk in [" x", "\tx", ",x", "=x", "=.x"] {
        let rejection = world.judge(&format!("{good}{junk}")).await.unwrap_err();
        assert_eq!(rejection.code(), Code::BadRequest, "{junk}");
    }
    world.accepted(&good).await;
}

#[tokio::test]
async fn stray_bits_do_not_make_a_second_spelling() {
    let world = World::new();
    // 64 bytes leave four bits unused in the last character.
    let good = world.p256.token(Algorithm::Es256, &sso());
    let (rest, last) = good.split_at(good.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let index = alphabet.find(last).unwrap();
    assert_eq!(index % 16, 0);
    let other = format!("{rest}{}", char::from(alphabet.as_bytes()[index + 1]));
    world.refused("stray bits", &other).await;
    world.accepted(&good).await;
}

#[tokio::test]
async fn every_algorithm_verifies_its_own_signature_and_no_other() {
    let world = World::new();
    let rsa = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
    ];
    let all = rsa.into_iter().map(|algorithm| (algorithm, &world.rsa)).chain([
        (Algorithm::Es256, &world.p256),
        (Algorithm::Es384, &world.p384),
        (Algorithm::EdDsa, &world.ed),
    ]);
    for (algorithm, signer) in all {
        world.accepted(&signer.token(algorithm, &sso())).await;
        for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
            let header = json!({"alg": other.name(), "kid": signer.kid}).to_string();
            let token = signer.compact(algorithm, &header, &sso().to_string());
            world.refused(&format!("{algorithm} that says {other}"), &token).await;
        }
    }
}
