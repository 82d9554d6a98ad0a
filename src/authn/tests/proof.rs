//! Tokens that are bound to their caller, and what that one shows: each row changes one thing of
//! an honest proof.

use super::*;
use crate::peer::CertificateDigest;

const URL: &str = "https://api.example.com/orders/1";

/// An honest caller with a key, and its token.
struct Bound {
    world: World,
    key: Signer,
    token: String,
}

/// What a token's `jkt` holds, spelled out as RFC 7638 has it, apart from the product's own code.
fn jkt(key: &Signer) -> String {
    let jwk = key.jwk();
    let members: std::collections::BTreeMap<&str, &str> = ["crv", "e", "kty", "n", "x", "y"]
        .into_iter()
        .filter_map(|name| Some((name, jwk.get(name)?.as_str()?)))
        .collect();
    let text = serde_json::to_string(&members).unwrap();
    encoded(crate::secret::TokenDigest::of(text.as_bytes()).as_bytes())
}

fn ath(token: &str) -> String {
    encoded(crate::secret::TokenDigest::of(token.as_bytes()).as_bytes())
}

/// The public half, and no more.
fn public(key: &Signer) -> Value {
    with(&key.jwk(), json!({"kid": null}))
}

impl Bound {
    fn new() -> Self {
        let (world, key) = (World::new(), Signer::p256("caller"));
        let token =
            world.ed.token(Algorithm::EdDsa, &with(&sso(), json!({"cnf": {"jkt": jkt(&key)}})));
        Self { world, key, token }
    }

    fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": public(&self.key)})
    }

    fn claims(&self) -> Value {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let jti = format!("proof-{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        json!({"jti": jti, "htm": "POST", "htu": URL, "iat": NOW, "ath": ath(&self.token)})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.key.compact(Algorithm::Es256, &header.to_string(), &claims.to_string())
    }

    fn proof(&self) -> String {
        self.sign(&self.header(), &self.claims())
    }

    /// Presents the token as `DPoP` with these proofs: POST to [`URL`].
    async fn present(&self, proofs: &[&str]) -> Result<Arc<Identity>, Rejection> {
        let request = Request::post("/orders/1?page=2").header("host", "api.example.com");
        let request = request.header("authorization", format!("DPoP {}", self.token));
        let request = proofs.iter().fold(request, |request, proof| request.header("dpop", *proof));
        let peer = Peer { tls: true, ..CLEAR };
        let request = request.body(()).unwrap();
        let judged = presenting(&self.world.requirement, &request, &peer, None).await?;
        Ok(Arc::clone(judged.identity().unwrap()))
    }

    /// Presents the token with a proof for `htu`: POST to `/orders/1` at `host`.
    async fn present_at(
        &self,
        host: &str,
        tls: bool,
        public_url: Option<&str>,
        htu: &str,
    ) -> Result<Authenticated, Rejection> {
        let proof = self.sign(&self.header(), &with(&self.claims(), json!({"htu": htu})));
        let request = Request::post("/orders/1").header("host", host);
        let request = request.header("authorization", format!("DPoP {}", self.token));
        // What a request says of itself counts for nothing.
        let request = request.header("x-forwarded-host", "api.example.com");
        let request = request.header("x-forwarded-proto", "https").header("dpop", proof);
        let (request, peer) = (request.body(()).unwrap(), Peer { tls, ..CLEAR });
        presenting(&self.world.requirement, &request, &peer, public_url).await
    }

    async fn refused(&self, what: &str, proofs: &[&str]) -> String {
        let Err(rejection) = self.present(proofs).await else { panic!("accepted: {what}") };
        assert_eq!(rejection.code(), Code::TokenInvalid, "{what}: {}", rejection.reason());
        assert_eq!(rejection.extra(), &Extra::Dpop("invalid_dpop_proof"), "{what}");
        let reason = rejection.reason();
        assert!(reason.starts_with("DPoP proof refused: "), "{what}: {reason}");
        assert!(!reason.contains("hunter2"), "{what}: {reason}");
        assert!(reason.len() < 600 && !reason.contains('\n'), "{what}: {reason}");
        for proof in proofs.iter().filter(|proof| proof.len() > 20) {
            assert!(!reason.contains(proof), "{what}: {reason}");
        }
        reason
    }
}

#[tokio::test]
async fn an_honest_proof_is_good_once() {
    let bound = Bound::new();
    let proof = bound.proof();
    assert_eq!(bound.present(&[&proof]).await.unwrap().user.as_deref(), Some("u2"));
    assert!(bound.refused("again", &[&proof]).await.contains("used before"));
    assert!(bound.present(&[&bound.proof()]).await.is_ok(), "a new one");
    assert_eq!(bound.world.verified.len(), 1, "the token is remembered, its proof is not");
    assert!(bound.refused("none", &[]).await.contains("no `DPoP` header"));
    let (one, two) = (bound.proof(), bound.proof());
    assert!(bound.refused("two", &[&one, &two]).await.contains("several `DPoP` headers"));
    assert!(bound.refused("two in one", &[&format!("{one}, {two}")]).await.contains("3 parts"));
    assert!(bound.present(&[&one]).await.is_ok(), "what was refused is not used up");
}

#[tokio::test]
async fn every_algorithm_and_no_other() {
    for algorithm in Algorithm::ALL {
        let key = match algorithm {
            Algorithm::Es256 => Signer::p256("k"),
            Algorithm::Es384 => Signer::p384("k"),
            Algorithm::EdDsa => Signer::ed25519("k"),
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => Signer::rsa("k"),
        };
        let bound = Bound { key, ..Bound::new() };
        let claims = with(&sso(), json!({"cnf": {"jkt": jkt(&bound.key)}}));
        let token = bound.world.ed.token(Algorithm::EdDsa, &claims);
        let bound = Bound { token, ..bound };
        let sign = |name: &str| {
            let header = with(&bound.header(), json!({"alg": name}));
            bound.key.compact(algorithm, &header.to_string(), &bound.claims().to_string())
        };
        let proof = sign(algorithm.name());
        bound.present(&[&proof]).await.unwrap_or_else(|no| panic!("{algorithm}: {}", no.reason()));
        for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
            bound.refused(other.name(), &[&sign(other.name())]).await;
        }
        for name in ["none", "None", "HS256", "HS512", "ES256K", ""] {
            assert!(bound.refused(name, &[&sign(name)]).await.contains("`alg`"), "{name}");
        }
    }
}

#[tokio::test]
async fn headers_of_proofs() {
    let bound = Bound::new();
    let jwk = |changes: Value| json!({"jwk": with(&public(&bound.key), changes)});
    let octets = json!({"jwk": {"kty": "oct", "k": "aGVsbG8"}});
    for (changes, why) in [
        (json!({"typ": null}), "no `typ`"),
        (json!({"typ": "JWT"}), "`typ` is `JWT`"),
        (json!({"typ": "at+jwt"}), "`typ` is `at+jwt`"),
        (json!({"typ": "DPoP+JWT"}), "`typ` is"),
        (json!({"typ": "pop"}), "`typ` is `pop`"),
        (json!({"typ": 1}), "`typ` is not a string"),
        (json!({"alg": null}), "no `alg`"),
        (json!({"alg": ["ES256"]}), "`alg` is not a string"),
        (json!({"crit": ["exp"]}), "`crit`"),
        (json!({"crit": []}), "`crit`"),
        (json!({"b64": false}), "`b64`"),
        (json!({"jku": "https://evil.example"}), "`jku`"),
        (json!({"x5u": "https://evil.example"}), "`x5u`"),
        (json!({"jwk": null}), "no `jwk`"),
        (json!({"jwk": "x"}), "no `jwk`"),
        (json!({"jwk": []}), "no `jwk`"),
        (json!({"jwk": {}}), "malformed"),
        (octets, "private key"),
        (json!({"jwk": {"kty": "oct"}}), "`kty`"),
        (jwk(json!({"d": "AAAA"})), "private key"),
        (jwk(json!({"d": {"$": null}})), "private key"),
        (jwk(json!({"k": "AAAA"})), "private key"),
        (jwk(json!({"use": "enc"})), "`use`"),
        (jwk(json!({"key_ops": ["sign"]})), "`key_ops`"),
        (jwk(json!({"alg": "ES384"})), "not for its `alg`"),
        (jwk(json!({"crv": "P-521"})), "`crv`"),
        (jwk(json!({"crv": "secp256k1"})), "`crv`"),
        (jwk(json!({"x": "AAAA"})), "not a public key"),
        (jwk(json!({"y": null})), "malformed"),
        (jwk(json!({"x": jwk(json!({}))["jwk"]["y"]})), "and the token is bound to"),
        (json!({"jwk": public(&Signer::p256("other"))}), "and the token is bound to"),
        (json!({"jwk": public(&bound.world.ed), "alg": "EdDSA"}), "and the token is bound to"),
    ] {
        let proof = bound.sign(&with(&bound.header(), changes.clone()), &bound.claims());
        let reason = bound.refused(&changes.to_string(), &[&proof]).await;
        assert!(reason.contains(why), "{changes}: {reason}");
    }
    for changes in [
        json!({"kid": "x"}),
        json!({"x5c": ["AAAA"]}),
        jwk(json!({"kid": "x", "use": "sig", "alg": "ES256", "key_ops": ["verify"]})),
    ] {
        let proof = bound.sign(&with(&bound.header(), changes.clone()), &bound.claims());
        bound.present(&[&proof]).await.unwrap_or_else(|no| panic!("{changes}: {}", no.reason()));
    }
}

#[tokio::test]
async fn claims_of_proofs() {
    let bound = Bound::new();
    let other_token = ath("other");
    let padded = format!("{}=", ath(&bound.token));
    for (changes, why) in [
        (json!({"jti": null}), "no `jti`"),
        (json!({"jti": ""}), "`jti` has 0 bytes"),
        (json!({"jti": "x".repeat(257)}), "`jti` has 257 bytes"),
        (json!({"jti": 7}), "`jti` is not a string"),
        (json!({"htm": null}), "no `htm`"),
        (json!({"htm": "GET"}), "the method `GET`"),
        (json!({"htm": "post"}), "the method `post`"),
        (json!({"htm": ["POST"]}), "`htm` is not a string"),
        (json!({"htu": null}), "no `htu`"),
        (json!({"htu": [URL]}), "`htu` is not a string"),
        (json!({"htu": "/orders/1"}), "`htu`"),
        (json!({"htu": "http://api.example.com/orders/1"}), "`htu`"),
        (json!({"htu": "https://api.example.com/orders/2"}), "`htu`"),
        (json!({"htu": "https://api.example.com:444/orders/1"}), "`htu`"),
        (json!({"htu": "https://evil.example/orders/1"}), "`htu`"),
        (json!({"htu": "https://u:hunter2@api.example.com/orders/1"}), "no URL of a gateway"),
        (json!({"htu": "https://evil.example/orders/1?code=hunter2"}), "evil.example"),
        (json!({"iat": null}), "no `iat`"),
        (json!({"iat": NOW.to_string()}), "`iat` is not a time"),
        (json!({"iat": -1}), "`iat` is not a time"),
        (json!({"iat": 1e300}), "`iat` is not a time"),
        (json!({"iat": NOW - 61}), "compare the clocks"),
        (json!({"iat": NOW + 61}), "compare the clocks"),
        (json!({"ath": null}), "no `ath`"),
        (json!({"ath": other_token}), "another token"),
        (json!({"ath": padded}), "another token"),
        (json!({"ath": ""}), "another token"),
    ] {
        let proof = bound.sign(&bound.header(), &with(&bound.claims(), changes.clone()));
        let reason = bound.refused(&changes.to_string(), &[&proof]).await;
        assert!(reason.contains(why), "{changes}: {reason}");
    }
    for changes in [
        json!({"jti": "x"}),
        json!({"jti": "x".repeat(256)}),
        json!({"htu": "HTTPS://API.example.com:443/orders/./1?other=1#f"}),
        json!({"iat": NOW - 60}),
        json!({"iat": NOW + 60}),
        json!({"iat": NOW.to_string().parse::<f64>().unwrap() + 0.5}),
        json!({"nonce": "of another server", "more": {"a": 1}}),
    ] {
        let proof = bound.sign(&bound.header(), &with(&bound.claims(), changes.clone()));
        bound.present(&[&proof]).await.unwrap_or_else(|no| panic!("{changes}: {}", no.reason()));
    }
}

#[tokio::test]
async fn forms_of_proofs() {
    let bound = Bound::new();
    let proof = bound.proof();
    let parts: Vec<&str> = proof.split('.').collect();
    let (head, claims) = (bound.header().to_string(), bound.claims().to_string());
    let repeated = head.replacen('{', r#"{"alg":"ES256","#, 1);
    let twice = claims.replacen('{', r#"{"htm":"POST","#, 1);
    let compact = |head: &str, claims: &str| bound.key.compact(Algorithm::Es256, head, claims);
    let other = Signer::p256("other").compact(Algorithm::Es256, &head, &claims);
    let long = format!("{}.{}", "A".repeat(limits::MAX_PROOF_BYTES), parts[1..].join("."));
    for (what, proof) in [
        ("nothing", String::new()),
        ("text", "proof".to_owned()),
        ("two parts", parts[..2].join(".")),
        ("four parts", format!("{proof}.x")),
        ("five parts", format!("{proof}.x.y")),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("another payload", format!("{}.{}.{}", parts[0], encoded(&claims), parts[2])),
        ("another key's signature", other),
        ("padding", format!("{}=.{}.{}", parts[0], parts[1], parts[2])),
        ("a repeated member", compact(&repeated, &claims)),
        ("a repeated claim", compact(&head, &twice)),
        ("an array", compact(&head, "[]")),
        ("too long", long),
        ("the token itself", bound.token.clone()),
    ] {
        bound.refused(what, &[&proof]).await;
    }
    bound.present(&[&proof]).await.unwrap();
}

#[tokio::test]
async fn the_scheme_has_to_fit_the_token() {
    let bound = Bound::new();
    let reason = bound.world.refused("bound to a key, as Bearer", &bound.token).await;
    assert!(reason.contains("came as `Bearer`"), "{reason}");

    let world = &bound.world;
    for (claims, why) in [
        (sso(), "not bound to a key"),
        (with(&sso(), json!({"cnf": {"x5t#S256": ath("c")}})), "not bound to a key"),
        (with(&sso(), json!({"exp": NOW - 3600})), "expired"),
        (with(&sso(), json!({"aud": "x"})), "audience"),
    ] {
        let token = world.ed.token(Algorithm::EdDsa, &claims);
        let proof =
            bound.sign(&bound.header(), &with(&bound.claims(), json!({"ath": ath(&token)})));
        let request = Request::post("/orders/1").header("host", "api.example.com");
        let request = request.header("authorization", format!("DPoP {token}"));
        let request = request.header("dpop", proof).body(()).unwrap();
        let peer = Peer { tls: true, certificate: Some(CertificateDigest::of(b"c")), ..CLEAR };
        let judged = presenting(&world.requirement, &request, &peer, None).await;
        let rejection = judged.unwrap_err();
        assert_eq!(rejection.extra(), &Extra::Dpop("invalid_token"), "{}", rejection.reason());
        assert!(rejection.reason().contains(why), "{}", rejection.reason());
    }
}

#[tokio::test]
async fn the_url_is_the_public_one_where_there_is_one() {
    let bound = Bound::new();
    for (host, tls, public_url, htu, taken) in [
        ("inside:8080", false, None, "http://inside:8080/orders/1", true),
        ("inside:8080", true, None, "https://inside:8080/orders/1", true),
        ("inside:8080", false, None, "https://inside:8080/orders/1", false),
        ("inside:8080", false, Some("https://api.example.com"), URL, true),
        ("inside:8080", false, Some("https://api.example.com/"), URL, true),
        ("inside", false, Some("https://api.example.com"), "http://inside/orders/1", false),
        ("api", true, Some("https://x.example/gw"), "https://x.example/gw/orders/1", true),
        ("api", true, Some("https://x.example/gw"), "https://x.example/orders/1", false),
    ] {
        let judged = bound.present_at(host, tls, public_url, htu).await;
        assert_eq!(judged.is_ok(), taken, "{host} {tls} {public_url:?} {htu}: {judged:?}");
    }
}

#[tokio::test]
async fn at_a_host_that_the_public_url_is_not_of_the_url_is_that_hosts() {
    let mut bound = Bound::new();
    let Requirement::Token { called_at, .. } = &mut bound.world.requirement else { panic!() };
    *called_at = CalledAt::OwnHost;
    let (clear, secure) = (Some("http://api.example.com"), Some("https://api.example.com/gw"));
    for (host, tls, public_url, htu, taken) in [
        ("b.example.com", true, secure, "https://b.example.com/orders/1", true),
        ("b.example.com:8443", true, clear, "https://b.example.com:8443/orders/1", true),
        ("b.example.com", true, secure, "https://b.example.com/gw/orders/1", false),
        ("b.example.com", true, secure, "https://api.example.com/gw/orders/1", false),
        ("b.example.com", true, secure, "https://c.example.com/orders/1", false),
        ("b.example.com", true, secure, "http://b.example.com/orders/1", false),
        // TLS ends in front, as it does for the public URL.
        ("b.example.com", false, secure, "https://b.example.com/orders/1", true),
        ("b.example.com", false, secure, "http://b.example.com/orders/1", false),
        ("b.example.com", false, clear, "http://b.example.com/orders/1", true),
        ("b.example.com", false, clear, "https://b.example.com/orders/1", false),
        ("b.example.com", false, None, "http://b.example.com/orders/1", true),
    ] {
        let judged = bound.present_at(host, tls, public_url, htu).await;
        assert_eq!(judged.is_ok(), taken, "{host} {tls} {public_url:?} {htu}: {judged:?}");
    }
}

#[tokio::test]
async fn a_certificate_is_asked_of_every_request() {
    let world = World::new();
    let claims = with(&sso(), json!({"cnf": {"x5t#S256": ath("mine")}}));
    let token = world.ed.token(Algorithm::EdDsa, &claims);
    let (mine, other) = (CertificateDigest::of(b"mine"), CertificateDigest::of(b"other"));
    for (tls, certificate, why) in [
        (true, Some(mine), ""),
        (true, Some(other), "and this connection showed "),
        (true, None, "and this connection showed none"),
        (false, None, "no TLS"),
        (true, Some(mine), ""),
    ] {
        let request = Request::get("/x").header("host", "gateway");
        let request = request.header("authorization", format!("Bearer {token}"));
        let (request, peer) = (request.body(()).unwrap(), Peer { tls, certificate, ..CLEAR });
        match presenting(&world.requirement, &request, &peer, None).await {
            Ok(_) => assert!(why.is_empty(), "{certificate:?}"),
            Err(rejection) => {
                assert_eq!(rejection.code(), Code::TokenInvalid);
                assert_eq!(rejection.extra(), &Extra::None);
                let reason = rejection.reason();
                assert!(!why.is_empty() && reason.contains(why), "{reason}");
                assert!(!reason.contains(&ath("mine")), "no whole digest: {reason}");
            }
        }
        assert_eq!(world.verified.len(), 1);
    }
}

proptest::proptest! {
    /// Whatever stands in the header, nothing panics and nothing but a proof is taken.
    #[test]
    fn no_proof_panics(text in "[ -~]{0,80}", header in "[ -~]{0,60}", claims in "[ -~]{0,60}") {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bound = Bound::new();
        let signed = bound.key.compact(Algorithm::Es256, &header, &claims);
        let claimed = bound.key.compact(Algorithm::Es256, &bound.header().to_string(), &claims);
        runtime.block_on(async {
            for proof in [&text, &signed, &claimed] {
                assert!(bound.present(&[proof]).await.is_err());
            }
        });
    }
}
