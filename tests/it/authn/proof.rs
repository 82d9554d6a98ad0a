//! Tokens that are bound to their caller (`cnf`), over real connections: a client certificate
//! (RFC 8705) or a DPoP proof (RFC 9449). Whoever steals such a token gets nothing with it, not
//! even what is cached for its owner.

use std::sync::Arc;

use http::Request;
use obo_gateway::clock::UnixTime;
use rustls::{ClientConfig, HandshakeKind};
use serde_json::json;

use crate::support::callers::{CallerCa, CallerCertificate, Proof, jkt, tls, tls_of};
use crate::support::client::{Client, Reply};
use crate::support::clock::START;
use crate::support::gateway::Gateway;
use crate::support::keys::{self, Key};
use crate::support::provider::{Endpoint, Provider};
use crate::support::token::{CLIENT_ID, TENANT, Token, bearer};
use crate::support::upstream::Upstream;

/// A gateway with a listener of each kind, a provider and an upstream.
struct Scene {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
    files: tempfile::TempDir,
    server: String,
    ca: CallerCa,
}

const OPTIONAL: usize = 0;
const REQUIRED: usize = 1;
const NOT_ASKED: usize = 2;
const CLEAR: usize = 3;

impl Scene {
    async fn start() -> Self {
        let (provider, upstream, ca) = (Provider::start(), Upstream::start(), CallerCa::new());
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let files = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(files.path().join(name), text).unwrap();
        write("tls.crt", &made.cert.pem());
        write("tls.key", &made.signing_key.serialize_pem());
        write("clients.pem", &ca.pem());
        let gateway = Gateway::start(&routes_file(&provider, &upstream, &files, ""));
        gateway.ready().await;
        Self { provider, upstream, gateway, files, server: made.cert.pem(), ca }
    }

    /// A connection to a listener, of somebody who shows `shown`.
    async fn connect(
        &self,
        listener: usize,
        shown: Option<&CallerCertificate>,
        alpn: &str,
    ) -> Client {
        let config = tls(&self.server, shown, alpn);
        let address = self.gateway.addresses()[listener];
        Client::tls_as(address, &config).await.expect("a connection").0
    }

    fn token(&self, cnf: serde_json::Value) -> String {
        Token::entra_v2(&self.provider.entra_issuer()).claim("cnf", cnf).build()
    }

    /// How often the upstream and the provider's token endpoint were reached.
    fn reached(&self) -> (usize, usize) {
        (self.upstream.count(), self.provider.count(Endpoint::Token))
    }

    /// `http://HOST:PORT/path` of the listener without TLS.
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway.addresses()[CLEAR])
    }
}

fn routes_file(
    provider: &Provider,
    upstream: &Upstream,
    files: &tempfile::TempDir,
    server: &str,
) -> String {
    let (authority, url, path) = (provider.base(), upstream.url(), files.path().display());
    let tls = format!("cert_file: \"{path}/tls.crt\", key_file: \"{path}/tls.key\"");
    let clients = format!("{tls}, client_ca_file: \"{path}/clients.pem\"");
    format!(
        r#"
listeners:
  - {{ address: "127.0.0.1:0", tls: {{ {clients} }} }}
  - {{ address: "127.0.0.1:0", tls: {{ {clients}, client_auth: required }} }}
  - {{ address: "127.0.0.1:0", tls: {{ {tls} }} }}
  - {{ address: "127.0.0.1:0" }}
admin: {{ address: "127.0.0.1:0" }}
server: {{ {server} }}
providers:
  entra:
    type: entra
    tenant: {TENANT}
    authority: {authority}
    client_id: {CLIENT_ID}
    credential: {{ client_secret: "${{CLIENT_SECRET}}" }}
upstreams:
  plain: {{ url: "{url}" }}
  swapped:
    url: "{url}"
    token: {{ on_behalf_of: {{ scopes: ["https://graph.microsoft.com/.default"] }} }}
  passed: {{ url: "{url}", token: {{ passthrough: true }} }}
routes:
  - {{ match: {{ path: "/open/{{*rest}}" }}, auth: none, upstream: plain }}
  - {{ match: {{ path: "/swap/{{*rest}}" }}, auth: any, upstream: swapped }}
  - {{ match: {{ path: "/pass/{{*rest}}" }}, auth: any, upstream: passed }}
  - {{ match: {{ path: /here }}, auth: any, respond: {{ status: 204 }} }}
"#
    )
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn invalid() -> (u16, String) {
    refused(401, "token_invalid")
}

/// GET with a token of the scheme `DPoP` and these proofs.
async fn with_proofs(client: &mut Client, target: &str, token: &str, proofs: &[&str]) -> Reply {
    let request = Request::get(target).header("authorization", format!("DPoP {token}"));
    let request = proofs.iter().fold(request, |request, proof| request.header("dpop", *proof));
    client.send(request, "").await
}

fn challenge(reply: &Reply) -> &str {
    reply.header("www-authenticate").expect("one challenge")
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_certificate_is_worth_nothing_without_it() {
    let scene = Scene::start().await;
    let (mine, other) = (scene.ca.certify("mine"), scene.ca.certify("other"));
    let token = scene.token(json!({"x5t#S256": mine.digest()}));
    for (alpn, served) in [("http/1.1", 1), ("h2", 2)] {
        let mut owner = scene.connect(OPTIONAL, Some(&mine), alpn).await;
        assert_eq!(owner.get_with("/swap/x", &token).await.status, 200, "{alpn}");
        assert_eq!(scene.reached(), (served, 1), "exchanged once, {alpn}");
        let outbound = scene.upstream.last().bearer().unwrap();
        assert_eq!(scene.provider.issued(&outbound).unwrap().assertion, token);
    }
    let before = scene.reached();
    for alpn in ["http/1.1", "h2"] {
        let mut thieves = [
            scene.connect(OPTIONAL, Some(&other), alpn).await,
            scene.connect(OPTIONAL, None, alpn).await,
            scene.connect(REQUIRED, Some(&other), alpn).await,
            scene.connect(NOT_ASKED, Some(&mine), alpn).await,
            Client::http1(scene.gateway.addresses()[CLEAR]).await,
        ];
        for (number, thief) in thieves.iter_mut().enumerate() {
            let reply = thief.get_with("/swap/x", &token).await;
            assert_eq!(reply.outcome(), invalid(), "{alpn} {number}");
            assert!(challenge(&reply).starts_with("Bearer realm="), "{alpn} {number}");
            // As `DPoP` it is no better.
            let reply = with_proofs(thief, "/swap/x", &token, &[]).await;
            assert_eq!(reply.outcome(), invalid(), "{alpn} {number}");
        }
    }
    assert_eq!(scene.reached(), before, "neither the upstream nor the provider heard of it");
    let mut owner = scene.connect(REQUIRED, Some(&mine), "h2").await;
    assert_eq!(owner.get_with("/swap/x", &token).await.status, 200);
    assert_eq!(scene.reached(), (before.0 + 1, before.1), "the owner's is still cached");
    let said = scene.gateway.log().text();
    assert!(said.contains("and this connection showed none"), "{said}");
    assert!(!said.contains(&mine.digest()), "a digest is cut short in the log");
}

#[tokio::test]
async fn unbound_tokens_and_open_routes_need_no_certificate_where_it_is_optional() {
    let scene = Scene::start().await;
    let token = Token::entra_v2(&scene.provider.entra_issuer()).build();
    let mine = scene.ca.certify("mine");
    for shown in [None, Some(&mine)] {
        let mut client = scene.connect(OPTIONAL, shown, "h2").await;
        assert_eq!(client.get("/open/x").await.status, 200);
        assert_eq!(client.get_with("/swap/x", &token).await.status, 200);
    }
}

/// Whether a request is answered at all.
async fn answers(scene: &Scene, listener: usize, config: &Arc<ClientConfig>) -> bool {
    // In TLS 1.3 the client's side of the handshake is over before the certificate is judged.
    let address = scene.gateway.addresses()[listener];
    let Some((mut client, _)) = Client::tls_as(address, config).await else { return false };
    client.try_send(Request::get("/open/x"), "").await.is_ok()
}

#[tokio::test]
async fn a_certificate_that_is_shown_must_be_good_and_a_required_one_must_be_shown() {
    let scene = Scene::start().await;
    let stranger = CallerCa::new().certify("mine");
    let mine = scene.ca.certify("mine");
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        for (listener, shown, answered) in [
            (OPTIONAL, None, true),
            (OPTIONAL, Some(&mine), true),
            (OPTIONAL, Some(&stranger), false),
            (REQUIRED, None, false),
            (REQUIRED, Some(&mine), true),
            (REQUIRED, Some(&stranger), false),
        ] {
            let config = tls_of(&scene.server, shown, "http/1.1", versions);
            let before = scene.upstream.count();
            assert_eq!(
                answers(&scene, listener, &config).await,
                answered,
                "{listener} {versions:?}"
            );
            assert_eq!(scene.upstream.count() - before, usize::from(answered));
        }
    }
}

#[tokio::test]
async fn a_resumed_session_still_carries_the_certificate() {
    let scene = Scene::start().await;
    let mine = scene.ca.certify("mine");
    let token = scene.token(json!({"x5t#S256": mine.digest()}));
    let address = scene.gateway.addresses()[OPTIONAL];
    for versions in [&[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let config = tls_of(&scene.server, Some(&mine), "http/1.1", versions);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let (mut client, shaken) = Client::tls_as(address, &config).await.unwrap();
            assert_eq!(shaken, kind, "{versions:?}");
            assert_eq!(client.get_with("/swap/x", &token).await.status, 200, "{versions:?}");
        }
    }
}

#[tokio::test]
async fn a_reload_that_changes_no_certificate_costs_nobody_a_whole_handshake() {
    let scene = Scene::start().await;
    let mine = scene.ca.certify("mine");
    let config = tls(&scene.server, Some(&mine), "http/1.1");
    let address = scene.gateway.addresses()[OPTIONAL];
    let changed = "public_url: \"https://api.example.com\"";
    for (file, kind) in [(None, HandshakeKind::Full), (Some(changed), HandshakeKind::Resumed)] {
        if let Some(server) = file {
            let file = routes_file(&scene.provider, &scene.upstream, &scene.files, server);
            scene.gateway.write_file(&file);
            scene.gateway.running().reload().unwrap();
        }
        let (mut client, shaken) = Client::tls_as(address, &config).await.unwrap();
        assert_eq!(shaken, kind);
        assert_eq!(client.get("/open/x").await.status, 200);
    }
}

#[tokio::test]
async fn a_reload_takes_the_callers_cas_as_they_are_then_for_resumed_sessions_too() {
    let scene = Scene::start().await;
    let address = scene.gateway.addresses()[REQUIRED];
    let old = tls(&scene.server, Some(&scene.ca.certify("old")), "http/1.1");
    let new_ca = CallerCa::new();
    let new = tls(&scene.server, Some(&new_ca.certify("new")), "http/1.1");
    assert!(answers(&scene, REQUIRED, &old).await);
    assert!(answers(&scene, REQUIRED, &old).await);
    assert!(!answers(&scene, REQUIRED, &new).await);

    std::fs::write(scene.files.path().join("clients.pem"), new_ca.pem()).unwrap();
    scene.gateway.running().reload().unwrap();
    assert!(answers(&scene, REQUIRED, &new).await);
    let resumed =
        Client::tls_as(address, &old).await.is_some_and(|(_, kind)| kind == HandshakeKind::Resumed);
    assert!(!resumed, "no session outlives the CA that it was begun under");
    assert!(!answers(&scene, REQUIRED, &old).await);

    std::fs::write(scene.files.path().join("clients.pem"), "").unwrap();
    let problems = scene.gateway.running().reload().unwrap_err().to_string();
    assert!(problems.contains("holds no certificate"), "{problems}");
    assert!(answers(&scene, REQUIRED, &new).await, "what was in force stays");
}

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
    scene.gateway.running().reload().unwrap();
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
    scene.gateway.running().reload().unwrap();
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
    scene.gateway.running().reload().unwrap();
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
    scene.gateway.running().reload().unwrap();
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

#[tokio::test]
async fn passthrough_takes_a_bound_token_on_as_it_came_and_an_open_route_takes_nothing_on() {
    let scene = Scene::start().await;
    scene.upstream.allow_passthrough();
    let key = keys::p256();
    let token = scene.token(json!({"jkt": jkt(&key)}));
    let mut client = Client::http1(scene.gateway.addresses()[CLEAR]).await;
    let proof = Proof::of(&key, &token, "GET", &scene.url("/pass/x")).build();
    assert_eq!(with_proofs(&mut client, "/pass/x", &token, &[&proof]).await.status, 200);
    let seen = scene.upstream.last();
    assert_eq!(seen.value("authorization"), Some(format!("DPoP {token}")));
    assert_eq!(seen.value("dpop"), None);
    assert_eq!(with_proofs(&mut client, "/open/x", &token, &[&proof, &proof]).await.status, 200);
    let seen = scene.upstream.last();
    assert_eq!((seen.value("authorization"), seen.value("dpop")), (None, None));
}
