//! A provider's keys over time, with a whole gateway: absent, late, rotated, emptied, unreachable.

use base64::Engine as _;
use tokio::task::JoinSet;

use crate::support::client::Client;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::keys;
use crate::support::provider::{Endpoint, Provider, Reply};
use crate::support::token::{BOB, CLIENT_ID, TENANT, Token, with_part};
use crate::support::upstream::Upstream;

fn routes_file(provider: &Provider, upstream: &Upstream) -> String {
    let (authority, url) = (provider.base(), upstream.url());
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
providers:
  entra: {{ type: entra, tenant: {TENANT}, authority: "{authority}", client_id: {CLIENT_ID} }}
upstreams:
  plain: {{ url: "{url}" }}
routes:
  - {{ match: {{ path: "/any/{{*rest}}" }}, auth: any, upstream: plain }}
  - {{ match: {{ path: "/open/{{*rest}}" }}, auth: none, upstream: plain }}
"#
    )
}

async fn started() -> (Provider, Upstream, Gateway) {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = Gateway::start(&routes_file(&provider, &upstream));
    gateway.ready().await;
    (provider, upstream, gateway)
}

fn good(provider: &Provider) -> Token {
    Token::entra_v2(&provider.entra_issuer())
}

async fn outcome(client: &mut Client, token: &Token) -> (u16, String) {
    client.get_with("/any/x", &token.build()).await.outcome()
}

fn ok() -> (u16, String) {
    (200, String::new())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_provider_that_is_down_at_the_start_is_missed_by_those_who_need_it_only() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    provider.stop().await;
    let gateway = Gateway::start(&routes_file(&provider, &upstream));
    let mut client = gateway.client().await;
    let token = good(&provider);
    let reply = client.get_with("/any/x", &token.build()).await;
    assert_eq!(reply.outcome(), refused(503, "provider_unavailable"));
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(client.get("/open/x").await.status, 200);
    assert_eq!(client.get("/any/x").await.outcome(), refused(401, "token_missing"));

    let mut admin = Client::http1(gateway.admin_address()).await;
    admin.is_not_a_gateway();
    let ready = admin.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(String::from_utf8_lossy(&ready.body).contains("entra"), "{ready:?}");
    assert_eq!(admin.get("/livez").await.status, 200);

    provider.start_again();
    gateway.ready().await;
    assert_eq!(outcome(&mut client, &token).await, ok());
}

#[tokio::test]
async fn a_new_key_is_fetched_once_when_the_first_token_names_it() {
    let (provider, _upstream, gateway) = started().await;
    let mut client = gateway.client().await;
    let old = good(&provider);
    assert_eq!(outcome(&mut client, &old).await, ok());
    assert_eq!(provider.count(Endpoint::Keys), 1);

    provider.publish(&[keys::rsa(), keys::rsa_other()]);
    let new = good(&provider).signed_by(&keys::rsa_other());
    let connection = gateway.client_http2().await;
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let (mut client, new) = (connection.beside(), new.clone());
        calls.spawn(async move { outcome(&mut client, &new).await });
    }
    let outcomes = crate::support::within("fifty answers", calls.join_all()).await;
    assert_eq!(outcomes, vec![ok(); 50]);
    assert_eq!(provider.count(Endpoint::Keys), 2);
    assert_eq!(outcome(&mut client, &old.user(BOB)).await, ok());
}

#[tokio::test]
async fn a_thousand_unknown_keys_are_one_fetch() {
    let (provider, upstream, gateway) = started().await;
    let before = provider.count(Endpoint::Keys);
    let connection = gateway.client_http2().await;
    let mut calls = JoinSet::new();
    for number in 0..1000 {
        let token = good(&provider).header("kid", format!("unknown-{number}")).build();
        let mut client = connection.beside();
        calls.spawn(async move { client.get_with("/any/x", &token).await.outcome() });
    }
    let outcomes = crate::support::within("a thousand answers", calls.join_all()).await;
    assert_eq!(outcomes.len(), 1000);
    for outcome in outcomes {
        assert_eq!(outcome, refused(401, "token_invalid"));
    }
    assert_eq!(provider.count(Endpoint::Keys) - before, 1);
    assert_eq!(upstream.count(), 0);
    assert_eq!(outcome(&mut gateway.client().await, &good(&provider)).await, ok());
}

/// A token that names a key of its own; the signature is of no interest.
fn with_kid(token: &str, kid: &str) -> String {
    with_part(token, 0, |_| {
        let header = serde_json::json!({ "alg": "RS256", "typ": "JWT", "kid": kid });
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header.to_string())
    })
}

#[tokio::test]
async fn ten_thousand_random_keys_are_one_fetch_in_thirty_seconds_and_hold_up_nobody() {
    const TOKENS: usize = 10_000;
    const STEPS: usize = 30;
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = Gateway::start_in_virtual_time(&routes_file(&provider, &upstream));
    gateway.ready().await;
    let before = provider.count(Endpoint::Keys);
    let template = good(&provider).build();

    // While the keys are being fetched, and nothing comes back: time stands still, so whoever
    // is served did not wait for it.
    let gate = Gate::new();
    provider.script(Endpoint::Keys, Reply::Held(gate.clone(), Box::new(Reply::Usual)));
    let connection = gateway.client_http2().await;
    let mut waiting = JoinSet::new();
    for _ in 0..100 {
        let token = with_kid(&template, &format!("{:032x}", fastrand::u128(..)));
        let mut client = connection.beside();
        waiting.spawn(async move { client.get_with("/any/x", &token).await.outcome() });
    }
    gate.arrived(1).await;
    let mut client = gateway.client().await;
    for user in 0..50 {
        let token = good(&provider).user(&format!("{user:08x}-0000-4000-8000-000000000001"));
        assert_eq!(outcome(&mut client, &token).await, ok());
    }
    assert_eq!(waiting.len(), 100);
    gate.open();
    for outcome in crate::support::within("a hundred answers", waiting.join_all()).await {
        assert_eq!(outcome, refused(401, "token_invalid"));
    }

    // And after that, over five minutes.
    for _ in 0..STEPS {
        gateway.pass(std::time::Duration::from_secs(10)).await;
        let connection = gateway.client_http2().await;
        let mut calls = JoinSet::new();
        for _ in 0..(TOKENS - 100) / STEPS {
            let token = with_kid(&template, &format!("{:032x}", fastrand::u128(..)));
            let mut client = connection.beside();
            calls.spawn(async move { client.get_with("/any/x", &token).await.outcome() });
        }
        let mut client = connection.beside();
        assert_eq!(outcome(&mut client, &good(&provider).user(BOB)).await, ok());
        for outcome in crate::support::within("the answers", calls.join_all()).await {
            assert_eq!(outcome, refused(401, "token_invalid"));
        }
    }
    let fetches = provider.count(Endpoint::Keys) - before;
    assert!((2..=11).contains(&fetches), "{fetches} fetches in 300 s");
}

#[tokio::test]
async fn a_key_set_that_is_empty_or_broken_does_not_replace_the_keys() {
    for text in [r#"{"keys":[]}"#, r#"{"keys":[{"kty":"RSA"}]}"#, "{}", "<html>", "[]", ""] {
        let (provider, _upstream, gateway) = started().await;
        let mut client = gateway.client().await;
        provider.publish_text(text);
        let unknown = good(&provider).signed_by(&keys::rsa_other());
        let asked = outcome(&mut client, &unknown).await;
        assert_eq!(asked, refused(503, "provider_unavailable"), "{text:?}");
        assert_eq!(provider.count(Endpoint::Keys), 2, "{text:?}");
        assert_eq!(outcome(&mut client, &good(&provider).user(BOB)).await, ok(), "{text:?}");
    }
}

#[tokio::test]
async fn a_thousand_keys_are_read_and_no_more() {
    for (before, expected) in [(999, ok()), (1_000, refused(401, "token_invalid"))] {
        let (provider, _upstream, gateway) = started().await;
        let mut client = gateway.client().await;
        let others = (0..before).map(|number| {
            let mut jwk = provider.entra_jwk(&keys::rsa());
            jwk["kid"] = serde_json::json!(format!("other-{number}"));
            jwk
        });
        let last = provider.entra_jwk(&keys::rsa_other());
        provider.publish_jwks(&others.chain([last]).collect::<Vec<_>>());
        let token = good(&provider).signed_by(&keys::rsa_other());
        assert_eq!(outcome(&mut client, &token).await, expected, "{before} before it");
    }
}

#[tokio::test]
async fn an_outage_after_the_keys_are_there_is_not_noticed_by_good_tokens() {
    let (provider, _upstream, gateway) = started().await;
    let mut client = gateway.client().await;
    let seen_before = good(&provider);
    assert_eq!(outcome(&mut client, &seen_before).await, ok());
    provider.stop().await;
    assert_eq!(outcome(&mut client, &seen_before).await, ok());
    assert_eq!(outcome(&mut client, &good(&provider).user(BOB)).await, ok());
    // Whether this key exists can't be known.
    let unknown = good(&provider).signed_by(&keys::rsa_other());
    assert_eq!(outcome(&mut client, &unknown).await, refused(503, "provider_unavailable"));
    let mut admin = Client::http1(gateway.admin_address()).await;
    admin.is_not_a_gateway();
    assert_eq!(admin.get("/readyz").await.status, 200, "an outage later does not flip it");
}

#[tokio::test]
async fn a_slow_fetch_holds_up_only_those_who_need_it() {
    let (provider, _upstream, gateway) = started().await;
    let gate = Gate::new();
    provider.script(Endpoint::Keys, Reply::Held(gate.clone(), Box::new(Reply::Usual)));
    let unknown = good(&provider).signed_by(&keys::rsa_other()).build();
    let mut waiting = gateway.client().await;
    let waits = tokio::spawn(async move { waiting.get_with("/any/x", &unknown).await.outcome() });
    gate.arrived(1).await;
    let mut client = gateway.client().await;
    assert_eq!(outcome(&mut client, &good(&provider).user(BOB)).await, ok());
    assert!(!waits.is_finished());
    gate.open();
    assert_eq!(waits.await.unwrap(), refused(401, "token_invalid"));
}

#[tokio::test]
async fn a_fetch_that_hangs_is_given_up_after_the_timeout_of_the_provider() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let file = routes_file(&provider, &upstream);
    let file = file.replace("type: entra,", "type: entra, timeout: 1s,");
    let gateway = Gateway::start(&file);
    gateway.ready().await;
    provider.always(Endpoint::Keys, Reply::Hang);
    let unknown = good(&provider).signed_by(&keys::rsa_other());
    let mut client = gateway.client().await;
    assert_eq!(outcome(&mut client, &unknown).await, refused(503, "provider_unavailable"));
    assert_eq!(outcome(&mut client, &good(&provider)).await, ok());
}
