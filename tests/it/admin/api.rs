//! What each answer says, after requests of which it is known how they went.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use http::Request;
use serde_json::{Value, json};

use super::{API_KEY, GRAPH, OPEN, file, start};
use crate::support::admin::{Admin, shipped_schema};
use crate::support::gateway::Gateway;
use crate::support::names::Names;
use crate::support::obo::Answer as TokenAnswer;
use crate::support::provider::{Endpoint, Provider, Reply};
use crate::support::token::{ALICE, CALLER_CLIENT, Token};
use crate::support::upstream::Upstream;

/// What a request with `query` or a path must not leave anywhere.
const QUERY: &str = "q-that-nobody-logs";

#[tokio::test]
async fn every_answer_says_what_happened_and_is_what_its_schema_says() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = start(&provider, &upstream, "");
    gateway.ready().await;
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let poor = Token::entra_v2(&provider.entra_issuer()).claim("scp", "other").build();
    let mut client = gateway.client().await;
    for _ in 0..4 {
        assert_eq!(client.get_with(&format!("/graph/me?{QUERY}=1"), &token).await.status, 200);
    }
    assert_eq!(client.get("/open").await.status, 200);
    assert_eq!(client.get(&format!("/graph/me?{QUERY}")).await.status, 401);
    let users = format!("/graph/users/alice@example.com/{ALICE}?{QUERY}");
    assert_eq!(client.get_with(&users, &poor).await.status, 403);
    assert_eq!(client.get("/nowhere").await.status, 404);
    // Counted when the answer has ended, which the caller may see first.
    gateway.metrics_when("requests_total{route=\"\",method=\"GET\",status=\"404\"} 1").await;

    let mut admin = Admin::of(&gateway).await;
    let routes = admin.get("routes").await;
    assert_eq!((&routes["total"], &routes["next"]), (&json!(2), &Value::Null));
    let [graph, open] = routes["routes"].as_array().unwrap().as_slice() else { panic!() };
    assert_eq!((&graph["name"], &graph["open"]), (&json!("graph"), &json!(false)));
    assert_eq!((&open["name"], &open["open"]), (&json!("open"), &json!(true)));
    assert_eq!(graph["auth"]["scopes"], json!(["access_as_user"]));
    assert_eq!(graph["action"]["token"]["kind"], "on_behalf_of");
    assert_eq!(open["action"]["token"], json!({ "kind": "header", "name": "x-key" }));
    assert_eq!(graph["requests"]["by_status"], json!({ "200": 4, "401": 1, "403": 1 }));
    assert_eq!(graph["requests"]["duration"]["count"], 6);

    let upstreams = admin.get("upstreams").await;
    let graph = &upstreams["upstreams"][0];
    assert_eq!((&graph["name"], &graph["healthy"]), (&json!("graph"), &json!(true)));
    assert_eq!(graph["endpoints"][0]["address"], json!(upstream.authority()));

    let providers = admin.get("providers").await;
    let entra = &providers["providers"][0];
    assert_eq!((&entra["name"], &entra["breaker"]), (&json!("entra"), &json!("closed")));
    assert_eq!(entra["keys"], json!(entra["key_ids"].as_array().unwrap().len()));
    assert!(entra["keys_age_seconds"].is_u64() && entra["failure"].is_null(), "{entra}");
    assert_eq!(entra["totals"]["exchanges"], json!({ "success": 1 }));
    assert!(entra["totals"]["key_fetches"]["success"].as_u64() >= Some(1));
    assert_eq!((&entra["in_flight"], &entra["max_in_flight"]), (&json!(0), &json!(64)));

    let cache = admin.get("cache").await;
    assert_eq!((&cache["entries"], &cache["max_entries"]), (&json!(1), &json!(100_000)));
    assert!(cache["bytes"].as_u64() > Some(0));
    assert_eq!((&cache["totals"]["hit"], &cache["totals"]["miss"]), (&json!(3), &json!(1)));
    assert_eq!(cache["hit_rate"], json!(0.75));
    assert_eq!(cache["upstreams"].as_array().unwrap().len(), 1, "those that asked it");

    let stats = admin.get("stats").await;
    assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(stats["requests"]["requests"], 8);
    assert_eq!(stats["unmatched"]["by_status"], json!({ "404": 1 }));
    assert_eq!(stats["not_ready"], json!([]));
    assert!(stats["connections_open"].as_u64() >= Some(1));
    let codes = json!({ "insufficient_scope": 1, "route_not_found": 1, "token_missing": 1 });
    assert_eq!(stats["refusals"], codes);
    let bounds = stats["bounds_seconds"].as_array().unwrap().len();
    for counted in [&stats["requests"], &stats["routes"][0]] {
        let duration = &counted["duration"];
        let buckets = duration["buckets"].as_array().unwrap();
        assert_eq!(buckets.len(), bounds + 1);
        let sum: u64 = buckets.iter().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(json!(sum), duration["count"]);
    }
    assert_eq!(stats["upstreams"][0]["token_cache"]["hit"], 3);
    assert_eq!(stats["upstreams"][1]["duration"]["count"], 1);
    assert_eq!(stats["providers"][0]["exchanges"], json!({ "success": 1 }));

    refusals(&mut admin).await;
}

/// The last ones, without names unless they are asked for.
async fn refusals(admin: &mut Admin) {
    let answer = admin.get("refusals").await;
    let codes: Vec<_> =
        answer["refusals"].as_array().unwrap().iter().map(|it| &it["code"]).collect();
    assert_eq!(codes, ["route_not_found", "insufficient_scope", "token_missing"]);
    let text = answer.to_string();
    for hidden in [ALICE, CALLER_CLIENT, "alice@example.com", QUERY] {
        assert!(!text.contains(hidden), "`{hidden}` in {text}");
    }
    let scope = &answer["refusals"][1];
    assert_eq!((&scope["status"], &scope["route"]), (&json!(403), &json!("graph")));
    assert_eq!(scope["path"], "/graph/users/(hidden)/(hidden)");
    assert_eq!((&scope["user"], &scope["client_id"]), (&Value::Null, &Value::Null));
    assert_eq!(scope["client_ip"], "127.0.0.1");
    assert!(scope["reason"].as_str().unwrap().contains("`access_as_user`"), "{scope}");

    let answer = admin.get("refusals?names=true").await;
    let scope = &answer["refusals"][1];
    assert_eq!((&scope["user"], &scope["client_id"]), (&json!(ALICE), &json!(CALLER_CLIENT)));
    assert!(scope["path"].as_str().unwrap().contains(ALICE));
    assert!(!answer.to_string().contains(QUERY), "no query, names or not");

    let newest = answer["refusals"][0]["number"].as_u64().unwrap();
    let answer = admin.get(&format!("refusals?since={}", newest - 1)).await;
    assert_eq!(answer["refusals"].as_array().unwrap().len(), 1);
    let answer = admin.get(&format!("refusals?since={newest}")).await;
    assert_eq!(answer["refusals"], json!([]));
}

#[tokio::test]
async fn the_config_is_shown_without_its_secrets() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let secret = "it-admin-token-8a1c77e0d4f2";
    crate::support::registry::secret(secret);
    let gateway = start(&provider, &upstream, &format!(", token: {secret}"));
    let mut admin = Admin::of(&gateway).await.with_token(secret);
    // That no registered secret is in it is looked at in every answer.
    for target in ["routes", "upstreams", "providers", "cache", "config", "stats", "refusals"] {
        assert!(!admin.get(target).await.to_string().contains(API_KEY), "{target}");
    }
    let answer = admin.get("config").await;
    assert_eq!(answer["config"]["routes"].as_array().unwrap().len(), 2);
    assert_eq!(answer["config"]["upstreams"]["keyed"]["token"]["header"]["name"], "x-key");
    assert_eq!(answer["last_reload"], Value::Null);
    assert_eq!(answer["reloads"], json!({ "success": 0, "failure": 0 }));
    assert!(answer["loaded_at"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn a_provider_that_refuses_and_one_that_is_down_can_be_seen() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = start(&provider, &upstream, "");
    gateway.ready().await;
    let refusal = TokenAnswer::aadsts(401, "invalid_client", 7_000_222);
    provider.always(Endpoint::Token, Reply::Answer(refusal));
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    assert_eq!(gateway.client().await.get_with("/graph/me", &token).await.status, 502);
    let mut admin = Admin::of(&gateway).await;
    let answer = admin.get("providers").await;
    assert_eq!(answer["providers"][0]["totals"]["exchanges"], json!({ "exchange_failed": 1 }));
    gateway.metrics_when("status=\"502\"} 1").await;
    let reason = admin.get("refusals").await["refusals"][0]["reason"].clone();
    assert!(reason.as_str().unwrap().contains("AADSTS7000222"), "{reason}");
}

#[tokio::test]
async fn an_endpoint_that_has_no_address_is_shown_without_one() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let yaml = file(&provider, &upstream, "", &[GRAPH, OPEN])
        .replace(&upstream.authority(), "graph.internal:8080");
    let gateway = Gateway::start_with_names(&Names::default(), &yaml);
    let mut admin = Admin::of(&gateway).await;
    let endpoint = |answer: &Value| answer["upstreams"][1]["endpoints"][0].clone();
    let before = endpoint(&admin.get("upstreams").await);
    assert_eq!((&before["address"], &before["healthy"]), (&Value::Null, &json!(true)));
    assert_eq!(gateway.client().await.get("/open").await.status, 502);
    let after = endpoint(&admin.get("upstreams").await);
    assert_eq!(after["endpoint"], "graph.internal:8080");
    assert_eq!((&after["address"], &after["healthy"]), (&Value::Null, &json!(false)));
}

#[tokio::test]
async fn many_routes_come_in_pages() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let mut routes = String::new();
    for number in 0..2345 {
        writeln!(
            routes,
            "  - {{ name: r{number}, match: {{ path: /r{number} }}, auth: none, respond: {{ status: 204 }} }}"
        )
        .unwrap();
    }
    let gateway = Gateway::start(&format!("{}{routes}", file(&provider, &upstream, "", &[GRAPH])));
    let mut admin = Admin::of(&gateway).await;
    for (target, list, name, total) in
        [("routes", "routes", "name", "total"), ("stats", "routes", "route", "routes_total")]
    {
        let (mut seen, mut pages, mut after) = (BTreeSet::new(), 0, String::new());
        loop {
            let answer = admin.get(&format!("{target}?{after}")).await;
            assert_eq!(answer[total], 2346);
            let rows = answer[list].as_array().unwrap();
            assert!(rows.len() <= 1000);
            seen.extend(rows.iter().map(|row| row[name].as_str().unwrap().to_owned()));
            pages += 1;
            let Some(next) = answer["next"].as_str() else { break };
            after = format!("after={next}");
        }
        assert_eq!((seen.len(), pages), (2346, 3), "{target}");
        let one = admin.get(&format!("{target}?name=r7")).await;
        assert_eq!(one[list].as_array().unwrap().len(), 1);
        let all = admin.get(&format!("{target}?limit=10000")).await;
        assert_eq!(all[list].as_array().unwrap().len(), 2346);
    }
    // Of upstreams the first are told, and that there are more.
    for (limit, told) in [(1, 1), (2, 2), (3, 2)] {
        let stats = admin.get(&format!("stats?limit={limit}")).await;
        assert_eq!(stats["upstreams"].as_array().unwrap().len(), told);
        assert_eq!(stats["upstreams_total"], 2);
    }
}

#[tokio::test]
async fn what_is_asked_wrongly_is_answered() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = start(&provider, &upstream, "");
    let mut admin = Admin::of(&gateway).await;
    for path in ["routes", "upstreams", "providers", "cache", "config", "stats", "refusals"] {
        let target = format!("/api/v1/{path}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            let (allowed, changes) = match path {
                "cache" => ("GET, HEAD, DELETE", method == "DELETE"),
                _ => ("GET, HEAD", false),
            };
            if changes {
                continue;
            }
            let reply = admin.send(Request::builder().method(method).uri(&target), "").await;
            assert_eq!(reply.outcome(), (405, "method_not_allowed".to_owned()), "{method} {path}");
            assert_eq!(reply.header("allow"), Some(allowed));
        }
        let head = admin.send(Request::head(&target), "").await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        let wrong = admin.try_get(&format!("{target}?token=x")).await;
        assert_eq!(wrong.outcome(), (400, "bad_request".to_owned()), "{path}");
    }
    for path in ["/api/v1", "/api/v1/", "/api/v1/routes/", "/api/v1/route", "/api/v2/routes", "/x"]
    {
        assert_eq!(
            admin.try_get(path).await.outcome(),
            (404, "route_not_found".to_owned()),
            "{path}"
        );
    }
    let schema = admin.try_get("/api/v1/schema").await;
    assert_eq!(schema.status, 200);
    assert_eq!(schema.json(), shipped_schema());
}
