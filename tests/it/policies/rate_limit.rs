//! Rate limits over sockets: who is counted, when, and what it survives.

use std::time::Duration;

use http::Request;
use serde_json::{Map, Value, json};

use super::file;
use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::provider::{Endpoint, Provider};
use crate::support::token::{ALICE, BOB, Token};
use crate::support::upstream::Upstream;

const LIMITED: (u16, &str) = (429, "rate_limited");

fn route(name: &str, auth: &str, limit: &str) -> String {
    format!(
        "{{ name: {name}, match: {{ path: \"/{name}/{{*rest}}\" }}, auth: {auth}, upstream: up, rate_limit: {{ {limit} }} }}"
    )
}

async fn outcome(client: &mut Client, target: &str, token: &str) -> (u16, String) {
    client.get_with(target, token).await.outcome()
}

fn limited() -> (u16, String) {
    (LIMITED.0, LIMITED.1.to_owned())
}

fn served() -> (u16, String) {
    (200, String::new())
}

#[tokio::test]
async fn a_caller_who_waits_as_told_is_served_again() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let yaml = file(
        &provider,
        &upstream,
        "",
        &[&route("all", "none", "requests: 6, per: 1m, burst: 2, by: route")],
    );
    let gateway = Gateway::start_in_virtual_time(&yaml);
    for mut client in [gateway.client().await, gateway.client_http2().await] {
        for _ in 0..2 {
            assert_eq!(client.get("/all/x").await.status, 200);
        }
        let reply = client.get("/all/x").await;
        assert_eq!(reply.outcome(), limited());
        let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((9..=10).contains(&wait), "{wait}");
        gateway.pass(Duration::from_secs(wait)).await;
        assert_eq!(client.get("/all/x").await.status, 200);
        assert_eq!(client.get("/all/x").await.outcome(), limited());
        gateway.pass(Duration::from_mins(1)).await;
    }
    assert_eq!(upstream.count(), 6);
    let is_refused = |event: &Map<String, Value>| event["status"] == 429;
    let refused = gateway.log().access_events_when(4, is_refused).await.remove(0);
    assert_eq!((&refused["code"], &refused["route"]), (&json!("rate_limited"), &json!("all")));
    assert!(
        refused["reason"].as_str().unwrap().contains("6 requests in 60s, 2 at once"),
        "{refused:?}"
    );
    gateway
        .metrics_when("obo_gateway_requests_total{route=\"all\",method=\"GET\",status=\"429\"} 4")
        .await;
}

#[tokio::test]
async fn users_are_counted_once_verified_and_each_alone() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let routes = [
        route("user", "any", "requests: 2, per: 24h"),
        route("client", "any", "requests: 2, per: 24h, by: client"),
    ];
    let yaml = file(&provider, &upstream, "", &routes.each_ref().map(String::as_str));
    let gateway = Gateway::start(&yaml);
    gateway.ready().await;
    let mut client = gateway.client().await;
    let of = |user: &str| Token::entra_v2(&provider.entra_issuer()).user(user);
    let (alice, bob) = (of(ALICE), of(BOB));
    // What is refused is nobody's: a forged token uses nothing up.
    for _ in 0..5 {
        let forged = crate::support::token::with_flipped_bit(&alice.build());
        assert_eq!(outcome(&mut client, "/user/x", &forged).await.0, 401);
        assert_eq!(client.get("/user/x").await.status, 401);
    }
    for _ in 0..2 {
        // Another token of hers is still hers.
        let token = alice.clone().claim("jti", fastrand::u64(..).to_string()).build();
        assert_eq!(outcome(&mut client, "/user/x", &token).await, served());
    }
    assert_eq!(outcome(&mut client, "/user/x", &alice.build()).await, limited());
    assert_eq!(outcome(&mut client, "/user/x", &bob.build()).await, served());
    // An equal name of another provider, which no Entra user is.
    let other = Token::oidc(&provider.oidc_issuer()).user(ALICE).claim("sub", ALICE).build();
    assert_eq!(outcome(&mut client, "/user/x", &other).await, served());
    // A daemon counts as the client it is.
    let daemon = Token::entra_app(&provider.entra_issuer());
    for expected in [served(), served(), limited()] {
        assert_eq!(outcome(&mut client, "/user/x", &daemon.build()).await, expected);
    }
    // Alice and Bob have one client, and its two requests are used up by both.
    for (token, expected) in
        [(&alice, served()), (&bob, served()), (&alice, limited()), (&bob, limited())]
    {
        assert_eq!(outcome(&mut client, "/client/x", &token.build()).await, expected);
    }
    let azp = alice.clone().claim("azp", "bbbbbbbb-2222-3333-4444-555555555555").build();
    assert_eq!(outcome(&mut client, "/client/x", &azp).await, served());
    assert_eq!(provider.count(Endpoint::Token), 0);
}

#[tokio::test]
async fn addresses_are_counted_before_the_token_as_trusted_proxies_say() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let limit = [route("ip", "any", "requests: 2, per: 24h, by: ip")];
    let limit = limit.each_ref().map(String::as_str);
    let trusted = file(&provider, &upstream, "trusted_proxies: [127.0.0.0/8]", &limit);
    let gateway = Gateway::start(&trusted);
    gateway.ready().await;
    let mut client = gateway.client().await;
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let get = |forwarded: &str| {
        Request::get("/ip/x")
            .header("x-forwarded-for", forwarded)
            .header("authorization", format!("Bearer {token}"))
    };
    // A refused request counts: guessing tokens is what this holds back.
    for _ in 0..2 {
        let guess = Request::get("/ip/x").header("x-forwarded-for", "203.0.113.1");
        let guess = guess.header("authorization", "Bearer guess");
        assert_eq!(client.send(guess, "").await.status, 401);
    }
    for (forwarded, status) in [
        ("203.0.113.1", 429),
        // What the caller himself wrote in front is not believed.
        ("198.51.100.77, 203.0.113.1", 429),
        ("198.51.100.1", 200),
        ("203.0.113.1, 198.51.100.1", 200),
        ("198.51.100.1", 429),
        ("2001:db8:1:2::1", 200),
        ("2001:db8:1:2:ffff::9", 200),
        ("2001:db8:1:2:8000::8", 429),
        ("2001:db8:1:3::1", 200),
    ] {
        assert_eq!(client.send(get(forwarded), "").await.status, status, "{forwarded}");
    }
    // Where no proxy is trusted, the peer is who counts, whatever is written.
    let gateway = Gateway::start(&file(&provider, &upstream, "", &limit));
    gateway.ready().await;
    let mut client = gateway.client().await;
    for (forwarded, status) in [("203.0.113.1", 200), ("203.0.113.2", 200), ("203.0.113.3", 429)] {
        assert_eq!(client.send(get(forwarded), "").await.status, status, "{forwarded}");
    }
}

#[tokio::test]
async fn what_is_used_lasts_over_a_reload_that_leaves_the_limit_as_it_is() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let with = |limit: &str, more: &str| {
        let routes = [route("a", "none", limit), route("b", "none", "requests: 1, per: 24h")];
        file(&provider, &upstream, more, &routes.each_ref().map(String::as_str))
    };
    let gateway = Gateway::start(&with("requests: 1, per: 24h", ""));
    let mut client = gateway.client().await;
    let mut statuses = async |targets: [&str; 2]| {
        let first = client.get(targets[0]).await.status.as_u16();
        (first, client.get(targets[1]).await.status.as_u16())
    };
    assert_eq!(statuses(["/a/x", "/b/x"]).await, (200, 200));
    assert_eq!(statuses(["/a/x", "/b/x"]).await, (429, 429));
    // Other keys of the file, and the same limit in other words.
    gateway.write_file(&with("requests: 1, per: 1440m, burst: 1, by: ip", "max_body_bytes: 1KiB"));
    gateway.reload();
    assert_eq!(statuses(["/a/x", "/b/x"]).await, (429, 429));
    // A file that is refused changes nothing.
    gateway.write_file(&with("requests: 0", ""));
    gateway.try_reload().unwrap_err();
    assert_eq!(statuses(["/a/x", "/b/x"]).await, (429, 429));
    // Another limit begins anew, and alone.
    gateway.write_file(&with("requests: 2, per: 24h, burst: 1", ""));
    gateway.reload();
    assert_eq!(statuses(["/a/x", "/b/x"]).await, (200, 429));
}
