//! What upstreams' tokens are had by: from providers, and from the machine.

use obo_gateway::online::Outcome::{Fail, Ok, Warn};
use obo_gateway::online::{Outcome, Report};
use serde_json::json;

use super::{SECRET, all, entra, one, says, tried, tried_in};
use crate::support::client_auth::Proof;
use crate::support::managed_identity::{Asked, MetadataHost};
use crate::support::names::Names;
use crate::support::obo::Answer;
use crate::support::provider::{Endpoint, Provider, Reply};
use crate::support::token::{CLIENT_SECRET, OIDC_CLIENT};
use crate::support::upstream::Upstream;

/// One route to `upstream`, with this token; `auth` is the route's.
fn file(providers: &str, upstream: &Upstream, token: &str) -> String {
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: off }}\n\
         providers: {{ {providers} }}\n\
         upstreams: {{ up: {{ url: \"{}\", token: {{ {token} }} }} }}\n\
         routes:\n  - {{ match: {{ path: /a }}, auth: any, upstream: up }}\n",
        upstream.url()
    )
}

fn oidc(provider: &Provider) -> String {
    let issuer = provider.oidc_issuer();
    format!(
        "sso: {{ type: oidc, issuer: \"{issuer}\", audiences: [orders], client_id: {OIDC_CLIENT}, \
         credential: {{ client_secret_post: \"${{CLIENT_SECRET}}\" }}, exchange: token_exchange }}"
    )
}

/// The token of the upstream and the credential, in this order.
#[track_caller]
fn outcomes(report: &Report) -> (Outcome, Outcome) {
    (one(report, "token").outcome, one(report, "credential").outcome)
}

#[tokio::test]
async fn a_token_of_the_gateways_own_is_asked_for_as_for_requests() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let token = "client_credentials: { scopes: [\"api://orders/.default\"] }";
    let file = file(&entra(&provider, SECRET), &upstream, token);
    says(
        &tried(&file).await,
        "token",
        Ok,
        &["gives the gateway a token for `api://orders/.default`"],
    );
    for (error, number, words) in [
        ("invalid_resource", 500_011, ["AADSTS500011", "add the resource's service principal"]),
        ("invalid_grant", 501_051, ["AADSTS501051", "compare its permissions"]),
    ] {
        provider.script(Endpoint::Token, Reply::Usual);
        let answer = Answer::aadsts(400, error, number);
        provider.script(Endpoint::Token, Reply::Answer(answer));
        says(&tried(&file).await, "token", Fail, &words);
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn the_resource_of_users_tokens_is_tried_without_a_user() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let token = "on_behalf_of: { scopes: [\"api://orders/Read\"] }";
    let file = file(&entra(&provider, SECRET), &upstream, token);
    for (answer, outcome, words) in [
        (None, Ok, "knows `api://orders/.default`; what users consented to"),
        (Some(("invalid_resource", 500_011)), Fail, "AADSTS500011"),
        (Some(("invalid_grant", 501_051)), Ok, "which users do not need"),
        // A policy for applications is none for users.
        (Some(("invalid_grant", 53_003)), Warn, "try with a user"),
        (Some(("temporarily_unavailable", 90_033)), Fail, "passing error"),
    ] {
        provider.script(Endpoint::Token, Reply::Usual);
        if let Some((error, number)) = answer {
            let answer = Answer::aadsts(400, error, number);
            provider.script(Endpoint::Token, Reply::Answer(answer));
        }
        says(&tried(&file).await, "token", outcome, &[words]);
    }
    let forms = provider.forms();
    assert!(forms.iter().all(|form| form.field("assertion").is_none()));
}

#[tokio::test]
async fn elsewhere_the_exchange_itself_is_tried() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    provider.expect_proof(Proof::Post(CLIENT_SECRET.to_owned()));
    let token = "on_behalf_of: { audience: stock, scopes: [read] }";
    let file = file(&oidc(&provider), &upstream, token);
    let report = tried(&file).await;
    says(&report, "token", Ok, &["exchanges tokens for `read` `stock`"]);
    assert_eq!(outcomes(&report), (Ok, Ok), "{}", report.text());
    assert_eq!(provider.count(Endpoint::Token), 1, "one request shows both");

    let refusal = |error: &str, description: &str| {
        Reply::json(400, &json!({ "error": error, "error_description": description }))
    };
    for (error, description, expected, words) in [
        (
            "invalid_request",
            "Standard token exchange is not enabled",
            (Fail, Ok),
            "allow token exchange",
        ),
        ("invalid_client", "Audience not found", (Fail, Ok), "correct `audience`"),
        ("invalid_scope", "", (Fail, Ok), "correct `scopes`"),
        ("invalid_client", "", (Fail, Fail), "compare both"),
    ] {
        provider.script(Endpoint::Token, refusal(error, description));
        let report = tried(&file).await;
        assert_eq!(outcomes(&report), expected, "{error} {}", report.text());
        let token = one(&report, "token");
        assert!(
            token.hint.as_deref().unwrap_or(&token.detail).contains(words),
            "{}",
            report.text()
        );
    }
    provider.script(
        Endpoint::Token,
        Reply::json(200, &json!({ "access_token": "t", "token_type": "Bearer", "expires_in": 9 })),
    );
    says(&tried(&file).await, "token", Warn, &["in exchange for what is no token"]);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn only_providers_whose_callers_come_there_are_asked_for_a_token() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    provider.always(Endpoint::Token, Reply::Usual);
    let providers = format!("{}, {}", entra(&provider, SECRET), oidc(&provider));
    let token = "on_behalf_of: { scopes: [\"api://orders/Read\"] }";
    let file = file(&providers, &upstream, token);
    let file = file.replace("auth: any", "auth: { providers: [entra] }");
    let report = tried(&file).await;
    says(&report, "token", Ok, &["provider `entra`"]);
    assert_eq!(all(&report, "credential").len(), 2, "both are tried:\n{}", report.text());
}

#[tokio::test]
async fn the_machine_is_asked_for_its_token() {
    let (host, upstream) = (MetadataHost::imds(), Upstream::start());
    let token = "managed_identity: { resource: \"https://vault.example\" }";
    let file = file("", &upstream, token).replace("auth: any", "auth: none");
    let file = file.replace("providers: {  }\n", "");
    let tried = || async { tried_in(&host.variables(), &Names::default(), &file).await };
    says(&tried().await, "managed_identity", Ok, &["gives a token for `https://vault.example`"]);
    host.script(Answer::json(400, &json!({ "error": "invalid_request" })));
    let report = tried().await;
    says(&report, "managed_identity", Fail, &["https://vault.example", "IMDS", "status 400"]);
    let told = one(&report, "managed_identity");
    let remedy = "turn on the system-assigned identity of this virtual machine (or its scale set), or name a user-assigned one by `client_id`; or correct `resource`, which is written without `/.default`";
    assert_eq!(told.hint.as_deref(), Some(remedy));
    assert!(!told.detail.contains("turn on"), "{}", told.detail);
    assert_eq!(
        host.asked(),
        [Asked::system("https://vault.example"), Asked::system("https://vault.example")]
    );
    assert_eq!(upstream.count(), 0);
}
