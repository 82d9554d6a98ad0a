//! Three gateways and a real Redis: what one is asked to forget, all forget.

use serde_json::json;

use super::{TENANT, UPSTREAMS, forget};
use crate::support::gateway::Gateway;
use crate::support::redis::Redis;
use crate::support::redis::resp::Value;
use crate::support::replicas::{Fleet, JOINED, User};
use crate::support::within;

const NOTICES: &[u8] = b"obo-gateway:forgotten";

/// Has each user ask both upstreams by `gateway`; how many exchanges there were in all.
async fn ask_all(fleet: &Fleet, gateway: &Gateway, users: &[User]) -> usize {
    for user in users {
        for upstream in 0..UPSTREAMS.len() {
            assert_eq!(user.ask(gateway.address(), upstream).await.0, 200);
        }
    }
    fleet.exchanges()
}

/// Waits until each of `gateways` holds so many tokens in memory.
async fn hold(gateways: &[Gateway], count: usize) {
    let said = format!("\nobo_gateway_token_cache_entries {count}\n");
    for gateway in gateways {
        gateway.metrics_when(&said).await;
    }
}

async fn told(gateway: &Gateway, query: &str) -> usize {
    let reply = forget(gateway, query).await;
    assert_eq!(reply.status, 200, "{query}: {:?}", reply.body);
    let answer = reply.json();
    assert_eq!(answer["replicas"], "told", "{query}");
    usize::try_from(answer["dropped"].as_u64().unwrap()).unwrap()
}

async fn logs(gateway: &Gateway, text: &str) {
    let there = async {
        while !gateway.log().text().contains(text) {
            // Nothing tells of the log; the interval only spares the processor.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within(text, there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_replicas_forget_what_one_was_asked_to() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let (gateways, users) = (fleet.three().await, fleet.users(2));
    let ask = async || {
        let mut exchanges = 0;
        for gateway in &gateways {
            exchanges = ask_all(&fleet, gateway, &users).await;
        }
        hold(&gateways, 4).await;
        exchanges
    };
    assert_eq!(ask().await, 4, "one exchange for all replicas");
    let user = format!("?tenant={TENANT}&oid={}", users[1].oid);
    let mut exchanges = 4;
    for (asked, query, dropped) in [
        (0, String::new(), 4),
        (1, format!("?upstream={}", UPSTREAMS[0].0), 2),
        (2, user.clone(), 2),
        (0, format!("{user}&upstream={}", UPSTREAMS[1].0), 1),
        (1, user, 2),
        (2, String::new(), 4),
    ] {
        assert_eq!(told(&gateways[asked], &query).await, dropped, "{query}");
        hold(&gateways, 4 - dropped).await;
        exchanges += dropped;
        assert_eq!(ask().await, exchanges, "{query}: once for all replicas, and only that");
    }
    fleet.assert_tokens_are_the_users();

    let notices = redis.dump().into_iter().find(|entry| entry.key == NOTICES).unwrap();
    assert_eq!((notices.kind.as_str(), notices.pieces.len()), ("stream", 6 * 3));
    let week = 7 * 24 * 3600 * 1000;
    assert!(redis.lives()[NOTICES] > week, "longer than any token lives");
    for entry in redis.dump() {
        for piece in entry.pieces.iter().chain([&entry.key]) {
            let text = piece.escape_ascii().to_string();
            for (what, name) in Fleet::names() {
                assert!(!text.contains(name), "the {what} is in {text}");
            }
            assert!(users.iter().all(|user| !text.contains(&user.oid)), "a user is in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_behind_a_forgetting_takes_nothing_from_before() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let (gateway, users) = (fleet.gateway().await, fleet.users(2));
    assert_eq!(ask_all(&fleet, &gateway, &users).await, 4);
    let query = format!("?tenant={TENANT}&oid={}", users[0].oid);
    assert_eq!(told(&gateway, &query).await, 2);
    let late = fleet.gateway().await;
    assert_eq!(ask_all(&fleet, &late, &users[1..]).await, 4, "those were not forgotten");
    assert_eq!(ask_all(&fleet, &late, &users[..1]).await, 6);
    assert_eq!(ask_all(&fleet, &gateway, &users).await, 6, "and the new ones are shared");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_one_forgets_and_says_that_the_others_were_not_told() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let (gateways, users) = (fleet.three().await, fleet.users(2));
    for gateway in &gateways {
        assert_eq!(ask_all(&fleet, gateway, &users).await, 4);
    }
    redis.kill();
    let reply = forget(&gateways[0], "").await;
    assert_eq!(reply.outcome(), (503, "replicas_not_told".to_owned()));
    assert_eq!(reply.json()["dropped"], json!(4));
    assert_eq!(reply.header("retry-after"), Some("5"));
    logs(&gateways[0], "the other replicas were not told").await;
    hold(&gateways[..1], 0).await;
    hold(&gateways[1..], 4).await;
    assert_eq!(ask_all(&fleet, &gateways[0], &users).await, 8, "its own again");

    redis.restart_empty();
    gateways[0].metrics_when(JOINED).await;
    assert_eq!(told(&gateways[0], "").await, 4);
    hold(&gateways, 0).await;
    assert_eq!(ask_all(&fleet, &gateways[0], &users).await, 12);
    for gateway in &gateways[1..] {
        let before = fleet.exchanges();
        // They may still be on their way back to Redis; then they ask for themselves.
        assert!(ask_all(&fleet, gateway, &users).await <= before + 4);
    }
    fleet.assert_tokens_are_the_users();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_cut_off_reads_on_by_itself() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let (gateways, users) = (fleet.three().await, fleet.users(1));
    for gateway in &gateways {
        assert_eq!(ask_all(&fleet, gateway, &users).await, 2);
    }
    let list = redis.ask(&[b"CLIENT", b"LIST"]).text();
    let readers = list.lines().filter(|line| line.contains(" cmd=xread"));
    let mut cut = 0;
    for line in readers {
        let id = line.split([' ', '=']).nth(1).unwrap();
        assert_eq!(redis.ask(&[b"CLIENT", b"KILL", b"ID", id.as_bytes()]), Value::Number(1));
        cut += 1;
    }
    assert_eq!(cut, 3, "{list}");
    assert_eq!(told(&gateways[0], "").await, 2);
    hold(&gateways, 0).await;
    assert_eq!(ask_all(&fleet, &gateways[1], &users).await, 4);

    // It stands still for longer than a read waits; nobody else asks it anything.
    redis.pause();
    for gateway in &gateways {
        logs(gateway, "does not tell this replica what is to be forgotten").await;
        assert_eq!(ask_all(&fleet, &gateways[1], &users).await, 4, "memory is enough");
    }
    redis.resume();
    for gateway in &gateways {
        logs(gateway, "tells again what is to be forgotten").await;
    }
    assert_eq!(told(&gateways[2], "").await, 0);
    hold(&gateways, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_in_place_of_notices_changes_nothing_and_is_replaced() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let (gateways, users) = (fleet.three().await, fleet.users(1));
    assert_eq!(ask_all(&fleet, &gateways[1], &users).await, 2);
    redis.ask(&[b"XADD", NOTICES, b"*", b"v", b"rubbish"]);
    redis.ask(&[b"XADD", NOTICES, b"*", b"other", b"form", b"of", b"rubbish"]);
    logs(&gateways[1], "is passed over: it is no value of this program").await;
    hold(&gateways[1..2], 2).await;
    assert_eq!(told(&gateways[0], "").await, 0);
    hold(&gateways[1..2], 0).await;
    assert_eq!(ask_all(&fleet, &gateways[1], &users).await, 4);

    redis.ask(&[b"SET", NOTICES, b"rubbish"]);
    assert_eq!(told(&gateways[0], "").await, 0);
    hold(&gateways[1..2], 0).await;
    assert_eq!(ask_all(&fleet, &gateways[1], &users).await, 6);
    let late = fleet.gateway().await;
    assert_eq!(ask_all(&fleet, &late, &users).await, 6);
}
