//! A renewal ahead of a token's end is nobody's hurry: where another replica is at it, this one looks
//! again after the usual pause, and not all the time.

use std::time::Duration;

use crate::support::gate::Gate;
use crate::support::provider::{Endpoint, Reply};
use crate::support::redis::Redis;
use crate::support::replicas::Fleet;
use crate::support::within;

/// Outbound tokens live this long in seconds, and are due for renewal from 1150 to 1504 on.
const LIFE: u64 = 1800;

const BUSY: &str =
    "\nobo_gateway_shared_cache_requests_total{operation=\"claim\",outcome=\"busy\"} ";

#[tokio::test]
async fn a_renewal_that_another_replica_makes_is_not_waited_for() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    fleet.provider.set_expires_in(Some(LIFE));
    let (first, second) = (fleet.gateway().await, fleet.gateway().await);
    let alice = fleet.user_for(0, Duration::from_hours(2));
    for gateway in [&first, &second] {
        assert_eq!(alice.ask(gateway.address(), 0).await.0, 200);
    }
    let old = fleet.upstreams[0].last().bearer();
    for gateway in [&first, &second] {
        gateway.clock().advance(Duration::from_secs(1510));
    }
    let gate = Gate::new();
    fleet.provider.script(Endpoint::Token, Reply::Held(gate.clone(), Box::new(Reply::Usual)));
    assert_eq!(alice.ask(first.address(), 0).await.0, 200);
    gate.arrived(1).await;
    assert_eq!(alice.ask(second.address(), 0).await.0, 200);
    second.metrics_when(&format!("{BUSY}1\n")).await;
    // The first one says again and again that it is at it: there was time to look many times.
    held_again(&redis, 2).await;
    assert!(second.metrics().await.contains(&format!("{BUSY}1\n")));
    assert_eq!(alice.ask(second.address(), 0).await.0, 200, "and nobody waits");

    gate.open();
    first.metrics_when("{operation=\"store\",outcome=\"done\"} 2\n").await;
    second.clock().advance(Duration::from_secs(46));
    let taken_over = async {
        while fleet.upstreams[0].last().bearer() == old {
            assert_eq!(alice.ask(second.address(), 0).await.0, 200);
        }
    };
    within("the renewed token to be taken over", taken_over).await;
    assert_eq!(fleet.exchanges(), 2);
}

/// Waits until the end of the one lease that there is was put off so often.
async fn held_again(redis: &Redis, times: usize) {
    let held = async {
        let lease =
            || redis.lives().into_iter().find(|(name, _)| name.starts_with(b"obo-gateway:lease:"));
        let (name, mut before) = lease().expect("a renewal is under way");
        let mut seen = 0;
        while seen < times {
            let life = redis.lives()[&name];
            seen += usize::from(life > before);
            before = life;
            // Redis is asked, as it tells nobody; the interval only spares the processor.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the lease to be held", held).await;
}
