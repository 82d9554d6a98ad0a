//! Tokens that are bound to a key: the DPoP proof of each request (RFC 9449).

use http::Request;
use obo_gateway::clock::UnixTime;
use serde_json::json;

use super::{CLEAR, NOT_ASKED, Scene, challenge, invalid, refused, routes_file, with_proofs};
use crate::support::callers::{Proof, jkt};
use crate::support::client::Client;
use crate::support::clock::START;
use crate::support::keys::{self, Key};
use crate::support::token::{Token, bearer};

#[tokio::test]
async fn a_token_that_is_bound_to_a_key_is_worth_nothing_without_it() {
    let scene = Scene::start().await;
    let key = keys::p256();
    let token = scene.token(json!({"jkt": jkt(&key)}));
    let url = scene.url("/swap/x");
    let proof = |key: &Key| Proof::of(key, &token, "GET", &url);
    let address = scene.gateway.addresses()[CLEAR];
    for (mut owner, served) in
        [(Client::http1(address).await, 1), (Client::http2(address).await, 2)]
    {
        let reply = with_proofs(&mut owner, "/swap/x?a=1", &token, &[&proof(&key).build()]).await;
        assert_eq!(reply.status, 200);
        assert_eq!(scene.reached(), (served, 1), "exchanged once");
        let seen = scene.upstream.last();
        assert_eq!(seen.value("dpop"), None, "the proof is the gateway's");
        assert_eq!(scene.provider.issued(&seen.bearer().unwrap()).unwrap().assertion, token);
    }

    let used = proof(&key).build();
    let mut owner = Client::http1(address).await;
    assert_eq!(with_proofs(&mut owner, "/swap/x", &token, &[&used]).await.status, 200);
    let before = scene.reached();
    for mut thief in [Client::http1(address).await, Client::http2(address).await] {
        let other = keys::ed25519();
        let elsewhere = format!("http://{address}/swap/y");
        for (what, proofs) in [
            ("a proof that was used", vec![used.clone()]),
            ("another key", vec![proof(&other).build()]),
            ("no proof", vec![]),
            ("two proofs", vec![proof(&key).build(), proof(&key).build()]),
            ("another path", vec![Proof::of(&key, &token, "GET", &elsewhere).build()]),
            ("another method", vec![Proof::of(&key, &token, "POST", &url).build()]),
            ("another token", vec![Proof::of(&key, "another", "GET", &url).build()]),
            ("an old proof", vec![proof(&key).claim("iat", START.0 - 61).build()]),
            ("a proof of tomorrow", vec![proof(&key).claim("iat", START.0 + 86_400).build()]),
            ("no proof but text", vec!["x".to_owned()]),
        ] {
            let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
            let reply = with_proofs(&mut thief, "/swap/x", &token, &proofs).await;
            assert_eq!(reply.outcome(), invalid(), "{what}");
            let said = challenge(&reply);
            assert!(
                said.starts_with("DPoP realm=\"obo-gateway\", error=\"invalid_dpop_proof\", ")
                    && said.contains(", algs=\"RS256 ")
                    && said.contains(" ES256 "),
                "{what}: {said}"
            );
        }
        let request = Request::get("/swap/x").header("authorization", bearer(&token));
        let reply = thief.send(request.header("dpop", proof(&key).build()), "").await;
        assert_eq!(reply.outcome(), invalid(), "as Bearer, a good proof or not");
        assert!(challenge(&reply).starts_with("Bearer "));
    }
    assert_eq!(scene.reached(), before, "neither the upstream nor the provider heard of it");
    assert_eq!(
        with_proofs(&mut owner, "/swap/x", &token, &[&proof(&key).build()]).await.status,
        200
    );
    assert_eq!(scene.reached(), (before.0 + 1, before.1), "the owner's is still cached");
}

#[tokio::test]
async fn an_unbound_token_is_no_dpop_token_and_a_missing_one_is_asked_for_as_before() {
    let scene = Scene::start().await;
    let token = Token::entra_v2(&scene.provider.entra_issuer()).build();
    let proof = Proof::of(&keys::p256(), &token, "GET", &scene.url("/here")).build();
    let mut client = Client::http1(scene.gateway.addresses()[CLEAR]).await;
    let reply = with_proofs(&mut client, "/here", &token, &[&proof]).await;
    assert_eq!(reply.outcome(), invalid());
    assert!(challenge(&reply).starts_with("DPoP realm=\"obo-gateway\", error=\"invalid_token\""));
    let expired = Token::entra_v2(&scene.provider.entra_issuer()).expires_in(-3600).build();
    let reply = with_proofs(&mut client, "/here", &expired, &[&proof]).await;
    assert_eq!(reply.outcome(), refused(401, "token_expired"));
    assert!(challenge(&reply).starts_with("DPoP realm=\"obo-gateway\", error=\"invalid_token\""));
    let reply = client.get("/here").await;
    assert_eq!(challenge(&reply), "Bearer realm=\"obo-gateway\"");
    // A proof beside a token that needs none is looked at by nobody.
    let request = Request::get("/swap/x").header("authorization", bearer(&token));
    assert_eq!(client.send(request.header("dpop", &proof), "").await.status, 200);
    assert_eq!(scene.upstream.last().value("dpop"), None);
}

#[tokio::test]
async fn proofs_are_remembered_over_a_reload_and_as_long_as_they_would_be_taken() {
    let scene = Scene::start().await;
    let key = keys::p256();
    let token = scene.token(json!({"jkt": jkt(&key)}));
    let proof = Proof::of(&key, &token, "GET", &scene.url("/here"));
    let (first, ahead) =
        (proof.build(), proof.claim("jti", "ahead").claim("iat", START.0 + 60).build());
    let mut client = Client::http1(scene.gateway.addresses()[CLEAR]).await;
    assert_eq!(with_proofs(&mut client, "/here", &token, &[&first]).await.status, 204);
    assert_eq!(with_proofs(&mut client, "/here", &token, &[&ahead]).await.status, 204);
    scene.gateway.reload();
    for seconds in [0, 60, 61, 119, 120, 121, 200] {
        scene.gateway.clock().set(UnixTime(START.0 + seconds));
        for again in [&first, &ahead] {
            let reply = with_proofs(&mut client, "/here", &token, &[again]).await;
            assert_eq!(reply.outcome(), invalid(), "after {seconds} s");
        }
    }
}

#[tokio::test]
async fn what_a_request_says_of_its_host_and_scheme_in_passing_does_not_count() {
    let scene = Scene::start().await;
    let key = keys::p256();
    let token = scene.token(json!({"jkt": jkt(&key)}));
    // From a proxy that is trusted, too.
    let (provider, upstream) = (&scene.provider, &scene.upstream);
    let trusted = "trusted_proxies: [127.0.0.0/8]";
    scene.gateway.write_file(&routes_file(provider, upstream, &scene.files, trusted));
    scene.gateway.reload();
    let mut client = Client::http1(scene.gateway.addresses()[CLEAR]).await;
    for (url, status) in [
        ("https://api.example.com/here".to_owned(), 401),
        (scene.url("/here").replace("http:", "https:"), 401),
        (scene.url("/here"), 204),
    ] {
        let request = Request::get("/here").header("authorization", format!("DPoP {token}"));
        let request = request.header("dpop", Proof::of(&key, &token, "GET", &url).build());
        let request = request.header("x-forwarded-host", "api.example.com");
        let request = request.header("x-forwarded-proto", "https");
        let request = request.header("forwarded", "host=api.example.com;proto=https");
        assert_eq!(client.send(request, "").await.status, status, "{url}");
    }
}

#[tokio::test]
async fn with_a_public_url_a_proof_is_for_that_and_no_host_of_a_request_counts() {
    let scene = Scene::start().await;
    let key = keys::p256();
    let token = scene.token(json!({"jkt": jkt(&key)}));
    let (provider, upstream) = (&scene.provider, &scene.upstream);
    let server = "public_url: \"https://api.example.com/gw\"";
    scene.gateway.write_file(&routes_file(provider, upstream, &scene.files, server));
    scene.gateway.reload();
    let mut client = Client::http1(scene.gateway.addresses()[CLEAR]).await;
    for (url, status) in [
        (scene.url("/here"), 401),
        ("https://api.example.com/here".to_owned(), 401),
        ("https://other.example/gw/here".to_owned(), 401),
        ("https://api.example.com/gw/here".to_owned(), 204),
    ] {
        let proof = Proof::of(&key, &token, "GET", &url).build();
        let request = Request::get("/here").header("authorization", format!("DPoP {token}"));
        let request = request.header("host", "other.example").header("dpop", proof);
        assert_eq!(client.send(request, "").await.status, status, "{url}");
    }
}

#[tokio::test]
async fn a_route_of_a_host_that_is_not_the_public_one_takes_proofs_for_its_own() {
    let scene = Scene::start().await;
    let key = keys::p256();
    let token = scene.token(json!({"jkt": jkt(&key)}));
    let (provider, upstream) = (&scene.provider, &scene.upstream);
    let server = "public_url: \"https://api.example.com\"";
    let file = routes_file(provider, upstream, &scene.files, server);
    let route = |path: &str, hosts: &str| {
        format!(
            "  - {{ match: {{ path: {path}, hosts: [{hosts}] }}, auth: any, respond: {{ status: 204 }} }}\n"
        )
    };
    let routes = [
        route("/other", "b.example.com"),
        route("/below", "\"*.other.example\""),
        route("/both", "b.example.com, \"*.example.com\""),
    ];
    scene.gateway.write_file(&format!("{}\n{}", file.trim_end(), routes.concat()));
    scene.gateway.reload();
    let mut clear = Client::http1(scene.gateway.addresses()[CLEAR]).await;
    let mut secure = scene.connect(NOT_ASKED, None, "http/1.1").await;
    for (host, path, url, status) in [
        ("b.example.com", "/other", "https://b.example.com/other", 204),
        ("b.example.com", "/other", "https://api.example.com/other", 401),
        ("b.example.com", "/other", "https://a.other.example/other", 401),
        // A proof that was made for another host is of no use there, and none can be named.
        ("c.example.com", "/other", "https://c.example.com/other", 404),
        ("a.other.example", "/below", "https://a.other.example/below", 204),
        ("a.other.example", "/below", "https://b.other.example/below", 401),
        // The route takes the public host: whatever else a request names counts for nothing.
        ("b.example.com", "/both", "https://b.example.com/both", 401),
        ("b.example.com", "/both", "https://api.example.com/both", 204),
        ("api.example.com", "/both", "https://api.example.com/both", 204),
        ("b.example.com", "/here", "https://b.example.com/here", 401),
        ("b.example.com", "/here", "https://api.example.com/here", 204),
    ] {
        for client in [&mut clear, &mut secure] {
            let proof = Proof::of(&key, &token, "GET", url).build();
            let request = Request::get(path).header("authorization", format!("DPoP {token}"));
            let request = request.header("host", host).header("dpop", proof);
            assert_eq!(client.send(request, "").await.status, status, "{host}{path} for {url}");
        }
    }
}
