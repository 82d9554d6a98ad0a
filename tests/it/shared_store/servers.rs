//! The forms in which Redis is run: with users, behind TLS, as a cluster, watched by sentinels.

use std::time::Duration;

use crate::support::redis::cluster::Cluster;
use crate::support::redis::sentinel::Watched;
use crate::support::redis::{Redis, USER};
use crate::support::registry;
use crate::support::replica::Replica;
use crate::support::replicas::{Fleet, JOINED, User};
use crate::support::tls_upstream::Authority;
use crate::support::within;

/// What the contract calls the beginning of all names.
const PREFIX: &str = "obo-gateway:";

#[tokio::test]
async fn a_user_that_sees_only_what_begins_with_the_prefix_is_enough() {
    let redis = Redis::start_with_users(PREFIX);
    let fleet = Fleet::sharing(&redis.url());
    let gateways = [fleet.gateway().await, fleet.gateway().await];
    let alice = fleet.user(0);
    for gateway in &gateways {
        assert_eq!(alice.ask(gateway.address(), 0).await.0, 200);
    }
    assert_eq!(fleet.exchanges(), 1);
    let dump = redis.dump();
    assert!(!dump.is_empty());
    assert!(dump.iter().all(|entry| entry.key.starts_with(PREFIX.as_bytes())), "{dump:?}");
}

#[tokio::test]
async fn a_wrong_password_is_said_and_requests_are_served() {
    let redis = Redis::start_with_users(PREFIX);
    let password = "redis-password-that-is-not-right";
    registry::secret(password);
    let fleet = Fleet::sharing(&format!("redis://{USER}:{password}@127.0.0.1:{}", redis.port()));
    let gateway = fleet.gateway_without_redis().await;
    assert_eq!(fleet.user(0).ask(gateway.address(), 0).await.0, 200);
    let said = async {
        while !gateway.log().text().contains("authentication failed") {
            // Lines are written in batches; the interval only spares the processor.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("a line of the log", said).await;
    assert_eq!(redis.dump(), []);
}

#[tokio::test]
async fn tls_is_spoken_with_whom_the_systems_roots_vouch_for() {
    let authority = Authority::new();
    let redis = Redis::start_with_tls(&authority);
    let fleet = Fleet::sharing(&redis.url()).in_real_time();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, authority.pem()).unwrap();
    let trusting = [("SSL_CERT_FILE", roots.to_str().unwrap())];
    let replicas = [fleet.process_in(&trusting), fleet.process_in(&trusting)];
    let alice = fleet.user(0);
    for replica in &replicas {
        replica.ready().await;
        replica.metrics_when(JOINED).await;
        assert_eq!(alice.ask(replica.address(), 0).await.0, 200);
    }
    assert_eq!(fleet.exchanges(), 1);
    assert_eq!(redis.dump().iter().filter(|entry| entry.kind == "string").count(), 1);
}

#[tokio::test]
async fn who_has_no_good_certificate_gets_nothing_and_requests_are_served() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, authority.pem()).unwrap();
    let trusting = [("SSL_CERT_FILE", roots.to_str().unwrap())];
    for (redis, word) in [
        (Redis::start_with_tls(&stranger), "UnknownIssuer"),
        (Redis::start_with_tls_for(&authority, "elsewhere.example"), "not valid for"),
    ] {
        let fleet = Fleet::sharing(&redis.url()).in_real_time();
        let replica = fleet.process_in(&trusting);
        replica.ready().await;
        assert_eq!(fleet.user(0).ask(replica.address(), 0).await.0, 200);
        says(&replica, word).await;
    }
}

#[tokio::test]
async fn a_cluster_holds_each_entry_at_one_of_its_nodes() {
    let cluster = Cluster::start();
    let fleet = Fleet::sharing(&cluster.url());
    let gateways = [fleet.gateway().await, fleet.gateway().await];
    let users = fleet.users(20);
    for gateway in &gateways {
        for user in users.iter() {
            assert_eq!(user.ask(gateway.address(), 0).await.0, 200);
        }
    }
    assert_eq!(fleet.exchanges(), users.len());
    let nodes = cluster.dump();
    let counts: Vec<_> = nodes.iter().map(Vec::len).collect();
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    // A node is gone: what it held is asked for anew, and nothing fails.
    cluster.kill(1);
    for user in users.iter() {
        assert_eq!(user.ask(gateways[0].address(), 1).await.0, 200);
    }
    fleet.assert_tokens_are_the_users();
}

#[tokio::test]
async fn a_node_of_a_cluster_is_known_for_one() {
    let cluster = Cluster::start();
    let fleet = Fleet::sharing(&cluster.url_of_one_node());
    let gateways = [fleet.gateway().await, fleet.gateway().await];
    let users = fleet.users(10);
    for gateway in &gateways {
        for user in users.iter() {
            assert_eq!(user.ask(gateway.address(), 0).await.0, 200);
        }
    }
    // All nodes are used, as where the address says that it is a cluster.
    assert_eq!(fleet.exchanges(), users.len());
    let counts: Vec<_> = cluster.dump().iter().map(Vec::len).collect();
    assert!(counts.iter().filter(|count| **count > 0).count() > 1, "{counts:?}");
    fleet.assert_tokens_are_the_users();
}

#[tokio::test]
async fn when_sentinels_make_another_one_the_master_it_is_used() {
    let watched = Watched::start();
    let fleet = Fleet::sharing(&watched.url());
    let gateways = [fleet.gateway().await, fleet.gateway().await];
    let alice = fleet.user(0);
    for gateway in &gateways {
        assert_eq!(alice.ask(gateway.address(), 0).await.0, 200);
    }
    assert_eq!(fleet.exchanges(), 1);
    assert!(!watched.dump_of_the_first().is_empty());

    watched.fail_over();
    let shared = async {
        loop {
            let (user, before) = (fleet.user(1), fleet.exchanges());
            for gateway in &gateways {
                assert_eq!(user.ask(gateway.address(), 0).await.0, 200);
            }
            if fleet.exchanges() == before + 1 {
                return user;
            }
        }
    };
    let user: User = within("the new master to be used", shared).await;
    let third = fleet.gateway().await;
    let before = fleet.exchanges();
    assert_eq!(user.ask(third.address(), 0).await.0, 200);
    assert_eq!(fleet.exchanges(), before);
    assert!(!watched.dump_of_the_second().is_empty());
}

/// Waits until the log of `replica` has `word` in it.
async fn says(replica: &Replica, word: &str) {
    let said = async {
        while !replica.log().contains(word) {
            // Lines come when they come; the interval only spares the processor.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(word, said).await;
}
