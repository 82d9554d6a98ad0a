//! Replicas in one: a user costs one exchange for each upstream, whichever replica is asked, however
//! often, and whoever of them was started anew in between.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::support::balancer::{Balancer, Load, Who, everybody_asks};
use crate::support::client::Client;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::provider::{Endpoint, Reply};
use crate::support::redis::Redis;
use crate::support::replica::Replica;
use crate::support::replicas::{EncryptionKey, Fleet, UPSTREAMS};
use crate::support::within;

const USERS: usize = 150;

#[tokio::test]
async fn three_replicas_exchange_once_for_each_user_and_upstream() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let gateways = fleet.three().await;
    let balancer = Balancer::new(gateways.iter().map(Gateway::address));
    let users = fleet.users(USERS);
    for round in 0..4 {
        everybody_asks(&balancer, &users, 8, round).await.assert_all_served();
        assert_eq!(fleet.exchanges(), USERS * UPSTREAMS.len(), "round {round}");
    }
    // Every replica had its part.
    for gateway in &gateways {
        assert!(gateway.metrics().await.contains("result=\"shared_hit\"}"));
    }
    fleet.assert_tokens_are_the_users();
}

#[tokio::test]
async fn replicas_that_share_nothing_exchange_for_themselves() {
    let fleet = Fleet::alone();
    let gateways = fleet.three().await;
    let alice = fleet.user(0);
    for gateway in &gateways {
        assert_eq!(alice.ask(gateway.address(), 0).await.0, 200);
    }
    assert_eq!(fleet.exchanges(), gateways.len());
}

#[tokio::test]
async fn other_keys_or_another_prefix_share_nothing() {
    let redis = Redis::start();
    let mut fleet = Fleet::sharing(&redis.url());
    let (first, key) = (fleet.gateway().await, EncryptionKey::new());
    fleet.set_keys(&[&key]);
    let second = fleet.gateway().await;
    let alice = fleet.user(0);
    for gateway in [&first, &second, &first, &second] {
        assert_eq!(alice.ask(gateway.address(), 0).await.0, 200);
    }
    assert_eq!(fleet.exchanges(), 2);
    assert_eq!(redis.dump().iter().filter(|entry| entry.kind == "string").count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_killed_and_started_again_under_load_cost_no_exchange_and_no_request() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url()).in_real_time();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(fleet.process().await);
    }
    let balancer = Balancer::new(replicas.iter().map(Replica::address));
    let users = fleet.users(40);
    everybody_asks(&balancer, &users, 8, 0).await.assert_all_served();
    let exchanges = users.len() * UPSTREAMS.len();
    assert_eq!(fleet.exchanges(), exchanges);

    let load = Load::start(&balancer, &Who::Known(Arc::clone(&users)), 8);
    load.more(200).await;
    // Each is killed in the middle of its work, and each is asked to end.
    for (number, kills) in [(0, true), (1, true), (2, true), (0, false), (1, false), (2, false)] {
        let old = replicas.remove(number);
        if kills {
            old.kill();
            balancer.place(number, None);
        } else {
            balancer.place(number, None);
            tokio::task::spawn_blocking(|| old.terminate()).await.unwrap();
        }
        load.more(50).await;
        let new = fleet.process().await;
        balancer.place(number, Some(new.address()));
        replicas.insert(number, new);
        load.more(200).await;
    }
    let met = load.stop().await;
    met.assert_all_served();
    assert_eq!(fleet.exchanges(), exchanges, "a restart is no storm");
    fleet.assert_tokens_are_the_users();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_requests_of_one_user_over_three_replicas_are_one_exchange() {
    const CONNECTIONS: usize = 30;
    const STREAMS: usize = 34;
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let gateways = fleet.three().await;
    let alice = fleet.user(0);
    let gate = Gate::new();
    let held = Reply::Held(gate.clone(), Box::new(Reply::Usual));
    fleet.provider.always(Endpoint::Token, held);
    let mut requests = JoinSet::new();
    for number in 0..CONNECTIONS {
        let connection = Client::http2(gateways[number % gateways.len()].address()).await;
        for _ in 0..STREAMS {
            let (mut client, alice) = (connection.beside(), alice.clone());
            requests.spawn(async move {
                client.get_with(&alice.target(0), &alice.token).await.outcome()
            });
        }
    }
    // All of them wait at once: for the exchange, and for the replica that makes it.
    for gateway in &gateways {
        let waiting = CONNECTIONS * STREAMS / gateways.len();
        gateway.metrics_when(&format!("\nobo_gateway_requests_in_flight {waiting}\n")).await;
    }
    gate.arrived(1).await;
    assert_eq!(fleet.exchanges(), 1);
    gate.open();
    let outcomes = within("all answers", requests.join_all()).await;
    assert!(outcomes.len() >= 1000);
    assert!(outcomes.iter().all(|outcome| *outcome == (200, String::new())), "{outcomes:?}");
    assert_eq!(fleet.exchanges(), 1);
    fleet.assert_tokens_are_the_users();
}

#[tokio::test]
async fn a_token_that_one_replica_was_refused_is_asked_for_anew_by_all() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let (first, second) = (fleet.gateway().await, fleet.gateway().await);
    let alice = fleet.user(0);
    assert_eq!(alice.ask(first.address(), 0).await.0, 200);
    let refused = fleet.upstreams[0].last().bearer().unwrap();
    // The upstream takes that one no more.
    fleet.upstreams[0].answer({
        let refused = refused.clone();
        move |seen| {
            let is_refused = seen.bearer().as_ref() == Some(&refused);
            crate::support::upstream::Answer::status(if is_refused { 401 } else { 200 })
        }
    });
    assert_eq!(alice.ask(first.address(), 0).await.0, 401);
    // It is dropped from the store behind the answer.
    let dropped =
        "\nobo_gateway_shared_cache_requests_total{operation=\"delete\",outcome=\"done\"} 1\n";
    first.metrics_when(dropped).await;
    // Whoever asks next, and wherever: another token, the same for all.
    for gateway in [&second, &first, &second] {
        let (status, _) = alice.ask(gateway.address(), 0).await;
        assert_eq!(status, 200);
        assert_ne!(fleet.upstreams[0].last().bearer().unwrap(), refused);
    }
    assert_eq!(fleet.exchanges(), 2);
}

#[tokio::test]
async fn entries_end_with_their_tokens() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let gateway = fleet.gateway().await;
    fleet.provider.set_expires_in(Some(600));
    assert_eq!(fleet.user(0).ask(gateway.address(), 0).await.0, 200);
    fleet.provider.set_expires_in(Some(100_000));
    // The inbound token lives an hour.
    assert_eq!(fleet.user(1).ask(gateway.address(), 1).await.0, 200);
    let kept = redis.dump().into_iter().filter(|entry| entry.kind == "string").count();
    let lives = redis.lives();
    assert_eq!(kept, 2);
    let mut ends: Vec<_> = lives.values().map(|life| life / 1000).collect();
    ends.sort_unstable();
    assert!(ends[0] <= 600 && ends[1] > 600 && ends[1] <= 3600, "{lives:?}");
}
