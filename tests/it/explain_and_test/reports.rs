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
    let (snapshot, mut tests) = prepare(&routes(&provider, tests)).into_tests();
    let report = dry_run::run(&snapshot, &mut tests).await;
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

/// What no test of `file` reaches.
async fn unreached(file: &str) -> Vec<String> {
    let (snapshot, mut tests) = prepare(file).into_tests();
    let report = dry_run::run(&snapshot, &mut tests).await;
    assert_eq!(report.failed(), 0, "{}", report.shown("routes.yaml"));
    let said = |it: &dry_run::Unreached| format!("{}: {}", it.rule.unwrap_or("-"), it.missing);
    report.unreached.iter().map(said).collect()
}

const CONDITIONS: &str = r#"
routes:
  - name: a
    match:
      path: /a
      hosts: [api.example.com, "*.example.com"]
      methods: [GET, POST]
      headers: { x-v: "2" }
      query: { beta: "1" }
    auth: none
    respond: { status: 204 }
tests:
  - { request: { url: "https://api.example.com/a?beta=1", headers: { x-v: "2" } }, expect: { route: a } }
"#;

#[tokio::test]
async fn a_condition_is_reached_where_it_decides() {
    let one = unreached(CONDITIONS).await;
    let expected = [
        "hosts: no test comes for *.example.com",
        "methods: no test comes with POST",
        "hosts: no test is passed over for its host",
        "methods: no test is passed over for its method",
        "headers: no test is passed over for its headers",
        "query: no test is passed over for its query",
    ];
    assert_eq!(one, expected);
    // What lacks two things was passed over for neither.
    let two = "  - { request: { method: PUT, url: \"https://api.example.com/a\" }, expect: { status: 405 } }\n";
    assert_eq!(unreached(&format!("{CONDITIONS}{two}")).await, expected);
    let request = |method, url, version, expected| {
        format!(
            "  - {{ request: {{ method: {method}, url: \"{url}\", headers: {{ x-v: \"{version}\" }} }}, expect: {{ {expected} }} }}\n"
        )
    };
    let all = [
        request("POST", "https://b.example.com/a?beta=1", 2, "route: a"),
        request("PUT", "https://b.example.com/a?beta=1", 2, "status: 405"),
        request("GET", "https://example.org/a?beta=1", 2, "status: 404"),
        request("GET", "https://b.example.com/a?beta=1", 1, "status: 404"),
        request("GET", "https://b.example.com/a", 2, "status: 404"),
    ];
    assert_eq!(unreached(&format!("{CONDITIONS}{}", all.concat())).await, [""; 0]);
}

const RULES: &str = r#"
providers:
  sso: { type: oidc, issuer: https://sso.example, audiences: [x] }
routes:
  - { name: a, match: { path: /a }, auth: { scopes: [s1, s2], clients: [c] }, respond: { status: 204 } }
tests:
  - { request: { path: /a }, expect: { code: token_missing } }
  - { request: { path: /a }, token: { claims: { scp: "s1 s2", client_id: c } }, expect: { status: 204 } }
  - { request: { path: /a }, token: { claims: { scp: other, client_id: stranger } }, expect: { code: caller_not_allowed } }
"#;

#[tokio::test]
async fn a_rule_is_reached_where_it_decides() {
    let first = unreached(RULES).await;
    let expected = [
        "scopes: no test is let in with s1 alone",
        "scopes: no test is let in with s2 alone",
        "scopes: no test is refused by it",
    ];
    assert_eq!(first, expected);
    let test = |scope, expected| {
        format!(
            "  - {{ request: {{ path: /a }}, token: {{ claims: {{ scp: {scope}, client_id: c }} }}, expect: {{ {expected} }} }}\n"
        )
    };
    let all = [
        test("s1", "status: 204"),
        test("s2", "status: 204"),
        test("other", "code: insufficient_scope"),
    ];
    assert_eq!(unreached(&format!("{RULES}{}", all.concat())).await, [""; 0]);
}

#[tokio::test]
async fn the_tenant_of_a_domain_is_made_up() {
    let file = r"
providers:
  one: { type: entra, tenant: one.example, client_id: a, credential: { client_secret: s } }
  two: { type: entra, tenant: two.example, client_id: a, credential: { client_secret: s } }
  same: { type: entra, tenant: one.example, client_id: b, credential: { client_secret: s } }
upstreams: { graph: { url: https://graph.example, token: { on_behalf_of: { scopes: [read] } } } }
routes:
  - { name: a, match: { path: /a }, auth: { providers: [one], scopes: [s] }, upstream: graph }
  - { name: b, match: { path: /b }, auth: { providers: [same], scopes: [s] }, respond: { status: 204 } }
tests:
  - { request: { path: /b }, token: { provider: one, claims: { scp: s, aud: b } }, expect: { status: 204 } }
  - { request: { path: /b }, token: { provider: two, claims: { scp: s, aud: b } }, expect: { code: token_invalid } }
  - { request: { path: /b }, token: { provider: same, claims: { scp: t } }, expect: { code: insufficient_scope } }
  - { request: { path: /b }, expect: { code: token_missing } }
  - { request: { path: /a }, expect: { code: token_missing } }
  - { request: { path: /a }, token: { provider: one, claims: { scp: s } }, expect: { status: forward, token: { on_behalf_of: [read] } } }
  - { request: { path: /a }, token: { provider: one, claims: { scp: t } }, expect: { code: insufficient_scope } }
  - { request: { path: /a }, token: { provider: two, claims: { scp: s } }, expect: { code: token_invalid } }
  - { request: { path: /a }, token: { provider: one, claims: { scp: s, tid: 11111111-2222-3333-4444-555555555555 } }, expect: { code: token_invalid } }
";
    assert_eq!(unreached(file).await, [""; 0]);
}

#[tokio::test]
async fn a_file_without_tests_says_so() {
    let (shown, _) = report("").await;
    assert!(shown.starts_with("routes.yaml: there are no `tests:` in it\n"), "{shown}");
}
