//! Credentials of the gateway, tried at their providers, and the files that they are made of.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use obo_gateway::clock::{Clock as _, SystemClock};
use obo_gateway::online::Outcome::{Fail, Ok, Warn};
use obo_gateway::online::Report;
use serde_json::json;

use super::{SECRET, all, entra, file, one, says, tried};
use crate::support::client_auth::{Pair, Proof};
use crate::support::obo::Answer;
use crate::support::provider::{Endpoint, Provider, Reply};
use crate::support::registry;
use crate::support::token::{CLIENT_ID, CLIENT_SECRET, OIDC_CLIENT, OTHER_TENANT, TENANT};

async fn tried_provider(provider: &Provider, keys: &str) -> Report {
    tried(&file(&format!("providers: {{ {} }}", entra(provider, keys)))).await
}

#[tokio::test]
async fn a_secret_that_is_refused_is_told_with_its_number_and_shown_once() {
    let provider = Provider::start();
    provider.expect_proof(Proof::Post("another-secret-5a1c0d3e".to_owned()));
    let routes = "upstreams: { up: { url: \"http://127.0.0.1:1\" } }\nroutes:\n  \
                  - { match: { path: /a }, auth: any, upstream: up, token: { client_credentials: { scopes: [\"api://x/.default\"] } } }\n";
    let providers = format!("providers: {{ {} }}\n", entra(&provider, SECRET));
    let report = tried(&format!("admin: {{ address: off }}\n{providers}{routes}")).await;
    let words = ["client secret", "AADSTS7000215", CLIENT_ID, "`credential.client_secret`"];
    let credential = one(&report, "credential");
    assert_eq!(credential.outcome, Fail, "{}", report.text());
    for word in words {
        let hint = credential.hint.as_deref().unwrap();
        assert!(credential.detail.contains(word) || hint.contains(word), "{credential:?}");
    }
    assert!(all(&report, "token").is_empty(), "{}", report.text());
    assert_eq!(provider.count(Endpoint::Token), 1, "it is not shown again");
    assert_eq!(provider.issued_count(), 0);
}

#[tokio::test]
async fn what_entra_says_of_a_credential_is_told_from_what_it_says_of_a_request() {
    let provider = Provider::start();
    let not_assigned = "a token for itself was refused";
    for (status, error, number, outcome, words) in [
        (400, "invalid_grant", 501_051, Ok, ["accepted", not_assigned]),
        (401, "invalid_client", 7_000_222, Fail, ["AADSTS7000222", "refused"]),
        (400, "unauthorized_client", 700_016, Fail, ["AADSTS700016", "correct `client_id`"]),
        (400, "invalid_request", 90_002, Fail, ["AADSTS90002", "correct `tenant`"]),
    ] {
        let answer = Answer::aadsts(status, error, number);
        provider.script(Endpoint::Token, Reply::Answer(answer));
        says(&tried_provider(&provider, SECRET).await, "credential", outcome, &words);
    }
    for (reply, words) in [
        (Reply::json(503, &json!({})), "passing error"),
        (Reply::Reset, "broke off"),
        (Reply::Answer(Answer::text(200, "text/html", "<html>")), "token endpoint"),
    ] {
        provider.script(Endpoint::Token, reply);
        says(&tried_provider(&provider, SECRET).await, "credential", Fail, &[words]);
    }
}

#[tokio::test]
async fn a_credential_is_tried_in_each_tenant_of_several() {
    let provider = Provider::start();
    // The first of them, in order.
    provider.script(
        Endpoint::Token,
        Reply::Answer(Answer::aadsts(400, "unauthorized_client", 700_016)),
    );
    let keys = format!(
        "entra: {{ type: entra, tenant: organizations, allowed_tenants: [{TENANT}, {OTHER_TENANT}, 9188040d-6c67-4c5b-b112-36a304b66dad], \
         authority: \"{}\", client_id: {CLIENT_ID}{SECRET} }}",
        provider.base()
    );
    let report = tried(&file(&format!("providers: {{ {keys} }}"))).await;
    let credentials = all(&report, "credential");
    let outcomes: Vec<_> = credentials.iter().map(|check| check.outcome).collect();
    assert_eq!(outcomes, [Fail, Ok], "{}", report.text());
    assert!(credentials[0].detail.contains(&format!("in tenant {TENANT}")), "{}", report.text());
    assert!(credentials[0].hint.as_deref().unwrap().contains("consent to the application there"));
    assert!(credentials[1].detail.contains(OTHER_TENANT), "{}", report.text());
    assert_eq!(provider.count(Endpoint::Token), 2, "personal accounts have no applications");
}

#[tokio::test]
async fn a_certificate_is_shown_and_its_end_told() {
    let provider = Provider::start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let keys = format!(
        ", credential: {{ certificate: {{ cert_file: \"{}\", key_file: \"{}\" }} }}",
        path("app.pem"),
        path("app.key")
    );
    let old = Pair::rsa_until(2021, 1, 1);
    for (pair, outcome, words) in [(Pair::rsa(), Ok, "expires in"), (&old, Fail, "expired")] {
        std::fs::write(path("app.pem"), &pair.certificate_pem).unwrap();
        std::fs::write(path("app.key"), &pair.key_pem).unwrap();
        provider.expect_proof(pair.as_certificate());
        let report = tried_provider(&provider, &keys).await;
        says(&report, "certificate", outcome, &[words, &pair.thumbprint()]);
        let credential = one(&report, "credential");
        assert_eq!(credential.outcome, Ok, "{}", report.text());
        assert!(credential.detail.starts_with("certificate of client"), "{credential:?}");
    }
}

/// A token of a Kubernetes cluster.
fn federated(issuer: &str, audience: &str, life: i64) -> String {
    let exp = SystemClock.now().0.checked_add_signed(life).unwrap();
    let claims = json!({
        "iss": issuer, "sub": "system:serviceaccount:web:gateway", "aud": [audience], "exp": exp,
    });
    let token = format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
    registry::secret(&token);
    token
}

#[tokio::test]
async fn a_federated_token_must_say_what_entra_compares() {
    let provider = Provider::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let keys = format!(", credential: {{ federated_token_file: \"{}\" }}", path.display());
    let (cluster, audience) = ("https://cluster.example/", "api://AzureADTokenExchange");
    // What the provider says is another line, and need not agree: whether the credential is `taken`.
    for (token, outcome, taken, words) in [
        (
            federated(cluster, audience, 3600),
            Ok,
            true,
            ["system:serviceaccount:web:gateway", "expires in"],
        ),
        (federated(cluster, "api://other", 3600), Warn, true, ["api://other", audience]),
        (federated("http://cluster", audience, 3600), Fail, true, ["http://cluster", "over https"]),
        // Both far from the 300 s by which clocks may differ: the machine may be slow.
        (federated(cluster, audience, -100), Fail, true, ["expired", "is projected there"]),
        (federated(cluster, audience, -1000), Fail, false, ["expired", "nobody rotates it"]),
        (
            "no-token-but-sixteen-bytes".to_owned(),
            Fail,
            false,
            ["holds no JWT", "is projected there"],
        ),
    ] {
        std::fs::write(&path, &token).unwrap();
        provider.expect_proof(Proof::Federated(token));
        let report = tried_provider(&provider, &keys).await;
        let found = one(&report, "federated_token");
        assert_eq!(found.outcome, outcome, "{}", report.text());
        for word in words {
            let said = format!("{} {:?}", found.detail, found.hint);
            assert!(said.contains(word), "{word}: {}", report.text());
        }
        assert_eq!(one(&report, "credential").outcome == Ok, taken, "{}", report.text());
    }
    std::fs::remove_file(&path).unwrap();
    let report = tried_provider(&provider, &keys).await;
    assert!(one(&report, "federated_token").detail.contains("can't be read"), "{}", report.text());
}

/// A provider of OpenID Connect, with a credential.
async fn tried_oidc(provider: &Provider) -> Report {
    let issuer = provider.oidc_issuer();
    let keys = format!(
        "sso: {{ type: oidc, issuer: \"{issuer}\", audiences: [orders], client_id: {OIDC_CLIENT}, \
         credential: {{ client_secret: \"${{CLIENT_SECRET}}\" }}, exchange: token_exchange }}"
    );
    tried(&file(&format!("providers: {{ {keys} }}"))).await
}

#[tokio::test]
async fn elsewhere_what_is_no_token_shows_whether_the_credential_is_taken() {
    let provider = Provider::start();
    provider.expect_proof(Proof::Basic(CLIENT_SECRET.to_owned()));
    says(&tried_oidc(&provider).await, "credential", Ok, &["accepted", "refused, as it must be"]);
    assert_eq!(provider.issued_count(), 0);
    let form = provider.forms().pop().unwrap();
    assert_eq!(form.field("subject_token"), Some("not.a.token"));

    let answer = |error: &str, description: &str| {
        Reply::json(400, &json!({ "error": error, "error_description": description }))
    };
    for (error, description, outcome, words) in [
        ("invalid_request", "Invalid token", Ok, "accepted"),
        ("invalid_request", "Standard token exchange is not enabled", Ok, "accepted, though"),
        (
            "invalid_client",
            "Invalid client credentials",
            Fail,
            "compare both with the registration",
        ),
        ("access_denied", "Unauthorized", Fail, "refused"),
        // Keycloak says it of a wrong secret, others of a client that may not exchange.
        ("unauthorized_client", "Invalid client", Fail, "compare the credential with it"),
        ("unsupported_grant_type", "", Fail, "correct `exchange`"),
    ] {
        provider.script(Endpoint::Token, answer(error, description));
        says(&tried_oidc(&provider).await, "credential", outcome, &[words]);
    }
    provider.script(
        Endpoint::Token,
        Reply::json(200, &json!({ "access_token": "t", "token_type": "Bearer", "expires_in": 9 })),
    );
    says(&tried_oidc(&provider).await, "credential", Warn, &["shows nothing of it", "test server"]);
    provider.stop().await;
    let report = tried_oidc(&provider).await;
    assert_eq!(one(&report, "discovery").outcome, Fail);
    // Where its endpoint is, nobody can say then.
    assert!(all(&report, "credential").is_empty(), "{}", report.text());
}
