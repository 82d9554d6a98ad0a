//! Ahead of its end a token is renewed by one replica, and the others take over what it got.

use std::collections::HashSet;
use std::time::Duration;

use crate::support::redis::Redis;
use crate::support::replicas::Fleet;

/// Outbound tokens live this long in seconds, and are due for renewal from 1150 to 1504 on.
const LIFE: u64 = 1800;

#[tokio::test]
async fn one_replica_renews_and_the_others_take_over_what_it_got() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    fleet.provider.set_expires_in(Some(LIFE));
    let gateways = fleet.three().await;
    let alice = fleet.user_for(0, Duration::from_hours(2));
    for gateway in &gateways {
        assert_eq!(alice.ask(gateway.address(), 0).await.0, 200);
    }
    assert_eq!(fleet.exchanges(), 1);
    let old = fleet.upstreams[0].last().bearer().unwrap();

    for gateway in &gateways {
        gateway.clock().advance(Duration::from_secs(1510));
    }
    // Whoever finds that another one renews looks again a little later.
    let mut renewed = HashSet::new();
    for _ in 0..5 {
        for gateway in &gateways {
            assert_eq!(alice.ask(gateway.address(), 0).await.0, 200);
            if fleet.upstreams[0].last().bearer().as_ref() != Some(&old) {
                renewed.insert(gateway.address());
            }
            // The renewal is nobody's request: it is over when the provider was asked.
            fleet.provider.called(crate::support::provider::Endpoint::Token, 2).await;
        }
        if renewed.len() == gateways.len() {
            break;
        }
        for gateway in &gateways {
            gateway.clock().advance(Duration::from_secs(46));
        }
    }
    assert_eq!(renewed.len(), gateways.len(), "all use the new token");
    assert_eq!(fleet.exchanges(), 2, "one of them asked for it");
}
