//! What is explained is what happens: the same requests are explained, and sent to a gateway whose
//! upstream says what it got.

use http::Request;
use serde_json::{Value, json};

use super::{asking, explain, prepare};
use crate::support::gateway::Gateway;
use crate::support::provider::{Endpoint, Provider};
use crate::support::token::{CALLER_CLIENT, CLIENT_ID, OTHER_TENANT, TENANT, Token, bearer};
use crate::support::upstream::Upstream;

/// What only a real request has.
const OF_THE_CONNECTION: [&str; 7] = [
    "authorization",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-request-id",
    "host",
];

fn routes(provider: &Provider, upstream: &Upstream) -> String {
    let (base, url) = (provider.base(), upstream.url());
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
providers:
  entra:
    type: entra
    tenant: {TENANT}
    authority: {base}
    client_id: {CLIENT_ID}
    credential: {{ client_secret: "${{CLIENT_SECRET}}" }}
upstreams:
  api: {{ url: "{url}/base", token: {{ on_behalf_of: {{ scopes: [api://x/.default] }} }} }}
  plain: {{ url: "{url}" }}
routes:
  - name: users
    match: {{ path: "/users/{{id}}/{{*rest}}" }}
    auth: {{ scopes: [access_as_user], callers: users }}
    upstream: api
    rewrite: {{ path: "/v1/{{rest}}/of/{{id}}" }}
    forward_claims: {{ oid: x-user-id, name: x-user-name, missing: x-missing }}
    request_headers: {{ set: {{ x-a: "1" }}, add: {{ x-b: "2" }}, remove: [x-c] }}
  - name: clients
    match: {{ path: "/clients" }}
    auth: {{ clients: [{CALLER_CLIENT}], roles: [Orders.Read.All], claims: {{ oid: [x] }} }}
    upstream: plain
  - {{ name: any, match: {{ path: "/any" }}, auth: any, upstream: plain }}
  - {{ name: open, match: {{ path: "/open/{{*rest}}", methods: [GET] }}, auth: none, upstream: plain }}
  - {{ name: exact, match: {{ path: "/open/exact" }}, auth: any, upstream: plain }}
  - {{ name: header, match: {{ path: "/open/h", headers: {{ x-v: "2" }} }}, auth: none, respond: {{ status: 204 }} }}
  - {{ name: old, match: {{ path: "/old/{{id}}" }}, auth: none, redirect: {{ to: "/new/{{id}}" }} }}
"#
    )
}

#[tokio::test]
async fn what_is_explained_is_what_happens() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let yaml = routes(&provider, &upstream);
    let gateway = Gateway::start(&yaml);
    gateway.ready().await;
    let prepared = prepare(&yaml);
    let user = || Token::entra_v2(&provider.entra_issuer());
    let app = || Token::entra_app(&provider.entra_issuer());
    let tokens = [
        None,
        Some(user()),
        Some(user().claim("scp", "other")),
        Some(user().claim("aud", "another")),
        Some(user().claim("exp", 5)),
        Some(user().claim("tid", OTHER_TENANT)),
        Some(user().claim("oid", 5)),
        Some(user().claim("cnf", json!({"jkt": "x"}))),
        Some(app()),
        Some(app().claim("oid", "x")),
        Some(user().header("kid", "nobody-publishes-this")),
        Some(app().claim("oid", "x").claim("azp", "stranger")),
    ];
    let targets = [
        ("GET", "/users/7/a/../b%20c?q=%41&r"),
        ("GET", "/users/7"),
        ("GET", "/clients"),
        ("GET", "/any"),
        ("GET", "/open/x//y/?a=b"),
        ("POST", "/open/x"),
        ("GET", "/open/exact"),
        ("GET", "/open/exact;x"),
        ("GET", "/open/%2565xact"),
        ("GET", "/open/h"),
        ("GET", "/open/a%2fb"),
        ("GET", "/old/7?x=y"),
        ("GET", "/nothing"),
    ];
    let fields = [
        ("x-v", "2"),
        ("x-user-id", "forged"),
        ("x-missing", "forged"),
        ("x-c", "3"),
        ("x_user_id", "forged"),
        ("cookie", "a=b"),
        ("accept", "text/plain"),
    ];
    let (mut forwarded, mut refused, mut all) = (0, 0, 0);
    let mut reasons = Vec::new();
    for token in tokens.iter().map(|it| it.as_ref().map(Token::build)) {
        for (method, target) in targets {
            all += 1;
            let exchanges = provider.count(Endpoint::Token);
            let before = upstream.count();
            let url = format!("http://{}{target}", gateway.address());
            let asked = asking(method, &url, &fields, token.as_deref());
            let explained = explain(&prepared, asked).await;
            let explained = serde_json::to_value(&explained).unwrap();
            assert_eq!((upstream.count(), provider.count(Endpoint::Token)), (before, exchanges));

            let mut request = Request::builder().method(method).uri(target);
            for (name, value) in fields {
                request = request.header(name, value);
            }
            if let Some(token) = &token {
                request = request.header("authorization", bearer(token));
            }
            let reply = gateway.client().await.send(request, "").await;
            let what = format!("{method} {target}: {explained:#}");
            let decision = &explained["decision"];
            match decision["kind"].as_str().unwrap() {
                "forward" => {
                    forwarded += 1;
                    assert_eq!(
                        (reply.status.as_u16(), upstream.count()),
                        (200, before + 1),
                        "{what}"
                    );
                    assert_same(&explained["upstream"], &upstream, &what);
                }
                "answer" => {
                    assert_eq!(json!(reply.status.as_u16()), decision["status"], "{what}");
                    assert_eq!(reply.header("location"), decision["location"].as_str(), "{what}");
                    assert_eq!(upstream.count(), before, "{what}");
                }
                _ => {
                    refused += 1;
                    let (status, code) = reply.outcome();
                    assert_eq!((json!(status), json!(code)), came(decision), "{what}");
                    assert_eq!(upstream.count(), before, "{what}");
                    let id = reply.header("x-request-id").unwrap().to_owned();
                    reasons.push((id, decision["reason"].as_str().unwrap().to_owned()));
                }
            }
        }
    }
    assert!(forwarded > 15 && refused > 40, "{forwarded} {refused}");
    let events = gateway.log().access_events_when(all, |_| true).await;
    for (id, reason) in reasons {
        let event = events.iter().find(|event| event["request_id"] == id.as_str()).unwrap();
        let logged = event["reason"].as_str().unwrap();
        assert_eq!(without_times(logged), without_times(&reason), "{event:?}");
    }
}

#[tokio::test]
async fn handshakes_are_judged_as_they_are_met() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let more =
        "  - { name: none, match: { path: /none }, auth: none, upgrades: [], upstream: plain }\n\
        \x20 - { name: all, match: { path: /all }, auth: none, upstream: plain }\n"
            .to_owned();
    let yaml = routes(&provider, &upstream) + &more;
    let gateway = Gateway::start(&yaml);
    gateway.ready().await;
    let prepared = prepare(&yaml);
    let shake = [("connection", "upgrade"), ("upgrade", "websocket")];
    let (version, key) =
        (("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="));
    let old = ("sec-websocket-version", "12");
    let with = |more: &[(&'static str, &'static str)]| [&shake[..], more].concat();
    for (method, target, fields, is_refused) in [
        ("GET", "/none", with(&[version, key]), true),
        ("GET", "/all", with(&[version]), true),
        ("GET", "/all", with(&[key]), true),
        ("GET", "/all", with(&[old, key]), true),
        ("POST", "/all", with(&[version, key]), true),
        ("GET", "/old/7", with(&[old]), false),
        ("GET", "/all", vec![("upgrade", "websocket")], false),
        ("GET", "/none", vec![("connection", "upgrade"), ("upgrade", "other")], false),
    ] {
        let url = format!("http://{}{target}", gateway.address());
        let explained = explain(&prepared, asking(method, &url, &fields, None)).await;
        let explained = serde_json::to_value(&explained).unwrap();
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in &fields {
            request = request.header(*name, *value);
        }
        let reply = gateway.client().await.send(request, "").await;
        let decision = &explained["decision"];
        let what = format!("{method} {target} {fields:?}: {explained:#}");
        assert_eq!(reply.status == 400, is_refused, "{what}");
        assert_eq!(decision["kind"] == "refuse", is_refused, "{what}");
        if is_refused {
            let (status, code) = reply.outcome();
            assert_eq!((json!(status), json!(code)), came(decision), "{what}");
        }
    }
    let url = format!("http://{}/all", gateway.address());
    let good = explain(&prepared, asking("GET", &url, &with(&[version, key]), None)).await;
    assert!(good.passes(), "{good}");
}

/// A reason that tells how long ago something was (`expired 7 s ago (exp 5, now 12, …)`) without its
/// numbers: between what is explained and what happens a second may begin.
fn without_times(reason: &str) -> String {
    if reason.contains(" s ago") {
        reason.replace(|c: char| c.is_ascii_digit(), "")
    } else {
        reason.to_owned()
    }
}

fn came(decision: &Value) -> (Value, Value) {
    (decision["status"].clone(), decision["code"].clone())
}

fn assert_same(explained: &Value, upstream: &Upstream, what: &str) {
    let seen = upstream.last();
    assert_eq!(explained["path"], json!(seen.target), "{what}");
    let mut expected: Vec<(String, String)> =
        serde_json::from_value(explained["headers"].clone()).unwrap();
    let has_credential = expected.iter().any(|(name, _)| name == "authorization");
    assert_eq!(has_credential, seen.bearer().is_some(), "{what}");
    expected.retain(|(name, _)| !OF_THE_CONNECTION.contains(&&**name));
    for (name, value) in &expected {
        let came = seen.values(name);
        if value == "***" {
            assert!(!came.is_empty(), "{name}: {what}");
        } else {
            assert!(came.contains(value), "{name}: {came:?} {what}");
        }
    }
    for name in ["x-user-id", "x-user-name", "x-missing", "x-c", "x_user_id", "x-v", "cookie"] {
        let is_expected = expected.iter().any(|(own, _)| own == name);
        assert_eq!(!seen.values(name).is_empty(), is_expected, "{name}: {what}");
    }
}
