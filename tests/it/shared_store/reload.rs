//! A store that appears, changes and goes while requests come.

use crate::support::gateway::Gateway;
use crate::support::redis::Redis;
use crate::support::replicas::{Fleet, JOINED};

#[tokio::test]
async fn a_store_that_appears_is_used_and_one_that_is_gone_is_not() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let with = fleet.file();
    let without: String =
        with.split_inclusive('\n').filter(|line| !line.contains("redis: ")).collect();
    assert_ne!(with, without);
    let gateways: Vec<_> =
        (0..2).map(|_| Gateway::start_in(&fleet.variables(), &without)).collect();
    let mut expected = 0;
    for (number, (file, exchanges)) in [(&without, 2), (&with, 1), (&without, 2)].iter().enumerate()
    {
        let alice = fleet.user(number);
        for gateway in &gateways {
            gateway.ready().await;
            if number > 0 {
                gateway.write_file(file);
                gateway.reload();
            }
            if *exchanges == 1 {
                gateway.metrics_when(JOINED).await;
            } else {
                let metrics = gateway.metrics().await;
                assert!(!metrics.contains("\nobo_gateway_shared_cache_up "), "{metrics}");
            }
        }
        for gateway in &gateways {
            assert_eq!(alice.ask(gateway.address(), 0).await.0, 200);
        }
        expected += exchanges;
        assert_eq!(fleet.exchanges(), expected);
    }
}

#[tokio::test]
async fn a_reload_of_something_else_keeps_the_connection() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    let gateway = fleet.gateway().await;
    assert_eq!(fleet.user(0).ask(gateway.address(), 0).await.0, 200);
    let before = redis.connection_ids();
    assert!(!before.is_empty());
    gateway.write_file(&fleet.file().replace("max_entries: 100000", "max_entries: 90000"));
    gateway.reload();
    assert_eq!(fleet.user(1).ask(gateway.address(), 0).await.0, 200);
    assert_eq!(redis.connection_ids(), before);
}
