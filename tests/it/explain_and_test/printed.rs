//! What `explain` prints.

use std::fmt::Write as _;

use serde_json::json;

use super::{asking, assert_golden, explain, prepare};
use crate::support::provider::{Endpoint, Provider, Reply};
use crate::support::token::{CLIENT_ID, TENANT, Token};

fn routes(provider: &Provider) -> String {
    let base = provider.base();
    format!(
        r#"
providers:
  entra:
    type: entra
    tenant: {TENANT}
    authority: {base}
    client_id: {CLIENT_ID}
    credential: {{ client_secret: "${{CLIENT_SECRET}}" }}
upstreams:
  graph:
    url: https://graph.example/base
    token: {{ on_behalf_of: {{ scopes: [https://graph.example/.default] }} }}
  legacy:
    url: https://legacy.example
    token: {{ header: {{ name: x-api-key, value: "${{CLIENT_SECRET}}" }} }}
  inner: {{ url: http://localhost:9001, token: {{ passthrough: true }} }}
routes:
  - name: graph
    match: {{ path: "/graph/{{*rest}}", methods: [GET, POST] }}
    auth: {{ scopes: [access_as_user], callers: users, claims: {{ department: [finance, audit] }} }}
    upstream: graph
    rewrite: {{ strip_prefix: /graph }}
    forward_claims: {{ oid: x-user-id }}
    request_headers: {{ set: {{ x-team: secret-of-the-route }} }}
    rate_limit: {{ requests: 10 }}
    cors: {{ origins: [https://app.example.com] }}
  - name: graph-beta
    match: {{ path: "/graph/{{*rest}}", methods: [GET], headers: {{ x-beta: "1" }}, query: {{ v: "2" }} }}
    auth: {{ roles: [Beta], scopes: [beta] }}
    upstream: graph
  - name: admin
    match: {{ path: "/graph/admin/{{*rest}}", hosts: [admin.example.com] }}
    auth: {{ roles: [Admin], tenants: [{TENANT}], clients: [someone] }}
    upstream: legacy
  - {{ name: inner, match: {{ path: "/inner" }}, auth: any, upstream: inner }}
  - {{ name: open, match: {{ path: "/open" }}, auth: none, upstream: legacy }}
  - {{ name: pong, match: {{ path: "/ping" }}, auth: none, respond: {{ status: 204 }} }}
  - {{ name: old, match: {{ path: "/old/{{id}}" }}, auth: none, redirect: {{ to: "/new/{{id}}" }} }}
"#
    )
}

type Case<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)], Option<Token>);

#[tokio::test]
async fn explanations_for_people() {
    let provider = Provider::start();
    let alice = || {
        let token = Token::entra_v2(&provider.entra_issuer());
        token.claim("department", json!(["finance", "sales"]))
    };
    let cookie = [("Cookie", "a=secret-of-the-caller"), ("X-Team", "mine"), ("x-user-id", "bob")];
    let preflight = |origin| [("Origin", origin), ("Access-Control-Request-Method", "GET")];
    let (known, unknown) = (preflight("https://app.example.com"), preflight("https://x.example"));
    let url = "https://api.example.com/graph/me?$select=id";
    let cases: &[Case<'_>] = &[
        ("forwarded", "GET", url, &cookie, Some(alice())),
        ("without-scope", "GET", url, &[], Some(alice().claim("scp", "other"))),
        ("other-claim", "GET", url, &[], Some(alice().claim("department", 7))),
        (
            "wrong-in-many-ways",
            "GET",
            url,
            &[],
            Some(alice().claim("aud", "another").claim("exp", 5).claim("nbf", 1).claim("iat", 1)),
        ),
        ("another-issuer", "GET", url, &[], Some(alice().claim("iss", "https://evil.example"))),
        ("no-token", "GET", url, &[], None),
        ("app", "GET", url, &[], Some(Token::entra_app(&provider.entra_issuer()))),
        ("passthrough", "GET", "/inner", &[], Some(alice())),
        ("open", "GET", "/open", &[("authorization", "Basic c2VjcmV0")], None),
        ("respond", "GET", "/ping", &[], None),
        ("redirect", "GET", "/old/7?a=b", &[], None),
        ("not-found", "GET", "/nothing", &[], None),
        ("method", "DELETE", "/graph/me", &[], None),
        ("ambiguous", "GET", "/graph/%252e%252e/x", &[], None),
        ("bad-path", "GET", "/graph/..;x/y", &[], None),
        ("most-specific", "GET", "http://x.example/graph/me?v=2", &[("X-Beta", "1")], None),
        ("by-host", "GET", "https://admin.example.com/graph/admin/x", &[], Some(alice())),
        ("preflight", "OPTIONS", "/graph/me", &known, None),
        ("preflight-refused", "OPTIONS", "/graph/me", &unknown, None),
        ("malformed-token", "GET", "/inner", &[("authorization", "Bearer nonsense")], None),
    ];
    let prepared = prepare(&routes(&provider));
    for (name, method, url, fields, token) in cases {
        let token = token.as_ref().map(Token::build);
        let explanation = explain(&prepared, asking(method, url, fields, token.as_deref())).await;
        let shown = explanation.to_string().replace(&provider.base(), "PROVIDER");
        for secret in ["secret-of-the", "c2VjcmV0"] {
            assert!(!shown.contains(secret), "{name}: {shown}");
        }
        let code = i32::from(!explanation.passes());
        assert_golden(name, &format!("{shown}(exit {code})\n"));
    }
    assert_eq!(provider.count(Endpoint::Token), 0);
}

#[tokio::test]
async fn explanations_for_programs() {
    let provider = Provider::start();
    let prepared = prepare(&routes(&provider));
    let alice = Token::entra_v2(&provider.entra_issuer()).claim("department", "finance").build();
    let mut shown = String::new();
    for token in [Some(&*alice), None] {
        let explanation = explain(&prepared, asking("GET", "/graph/me?a=b", &[], token)).await;
        writeln!(shown, "{}", serde_json::to_string_pretty(&explanation).unwrap()).unwrap();
    }
    assert_golden("json", &shown.replace(&provider.base(), "PROVIDER"));
}

#[tokio::test]
async fn without_keys_the_signature_is_not_checked_and_that_is_said() {
    let provider = Provider::start();
    provider.always(Endpoint::Keys, Reply::Reset);
    let prepared = prepare(&routes(&provider));
    let alice = Token::entra_v2(&provider.entra_issuer()).claim("department", "finance").build();
    let explanation = explain(&prepared, asking("GET", "/graph/me", &[], Some(&alice))).await;
    assert!(!explanation.passes());
    let shown = explanation.to_string();
    assert!(shown.contains("?        signature: wanted"), "{shown}");
    assert!(shown.contains("ok       audience: wanted"), "{shown}");
    assert!(shown.contains("ok       scopes: wanted"), "{shown}");
    assert!(shown.contains("GET /base/me"), "{shown}");
    assert!(shown.contains("it is refused with 503 provider_unavailable"), "{shown}");
    // Why is said, and not that nobody goes on to fetch them.
    assert!(shown.contains("have not been loaded yet ("), "{shown}");
    assert!(!shown.contains("has ended"), "{shown}");
}

#[tokio::test]
async fn a_key_that_is_not_published_is_no_outage() {
    let provider = Provider::start();
    let prepared = prepare(&routes(&provider));
    let token = Token::entra_v2(&provider.entra_issuer()).header("kid", "unknown").build();
    let explanation = explain(&prepared, asking("GET", "/inner", &[], Some(&token))).await;
    let shown = explanation.to_string();
    assert!(shown.contains("it is refused with 401 token_invalid"), "{shown}");
    assert!(shown.contains("which provider `entra` does not publish"), "{shown}");
}

#[tokio::test]
async fn secrets_in_other_places_are_not_printed() {
    let provider = Provider::start();
    let prepared = prepare(&routes(&provider));
    let fields = [
        ("x-forwarded-access-token", "hunter2"),
        ("x-signature", "hunter2"),
        ("x-other", "Bearer hunter2"),
        ("x-plain", "shown"),
    ];
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    for url in ["/inner?a=b&access_token=hunter2", "/old/7?a=b&access_token=hunter2"] {
        let explanation = explain(&prepared, asking("GET", url, &fields, Some(&token))).await;
        let json = serde_json::to_string(&explanation).unwrap();
        for shown in [explanation.to_string(), json] {
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("a=b&access_token=***"), "{shown}");
            assert_eq!(shown.contains("x-plain"), url.starts_with("/inner"), "{shown}");
        }
    }
}

#[tokio::test]
async fn without_a_token_nobody_is_asked() {
    let provider = Provider::start();
    let prepared = prepare(&routes(&provider));
    explain(&prepared, asking("GET", "/graph/me", &[], None)).await;
    explain(&prepared, asking("GET", "/open", &[("authorization", "Bearer x")], None)).await;
    let calls = [Endpoint::Discovery, Endpoint::Keys, Endpoint::Token].map(|it| provider.count(it));
    assert_eq!(calls, [0, 0, 0]);
}
