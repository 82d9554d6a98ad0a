//! `server_timing`: callers are told how long things took, where the route says so.

use std::time::Duration;

use http::Request;

use super::file;
use crate::support::client::Reply;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::token::{Token, bearer};
use crate::support::upstream::{Answer, Upstream};

/// The phases of the gateway's own field, in order, each with its milliseconds.
fn phases(reply: &Reply) -> Vec<(String, f64)> {
    let mut fields = reply.headers.get_all("server-timing").iter();
    let own = fields.next_back().map_or("", |value| value.to_str().unwrap());
    let metric = |metric: &str| {
        let (name, duration) = metric.trim().split_once(";dur=").expect("a duration");
        (name.to_owned(), duration.parse().expect("a number"))
    };
    own.split(',').filter(|metric| !metric.is_empty()).map(metric).collect()
}

fn names(reply: &Reply) -> Vec<String> {
    phases(reply).into_iter().map(|(name, _)| name).collect()
}

#[tokio::test]
async fn answers_say_how_long_things_took() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = Gateway::start_in_virtual_time(&file(&provider, &upstream, "", ""));
    gateway.ready().await;
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let gate = Gate::new();
    let held = gate.clone();
    upstream.answer(move |_| Answer::ok("ok").held_by(&held));
    let mut client = gateway.client().await;
    let request = Request::get("/graph/me").header("authorization", bearer(&token));
    let answered = tokio::spawn(async move { (client.send(request, "").await, client) });
    upstream.seen_when("the request", |seen| !seen.is_empty()).await;
    gateway.pass(Duration::from_millis(250)).await;
    gate.open();
    let (reply, mut client) = answered.await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(names(&reply), ["auth", "exchange", "upstream"]);
    assert!((250.0..251.0).contains(&phases(&reply)[2].1), "{:?}", phases(&reply));
    // Where nobody is asked for a token there is no exchange; a token of the cache is one.
    assert_eq!(names(&client.get("/timed/x").await), ["auth", "upstream"]);
    assert_eq!(
        names(&client.get_with("/graph/me", &token).await),
        ["auth", "exchange", "upstream"]
    );
}

#[tokio::test]
async fn refusals_say_it_too_and_other_routes_say_nothing() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = Gateway::start(&file(&provider, &upstream, "", ""));
    gateway.ready().await;
    upstream.answer(|_| Answer::ok("ok").header("server-timing", "db;dur=5"));
    let mut clients = [gateway.client().await, gateway.client_http2().await];
    for client in &mut clients {
        let refused = client.get("/graph/me").await;
        assert_eq!((refused.status.as_u16(), names(&refused)), (401, vec!["auth".to_owned()]));
        let dead = client.get("/dead/x").await;
        assert_eq!(dead.status, 502);
        assert_eq!(names(&dead), ["auth", "upstream"]);
        assert_eq!(client.get("/nowhere").await.header("server-timing"), None);
        // What the upstream says itself is passed on, with the gateway's own beside it or not.
        let plain = client.get("/plain/x").await;
        let all = |reply: &Reply| {
            let fields = reply.headers.get_all("server-timing").iter();
            fields.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(all(&plain), ["db;dur=5"]);
        let timed = all(&client.get("/timed/x").await);
        assert_eq!((timed.len(), timed[0].as_str()), (2, "db;dur=5"));
        assert!(timed[1].starts_with("auth;dur="), "{timed:?}");
        assert_eq!(client.get("/timed/x").await.header("timing-allow-origin"), None);
    }
}
