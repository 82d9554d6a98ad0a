//! The main job, against a whole gateway: match, validate, swap, forward; and the tables of
//! hostile input.

use http::Request;
use serde_json::{Map, Value};
use tokio::task::JoinSet;

use crate::accept::raw_requests;
use crate::authn::hostile_tokens;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::provider::{Endpoint, Provider, Reply};
use crate::support::token::{ALICE, BOB, CLIENT_ID, CLIENT_SECRET, TENANT, Token};
use crate::support::upstream::Upstream;

const GRAPH: &str = "https://graph.microsoft.com/.default";
const ARM: &str = "https://management.azure.com/.default";

/// Two upstreams (one peer), each with a token of its own.
fn routes_file(provider: &Provider, upstream: &Upstream) -> String {
    let (authority, url) = (provider.base(), upstream.url());
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
providers:
  entra:
    type: entra
    tenant: {TENANT}
    authority: {authority}
    client_id: {CLIENT_ID}
    credential: {{ client_secret: "${{CLIENT_SECRET}}" }}
upstreams:
  graph: {{ url: "{url}", token: {{ on_behalf_of: {{ scopes: ["{GRAPH}"] }} }} }}
  arm: {{ url: "{url}", token: {{ on_behalf_of: {{ scopes: ["{ARM}"] }} }} }}
routes:
  - {{ match: {{ path: "/graph/{{*rest}}" }}, auth: {{ scopes: [access_as_user] }}, upstream: graph, rewrite: {{ strip_prefix: /graph }} }}
  - {{ match: {{ path: "/arm/{{*rest}}" }}, auth: {{ scopes: [access_as_user] }}, upstream: arm, rewrite: {{ strip_prefix: /arm }} }}
"#
    )
}

async fn started() -> (Provider, Upstream, Gateway) {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = Gateway::start(&routes_file(&provider, &upstream));
    gateway.ready().await;
    (provider, upstream, gateway)
}

#[tokio::test]
async fn the_upstream_gets_a_token_of_its_own() {
    let (provider, upstream, gateway) = started().await;
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    for mut client in [gateway.client().await, gateway.client_http2().await] {
        let request = Request::post("/graph/v1.0/me?$select=id")
            .header("authorization", format!("Bearer {token}"));
        let reply = client.send(request, "hello").await;
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"ok"[..]));
        let seen = upstream.last();
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/v1.0/me?$select=id"));
        assert_eq!(&seen.body.start[..], b"hello");
        let issued = provider.issued(&seen.bearer().unwrap()).expect("the provider issued it");
        assert_eq!((issued.user.as_str(), issued.scope.as_str()), (ALICE, GRAPH));
        assert_eq!(issued.assertion, token);
    }
    assert_eq!(provider.count(Endpoint::Token), 1, "the second request uses the cached token");
    let form = &provider.forms()[0];
    assert_eq!(form.field("client_secret"), Some(CLIENT_SECRET));
    assert_eq!(form.path, format!("/{TENANT}/oauth2/v2.0/token"));
}

#[tokio::test]
async fn two_users_and_two_scopes_never_share_a_token() {
    let (provider, upstream, gateway) = started().await;
    let good = Token::entra_v2(&provider.entra_issuer());
    let mut client = gateway.client().await;
    for _ in 0..2 {
        for user in [ALICE, BOB] {
            let token = good.clone().user(user).build();
            for (target, scope) in [("/graph/x", GRAPH), ("/arm/x", ARM)] {
                assert_eq!(client.get_with(target, &token).await.status, 200);
                let issued = provider.issued(&upstream.last().bearer().unwrap()).unwrap();
                assert_eq!((issued.user.as_str(), issued.scope.as_str()), (user, scope));
            }
        }
    }
    assert_eq!(provider.count(Endpoint::Token), 4);
}

#[tokio::test]
async fn a_thousand_first_requests_of_one_user_are_one_exchange() {
    let (provider, upstream, gateway) = started().await;
    let gate = Gate::new();
    provider.script(Endpoint::Token, Reply::Held(gate.clone(), Box::new(Reply::Usual)));
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let connection = gateway.client_http2().await;
        for _ in 0..100 {
            let (mut client, token) = (connection.beside(), token.clone());
            calls.spawn(async move { client.get_with("/graph/x", &token).await.status.as_u16() });
        }
    }
    // All of them are there before the one exchange is answered.
    gate.arrived(1).await;
    gateway.metrics_when("\nobo_gateway_requests_in_flight 1000\n").await;
    gate.open();
    let statuses = crate::support::within("a thousand answers", calls.join_all()).await;
    assert_eq!((statuses.len(), statuses.iter().all(|status| *status == 200)), (1000, true));
    assert_eq!((provider.count(Endpoint::Token), upstream.count()), (1, 1000));
    let metrics = gateway.metrics().await;
    let counted = |result: &str| {
        let wanted = format!("result=\"{result}\"");
        let line = metrics.lines().find(|line| {
            line.starts_with("obo_gateway_token_cache_requests_total{upstream=\"graph\"")
                && line.contains(&wanted)
        });
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap())
    };
    // One that was slow to ask may have found the token already.
    assert_eq!((counted("miss"), counted("coalesced") + counted("hit")), (1, 999));
}

#[tokio::test]
async fn an_outage_of_the_provider_is_no_fault_of_the_caller() {
    let (provider, upstream, gateway) = started().await;
    let token = Token::entra_v2(&provider.entra_issuer());
    provider.stop().await;
    let mut client = gateway.client().await;
    let reply = client.get_with("/graph/x", &token.build()).await;
    assert_eq!(reply.outcome(), (503, "provider_unavailable".to_owned()));
    assert_eq!(upstream.count(), 0);
    provider.start_again();
    // Whoever comes anew is not held back by the failure of another.
    let reply = client.get_with("/graph/x", &token.clone().user(BOB).build()).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn hostile_tokens_come_to_what_the_table_says() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    hostile_tokens::publish(&provider);
    let gateway = Gateway::start(&hostile_tokens::routes_file(&provider, &upstream));
    gateway.ready().await;
    hostile_tokens::run(gateway.address(), &provider, &upstream).await;

    // One event for each, in order, and for each refusal why.
    let rows = hostile_tokens::rows();
    let of_row = |event: &Map<String, Value>| event["path"] != "/any/after";
    let events = gateway.log().access_events_when(rows.len(), of_row).await;
    assert_eq!(events.len(), rows.len());
    for (row, event) in rows.iter().zip(&events) {
        let (status, code) = match row.expect {
            hostile_tokens::Expect::Forwarded => (200, Value::Null),
            hostile_tokens::Expect::Refused(status, code) => (status, Value::from(code)),
        };
        assert_eq!((&event["status"], &event["code"]), (&status.into(), &code), "{}", row.name);
        assert_eq!(has_reason(event), status != 200, "{}: {event:?}", row.name);
    }
}

fn has_reason(event: &Map<String, Value>) -> bool {
    event["reason"].as_str().is_some_and(|reason| !reason.is_empty())
}

#[tokio::test]
async fn raw_requests_come_to_what_the_table_says() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&raw_requests::routes_file(&upstream));
    let refusals = raw_requests::run(gateway.address(), &upstream).await;

    // Each refusal that told its id has its one event, which says why.
    assert!(refusals.len() > 50, "{} refusals", refusals.len());
    let told = |event: &Map<String, Value>| {
        refusals.iter().any(|(id, _)| event["request_id"].as_str() == Some(id))
    };
    let events = gateway.log().access_events_when(refusals.len(), told).await;
    for event in &events {
        assert!(event["code"].is_string() && has_reason(event), "{event:?}");
    }
    for (id, code) in &refusals {
        let of_it: Vec<_> = events.iter().filter(|event| event["request_id"] == *id).collect();
        assert_eq!(of_it.len(), 1, "{code} {id}");
        assert_eq!(of_it[0]["code"], *code);
    }
}
