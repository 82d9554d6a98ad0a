//! Tokens that are bound to their caller (`cnf`), over real connections: a client certificate
//! (RFC 8705) or a DPoP proof (RFC 9449). Whoever steals such a token gets nothing with it, not
//! even what is cached for its owner.

mod dpop;

use std::sync::Arc;

use http::Request;
use rustls::{ClientConfig, HandshakeKind};
use serde_json::json;

use crate::support::callers::{CallerCa, CallerCertificate, Proof, jkt, tls, tls_of};
use crate::support::client::{Client, Reply};
use crate::support::gateway::Gateway;
use crate::support::keys::{self};
use crate::support::provider::{Endpoint, Provider};
use crate::support::token::{CLIENT_ID, TENANT, Token};
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
            scene.gateway.reload();
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
    scene.gateway.reload();
    assert!(answers(&scene, REQUIRED, &new).await);
    let resumed =
        Client::tls_as(address, &old).await.is_some_and(|(_, kind)| kind == HandshakeKind::Resumed);
    assert!(!resumed, "no session outlives the CA that it was begun under");
    assert!(!answers(&scene, REQUIRED, &old).await);

    std::fs::write(scene.files.path().join("clients.pem"), "").unwrap();
    let problems = scene.gateway.try_reload().unwrap_err();
    assert!(problems.contains("holds no certificate"), "{problems}");
    assert!(answers(&scene, REQUIRED, &new).await, "what was in force stays");
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
