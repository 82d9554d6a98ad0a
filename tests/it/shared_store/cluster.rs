//! A server of a cluster that is gone or stands still takes its share of the tokens with it, and
//! nothing else; the others go on, and it is used again once it is well.

use std::time::Duration;

use crate::support::balancer::Met;
use crate::support::gateway::Gateway;
use crate::support::redis::cluster::Cluster;
use crate::support::replicas::{Fleet, User};
use crate::support::within;

/// Which node is to fail.
const FAILS: usize = 1;

/// So many failures in a row take a server out of the way (`limits::SHARED_STORE_FAILURES`), and tries
/// to bring it back may meet one more each.
const MOST_DELAYED: usize = 5 + 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_that_is_gone_is_missed_for_its_share_only_and_comes_back() {
    const TIMEOUT: Duration = Duration::from_secs(5);
    let cluster = Cluster::start_of_independent_nodes();
    let fleet = Fleet::sharing(&cluster.url()).timeout(TIMEOUT);
    let gateways = [fleet.gateway().await, fleet.gateway().await];
    all_are_used(&cluster, &fleet, &gateways).await;
    let (at_first, there) = (fleet.exchanges(), tokens(&cluster, FAILS));
    let users = fleet.users(30);
    for user in users.iter() {
        assert_eq!(user.ask(gateways[0].address(), 0).await.0, 200);
    }
    assert_eq!(fleet.exchanges() - at_first, users.len());
    let lost = tokens(&cluster, FAILS) - there;
    assert!((1..users.len()).contains(&lost), "{lost}");

    cluster.kill(FAILS);
    for user in users.iter() {
        let (status, took) = user.ask(gateways[1].address(), 0).await;
        assert!(status == 200 && took < TIMEOUT, "{status} after {took:?}");
    }
    assert_eq!(fleet.exchanges() - at_first, users.len() + lost, "the others come from Redis");
    // New ones are shared as far as there is a server for them.
    let late = fleet.users(30);
    let before = fleet.exchanges();
    let kept = || tokens(&cluster, 0) + tokens(&cluster, 2);
    let kept_before = kept();
    for gateway in &gateways {
        for user in late.iter() {
            assert_eq!(user.ask(gateway.address(), 0).await.0, 200);
        }
    }
    let shared = kept() - kept_before;
    assert!(shared > 0);
    assert_eq!(fleet.exchanges() - before, 2 * late.len() - shared);

    cluster.restart_empty(FAILS);
    is_used(&cluster, FAILS, &fleet, &gateways).await;
    fleet.assert_tokens_are_the_users();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_that_stands_still_delays_a_few_requests_for_its_share_and_no_others() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let cluster = Cluster::start_of_independent_nodes();
    let fleet = Fleet::sharing(&cluster.url()).timeout(TIMEOUT);
    let gateways = [fleet.gateway().await, fleet.gateway().await];
    all_are_used(&cluster, &fleet, &gateways).await;
    let at_first = fleet.exchanges();
    let kept = || tokens(&cluster, 0) + tokens(&cluster, 2);
    let before = kept();
    cluster.pause(FAILS);
    let users = fleet.users(60);
    for gateway in &gateways {
        let mut met = Met::default();
        for user in users.iter() {
            let (status, took) = user.ask(gateway.address(), 0).await;
            assert_eq!(status, 200);
            met.took.push(took);
        }
        let delayed = met.slower_than(TIMEOUT);
        assert!((1..=MOST_DELAYED).contains(&delayed), "{delayed} waited: {:?}", met.took);
        // An exchange takes milliseconds; the rest is the machine's.
        assert_eq!(met.slower_than(2 * TIMEOUT), 0, "all round trips together: {:?}", met.took);
    }
    let shared = kept() - before;
    assert!((1..users.len()).contains(&shared), "{shared}");
    assert_eq!(fleet.exchanges() - at_first, 2 * users.len() - shared);
    cluster.resume(FAILS);
    is_used(&cluster, FAILS, &fleet, &gateways).await;
    fleet.assert_tokens_are_the_users();
}

async fn all_are_used(cluster: &Cluster, fleet: &Fleet, gateways: &[Gateway]) {
    for node in 0..3 {
        is_used(cluster, node, fleet, gateways).await;
    }
}

/// Waits until a token is at `node`, and is one exchange for all.
async fn is_used(cluster: &Cluster, node: usize, fleet: &Fleet, gateways: &[Gateway]) {
    let used = async {
        loop {
            let (there, before) = (tokens(cluster, node), fleet.exchanges());
            let user: User = fleet.user(1);
            for gateway in gateways {
                assert_eq!(user.ask(gateway.address(), 0).await.0, 200);
            }
            if tokens(cluster, node) > there && fleet.exchanges() == before + 1 {
                return;
            }
        }
    };
    within("the node to be used", used).await;
}

/// How many tokens a node has.
fn tokens(cluster: &Cluster, node: usize) -> usize {
    let mut entries = cluster.dump_of(node);
    entries.retain(|entry| entry.key.starts_with(b"obo-gateway:token:"));
    entries.len()
}
