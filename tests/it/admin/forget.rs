//! `DELETE /api/v1/cache`: what it takes, from whom, and what is forgotten by one gateway.

mod replicas;

use http::Request;
use http::request::Builder;
use serde_json::json;

use super::{GRAPH, OPEN, file, start};
use crate::support::admin::{Admin, assert_is};
use crate::support::client::Reply;
use crate::support::gateway::Gateway;
use crate::support::provider::{Endpoint, Provider};
use crate::support::registry;
use crate::support::replicas::{Fleet, UPSTREAMS};
use crate::support::token::TENANT;
use crate::support::upstream::Upstream;

const TOKEN: &str = "it-admin-token-of-forgetting-70aa1c";

fn delete(query: &str) -> Builder {
    Request::delete(format!("/api/v1/cache{query}"))
}

/// Forgets what `query` names; the answer is what its schema says.
async fn forget(gateway: &Gateway, query: &str) -> Reply {
    let reply = Admin::of(gateway).await.send(delete(query), "").await;
    match reply.status.as_u16() {
        200 => assert_is("Forgotten", &reply.json()),
        503 => assert_is("ForgottenHereOnly", &reply.json()),
        _ => {}
    }
    reply
}

#[tokio::test]
async fn one_gateway_forgets_what_is_named_and_nothing_else() {
    let fleet = Fleet::alone();
    let gateway = fleet.gateway().await;
    let users = fleet.users(2);
    let ask_all = async || {
        for user in users.iter() {
            for upstream in 0..UPSTREAMS.len() {
                assert_eq!(user.ask(gateway.address(), upstream).await.0, 200);
            }
        }
        fleet.exchanges()
    };
    assert_eq!(ask_all().await, 4);
    let (tenant, oid) = (TENANT.to_uppercase(), users[0].oid.to_uppercase());
    let mut exchanges = 4;
    for (query, dropped) in [
        (String::new(), 4),
        (format!("?upstream={}", UPSTREAMS[1].0), 2),
        (format!("?tenant={tenant}&oid={oid}"), 2),
        (format!("?oid={}&tenant={TENANT}&upstream={}", users[1].oid, UPSTREAMS[0].0), 1),
        (format!("?tenant={TENANT}&oid=nobody"), 0),
        (format!("?tenant=99999999-2222-3333-4444-555555555555&oid={oid}"), 0),
    ] {
        let reply = forget(&gateway, &query).await;
        assert_eq!(reply.status, 200, "{query}");
        let answer = reply.json();
        assert_eq!(answer["dropped"], json!(dropped), "{query}");
        assert_eq!(answer["replicas"], "share_nothing");
        exchanges += dropped;
        assert_eq!(ask_all().await, exchanges, "{query}");
        assert_eq!(ask_all().await, exchanges, "{query}");
    }
    let log = gateway.log().text();
    let said =
        format!("of everybody for upstream \\\"{}\\\" are forgotten: 2 here", UPSTREAMS[1].0);
    assert_eq!(log.matches(&said).count(), 1, "{log}");
    assert!(log.contains(&format!("of user \\\"{oid}\\\" of tenant \\\"{tenant}\\\"")), "{log}");
    fleet.assert_tokens_are_the_users();
}

#[tokio::test]
async fn what_names_nothing_is_refused_and_forgets_nothing() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let oidc = format!(
        "providers:\n  sso: {{ type: oidc, issuer: \"{}\", audiences: [orders] }}\n",
        provider.oidc_issuer()
    );
    let graph = GRAPH.replace("auth: {", "auth: { providers: [entra],");
    let yaml = file(&provider, &upstream, "", &[&graph, OPEN]).replace("providers:\n", &oidc);
    let gateway = Gateway::start(&yaml);
    gateway.ready().await;
    for (query, said) in [
        ("?upstream=nobody", "`/api/v1/upstreams`"),
        ("?upstream=", "`upstream` is empty"),
        ("?upstream=graph&upstream=graph", "`upstream` is there twice"),
        ("?route=graph", "known: `upstream`, `tenant`"),
        ("?name=graph", "known: `upstream`, `tenant`"),
        ("?oid=x", "`tenant` and `oid`"),
        ("?tenant=11111111-2222-3333-4444-555555555555", "`tenant` and `oid`"),
        ("?tenant=11111111-2222-3333-4444-555555555555&oid=", "`oid` is empty"),
        ("?tenant=contoso.example&oid=x", "a GUID"),
        ("?provider=sso", "`provider` and `user`"),
        ("?provider=sso&oid=x", "`provider` and `user`"),
        ("?provider=nobody&user=x", "`/api/v1/providers`"),
        ("?provider=entra&user=x", "`tenant` and `oid`"),
        ("?tenant=11111111-2222-3333-4444-555555555555&oid=x&user=y", "and no others"),
    ] {
        let reply = forget(&gateway, query).await;
        assert_eq!(reply.outcome(), (400, "bad_request".to_owned()), "{query}");
        let answer = reply.json();
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains(said) && !detail.contains("nobody"), "{query}: {detail}");
    }
    for query in ["?provider=sso&user=x", "?upstream=graph&provider=sso&user=x", "?upstream=keyed"]
    {
        assert_eq!(forget(&gateway, query).await.status, 200, "{query}");
    }
    assert!(!gateway.log().text().contains("nobody"));
    let mut admin = Admin::of(&gateway).await;
    assert_eq!(admin.send(delete(""), "{\"a\":1}").await.outcome().0, 400);
    assert_eq!(admin.send(delete(""), "{}").await.status, 200);
    assert_eq!(admin.try_get("/api/v1/cache?upstream=graph").await.outcome().0, 400);
    let post = admin.send(Request::post("/api/v1/cache"), "").await;
    assert_eq!((post.status.as_u16(), post.header("allow")), (405, Some("GET, HEAD, DELETE")));
    assert_eq!(provider.count(Endpoint::Token), 0);
}

#[tokio::test]
async fn strangers_and_pages_of_other_sites_have_nothing_forgotten() {
    registry::secret(TOKEN);
    let (provider, upstream) = (Provider::start(), Upstream::start());
    for token in [None, Some(TOKEN)] {
        let key = token.map(|token| format!(", token: {token}")).unwrap_or_default();
        let gateway = start(&provider, &upstream, &key);
        let mut admin = Admin::of(&gateway).await;
        if let Some(token) = token {
            let reply = admin.send(delete(""), "").await;
            assert_eq!(reply.outcome(), (401, "token_missing".to_owned()));
            admin = admin.with_token(token);
        } else {
            let foreign = delete("").header("host", "evil.example:9901");
            assert_eq!(admin.send(foreign, "").await.status, 403);
        }
        let own = format!("http://{}", gateway.admin_address());
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let reply = admin.send(delete("").header(name, value), "").await;
            assert_eq!(reply.outcome(), (403, "caller_not_allowed".to_owned()), "{name}: {value}");
        }
        let form = delete("").header("content-type", "application/x-www-form-urlencoded");
        let expected = if token.is_none() { 403 } else { 200 };
        assert_eq!(admin.send(form, "").await.status, expected);
        assert_eq!(admin.send(delete("").header("origin", &own), "").await.status, 200);
        let log = gateway.log().text();
        let done = log.matches("outbound tokens of everybody").count();
        assert_eq!(done, if token.is_none() { 1 } else { 2 }, "{log}");
    }
}
