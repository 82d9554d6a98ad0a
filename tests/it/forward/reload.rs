//! A new routes file while requests are under way, and the end of a gateway.

use http::Request;
use http_body_util::BodyExt as _;

use super::{all, entra, file, up};
use crate::support::client::{Client, full};
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::provider::{Endpoint, Provider};
use crate::support::token::Token;
use crate::support::upstream::{Answer, Upstream};
use crate::support::within;

const OBO: &str = "token: { on_behalf_of: { scopes: [\"https://graph.microsoft.com/.default\"] } }";

fn routes_file(provider: &Provider, upstream: &Upstream, more: &[&str]) -> String {
    let mut routes =
        vec!["{ name: obo, match: { path: \"/obo/{*rest}\" }, auth: any, upstream: up }"];
    routes.extend(more);
    entra(provider) + &file("", &[&up(&upstream.url(), OBO)], &routes)
}

#[tokio::test]
async fn a_good_file_is_served_and_a_bad_one_is_not() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let old = routes_file(&provider, &upstream, &[]);
    let gateway = Gateway::start(&old);
    gateway.ready().await;
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let mut client = gateway.client().await;
    client.meets_configured_answers();
    assert_eq!(client.get_with("/obo/x", &token).await.status, 200);
    assert_eq!(client.get("/new").await.status, 404);
    let connection = upstream.last().connection;

    let new = "{ name: new, match: { path: /new }, auth: none, respond: { status: 418 } }";
    gateway.write_file(&routes_file(&provider, &upstream, &[new]));
    gateway.reload();
    assert_eq!(client.get("/new").await.status, 418);

    // What did not change goes on: keys, tokens, connections.
    assert_eq!(client.get_with("/obo/x", &token).await.status, 200);
    assert_eq!(upstream.last().connection, connection, "the connection is kept");
    assert_eq!(provider.count(Endpoint::Token), 1, "the token is kept");
    assert_eq!(provider.count(Endpoint::Keys), 1, "the keys are kept");

    let bad = "{ name: bad, match: { path: /bad }, auth: none, upstream: upp }";
    gateway.write_file(&routes_file(&provider, &upstream, &[bad]));
    let problems = gateway.try_reload().unwrap_err();
    assert!(problems.contains("unknown upstream `upp`"), "{problems}");
    assert!(problems.contains("did you mean `up`"), "{problems}");
    gateway.write_file("routes: [");
    gateway.try_reload().unwrap_err();
    assert_eq!(client.get("/new").await.status, 418, "the one in force stays");
    assert_eq!(client.get("/bad").await.status, 404);
    let metrics = gateway.metrics().await;
    for (outcome, count) in [("success", 1), ("failure", 2)] {
        let line = format!("obo_gateway_config_reloads_total{{outcome=\"{outcome}\"}} {count}");
        assert!(metrics.contains(&line), "{line} in\n{metrics}");
    }

    // Routes go too.
    gateway.write_file(&old);
    gateway.reload();
    assert_eq!(client.get("/new").await.status, 404);
}

#[tokio::test]
async fn an_upstream_that_changes_gets_new_connections_and_its_token_no_other_scope() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = Gateway::start(&routes_file(&provider, &upstream, &[]));
    gateway.ready().await;
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let mut client = gateway.client().await;
    assert_eq!(client.get_with("/obo/x", &token).await.status, 200);
    let before = upstream.last();
    let changed = routes_file(&provider, &upstream, &[])
        .replace("https://graph.microsoft.com/.default", "https://management.azure.com/.default")
        .replace(&format!("{}\"", upstream.url()), &format!("{}/base\"", upstream.url()));
    gateway.write_file(&changed);
    gateway.reload();
    assert_eq!(client.get_with("/obo/x", &token).await.status, 200);
    let after = upstream.last();
    assert_eq!(after.target, "/base/obo/x");
    assert_ne!(after.bearer(), before.bearer());
    let issued = provider.issued(&after.bearer().unwrap()).unwrap();
    assert_eq!(issued.scope, "https://management.azure.com/.default");
}

#[tokio::test]
async fn a_request_under_way_keeps_what_it_met() {
    let upstream = Upstream::start();
    let with = |keys: &str| file("", &[&up(&upstream.url(), "")], &[&all(keys)]);
    let gateway = Gateway::start(&with("response_headers: { set: { x-file: old } }"));
    let gate = Gate::new();
    let hold = gate.clone();
    upstream.answer(move |_| Answer::ok("late").held_by(&hold));
    let mut client = gateway.client().await;
    let call = tokio::spawn(async move { client.get("/x").await });
    gate.arrived(1).await;
    gateway.write_file(&with("response_headers: { set: { x-file: new } }"));
    gateway.reload();
    gate.open();
    assert_eq!(call.await.unwrap().header("x-file"), Some("old"));
    assert_eq!(gateway.client().await.get("/x").await.header("x-file"), Some("new"));
}

#[tokio::test]
async fn a_drain_lets_a_slow_stream_end() {
    let upstream = Upstream::start();
    for http2 in [false, true] {
        let gateway =
            Gateway::start(&file("shutdown_grace: 20s", &[&up(&upstream.url(), "")], &[&all("")]));
        let mut client = if http2 { gateway.client_http2().await } else { gateway.client().await };
        let (answer, down) = Answer::stream();
        let mut answer = Some(answer);
        upstream.answer(move |_| answer.take().unwrap());
        let request = Request::get("/x").body(full("")).unwrap();
        let mut body = client.start(request).await.unwrap().into_body();
        down.send(Ok("one".into())).await.unwrap();
        within("a piece", body.frame()).await.unwrap().unwrap();

        let idle = gateway.client().await;
        let mut drain = Box::pin(gateway.running().drain());
        // It begins, and does not end.
        assert!(futures_util::poll!(&mut drain).is_pending());
        let refused = async {
            while tokio::net::TcpStream::connect(gateway.address()).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let waiting = async {
            within("new connections to be refused", refused).await;
            down.send(Ok("two".into())).await.unwrap();
            let frame = within("a piece", body.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), "two");
            drop(down);
            let rest = within("the end", body.collect()).await.unwrap();
            assert_eq!(rest.to_bytes(), "");
        };
        let (cut_off, ()) = tokio::join!(within("the drain", drain), waiting);
        assert_eq!((cut_off.connections, cut_off.requests), (0, 0), "{http2}");
        drop(idle);
    }
}

#[tokio::test]
async fn a_drain_cuts_off_what_outlives_the_grace() {
    let upstream = Upstream::start();
    let gateway =
        Gateway::start(&file("shutdown_grace: 100ms", &[&up(&upstream.url(), "")], &[&all("")]));
    let (answer, down) = Answer::stream();
    let mut answer = Some(answer);
    upstream.answer(move |_| answer.take().unwrap());
    let mut client = Client::http1(gateway.address()).await;
    let request = Request::get("/x").body(full("")).unwrap();
    let mut body = client.start(request).await.unwrap().into_body();
    let cut_off = within("the drain", gateway.running().drain()).await;
    assert_eq!((cut_off.connections, cut_off.requests), (1, 1));
    assert!(within("the end", body.frame()).await.unwrap().is_err());
    within("the upstream to see it", down.closed()).await;
}
