//! Tokens that the machine gives the gateway, in place of the caller's.

use std::fmt::Write as _;

use http::Request;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::client::Client;
use crate::support::clock::START;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::managed_identity::{Asked, MetadataHost};
use crate::support::obo::Answer;
use crate::support::provider::{Endpoint, Provider};
use crate::support::token::{ALICE, BOB, CLIENT_ID, TENANT, Token};
use crate::support::upstream::{Answer as UpstreamAnswer, Upstream};
use obo_gateway::clock::UnixTime;

const ARM: &str = "https://management.azure.com";
const VAULT: &str = "https://vault.azure.net";

/// `/{name}` goes to the upstream of that name, whose token is what is said.
fn routes_file(provider: &Provider, upstreams: &[(&str, &Upstream, &str)]) -> String {
    let mut file = format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
providers:
  entra:
    type: entra
    tenant: {TENANT}
    authority: {}
    client_id: {CLIENT_ID}
upstreams:
"#,
        provider.base()
    );
    for (name, upstream, token) in upstreams {
        let url = upstream.url();
        writeln!(
            file,
            "  {name}: {{ url: \"{url}\", token: {{ managed_identity: {{ {token} }} }} }}"
        )
        .unwrap();
    }
    file += "routes:\n";
    for (name, ..) in upstreams {
        writeln!(file, "  - {{ match: {{ path: /{name} }}, auth: any, upstream: {name} }}")
            .unwrap();
    }
    file
}

async fn start(
    host: &MetadataHost,
    provider: &Provider,
    upstreams: &[(&str, &Upstream, &str)],
) -> Gateway {
    let gateway = Gateway::start_in(&host.variables(), &routes_file(provider, upstreams));
    gateway.ready().await;
    gateway
}

fn token_of(provider: &Provider, user: &str) -> String {
    Token::entra_v2(&provider.entra_issuer()).user(user).build()
}

fn resource(resource: &str) -> String {
    format!("resource: \"{resource}\"")
}

/// What the log says of the request that got `code`.
async fn reason(gateway: &Gateway, code: &str) -> String {
    let events = gateway.log().access_events_when(1, |event| event["code"] == *code).await;
    events[0]["reason"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn one_token_of_imds_serves_all_callers_until_it_expires() {
    let (host, provider, upstream) = (MetadataHost::imds(), Provider::start(), Upstream::start());
    let gateway = start(&host, &provider, &[("arm", &upstream, &resource(ARM))]).await;
    let mut client = gateway.client().await;
    for user in [ALICE, BOB, ALICE] {
        assert_eq!(client.get_with("/arm", &token_of(&provider, user)).await.status, 200);
    }
    assert_eq!(host.asked(), [Asked::system(ARM)]);
    let shown = upstream.seen().pop().unwrap().bearer().unwrap();
    assert_eq!(host.issued(&shown), Some(Asked::system(ARM)));
    // An application's token is as good as a user's: it is not swapped.
    let app = Token::entra_app(&provider.entra_issuer()).build();
    assert_eq!(client.get_with("/arm", &app).await.status, 200);
    assert_eq!((host.asked().len(), provider.count(Endpoint::Token)), (1, 0));
    let metrics = gateway.metrics().await;
    for line in [
        r#"exchanges_total{provider="managed_identity",upstream="arm",outcome="success"} 1"#,
        r#"token_cache_requests_total{upstream="arm",result="miss"} 1"#,
        r#"token_cache_requests_total{upstream="arm",result="hit"} 3"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }

    let mut shown_at = async |second: u64| {
        let now = UnixTime(START.0 + second);
        gateway.clock().set(now);
        let token = Token::entra_v2(&provider.entra_issuer()).issued_at(now).build();
        assert_eq!(client.get_with("/arm", &token).await.status, 200);
        upstream.seen().pop().unwrap().bearer().unwrap()
    };
    assert_eq!(shown_at(2_000).await, shown);
    assert_eq!(host.asked().len(), 1);
    // It is renewed behind the back of the request that finds it old.
    assert_eq!(shown_at(3_568).await, shown);
    gateway
        .metrics_when(
            r#"exchanges_total{provider="managed_identity",upstream="arm",outcome="success"} 2"#,
        )
        .await;
    assert_ne!(shown_at(3_569).await, shown);
    assert_eq!(host.asked().len(), 2);
}

#[tokio::test]
async fn app_service_gives_each_upstream_and_identity_a_token_of_its_own() {
    let (host, provider) = (MetadataHost::app_service(), Provider::start());
    let upstreams = [Upstream::start(), Upstream::start(), Upstream::start(), Upstream::start()];
    let named = format!("{}, client_id: id-1", resource(ARM));
    let other = format!("{}, client_id: id-2", resource(ARM));
    let wanted = [
        ("a", &upstreams[0], &*named),
        ("b", &upstreams[1], &*named),
        ("c", &upstreams[2], &*other),
        ("d", &upstreams[3], &*resource(VAULT)),
    ];
    let gateway = start(&host, &provider, &wanted).await;
    let mut client = gateway.client().await;
    for target in ["/a", "/b", "/c", "/d", "/d", "/c", "/b", "/a"] {
        assert_eq!(client.get_with(target, &token_of(&provider, ALICE)).await.status, 200);
    }
    let expected = [
        Asked::user(ARM, "id-1"),
        Asked::user(ARM, "id-1"),
        Asked::user(ARM, "id-2"),
        Asked::system(VAULT),
    ];
    assert_eq!(host.asked(), expected);
    let mut shown = Vec::new();
    for (upstream, asked) in upstreams.iter().zip(expected) {
        let seen: Vec<_> = upstream.seen().iter().map(|seen| seen.bearer().unwrap()).collect();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0], seen[1]);
        assert_eq!(host.issued(&seen[0]), Some(asked));
        assert!(!shown.contains(&seen[0]), "two upstreams share a token");
        shown.push(seen[0].clone());
    }
}

#[tokio::test]
async fn a_crowd_waits_for_one_call() {
    let (host, provider, upstream) = (MetadataHost::imds(), Provider::start(), Upstream::start());
    let gateway = start(&host, &provider, &[("arm", &upstream, &resource(ARM))]).await;
    let gate = Gate::new();
    host.hold(&gate);
    let mut calls = JoinSet::new();
    for number in 0..20 {
        let token = token_of(&provider, if number % 2 == 0 { ALICE } else { BOB });
        let address = gateway.address();
        calls.spawn(
            async move { Client::http1(address).await.get_with("/arm", &token).await.status },
        );
    }
    gate.arrived(1).await;
    gate.open();
    let statuses = crate::support::within("the crowd", calls.join_all()).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(host.asked().len(), 1);
}

#[tokio::test]
async fn a_token_of_unknown_life_is_used_once() {
    let (host, provider, upstream) = (MetadataHost::imds(), Provider::start(), Upstream::start());
    let gateway = start(&host, &provider, &[("arm", &upstream, &resource(ARM))]).await;
    let mut client = gateway.client().await;
    let token = token_of(&provider, ALICE);
    host.set_life(json!({}));
    for _ in 0..2 {
        assert_eq!(client.get_with("/arm", &token).await.status, 200);
    }
    assert_eq!(host.asked().len(), 2);
    host.set_life(json!({ "expires_on": (START.0 + 600).to_string() }));
    for _ in 0..2 {
        assert_eq!(client.get_with("/arm", &token).await.status, 200);
    }
    assert_eq!(host.asked().len(), 3);
}

#[tokio::test]
async fn what_the_host_refuses_is_our_fault_and_says_what_to_do() {
    let (host, provider, upstream) = (MetadataHost::imds(), Provider::start(), Upstream::start());
    let named = format!("{}, client_id: id-1", resource(ARM));
    let gateway = start(&host, &provider, &[("arm", &upstream, &named)]).await;
    let mut client = gateway.client().await;
    let token = token_of(&provider, ALICE);
    let refused =
        json!({ "error": "invalid_request", "error_description": "Identity of Eve not found" });
    host.script(Answer::json(400, &refused));
    let reply = client.get_with("/arm", &token).await;
    assert_eq!(reply.outcome(), (502, "exchange_failed".to_owned()));
    let log = reason(&gateway, "exchange_failed").await;
    assert!(log.contains("no token of identity `id-1` for resource `https://management.azure.com` from IMDS: status 400, error `invalid_request`: it knows no such identity here, or no such resource; assign the user-assigned identity with client id `id-1`"), "{log}");
    assert!(!log.contains("Eve"), "{log}");

    // A caller in a loop does not reach the host again at once.
    for _ in 0..3 {
        assert_eq!(client.get_with("/arm", &token).await.status, 502);
    }
    assert_eq!((host.asked().len(), upstream.seen().len()), (1, 0));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_nothing_else_taken_for_a_token() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let token = token_of(&provider, ALICE);
    for answer in [
        Answer::json(302, &json!({})).header("location", &format!("{}/x", provider.base())),
        Answer::text(200, "text/html", "<html>"),
        Answer::json(200, &json!({ "access_token": "x", "token_type": "pop" })),
    ] {
        let host = MetadataHost::app_service();
        let gateway = start(&host, &provider, &[("arm", &upstream, &resource(ARM))]).await;
        host.script(answer);
        let reply = gateway.client().await.get_with("/arm", &token).await;
        assert_eq!(reply.outcome(), (502, "exchange_failed".to_owned()));
        assert_eq!(host.asked().len(), 1);
    }
    assert_eq!((provider.count(Endpoint::Elsewhere), upstream.seen().len()), (0, 0));
}

#[tokio::test]
async fn a_host_that_throttles_is_left_alone() {
    let (host, provider, upstream) = (MetadataHost::imds(), Provider::start(), Upstream::start());
    let gateway = start(&host, &provider, &[("arm", &upstream, &resource(ARM))]).await;
    let mut client = gateway.client().await;
    host.script(Answer::json(429, &json!({})).header("retry-after", "3000"));
    for _ in 0..3 {
        let reply = client.get_with("/arm", &token_of(&provider, ALICE)).await;
        assert_eq!(reply.outcome(), (503, "provider_unavailable".to_owned()));
        let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((2900..=3000).contains(&wait), "{wait}");
        // That it was asked to wait is not forgotten with the configuration.
        gateway.reload();
    }
    assert_eq!(host.asked().len(), 1);
}

#[tokio::test]
async fn a_passing_error_is_tried_again_while_the_caller_waits() {
    let (host, provider) = (MetadataHost::app_service(), Provider::start());
    let upstream = Upstream::start();
    let gateway = start(&host, &provider, &[("arm", &upstream, &resource(ARM))]).await;
    host.script(Answer::text(503, "text/html", "<html>"));
    let reply = gateway.client().await.get_with("/arm", &token_of(&provider, ALICE)).await;
    assert_eq!((reply.status.as_u16(), host.asked().len()), (200, 2));
}

#[tokio::test]
async fn no_host_is_no_outage_of_the_caller() {
    let (host, provider, upstream) = (MetadataHost::imds(), Provider::start(), Upstream::start());
    let gateway = start(&host, &provider, &[("arm", &upstream, &resource(ARM))]).await;
    host.stop().await;
    let reply = gateway.client().await.get_with("/arm", &token_of(&provider, ALICE)).await;
    assert_eq!(reply.outcome(), (503, "provider_unavailable".to_owned()));
    assert!(reply.header("retry-after").is_some());
    let log = reason(&gateway, "provider_unavailable").await;
    assert!(log.contains("does the gateway run in Azure"), "{log}");
}

#[tokio::test]
async fn an_upstream_that_refuses_the_token_gets_a_new_one() {
    let (host, provider, upstream) = (MetadataHost::imds(), Provider::start(), Upstream::start());
    let gateway = start(&host, &provider, &[("arm", &upstream, &resource(ARM))]).await;
    let mut refuse = true;
    upstream.answer(move |_| {
        UpstreamAnswer::status(if std::mem::take(&mut refuse) { 401 } else { 200 })
    });
    let mut client = gateway.client().await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let token = token_of(&provider, ALICE);
        statuses.push(client.get_with("/arm", &token).await.status.as_u16());
    }
    assert_eq!((statuses, host.asked().len()), (vec![401, 200, 200], 2));
}

#[tokio::test]
async fn a_challenge_of_the_upstream_is_not_the_callers() {
    let (host, provider, upstream) = (MetadataHost::imds(), Provider::start(), Upstream::start());
    let gateway = start(&host, &provider, &[("arm", &upstream, &resource(ARM))]).await;
    let mut challenge = true;
    upstream.answer(move |_| {
        if std::mem::take(&mut challenge) {
            // {"access_token":{"nbf":{"essential":true, "value":"1702682181"}}}
            UpstreamAnswer::status(401).header("www-authenticate", r#"Bearer error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwgInZhbHVlIjoiMTcwMjY4MjE4MSJ9fX0=""#)
        } else {
            UpstreamAnswer::status(200)
        }
    });
    let mut client = gateway.client().await;
    let token = token_of(&provider, ALICE);
    let reply = client.get_with("/arm", &token).await;
    assert_eq!(reply.outcome(), (502, "exchange_failed".to_owned()));
    assert!(reply.header("www-authenticate").is_none());
    assert_eq!(client.get_with("/arm", &token).await.status, 200);
    // The refused token was dropped; whether IMDS has another one is its affair.
    assert_eq!((host.asked().len(), upstream.seen().len()), (2, 2));
}

#[tokio::test]
async fn a_reload_keeps_the_token() {
    let (host, provider, upstream) = (MetadataHost::imds(), Provider::start(), Upstream::start());
    let wanted = [("arm", &upstream, &*resource(ARM))];
    let gateway = start(&host, &provider, &wanted).await;
    let mut client = gateway.client().await;
    let token = token_of(&provider, ALICE);
    assert_eq!(client.get_with("/arm", &token).await.status, 200);
    gateway.write_file(&(routes_file(&provider, &wanted) + "cache: { max_entries: 50 }\n"));
    gateway.reload();
    assert_eq!(client.get_with("/arm", &token).await.status, 200);
    assert_eq!(host.asked().len(), 1);

    let other = resource(VAULT);
    gateway.write_file(&routes_file(&provider, &[("arm", &upstream, &other)]));
    gateway.reload();
    assert_eq!(client.get_with("/arm", &token).await.status, 200);
    assert_eq!(host.asked(), [Asked::system(ARM), Asked::system(VAULT)]);
}

#[tokio::test]
async fn who_has_no_token_gets_none_of_the_machine() {
    let (host, provider, upstream) = (MetadataHost::imds(), Provider::start(), Upstream::start());
    let gateway = start(&host, &provider, &[("arm", &upstream, &resource(ARM))]).await;
    let mut client = gateway.client().await;
    let request = Request::get("/arm").header("metadata", "true").header("x-identity-header", "x");
    assert_eq!(client.send(request, "").await.outcome(), (401, "token_missing".to_owned()));
    let foreign = Token::entra_v2("https://elsewhere.example").build();
    assert_eq!(client.get_with("/arm", &foreign).await.status, 401);
    assert_eq!((host.asked().len(), upstream.seen().len()), (0, 0));
}

#[test]
fn an_address_far_away_is_refused_and_not_shown() {
    let variables = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let file = "listeners: [{ address: \"127.0.0.1:0\" }]\nadmin: { address: \"127.0.0.1:0\" }\n\
                upstreams:\n  arm: { url: \"http://127.0.0.1:1\", token: { managed_identity: { resource: a } } }\n\
                routes:\n  - { match: { path: /arm }, auth: none, upstream: arm }\n";
    let far = variables("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://imds.example");
    let problems = Gateway::try_start_in(&far, file).err().unwrap();
    assert!(problems.contains("AZURE_POD_IDENTITY_AUTHORITY_HOST"), "{problems}");
    assert!(!problems.contains("imds.example"), "{problems}");

    let mut arc = variables("IDENTITY_ENDPOINT", "http://127.0.0.1:1/token");
    arc.extend(variables("IMDS_ENDPOINT", "http://127.0.0.1:1"));
    drop(Gateway::start_in(&arc, file));
    let named = file.replace("resource: a", "resource: a, client_id: b");
    let problems = Gateway::try_start_in(&arc, &named).err().unwrap();
    assert!(problems.contains("Azure Arc has no user-assigned identity"), "{problems}");
}
