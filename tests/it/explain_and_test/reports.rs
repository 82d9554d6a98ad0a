//! What `test` prints, and that it asks nobody.

use obo_gateway::dry_run;

use super::{assert_golden, prepare};
use crate::support::provider::{Endpoint, Provider};
use crate::support::registry;
use crate::support::token::{CLIENT_ID, TENANT};

fn routes(provider: &Provider, tests: &str) -> String {
    let (base, issuer) = (provider.base(), provider.oidc_issuer());
    format!(
        r#"providers:
  entra:
    type: entra
    tenant: {TENANT}
    authority: {base}
    client_id: {CLIENT_ID}
    credential: {{ client_secret: "${{CLIENT_SECRET}}" }}
  sso: {{ type: oidc, issuer: "{issuer}", audiences: [orders], client_id: orders, credential: {{ client_secret: "${{CLIENT_SECRET}}" }} }}
upstreams:
  graph: {{ url: https://graph.example, token: {{ on_behalf_of: {{ scopes: [b, a] }} }} }}
  orders: {{ url: https://orders.example/v1, token: {{ client_credentials: {{ provider: sso, scopes: [x] }} }} }}
  legacy: {{ url: https://legacy.example, token: {{ header: {{ name: x-api-key, value: "${{CLIENT_SECRET}}" }} }} }}
routes:
  - name: graph
    match: {{ path: "/graph/{{*rest}}" }}
    auth: {{ scopes: [read, write], roles: [Admin], clients: [web, cli], callers: users, claims: {{ department: [finance, audit], vip: ["true"] }} }}
    upstream: graph
    forward_claims: {{ oid: x-user-id }}
    request_headers: {{ set: {{ x-team: secret-of-the-route }}, remove: [x-gone] }}
  - {{ name: orders, match: {{ path: "/orders/{{id}}" }}, auth: any, upstream: orders }}
  - {{ name: legacy, match: {{ path: /legacy }}, auth: none, upstream: legacy }}
  - {{ name: old, match: {{ path: "/old/{{id}}" }}, auth: none, redirect: {{ to: "/new/{{id}}" }} }}
  - {{ name: never, match: {{ path: /never }}, auth: any, respond: {{ status: 204 }} }}
{tests}"#
    )
}

async fn report(tests: &str) -> (String, serde_json::Value) {
    let provider = Provider::start();
    let mut prepared = prepare(&routes(&provider, tests));
    let (snapshot, tests) = prepared.tests();
    let report = dry_run::run(snapshot, tests).await;
    let calls = [Endpoint::Discovery, Endpoint::Keys, Endpoint::Token].map(|it| provider.count(it));
    assert_eq!(calls, [0, 0, 0], "no network");
    let shown = report.shown("routes.yaml").to_string();
    let json = serde_json::to_value(&report).unwrap();
    for text in [&shown, &json.to_string()] {
        registry::assert_clean("a report", text.as_bytes());
        assert!(!text.contains("secret-of-the-route"), "{text}");
    }
    let json = json.to_string().replace(&provider.base(), "PROVIDER");
    (shown.replace(&provider.base(), "PROVIDER"), serde_json::from_str(&json).unwrap())
}

const PASSING: &str = r#"
tests:
  - name: all that can be expected
    request: { method: POST, url: "https://api.example.com/graph/x/../me?a=b", headers: { x-user-id: forged, x-gone: "1" } }
    token: { provider: entra, claims: { scp: write, azp: web, oid: u1, department: [sales, audit], vip: true } }
    expect:
      route: graph
      status: forward
      upstream_path: /graph/me?a=b
      upstream_headers: { x-user-id: u1, x-team: secret-of-the-route }
      upstream_without: [x-gone]
      token: { on_behalf_of: [a, b] }
  - request: { path: /orders/7 }
    token: { provider: sso, claims: { scope: any } }
    expect: { route: orders, upstream_path: /v1/orders/7, token: { client_credentials: x } }
  - { request: { path: /legacy }, expect: { token: { header: X-Api-Key } } }
  - { request: { path: /old/7 }, expect: { status: 308, location: /new/7 } }
  - { request: { path: /nothing }, expect: { status: 404, code: route_not_found } }
  - { request: { path: "/graph/..;/x" }, expect: { code: bad_request } }
  - { request: { path: /orders/7 }, expect: { status: 401, code: token_missing } }
  - { request: { path: /orders/7 }, token: { provider: sso, claims: { exp: 5 } }, expect: { code: token_expired } }
  - { request: { path: /orders/7 }, token: { provider: sso, claims: { aud: other } }, expect: { code: token_invalid } }
  - { request: { path: /graph/x }, token: { provider: entra, claims: { scp: other, azp: cli, department: finance, vip: true } }, expect: { code: insufficient_scope } }
  - { request: { path: /graph/x }, token: { provider: entra, claims: { roles: [Admin], azp: cli, department: finance, vip: true } }, expect: { code: caller_not_allowed } }
"#;

#[tokio::test]
async fn tests_pass_and_what_they_leave_out_is_named() {
    let (shown, json) = report(PASSING).await;
    assert_golden("tests-passing", &shown);
    let tests = json["tests"].as_array().unwrap();
    assert!(tests.iter().all(|test| test["failures"].as_array().unwrap().is_empty()), "{json:#}");
}

const FAILING: &str = r#"
tests:
  - name: everything is otherwise
    request: { path: /graph/me, headers: { x-gone: "1", x-here: "2" } }
    token: { provider: entra, claims: { scp: write, azp: web, oid: u1, department: audit, vip: true } }
    expect:
      route: orders
      upstream_path: /me
      upstream_headers: { x-user-id: u2, x-team: other, x-none: "1" }
      upstream_without: [x-here]
      token: { on_behalf_of: [a] }
  - name: it is refused
    request: { path: /graph/me }
    token: { provider: entra, claims: { scp: write, azp: stranger } }
    expect: { status: forward, upstream_path: /me, token: none }
  - name: it is refused otherwise
    request: { path: /graph/me }
    token: { provider: sso, claims: { iss: https://evil.example } }
    expect: { status: 403, code: caller_not_allowed }
  - name: it is forwarded
    request: { path: /legacy }
    expect: { status: 401, code: token_missing }
  - name: it is answered
    request: { path: /old/7 }
    expect: { status: 302, location: /elsewhere }
"#;

#[tokio::test]
async fn failures_say_where_what_was_expected_and_what_came() {
    let (shown, json) = report(FAILING).await;
    assert_golden("tests-failing", &shown);
    assert_golden("tests-failing-json", &serde_json::to_string_pretty(&json).unwrap());
}

#[tokio::test]
async fn claims_of_a_token_that_is_too_long_are_refused() {
    // 12 KiB of claims make a token of 16 KiB.
    for (length, expected) in [(11_000, "status: forward"), (12_288, "code: token_invalid")] {
        let long = "a".repeat(length);
        let (shown, _) = report(&format!(
            "tests:\n  - request: {{ path: /orders/7 }}\n    \
             token: {{ provider: sso, claims: {{ scope: any, long: {long} }} }}\n    \
             expect: {{ {expected} }}\n"
        ))
        .await;
        assert!(shown.contains("1 passed, 0 failed"), "{shown}");
    }
}

#[tokio::test]
async fn a_file_without_tests_says_so() {
    let (shown, _) = report("").await;
    assert!(shown.starts_with("routes.yaml: there are no `tests:` in it\n"), "{shown}");
}
