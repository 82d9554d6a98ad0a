//! Redis killed, stopped, emptied, full and filled with rubbish, under load: requests are served as
//! without it and hardly later, and it is used again once it is well, with nobody's help.
//!
//! Nothing here depends on how quick the machine is: latencies are compared with a long timeout, and
//! it is counted how many requests met it.

use std::sync::Arc;
use std::time::Duration;

use crate::support::balancer::{Balancer, Load, Met, Who, everybody_asks};
use crate::support::gateway::Gateway;
use crate::support::redis::Redis;
use crate::support::replicas::{Fleet, User};
use crate::support::within;

/// As long as the contract's default.
const USUAL: Duration = Duration::from_millis(50);

/// So many failures in a row take Redis out of the way (`limits::SHARED_STORE_FAILURES`), and tries
/// to bring it back may meet one more each.
const MOST_DELAYED: usize = 5 + 3;

/// Three replicas under load of users whom they know and of users whom nobody knows.
struct World {
    redis: Redis,
    fleet: Arc<Fleet>,
    gateways: Vec<Gateway>,
    load: Load,
}

impl World {
    /// The load was there for a while, and all was well.
    async fn start(max_entries: usize) -> Self {
        let redis = Redis::start();
        let fleet = Fleet::sharing(&redis.url()).timeout(USUAL).max_entries(max_entries);
        let gateways = fleet.three().await;
        let balancer = Balancer::new(gateways.iter().map(Gateway::address));
        let (users, fleet) = (fleet.users(30), Arc::new(fleet));
        everybody_asks(&balancer, &users, 8, 0).await.assert_all_served();
        let load = Load::start(&balancer, &Who::KnownAndNew(users, Arc::clone(&fleet)), 8);
        load.more(200).await;
        Self { redis, fleet, gateways, load }
    }

    /// All were served with their own tokens, it is shared again, and the log says a line or two.
    async fn ends_well(self) {
        recovers(&self.fleet, &self.gateways).await;
        self.load.more(100).await;
        let met = self.load.stop().await;
        met.assert_all_served();
        self.fleet.assert_tokens_are_the_users();
        for gateway in &self.gateways {
            let (lines, all) = (complaints(gateway), met.took.len());
            assert!(lines.len() <= 12, "{} lines for {all} requests: {lines:#?}", lines.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_and_comes_back_costs_no_request() {
    let world = World::start(1000).await;
    world.redis.kill();
    world.load.more(300).await;
    for gateway in &world.gateways {
        gateway.metrics_when("\nobo_gateway_shared_cache_up 0\n").await;
        assert!(!complaints(gateway).is_empty(), "one line says so");
    }
    world.load.more(300).await;
    world.redis.restart_empty();
    world.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_for_a_while_costs_no_request() {
    let world = World::start(1000).await;
    for _ in 0..2 {
        world.redis.pause();
        world.load.more(300).await;
        world.redis.resume();
        recovers(&world.fleet, &world.gateways).await;
    }
    world.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_restarted_empty_costs_no_request() {
    let world = World::start(1000).await;
    for _ in 0..3 {
        world.redis.restart_empty();
        world.load.more(200).await;
    }
    world.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_full_of_random_bytes_costs_no_request() {
    // Little is kept in memory, so that much is read from Redis.
    let world = World::start(10).await;
    let mut random = fastrand::Rng::with_seed(7);
    let mut filled = 0;
    for _ in 0..20 {
        filled += world.redis.fill_with_garbage(&mut random);
        world.load.more(40).await;
    }
    assert!(filled > 500, "{filled} values");
    world.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_without_room_costs_no_request_and_is_still_read() {
    let world = World::start(1000).await;
    let before = world.fleet.user(0);
    recovers(&world.fleet, &world.gateways).await;
    let patient = Fleet::sharing(&world.redis.url());
    let (one, other) = (patient.gateway().await, patient.gateway().await);
    let early = patient.user(0);
    assert_eq!(early.ask(one.address(), 0).await.0, 200);
    world.redis.full();
    world.load.more(300).await;
    assert_eq!(before.ask(world.gateways[0].address(), 0).await.0, 200);
    // What is there is still found; what is new can't be kept.
    assert_eq!(early.ask(other.address(), 0).await.0, 200);
    assert_eq!(patient.exchanges(), 1);
    let late = patient.user(1);
    for gateway in [&one, &other] {
        assert_eq!(late.ask(gateway.address(), 0).await.0, 200);
    }
    assert_eq!(patient.exchanges(), 3);
    world.redis.roomy();
    world.ends_well().await;
}

#[tokio::test]
async fn a_redis_that_stands_still_delays_a_few_requests_by_its_timeout_and_the_rest_not_at_all() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url()).timeout(TIMEOUT);
    let gateway = fleet.gateway().await;
    let known = fleet.user(0);
    assert_eq!(known.ask(gateway.address(), 0).await.0, 200);
    redis.pause();
    let mut met = Met::default();
    for number in 0..40 {
        let (status, took) = fleet.user(number).ask(gateway.address(), 0).await;
        assert_eq!(status, 200);
        met.took.push(took);
        // Who has a token does not ask Redis at all.
        let (status, took) = known.ask(gateway.address(), 0).await;
        assert!(status == 200 && took < TIMEOUT, "{status} after {took:?}");
    }
    let delayed = met.slower_than(TIMEOUT);
    assert!((1..=MOST_DELAYED).contains(&delayed), "{delayed} of 40 waited: {:?}", met.took);
    // An exchange takes milliseconds; the rest is the machine's.
    assert_eq!(met.slower_than(2 * TIMEOUT), 0, "all round trips together: {:?}", met.took);
    redis.resume();
    recovers(&fleet, &[gateway, fleet.gateway().await]).await;
}

#[tokio::test]
async fn a_redis_that_is_gone_delays_nobody() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url()).timeout(TIMEOUT);
    let gateway = fleet.gateway().await;
    redis.kill();
    for number in 0..40 {
        let (status, took) = fleet.user(number).ask(gateway.address(), 0).await;
        assert!(status == 200 && took < TIMEOUT, "{status} after {took:?}");
    }
}

#[tokio::test]
async fn a_gateway_starts_and_serves_without_redis_and_finds_it_later() {
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url());
    redis.kill();
    let gateways = [fleet.gateway_without_redis().await, fleet.gateway_without_redis().await];
    for gateway in &gateways {
        assert_eq!(fleet.user(0).ask(gateway.address(), 0).await.0, 200);
    }
    redis.restart_empty();
    recovers(&fleet, &gateways).await;
}

/// Waits until what one replica was given is used by all of them.
async fn recovers(fleet: &Fleet, gateways: &[Gateway]) {
    let shared = async {
        for gateway in gateways {
            gateway.metrics_when(crate::support::replicas::JOINED).await;
        }
        while !is_shared(fleet, &fleet.user(1), gateways).await {}
    };
    within("Redis to be used again", shared).await;
}

/// Whether one exchange is enough for `user` at all of them. Others ask meanwhile: what counts is
/// the token that the upstream saw.
async fn is_shared(fleet: &Fleet, user: &User, gateways: &[Gateway]) -> bool {
    for gateway in gateways {
        assert_eq!(user.ask(gateway.address(), 0).await.0, 200);
    }
    let target = user.target(0);
    let seen = fleet.upstreams[0].seen();
    let mut tokens: Vec<_> = seen.iter().filter(|seen| seen.target == target).collect();
    tokens.dedup_by_key(|seen| seen.bearer());
    tokens.len() == 1
}

/// What the log of `gateway` says to wake an operator.
fn complaints(gateway: &Gateway) -> Vec<String> {
    let mut events = gateway.log().events();
    events.retain(|event| {
        event.get("level").is_some_and(|level| level == "WARN" || level == "ERROR")
    });
    events.into_iter().map(|event| serde_json::Value::Object(event).to_string()).collect()
}
