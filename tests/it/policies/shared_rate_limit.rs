//! Limits that replicas hold together in a Redis, and each alone while there is none.

use std::time::{Duration, Instant};

use super::file;
use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::redis::Redis;
use crate::support::redis::cluster::Cluster;
use crate::support::redis::sentinel::Watched;
use crate::support::replicas::{EncryptionKey, Fleet, JOINED};
use crate::support::token::{ALICE, BOB, CALLER_CLIENT, TENANT, Token};
use crate::support::upstream::{Answer, Upstream};
use crate::support::within;

/// How long replicas wait for Redis where that is not what is looked at: so long that no busy machine
/// makes a difference.
const PATIENT: &str = "10s";

/// `{"access_token":{"nbf":{"essential":true}}}`.
const CLAIMS: &str = "eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZX19fQ==";

/// What the replicas of a test have in common.
struct Replicas {
    provider: Provider,
    upstream: Upstream,
    url: String,
    key: EncryptionKey,
    timeout: &'static str,
}

impl Replicas {
    fn sharing(url: &str) -> Self {
        Self {
            provider: Provider::start(),
            upstream: Upstream::start(),
            url: url.to_owned(),
            key: EncryptionKey::new(),
            timeout: PATIENT,
        }
    }

    /// One more, which has these routes and has reached Redis.
    async fn start(&self, routes: &[String]) -> Gateway {
        let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
        let yaml = file(&self.provider, &self.upstream, "", &routes);
        let (key, timeout) = (self.key.text(), self.timeout);
        let cache = format!("url: \"${{URL}}\", encryption_keys: [\"{key}\"], timeout: {timeout}");
        let variables = [("URL".to_owned(), self.url.clone())];
        let gateway =
            Gateway::start_in(&variables, &format!("{yaml}cache: {{ redis: {{ {cache} }} }}\n"));
        gateway.ready().await;
        gateway.metrics_when(JOINED).await;
        gateway
    }

    fn token(&self, user: &str) -> String {
        Token::entra_v2(&self.provider.entra_issuer()).user(user).build()
    }
}

fn open(name: &str, limit: &str) -> String {
    route(name, "none", &format!("{limit}, by: route"))
}

fn route(name: &str, auth: &str, limit: &str) -> String {
    format!(
        "{{ name: {name}, match: {{ path: \"/{name}/{{*rest}}\" }}, auth: {auth}, upstream: up, \
         rate_limit: {{ {limit}, shared: true }} }}"
    )
}

async fn status(gateway: &Gateway, target: &str) -> u16 {
    gateway.client().await.get(target).await.status.as_u16()
}

/// How many of so many requests at once pass; the others are refused by the limit.
async fn passing(gateways: &[&Gateway], each: usize, target: &str, token: &str) -> usize {
    let asked = gateways.iter().flat_map(|gateway| std::iter::repeat_n(gateway, each));
    let asked = asked.map(|gateway| async move {
        let reply = gateway.client().await.get_with(target, token).await;
        if reply.status == 200 {
            return true;
        }
        assert_eq!(reply.outcome(), (429, "rate_limited".to_owned()));
        let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=24 * 60 * 60).contains(&wait), "{wait}");
        false
    });
    futures_util::future::join_all(asked).await.into_iter().filter(|passed| *passed).count()
}

/// How often Redis was asked to count, and did.
fn counted(times: usize) -> String {
    format!(
        "obo_gateway_shared_cache_requests_total{{operation=\"limit\",outcome=\"done\"}} {times}\n"
    )
}

#[tokio::test]
async fn three_replicas_let_exactly_one_burst_pass_at_once() {
    let redis = Redis::start();
    let replicas = Replicas::sharing(&redis.url());
    let routes = [route("route-litware", "any", "requests: 20, per: 24h")];
    let mut gateways = Vec::new();
    for _ in 0..3 {
        gateways.push(replicas.start(&routes).await);
    }
    let gateways: Vec<&Gateway> = gateways.iter().collect();
    let (alice, bob) = (replicas.token(ALICE), replicas.token(BOB));
    assert_eq!(passing(&gateways, 20, "/route-litware/x", &alice).await, 20);
    assert_eq!(passing(&gateways, 1, "/route-litware/x", &bob).await, 3);
    assert_eq!(replicas.upstream.count(), 23);

    // Nothing in Redis says whose limit of what it is.
    let dump = redis.dump();
    assert_eq!(dump.len(), 2, "{dump:?}");
    for entry in &dump {
        for piece in entry.pieces.iter().chain([&entry.key]) {
            let text = String::from_utf8_lossy(piece);
            for name in [ALICE, BOB, TENANT, CALLER_CLIENT, "litware", "entra", "127.0.0.1"] {
                assert!(!text.contains(name), "{name} is in clear: {text}");
            }
        }
    }
    let lives: Vec<i64> = redis.lives().into_values().collect();
    let day = 24 * 60 * 60 * 1000;
    assert!(lives.len() == 2 && lives.iter().all(|life| (1..=day).contains(life)), "{lives:?}");
}

#[tokio::test]
async fn what_is_used_comes_back_at_one_rate_for_all_replicas() {
    let redis = Redis::start();
    let replicas = Replicas::sharing(&redis.url());
    let routes = [open("steady", "requests: 10, per: 1s, burst: 2")];
    let (a, b) = (replicas.start(&routes).await, replicas.start(&routes).await);
    let mut clients = [a.client().await, b.client().await];
    let (since, mut passed) = (Instant::now(), 0);
    let all = async {
        while passed < 12 {
            for client in &mut clients {
                match client.get("/steady/x").await.outcome() {
                    (200, _) => passed += 1,
                    outcome => assert_eq!(outcome, (429, "rate_limited".to_owned())),
                }
            }
            // The limit is asked; the interval only spares the processor.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("12 requests to pass", all).await;
    // Two at once, and ten of a tenth of a second each.
    assert!(since.elapsed() >= Duration::from_millis(990), "{:?}", since.elapsed());
    // A bucket that is full again is not kept.
    let empty = async {
        while !redis.dump().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the bucket to be forgotten", empty).await;
}

#[tokio::test]
async fn other_routes_allowances_and_keys_are_other_limits() {
    let redis = Redis::start();
    let mut replicas = Replicas::sharing(&redis.url());
    let routes = [open("a", "requests: 1, per: 24h"), open("b", "requests: 1, per: 24h")];
    let (first, second) = (replicas.start(&routes).await, replicas.start(&routes).await);
    assert_eq!(status(&first, "/a/x").await, 200);
    assert_eq!(status(&second, "/a/x").await, 429);
    assert_eq!(status(&second, "/b/x").await, 200);
    assert_eq!(status(&first, "/b/x").await, 429);
    // Who is known to have used up the limit is refused here: a flood does not reach Redis.
    first.metrics_when(&counted(2)).await;
    for _ in 0..10 {
        assert_eq!(status(&first, "/a/x").await, 429);
    }
    first.metrics_when(&counted(2)).await;
    let other = replicas.start(&[open("a", "requests: 2, per: 24h")]).await;
    assert_eq!(status(&other, "/a/x").await, 200);
    let same = replicas.start(&routes).await;
    assert_eq!(status(&same, "/a/x").await, 429);
    replicas.key = EncryptionKey::new();
    let stranger = replicas.start(&routes).await;
    assert_eq!(status(&stranger, "/a/x").await, 200);
}

#[tokio::test]
async fn a_redis_that_dies_leaves_each_replica_to_itself_from_where_it_was() {
    let redis = Redis::start();
    let replicas = Replicas::sharing(&redis.url());
    let routes = [open("all", "requests: 4, per: 24h")];
    let (a, b) = (replicas.start(&routes).await, replicas.start(&routes).await);
    assert_eq!(status(&a, "/all/x").await, 200);
    assert_eq!(status(&b, "/all/x").await, 200);
    redis.kill();
    // The first knows of one that is used, the second of two.
    assert_eq!(passing(&[&a], 5, "/all/x", "").await, 3);
    assert_eq!(passing(&[&b], 5, "/all/x", "").await, 2);

    redis.restart_empty();
    for gateway in [&a, &b] {
        gateway.metrics_when(JOINED).await;
        // What is known is not forgotten with Redis.
        assert_eq!(status(gateway, "/all/x").await, 429);
    }
    let new = replicas.start(&routes).await;
    assert_eq!(passing(&[&new], 3, "/all/x", "").await, 3);
    let newer = replicas.start(&routes).await;
    assert_eq!(passing(&[&newer], 3, "/all/x", "").await, 1);
}

#[tokio::test]
async fn a_redis_that_stands_still_costs_a_request_its_timeout_and_no_more() {
    let redis = Redis::start();
    let replicas = Replicas { timeout: "2s", ..Replicas::sharing(&redis.url()) };
    let routes = [open("all", "requests: 20, per: 24h"), open("other", "requests: 2, per: 24h")];
    let (a, b) = (replicas.start(&routes).await, replicas.start(&routes).await);
    assert_eq!(status(&a, "/all/x").await, 200);
    redis.pause();
    let since = Instant::now();
    assert_eq!(passing(&[&a], 25, "/all/x", "").await, 19);
    // It is left out now, and all of them waited at once.
    assert_eq!(status(&a, "/other/x").await, 200);
    let took = since.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(4), "{took:?}");
    a.metrics_when("\nobo_gateway_shared_cache_up 0\n").await;

    redis.resume();
    for gateway in [&a, &b] {
        gateway.metrics_when(JOINED).await;
    }
    // The first passed one of these while it was alone; the other one is Redis' to give.
    assert_eq!(passing(&[&b], 1, "/other/x", "").await, 1);
    assert_eq!(passing(&[&a], 2, "/other/x", "").await, 1);
    assert_eq!(passing(&[&b], 2, "/other/x", "").await, 0);
}

#[tokio::test]
async fn what_redis_adds_to_a_request_is_bounded_once_for_its_limit_and_its_tokens() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    // Once, and not twice.
    let once = TIMEOUT..TIMEOUT * 2;
    let redis = Redis::start();
    let fleet = Fleet::sharing(&redis.url()).timeout(TIMEOUT);
    let fleet = fleet.rate_limit("requests: 100, per: 24h, shared: true");
    let gateway = fleet.gateway().await;
    let (alice, bob) = (fleet.user(0), fleet.user(1));
    assert_eq!(alice.ask(gateway.address(), 0).await.0, 200);
    redis.pause();

    let (status, took) = bob.ask(gateway.address(), 0).await;
    assert!(status == 200 && once.contains(&took), "{status}, {took:?}");
    // With nothing left of the time it is not asked.
    for (operation, outcome) in [("limit", "timeout"), ("claim", "unavailable")] {
        let met = format!("{{operation=\"{operation}\",outcome=\"{outcome}\"}} 1\n");
        gateway.metrics_when(&met).await;
    }
    // The token is in memory, and its upstream asks for another one.
    let old = fleet.upstreams[0].seen()[0].bearer();
    fleet.upstreams[0].answer(move |seen| {
        if seen.bearer() == old {
            let challenge = format!("Bearer error=\"insufficient_claims\", claims=\"{CLAIMS}\"");
            Answer::status(401).header("www-authenticate", &challenge)
        } else {
            Answer::ok("with claims")
        }
    });
    let (status, took) = alice.ask(gateway.address(), 0).await;
    assert!(status == 200 && once.contains(&took), "{status}, {took:?}");
    assert_eq!(fleet.exchanges(), 3);
    fleet.assert_tokens_are_the_users();
}

#[tokio::test]
async fn a_redis_that_refuses_to_count_leaves_each_replica_to_itself() {
    // It lets nobody at the buckets, or has no room for them.
    let forbids = "user default on nopass ~*forgotten &* +@all\n";
    for (settings, full) in [(forbids, false), ("", true)] {
        let redis = Redis::start_with(settings);
        let replicas = Replicas::sharing(&redis.url());
        let routes = [open("all", "requests: 2, per: 24h")];
        let (a, b) = (replicas.start(&routes).await, replicas.start(&routes).await);
        if full {
            redis.full();
        }
        for gateway in [&a, &b] {
            assert_eq!(passing(&[gateway], 3, "/all/x", "").await, 2);
            let told =
                "obo_gateway_shared_cache_requests_total{operation=\"limit\",outcome=\"error\"}";
            gateway.metrics_when(told).await;
            gateway.metrics_when(JOINED).await;
        }
        assert_eq!(redis.dump(), []);
    }
}

#[tokio::test]
async fn what_others_wrote_in_place_of_a_bucket_holds_nobody_up_for_longer() {
    let redis = Redis::start();
    let replicas = Replicas::sharing(&redis.url());
    let ten_minutes = "requests: 1, per: 10m";
    // What stands there, and whether it counts as used up.
    let strange: [(&[&[u8]], bool); 9] = [
        (&[b"SET", b"", b"garbage \xff\0"], false),
        (&[b"SET", b"", b""], false),
        (&[b"SET", b"", b"1 2 3"], false),
        (&[b"SET", b"", b"-99999999999 1"], false),
        (&[b"SET", b"", b"1 1"], false),
        (&[b"RPUSH", b"", b"1", b"2"], false),
        (&[b"HSET", b"", b"1", b"2"], false),
        // A time that no bucket of this size can have: the clock of Redis was put back.
        (&[b"SET", b"", b"99999999999 0"], true),
        (&[b"SET", b"", &[b'9'; 400]], false),
    ];
    let mut routes = Vec::new();
    for number in 0..strange.len() {
        routes.push(open(&format!("route-{number}"), ten_minutes));
    }
    let (a, b) = (replicas.start(&routes).await, replicas.start(&routes).await);
    for (number, (words, is_used_up)) in strange.into_iter().enumerate() {
        let target = format!("/route-{number}/x");
        assert_eq!(status(&a, &target).await, 200);
        let key = redis.dump().remove(0).key;
        redis.ask(&[b"DEL", &key]);
        let mut words = words.to_vec();
        words[1] = &key;
        redis.ask(&words);
        let reply = b.client().await.get(&target).await;
        assert_eq!(reply.status == 429, is_used_up, "{number}");
        if is_used_up {
            let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
            assert!((500..=600).contains(&wait), "{wait}");
        }
        assert_eq!(status(&b, &target).await, 429, "{number}");
        let life = redis.lives().get(&key).copied();
        assert!(life.is_some_and(|life| (1..=600_000).contains(&life)), "{number}: {life:?}");
        redis.ask(&[b"DEL", &key]);
    }
}

#[tokio::test]
async fn a_cluster_counts_and_a_master_behind_a_sentinel_does() {
    let routes = [open("one", "requests: 3, per: 24h"), open("two", "requests: 3, per: 24h")];
    let (cluster, watched) = (Cluster::start(), Watched::start());
    for url in [cluster.url(), cluster.url_of_one_node(), watched.url()] {
        let replicas = Replicas::sharing(&url);
        let (a, b) = (replicas.start(&routes).await, replicas.start(&routes).await);
        for target in ["/one/x", "/two/x"] {
            assert_eq!(passing(&[&a, &b], 5, target, "").await, 3, "{url}");
        }
        for gateway in [&a, &b] {
            assert!(!gateway.metrics().await.contains("outcome=\"error\""), "{url}");
        }
    }
}
