//! How the gateway proves to a provider who it is: each kind of credential against a provider
//! that takes that one and nothing else, and what becomes of files that change.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::client_auth::{Pair, Proof};
use crate::support::clock::START;
use crate::support::gateway::Gateway;
use crate::support::keys;
use crate::support::managed_identity::{Asked, MetadataHost};
use crate::support::obo::Answer;
use crate::support::provider::{Endpoint, Provider, Reply};
use crate::support::registry;
use crate::support::token::{ALICE, BOB, CLIENT_ID, CLIENT_SECRET, OIDC_CLIENT, TENANT, Token};
use crate::support::upstream::Upstream;
use crate::support::within;

/// A provider, an upstream, and a folder for files.
struct Scene {
    provider: Provider,
    upstream: Upstream,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(proof: Proof) -> Self {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        provider.expect_proof(proof);
        Self { provider, upstream, folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn write_pair(&self, pair: &Pair) {
        self.write("app.pem", &pair.certificate_pem);
        self.write("app.key", &pair.key_pem);
    }

    /// The credential that [`Scene::write_pair`] writes.
    fn certificate(&self) -> String {
        let (cert, key) = (self.path("app.pem"), self.path("app.key"));
        format!("certificate: {{ cert_file: \"{cert}\", key_file: \"{key}\" }}")
    }

    /// One route, `/me`, for tokens of `provider`, YAML in flow style.
    fn file(&self, provider: &str) -> String {
        format!(
            "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\n\
             providers: {{ p: {{ {provider} }} }}\n\
             upstreams: {{ up: {{ url: \"{}\", token: {{ on_behalf_of: {{ scopes: [\"api://x/.default\"] }} }} }} }}\n\
             routes: [{{ match: {{ path: /me }}, auth: any, upstream: up }}]\n",
            self.upstream.url()
        )
    }

    fn entra_file(&self, credential: &str) -> String {
        self.file(&format!(
            "type: entra, tenant: {TENANT}, authority: \"{}\", client_id: {CLIENT_ID}, credential: {{ {credential} }}",
            self.provider.base(),
        ))
    }

    async fn entra(&self, credential: &str) -> Gateway {
        let gateway = Gateway::start(&self.entra_file(credential));
        gateway.ready().await;
        gateway
    }

    async fn oidc(&self, credential: &str) -> Gateway {
        let gateway = Gateway::start(&self.file(&format!(
            "type: oidc, issuer: \"{}\", audiences: [{OIDC_CLIENT}], client_id: {OIDC_CLIENT}, credential: {{ {credential} }}",
            self.provider.oidc_issuer(),
        )));
        gateway.ready().await;
        gateway
    }

    fn token_of(&self, user: &str) -> String {
        Token::entra_v2(&self.provider.entra_issuer()).user(user).build()
    }

    /// The status of a call with a token that nobody has seen before.
    async fn call_anew(&self, gateway: &Gateway) -> u16 {
        let token = self.token_of(&uuid::Uuid::from_u128(fastrand::u128(..)).to_string());
        gateway.client().await.get_with("/me", &token).await.status.as_u16()
    }

    async fn oidc_call(&self, gateway: &Gateway) -> u16 {
        let token = Token::oidc(&self.provider.oidc_issuer()).build();
        gateway.client().await.get_with("/me", &token).await.status.as_u16()
    }
}

/// Waits until the log has `text`.
async fn logged(gateway: &Gateway, text: &str) {
    let there = async {
        while !gateway.log().text().contains(text) {
            // The log tells of nothing; the interval only spares the processor.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(text, there).await;
}

fn times_logged(gateway: &Gateway, text: &str) -> usize {
    gateway.log().text().matches(text).count()
}

#[tokio::test]
async fn secrets_are_sent_to_oidc_as_the_key_says() {
    // What a form and a header would each spoil.
    let secret = "it-secret-p~s=w&d +%é:\"5b1e";
    for (key, proof) in [
        ("client_secret", Proof::Basic(secret.to_owned())),
        ("client_secret_post", Proof::Post(secret.to_owned())),
    ] {
        let scene = Scene::new(proof);
        scene.write("secret", &format!("{secret}\n"));
        let gateway = scene.oidc(&format!("{key}: \"${{file:{}}}\"", scene.path("secret"))).await;
        assert_eq!(scene.oidc_call(&gateway).await, 200, "{key}");
    }
}

#[tokio::test]
async fn keys_sign_for_oidc_as_they_can() {
    let (p256, ed25519) = (Pair::p256(), Pair::ed25519());
    for (pair, alg) in
        [(Pair::rsa(), "RS256"), (Pair::rsa(), "PS256"), (&p256, "ES256"), (&ed25519, "EdDSA")]
    {
        let scene = Scene::new(pair.as_key("k-7", alg));
        scene.write("client.key", &pair.key_pem);
        let file = scene.path("client.key");
        let written = if alg == "RS256" { String::new() } else { format!(", algorithm: {alg}") };
        let key = format!("private_key: {{ key_file: \"{file}\", key_id: k-7{written} }}");
        let gateway = scene.oidc(&key).await;
        assert_eq!(scene.oidc_call(&gateway).await, 200, "{alg}");
    }
}

#[tokio::test]
async fn a_certificate_signs_anew_for_each_try() {
    let scene = Scene::new(Pair::rsa().as_certificate());
    scene.write_pair(Pair::rsa());
    let gateway = scene.entra(&scene.certificate()).await;
    assert_eq!(scene.call_anew(&gateway).await, 200);
    // The second try is another request: the provider, which remembers what came, would say so.
    scene.provider.script(Endpoint::Token, Reply::json(500, &json!({})));
    assert_eq!(scene.call_anew(&gateway).await, 200);
    scene.provider.script(Endpoint::Token, Reply::Reset);
    assert_eq!(scene.call_anew(&gateway).await, 200);
    assert_eq!(scene.provider.count(Endpoint::Token), 5);
    let metrics = gateway.metrics().await;
    assert!(
        metrics.contains(
            "obo_gateway_credential_certificate_expiry_timestamp_seconds{provider=\"p\"} 2208988800"
        ),
        "{metrics}"
    );
    assert_eq!(times_logged(&gateway, &Pair::rsa().thumbprint()), 1, "said at start");
}

#[tokio::test]
async fn a_certificate_that_the_provider_does_not_know_is_our_fault() {
    let scene = Scene::new(Pair::rsa_other().as_certificate());
    scene.write_pair(Pair::rsa());
    let gateway = scene.entra(&scene.certificate()).await;
    assert_eq!(scene.call_anew(&gateway).await, 502);
    logged(&gateway, "upload the certificate of `credential`").await;
    assert_eq!(scene.provider.count(Endpoint::Token), 1, "a refusal is not tried again");
}

/// A token of a cluster, good for an hour.
fn federated(number: u32) -> String {
    let token = Token::entra_v2("https://cluster.example").claim("number", number).build();
    registry::secret(&token);
    token
}

#[tokio::test]
async fn a_federated_token_is_read_as_it_rotates() {
    let (one, two) = (federated(1), federated(2));
    let scene = Scene::new(Proof::Federated(one.clone()));
    let file = scene.path("token");
    // It need not be there at start.
    let gateway = scene.entra(&format!("federated_token_file: \"{file}\"")).await;
    assert_eq!(scene.call_anew(&gateway).await, 502);
    logged(&gateway, &format!("the federated token file `{file}` can't be read")).await;
    assert_eq!(scene.provider.count(Endpoint::Token), 0);
    scene.write("token", &format!("{one}\n"));
    assert_eq!(scene.call_anew(&gateway).await, 200);
    scene.write("token", &two);
    scene.provider.expect_proof(Proof::Federated(two));
    assert_eq!(scene.call_anew(&gateway).await, 200, "the next exchange has the next token");
    for (bad, sign) in [("", "is empty"), ("not a token at all", "holds no JWT")] {
        scene.write("token", bad);
        assert_eq!(scene.call_anew(&gateway).await, 502);
        logged(&gateway, sign).await;
    }
    scene.write("token", &one);
    gateway.clock().advance(Duration::from_hours(2));
    let late = Token::entra_v2(&scene.provider.entra_issuer())
        .issued_at(obo_gateway::clock::UnixTime(START.0 + 7200));
    assert_eq!(gateway.client().await.get_with("/me", &late.build()).await.status, 502);
    logged(&gateway, "nobody rotates it").await;
}

#[tokio::test]
async fn a_pod_needs_no_keys_but_the_type() {
    let token = federated(3);
    let scene = Scene::new(Proof::Federated(token.clone()));
    scene.write("azure-identity-token", &token);
    let variables = [
        ("AZURE_TENANT_ID", TENANT.to_owned()),
        ("AZURE_CLIENT_ID", CLIENT_ID.to_owned()),
        ("AZURE_FEDERATED_TOKEN_FILE", scene.path("azure-identity-token")),
        ("AZURE_AUTHORITY_HOST", format!("{}/", scene.provider.base())),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let gateway = Gateway::start_in(&variables, &scene.file("type: entra"));
    gateway.ready().await;
    assert_eq!(scene.call_anew(&gateway).await, 200);
}

#[tokio::test]
async fn a_managed_identity_is_the_credential_and_its_token_is_kept() {
    let (host, scene) = (MetadataHost::imds(), Scene::new(Proof::Post(CLIENT_SECRET.to_owned())));
    let first = "eyJ-it-managed-identity-token-1";
    let answer = |token: &str| {
        let body = json!({"access_token": token, "expires_in": "3600", "token_type": "Bearer"});
        Answer::json(200, &body)
    };
    host.script(Answer::json(
        400,
        &json!({"error": "invalid_request", "error_description": "Identity not found"}),
    ));
    host.script(answer(first));
    scene.provider.expect_proof(Proof::Federated(first.to_owned()));
    let gateway = Gateway::start_in(
        &host.variables(),
        &scene.entra_file("managed_identity: { client_id: mi-1 }"),
    );
    gateway.ready().await;
    assert_eq!(scene.call_anew(&gateway).await, 502);
    assert_eq!(scene.provider.count(Endpoint::Token), 0);
    // The identity is assigned; the refusal would be remembered for a while.
    gateway.reload();
    for _ in 0..3 {
        assert_eq!(scene.call_anew(&gateway).await, 200);
    }
    assert_eq!(host.asked(), vec![Asked::user("api://AzureADTokenExchange", "mi-1"); 2]);
    let metrics = gateway.metrics().await;
    let exchanges: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("obo_gateway_exchanges_total")).collect();
    assert_eq!(
        exchanges.len(),
        3,
        "the provider, which was asked when there was a token, and the machine: {exchanges:#?}"
    );
    for (provider, outcome, count) in [
        ("managed_identity", "exchange_failed", 1),
        ("managed_identity", "success", 1),
        ("p", "success", 3),
    ] {
        let line =
            format!("provider=\"{provider}\",upstream=\"up\",outcome=\"{outcome}\"}} {count}");
        assert!(exchanges.iter().any(|it| it.ends_with(&line)), "{line} in {exchanges:#?}");
    }
    let second = "eyJ-it-managed-identity-token-2";
    host.script(answer(second));
    scene.provider.expect_proof(Proof::Federated(second.to_owned()));
    gateway.clock().advance(Duration::from_secs(3580));
    assert_eq!(scene.call_anew(&gateway).await, 200, "its end is near");
    assert_eq!(host.asked().len(), 3);
}

/// Puts `version` in the place of what is mounted, as the kubelet does.
fn mount(folder: &Path, version: &str, secret: &str) {
    fs::create_dir(folder.join(version)).unwrap();
    fs::write(folder.join(version).join("secret"), secret).unwrap();
    std::os::unix::fs::symlink(version, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[tokio::test]
async fn a_mounted_secret_is_taken_up_and_costs_nobody_a_token() {
    let (old, new) = ("it-mounted-secret-number-one-00", "it-mounted-secret-number-two-00");
    let scene = Scene::new(Proof::Post(old.to_owned()));
    registry::secret(new);
    mount(scene.folder.path(), "..1", old);
    std::os::unix::fs::symlink("..data/secret", scene.folder.path().join("secret")).unwrap();
    let gateway =
        scene.entra(&format!("client_secret: \"${{file:{}}}\"", scene.path("secret"))).await;
    gateway.watch();
    let alice = scene.token_of(ALICE);
    let mut client = gateway.client().await;
    assert_eq!(client.get_with("/me", &alice).await.status, 200);

    scene.provider.expect_proof(Proof::Post(new.to_owned()));
    mount(scene.folder.path(), "..2", new);
    logged(&gateway, "changed: the routes file was read again and is in force").await;
    assert_eq!(client.get_with("/me", &alice).await.status, 200);
    assert_eq!(scene.provider.count(Endpoint::Token), 1, "the cached token stays");
    assert_eq!(client.get_with("/me", &scene.token_of(BOB)).await.status, 200);
    assert_eq!(scene.provider.count(Endpoint::Keys), 1, "the keys stay");
}

#[tokio::test]
async fn a_certificate_goes_with_its_key() {
    let (old, new) = (Pair::rsa(), Pair::rsa_other());
    let scene = Scene::new(old.as_certificate());
    scene.write_pair(old);
    let gateway = scene.entra(&scene.certificate()).await;
    gateway.watch();
    assert_eq!(scene.call_anew(&gateway).await, 200);
    // Half of the renewal: it is refused, said once, and the pair before stays.
    scene.write("app.pem", &new.certificate_pem);
    logged(&gateway, "does not belong to the first certificate").await;
    assert_eq!(scene.call_anew(&gateway).await, 200);
    gateway.metrics_when("obo_gateway_config_reloads_total{outcome=\"failure\"} 1").await;

    scene.provider.expect_proof(new.as_certificate());
    scene.write("app.key", &new.key_pem);
    logged(&gateway, "changed: the routes file was read again and is in force").await;
    assert_eq!(scene.call_anew(&gateway).await, 200);
    let metrics = gateway.metrics().await;
    for line in ["outcome=\"failure\"} 1", "outcome=\"success\"} 1"] {
        let line = format!("obo_gateway_config_reloads_total{{{line}");
        assert!(metrics.contains(&line), "{line} in\n{metrics}");
    }

    // A file that goes away is a change, and so is its coming back.
    fs::remove_file(scene.path("app.key")).unwrap();
    logged(&gateway, "can't read").await;
    assert_eq!(scene.call_anew(&gateway).await, 200);
    scene.write("app.key", &new.key_pem);
    gateway.metrics_when("obo_gateway_config_reloads_total{outcome=\"success\"} 2").await;
}

#[tokio::test]
async fn a_key_set_in_a_file_is_read_again() {
    let scene = Scene::new(Proof::Post(CLIENT_SECRET.to_owned()));
    let set = |key: &keys::Key| json!({ "keys": [key.jwk()] }).to_string();
    scene.write("keys.json", &set(&keys::rsa()));
    let gateway = Gateway::start(&scene.file(&format!(
        "type: oidc, issuer: \"{}\", audiences: [{OIDC_CLIENT}], client_id: {OIDC_CLIENT}, \
         credential: {{ client_secret_post: \"${{CLIENT_SECRET}}\" }}, jwks_file: \"{}\", \
         token_endpoint: \"{}/token\"",
        scene.provider.oidc_issuer(),
        scene.path("keys.json"),
        scene.provider.oidc_issuer(),
    )));
    gateway.ready().await;
    gateway.watch();
    let other = Token::oidc(&scene.provider.oidc_issuer()).signed_by(&keys::rsa_other()).build();
    let mut client = gateway.client().await;
    assert_eq!(client.get_with("/me", &other).await.status, 401);
    scene.write("keys.json", &set(&keys::rsa_other()));
    logged(&gateway, "is in force").await;
    assert_eq!(client.get_with("/me", &other).await.status, 200);
}

#[tokio::test]
async fn the_end_of_a_certificate_is_announced() {
    // 20 days from the start of the tests' clock.
    let pair = Pair::rsa_until(2026, 1, 21);
    let scene = Scene::new(pair.as_certificate());
    scene.write_pair(&pair);
    let gateway = scene.entra(&scene.certificate()).await;
    gateway.watch();
    let day = Duration::from_hours(24);
    let signs =
        ["expires in 20 days", "expires in 6 days", "expires in 24 hours", "has expired, and"];
    for (advance, sign) in [Duration::ZERO, day * 14, day * 5, day * 2].into_iter().zip(signs) {
        gateway.clock().advance(advance);
        logged(&gateway, sign).await;
    }
    // Read again, nothing of it is said again; what is read has a warning of its own.
    scene.write("app.pem", &pair.certificate_pem);
    logged(&gateway, "expired 24 hours ago").await;
    logged(&gateway, "is in force").await;
    for sign in signs {
        assert_eq!(times_logged(&gateway, sign), 1, "{sign}");
    }
}
