//! Who exchanges when several replicas need the same token: one, as long as it lives.

use std::time::{Duration, Instant};

use crate::support::balancer::Balancer;
use crate::support::gate::Gate;
use crate::support::obo::Answer;
use crate::support::provider::{Endpoint, Reply};
use crate::support::redis::Redis;
use crate::support::replicas::{Fleet, User};
use crate::support::within;

const WAITS: &str = "\nobo_gateway_requests_in_flight 1\n";

const BUSY: &str =
    "\nobo_gateway_shared_cache_requests_total{operation=\"claim\",outcome=\"busy\"} ";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_dies_in_its_exchange_is_followed_by_another() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url()).in_real_time();
    let (first, second) = (fleet.process().await, fleet.process().await);
    let never = Gate::new();
    fleet.provider.script(Endpoint::Token, Reply::Held(never.clone(), Box::new(Reply::Usual)));
    let alice = fleet.user(0);
    let lost = ask(&alice, first.address());
    never.arrived(1).await;
    let served = ask(&alice, second.address());
    second.metrics_when(WAITS).await;
    // As long as the first one lives, the second one waits: the lease is held again and again.
    let lease = one_lease(&redis);
    is_renewed(&redis, &lease).await;
    assert!(!served.is_finished());
    assert_eq!(fleet.exchanges(), 1);
    first.kill();
    assert_eq!(within("the second one to go on", served).await.unwrap(), Some(200));
    assert_eq!(fleet.exchanges(), 2);
    assert_eq!(within("the lost one", lost).await.unwrap(), None);
    // What the dead one left does not stand in anybody's way.
    let third = fleet.process().await;
    assert_eq!(alice.ask(third.address(), 0).await.0, 200);
    assert_eq!(fleet.exchanges(), 2);
}

#[tokio::test]
async fn a_refused_exchange_leaves_the_others_free_at_once() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let gateways = fleet.three().await;
    let refusal = Reply::Answer(Answer::aadsts(400, "invalid_grant", 50_013));
    fleet.provider.script(Endpoint::Token, refusal);
    let alice = fleet.user(0);
    assert_eq!(alice.ask(gateways[0].address(), 0).await.0, 401);
    no_lease_is_left(&redis).await;
    assert_eq!(alice.ask(gateways[1].address(), 0).await.0, 200);
    assert_eq!(alice.ask(gateways[2].address(), 0).await.0, 200);
    assert_eq!(fleet.exchanges(), 2);
}

#[tokio::test]
async fn who_waits_for_a_refused_exchange_asks_for_itself() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let (first, second) = (fleet.gateway().await, fleet.gateway().await);
    let gate = Gate::new();
    let refusal = Reply::Answer(Answer::aadsts(400, "invalid_grant", 50_013));
    fleet.provider.script(Endpoint::Token, Reply::Held(gate.clone(), Box::new(refusal)));
    let alice = fleet.user(0);
    let refused = ask(&alice, first.address());
    gate.arrived(1).await;
    let served = ask(&alice, second.address());
    second.metrics_when(WAITS).await;
    gate.open();
    assert_eq!(within("the refusal", refused).await.unwrap(), Some(401));
    assert_eq!(within("the other one", served).await.unwrap(), Some(200));
    assert_eq!(fleet.exchanges(), 2);
}

#[tokio::test]
async fn nobody_waits_for_a_second_exchange_of_which_nothing_is_shared() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    // Its tokens can't be kept, as it does not say how long they live.
    fleet.provider.set_expires_in(None);
    let gateways = fleet.three().await;
    let (first, others, alice) = (Gate::new(), Gate::new(), fleet.user(0));
    for gate in [&first, &others, &others] {
        let reply = Reply::Held(gate.clone(), Box::new(Reply::Usual));
        fleet.provider.script(Endpoint::Token, reply);
    }
    let mut asked = vec![ask(&alice, gateways[0].address())];
    first.arrived(1).await;
    for gateway in &gateways[1..] {
        asked.push(ask(&alice, gateway.address()));
        gateway.metrics_when(BUSY).await;
    }
    assert_eq!(fleet.exchanges(), 1);
    let since = Instant::now();
    first.open();
    // One has the lease now and is held; the other one asks beside it, long before it gives it up.
    others.arrived(2).await;
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    others.open();
    for served in asked {
        assert_eq!(within("an answer", served).await.unwrap(), Some(200));
    }
    assert_eq!(fleet.exchanges(), 3);
    fleet.assert_tokens_are_the_users();
}

#[tokio::test]
async fn a_lease_is_held_at_the_store_where_it_was_got() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let (first, second) = (fleet.gateway().await, fleet.gateway().await);
    let (refused, slow, alice) = (Gate::new(), Gate::new(), fleet.user(0));
    let refusal = Reply::Answer(Answer::aadsts(400, "invalid_grant", 50_013));
    for (gate, reply) in [(&refused, refusal), (&slow, Reply::Usual)] {
        fleet.provider.script(Endpoint::Token, Reply::Held(gate.clone(), Box::new(reply)));
    }
    let before = ask(&alice, first.address());
    refused.arrived(1).await;
    let served = ask(&alice, second.address());
    second.metrics_when(BUSY).await;
    // The configuration names no store any more while one waits.
    let with = fleet.file();
    let without: String =
        with.split_inclusive('\n').filter(|line| !line.contains("redis: ")).collect();
    assert_ne!(with, without);
    second.write_file(&without);
    second.reload();
    refused.open();
    slow.arrived(1).await;
    is_renewed(&redis, &one_lease(&redis)).await;
    slow.open();
    assert_eq!(within("the refusal", before).await.unwrap(), Some(401));
    assert_eq!(within("the other one", served).await.unwrap(), Some(200));
    no_lease_is_left(&redis).await;
}

#[tokio::test]
async fn who_waits_while_redis_dies_goes_on_by_itself() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url()).timeout(Duration::from_millis(500));
    let (first, second) = (fleet.gateway().await, fleet.gateway().await);
    let gate = Gate::new();
    fleet.provider.script(Endpoint::Token, Reply::Held(gate.clone(), Box::new(Reply::Usual)));
    let alice = fleet.user(0);
    let slow = ask(&alice, first.address());
    gate.arrived(1).await;
    let served = ask(&alice, second.address());
    second.metrics_when(WAITS).await;
    redis.kill();
    assert_eq!(within("the second one", served).await.unwrap(), Some(200));
    assert_eq!(fleet.exchanges(), 2);
    gate.open();
    assert_eq!(within("the first one", slow).await.unwrap(), Some(200));
    fleet.assert_tokens_are_the_users();
}

#[tokio::test]
async fn a_stale_lease_of_nobody_ends_by_itself() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url()).in_real_time();
    let first = fleet.process().await;
    let never = Gate::new();
    fleet.provider.script(Endpoint::Token, Reply::Held(never.clone(), Box::new(Reply::Usual)));
    let alice = fleet.user(0);
    let lost = ask(&alice, first.address());
    never.arrived(1).await;
    let life = redis.lives()[&one_lease(&redis)];
    first.kill();
    // It is short: nobody waits longer for the dead than for a slow provider.
    assert!((1..=10_000).contains(&life), "{life} ms");
    let second = fleet.process().await;
    let balancer = Balancer::new([second.address()]);
    let mut caller = crate::support::balancer::Caller::new(&balancer, 1);
    assert_eq!(caller.ask(&alice, 0).await.0, 200);
    assert_eq!(within("the lost one", lost).await.unwrap(), None);
    assert_eq!(fleet.exchanges(), 2);
}

#[tokio::test]
async fn what_is_no_lease_holds_nobody_up() {
    const A_DAY: &[u8] = b"86400000";
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let (first, second) = (fleet.gateway().await, fleet.gateway().await);
    let garbage: [(&str, &[&[u8]]); 4] = [
        ("without an end", &[b"garbage"]),
        ("for a day", &[b"garbage", b"PX", A_DAY]),
        ("of nobody", &[b"", b"PX", A_DAY]),
        ("a list", &[]),
    ];
    for (number, (what, words)) in garbage.iter().enumerate() {
        redis.ask(&[b"FLUSHALL"]);
        let (gate, alice) = (Gate::new(), fleet.user(number));
        fleet.provider.script(Endpoint::Token, Reply::Held(gate.clone(), Box::new(Reply::Usual)));
        let slow = ask(&alice, first.address());
        gate.arrived(1).await;
        let lease = one_lease(&redis);
        redis.ask(&[b"DEL", &lease]);
        if words.is_empty() {
            redis.ask(&[b"RPUSH", &lease, b"garbage"]);
        } else {
            redis.ask(&[&[&b"SET"[..], &lease], *words].concat());
        }
        // Long before it would give up a holder that lives.
        let (status, took) = alice.ask(second.address(), 0).await;
        assert!(status == 200 && took < Duration::from_secs(10), "{what}: {status}, {took:?}");
        gate.open();
        assert_eq!(within("the first one", slow).await.unwrap(), Some(200), "{what}");
    }
    fleet.assert_tokens_are_the_users();
}

/// Asks once; the status, if there was an answer.
fn ask(user: &User, address: std::net::SocketAddr) -> tokio::task::JoinHandle<Option<u16>> {
    let user = user.clone();
    tokio::spawn(async move {
        let mut client = crate::support::client::Client::http1(address).await;
        let request = http::Request::get(user.target(0))
            .header("authorization", crate::support::token::bearer(&user.token));
        client.try_send(request, "").await.ok().map(|reply| reply.status.as_u16())
    })
}

/// The one entry that there is while the first exchange is under way.
fn one_lease(redis: &Redis) -> Vec<u8> {
    let mut entries = redis.dump();
    entries.retain(|entry| entry.kind == "string");
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.swap_remove(0).key
}

/// Waits until there is no entry: a lease is given back behind the answer.
async fn no_lease_is_left(redis: &Redis) {
    let gone = async {
        while redis.dump().iter().any(|entry| entry.kind == "string") {
            // Redis is asked, as it tells nobody; the interval only spares the processor.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the lease to be given back", gone).await;
}

/// Waits until the end of `lease` was put off.
async fn is_renewed(redis: &Redis, lease: &Vec<u8>) {
    let renewed = async {
        let mut before = redis.lives()[lease];
        loop {
            let life = redis.lives()[lease];
            if life > before {
                return;
            }
            before = life;
            // Redis is asked, as it tells nobody; the interval only spares the processor.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the lease to be renewed", renewed).await;
}
