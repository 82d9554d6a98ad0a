//! `DELETE /api/v1/cache` where Redis is a cluster or watched by sentinels: all replicas forget, also
//! behind a failover. One server is in `admin/forget/`.

use crate::support::admin::Admin;
use crate::support::gateway::Gateway;
use crate::support::redis::cluster::Cluster;
use crate::support::redis::sentinel::Watched;
use crate::support::replicas::{Fleet, User};
use crate::support::within;

/// Has `gateway` forget all, and says whether the others are told.
async fn forget(gateway: &Gateway) -> bool {
    let request = http::Request::delete("/api/v1/cache");
    let reply = Admin::of(gateway).await.send(request, "").await;
    match reply.status.as_u16() {
        200 => reply.json()["replicas"] == "told",
        503 => false,
        other => panic!("{other}: {:?}", reply.body),
    }
}

async fn ask(gateways: &[Gateway], users: &[User]) {
    for gateway in gateways {
        for user in users {
            assert_eq!(user.ask(gateway.address(), 0).await.0, 200);
        }
    }
}

/// Waits until none of them has a token in memory.
async fn have_forgotten(gateways: &[Gateway]) {
    for gateway in gateways {
        gateway.metrics_when("\nobo_gateway_token_cache_entries 0\n").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_of_a_cluster_forget_whichever_is_asked() {
    let cluster = Cluster::start();
    let fleet = Fleet::sharing(&cluster.url());
    let (gateways, users) = (fleet.three().await, fleet.users(12));
    for (round, asked) in (1..).zip(&gateways) {
        ask(&gateways, &users).await;
        assert_eq!(fleet.exchanges(), round * users.len(), "once for all replicas");
        assert!(forget(asked).await, "round {round}");
        have_forgotten(&gateways).await;
    }
    // Who starts behind it takes nothing from before, wherever in the cluster it is.
    let late = [fleet.gateway().await];
    ask(&late, &users).await;
    assert_eq!(fleet.exchanges(), (gateways.len() + 1) * users.len());
    fleet.assert_tokens_are_the_users();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_forget_before_and_behind_a_failover() {
    let watched = Watched::start();
    let fleet = Fleet::sharing(&watched.url());
    let (gateways, users) = (fleet.three().await, fleet.users(4));
    ask(&gateways, &users).await;
    assert_eq!(fleet.exchanges(), users.len());
    assert!(forget(&gateways[0]).await);
    have_forgotten(&gateways).await;
    ask(&gateways, &users).await;
    assert_eq!(fleet.exchanges(), 2 * users.len());

    watched.fail_over();
    let told = async {
        while !forget(&gateways[1]).await {
            // It is on its way to the new master.
            tokio::task::yield_now().await;
        }
    };
    within("the new master to take it", told).await;
    have_forgotten(&gateways).await;
    // Each finds the new master with its next request, at the latest.
    let shared = async {
        loop {
            let (user, before) = ([fleet.user(9)], fleet.exchanges());
            ask(&gateways, &user).await;
            if fleet.exchanges() == before + 1 {
                return;
            }
        }
    };
    within("all to share again", shared).await;
    assert!(forget(&gateways[2]).await);
    have_forgotten(&gateways).await;
    let before = fleet.exchanges();
    ask(&gateways, &users).await;
    assert_eq!(fleet.exchanges(), before + users.len(), "once for all again");
    fleet.assert_tokens_are_the_users();
}
