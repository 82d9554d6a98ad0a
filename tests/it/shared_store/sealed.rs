//! What is in Redis: nothing that tells anything, and nothing that is believed where it does not
//! belong.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::support::balancer::{Balancer, everybody_asks};
use crate::support::gateway::Gateway;
use crate::support::leaks::Leaks;
use crate::support::redis::Redis;
use crate::support::redis::contents::Entry;
use crate::support::replicas::{EncryptionKey, Fleet, User};

#[tokio::test]
async fn a_dump_holds_no_token_and_no_name() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let gateways = fleet.three().await;
    let balancer = Balancer::new(gateways.iter().map(Gateway::address));
    let users = fleet.users(30);
    everybody_asks(&balancer, &users, 4, 1).await.assert_all_served();
    let dump = redis.dump();
    assert!(dump.len() >= fleet.exchanges(), "{} entries", dump.len());
    let leaks = Leaks::of(&fleet, &users);
    assert_eq!(leaks.found(&dump), [""; 0]);
    // As it would be found: the search is not blind.
    let leak = |text: &str| Entry {
        key: b"obo-gateway:x".to_vec(),
        kind: "string".to_owned(),
        pieces: vec![[b"\x01\xff\x00", text.as_bytes(), b"\x00"].concat()],
    };
    let outbound = fleet.upstreams[1].last().bearer().unwrap();
    let payload = users[7].token.split('.').nth(1).unwrap();
    for text in [
        &outbound,
        &users[3].token,
        payload,
        &users[3].oid,
        &users[3].oid.to_uppercase(),
        &URL_SAFE_NO_PAD.encode(format!("xy{outbound}")),
        &URL_SAFE_NO_PAD.encode(&users[9].token),
        &users[3].oid.replace('-', ""),
        "upstream-northwind",
        "https://tailspin.example/.default",
    ] {
        assert!(!leaks.found(&[leak(text)]).is_empty(), "{text} is overlooked");
    }
}

#[tokio::test]
async fn an_entry_under_the_name_of_another_user_is_refused() {
    let redis = Redis::start();
    // A replica that keeps one token in memory: the other one's is always looked for in Redis.
    let fleet = Fleet::sharing(&redis.url()).max_entries(1);
    let gateway = fleet.gateway().await;
    let (alice, bob) = (fleet.user(1), fleet.user(2));
    let mut place = BTreeMap::new();
    for user in [&alice, &bob] {
        let before: Vec<_> = keys(&redis);
        assert_eq!(user.ask(gateway.address(), 0).await.0, 200);
        let mut new = keys(&redis);
        new.retain(|key| !before.contains(key));
        assert_eq!(new.len(), 1, "{new:?}");
        place.insert(user.oid.clone(), new.swap_remove(0));
    }
    for user in [&alice, &bob, &alice, &bob] {
        assert_eq!(user.ask(gateway.address(), 0).await.0, 200);
    }
    assert_eq!(fleet.exchanges(), 2, "both are in Redis");

    // Each in the other's place.
    let value = |user: &User| redis.ask(&[b"GET", &place[&user.oid]]).bytes();
    let (of_alice, of_bob) = (value(&alice), value(&bob));
    assert_ne!(of_alice, of_bob);
    redis.ask(&[b"SET", &place[&alice.oid], &of_bob, b"PX", b"600000"]);
    redis.ask(&[b"SET", &place[&bob.oid], &of_alice, b"PX", b"600000"]);
    for (user, exchanges) in [(&alice, 3), (&bob, 4), (&alice, 4), (&bob, 4)] {
        assert_eq!(user.ask(gateway.address(), 0).await.0, 200);
        assert_eq!(fleet.exchanges(), exchanges);
    }
    // And in the place of the same user's for the other upstream.
    let before = keys(&redis);
    assert_eq!(alice.ask(gateway.address(), 1).await.0, 200);
    let mut new = keys(&redis);
    new.retain(|key| !before.contains(key));
    redis.ask(&[b"SET", &new[0], &value(&alice), b"PX", b"600000"]);
    assert_eq!(bob.ask(gateway.address(), 0).await.0, 200);
    let exchanges = fleet.exchanges();
    assert_eq!(alice.ask(gateway.address(), 1).await.0, 200);
    assert_eq!(fleet.exchanges(), exchanges + 1);
    fleet.assert_tokens_are_the_users();
}

#[tokio::test]
async fn an_entry_with_one_bit_altered_is_refused_and_overwritten() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url()).max_entries(1);
    let gateway = fleet.gateway().await;
    let (alice, bob) = (fleet.user(1), fleet.user(2));
    assert_eq!(alice.ask(gateway.address(), 0).await.0, 200);
    let name = keys(&redis).swap_remove(0);
    assert_eq!(bob.ask(gateway.address(), 0).await.0, 200);
    let mut exchanges = fleet.exchanges();
    let length = redis.ask(&[b"GET", &name]).bytes().len();
    // All of what stands before the ciphertext, and a sample of the rest with its end.
    let places = (0..24).chain((24..length).step_by(61)).chain(length - 16..length);
    for at in places {
        let mut value = redis.ask(&[b"GET", &name]).bytes();
        value[at] ^= 1 << (at % 8);
        redis.ask(&[b"SET", &name, &value, b"KEEPTTL"]);
        assert_eq!(alice.ask(gateway.address(), 0).await.0, 200);
        exchanges += 1;
        assert_eq!(fleet.exchanges(), exchanges, "bit {} of byte {at} is not looked at", at % 8);
        assert_ne!(redis.ask(&[b"GET", &name]).bytes(), value, "it was overwritten");
        // Takes the place in memory.
        assert_eq!(bob.ask(gateway.address(), 0).await.0, 200);
        assert_eq!(fleet.exchanges(), exchanges);
    }
    for length in [0, 1, 12, 16, 33, length - 1] {
        let value = redis.ask(&[b"GET", &name]).bytes();
        redis.ask(&[b"SET", &name, &value[..length], b"KEEPTTL"]);
        assert_eq!(alice.ask(gateway.address(), 0).await.0, 200);
        exchanges += 1;
        assert_eq!(fleet.exchanges(), exchanges, "cut to {length}");
        assert_eq!(bob.ask(gateway.address(), 0).await.0, 200);
    }
    fleet.assert_tokens_are_the_users();
}

#[tokio::test]
async fn a_new_encryption_key_first_then_the_old_one_gone_costs_no_exchange() {
    let redis = Redis::start();
    let mut fleet = Fleet::sharing(&redis.url());
    let (old, new) = (EncryptionKey::new(), EncryptionKey::new());
    let (alice, bob) = (fleet.user(1), fleet.user(2));
    fleet.set_keys(&[&old]);
    let first = fleet.gateway().await;
    assert_eq!(alice.ask(first.address(), 0).await.0, 200);
    // Every replica learns to open what the new key sealed, then seals with it.
    fleet.set_keys(&[&old, &new]);
    let second = fleet.gateway().await;
    fleet.set_keys(&[&new, &old]);
    let third = fleet.gateway().await;
    assert_eq!(alice.ask(third.address(), 0).await.0, 200);
    assert_eq!(fleet.exchanges(), 1, "the old key opens");
    assert_eq!(bob.ask(third.address(), 0).await.0, 200);
    assert_eq!(bob.ask(second.address(), 0).await.0, 200);
    assert_eq!(fleet.exchanges(), 2, "the new one opens where it is not the first");
    fleet.set_keys(&[&new]);
    let fourth = fleet.gateway().await;
    assert_eq!(bob.ask(fourth.address(), 0).await.0, 200);
    assert_eq!(fleet.exchanges(), 2, "sealed with the new key");
    // What only the old key opens is gone with it.
    assert_eq!(bob.ask(first.address(), 0).await.0, 200);
    assert_eq!(fleet.exchanges(), 3);
    fleet.assert_tokens_are_the_users();
}

/// The names of all tokens.
fn keys(redis: &Redis) -> Vec<Vec<u8>> {
    let entries = redis.dump().into_iter().filter(|entry| entry.kind == "string");
    entries.map(|entry| entry.key).collect()
}
