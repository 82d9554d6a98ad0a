use std::sync::Arc;

use super::*;
use crate::clock::UnixTime;
use crate::identity::Claims;
use crate::observe::Metrics;

const SECOND: Duration = Duration::from_secs(1);

fn allowance(requests: u32, per: Duration, burst: u32, by: By) -> Allowance {
    let number = |number| NonZeroU32::new(number).unwrap();
    let reach = Reach::Replica;
    Allowance { requests: number(requests), per, burst: number(burst), by, reach }
}

fn try_limit(allowance: Allowance) -> Result<RateLimit, Unmeasurable> {
    limit_within(limits::MAX_RATE_LIMIT_KEYS, allowance)
}

fn limit_within(room: usize, allowance: Allowance) -> Result<RateLimit, Unmeasurable> {
    RateLimit::within(room, allowance, ("orders", &SharedStore::new(Metrics::default())))
}

fn limit(requests: u32, burst: u32, by: By) -> RateLimit {
    try_limit(allowance(requests, SECOND, burst, by)).unwrap()
}

/// What is said of a request at once: nobody has to be asked.
fn admit(limit: &RateLimit, client_ip: IpAddr) -> Result<(), Rejection> {
    limit.admit(client_ip).map(|admission| at_once(&admission))
}

fn admit_caller(limit: &RateLimit, caller: Option<&Identity>) -> Result<(), Rejection> {
    limit.admit_caller(caller).map(|admission| at_once(&admission))
}

fn at_once(admission: &Admission<'_>) {
    assert!(matches!(admission, Admission::Passes));
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn identity(
    provider: &str,
    kind: CallerKind,
    user: Option<&str>,
    client: Option<&str>,
) -> Identity {
    Identity {
        provider: Arc::from(provider),
        issuer: Arc::from("https://issuer.example"),
        tenant: None,
        user: user.map(str::to_owned),
        client_id: client.map(str::to_owned),
        kind,
        scopes: Vec::new(),
        roles: Vec::new(),
        claims: Claims::default(),
        expires_at: UnixTime(0),
    }
}

/// How long a refused one is told to wait.
fn wait(refused: Result<(), Rejection>) -> Duration {
    let rejection = refused.unwrap_err();
    assert_eq!(rejection.code(), Code::RateLimited);
    let Extra::RetryAfter(wait) = rejection.extra() else { panic!("{rejection:?}") };
    *wait
}

#[tokio::test(start_paused = true)]
async fn a_burst_passes_and_comes_back_steadily() {
    let limit = limit(10, 3, By::Route);
    for _ in 0..3 {
        admit(&limit, ip("192.0.2.1")).unwrap();
    }
    assert_eq!(wait(admit(&limit, ip("192.0.2.2"))), Duration::from_millis(100));
    tokio::time::advance(Duration::from_millis(99)).await;
    assert_eq!(wait(admit(&limit, ip("192.0.2.3"))), Duration::from_millis(1));
    tokio::time::advance(Duration::from_millis(1)).await;
    admit(&limit, ip("192.0.2.3")).unwrap();
    assert!(admit(&limit, ip("192.0.2.3")).is_err());
    // Refusals cost nothing, and what is not used is not saved up beyond the burst.
    tokio::time::advance(Duration::from_hours(1)).await;
    for _ in 0..3 {
        admit(&limit, ip("192.0.2.1")).unwrap();
    }
    assert!(admit(&limit, ip("192.0.2.1")).is_err());
}

#[tokio::test(start_paused = true)]
async fn an_address_is_one_of_ipv4_or_64_bits_of_ipv6() {
    let one_each = || limit(1, 1, By::Ip);
    for (first, second, together) in [
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("192.0.2.1", "::ffff:192.0.2.1", true),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", true),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        // An IPv4 address is not the network whose bits it shares.
        ("0.0.0.1", "0:0:0:1::", false),
    ] {
        let limit = one_each();
        admit(&limit, ip(first)).unwrap();
        assert_eq!(admit(&limit, ip(second)).is_err(), together, "{first} {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_is_one_of_a_provider_and_tenant() {
    use CallerKind::{App, User};
    let of = |provider, kind, user, client| identity(provider, kind, user, client);
    let in_tenant = |tenant: &str| Identity {
        tenant: Some(tenant.to_owned()),
        ..of("a", User, Some("u"), None)
    };
    let issued_by =
        |issuer: &str| Identity { issuer: Arc::from(issuer), ..of("a", User, Some("u"), None) };
    for (first, second, together) in [
        (of("a", User, Some("u"), Some("c")), of("a", User, Some("u"), Some("d")), true),
        (of("a", User, Some("u"), None), of("a", User, Some("v"), None), false),
        (of("a", User, Some("u"), None), of("b", User, Some("u"), None), false),
        (in_tenant("1"), in_tenant("2"), false),
        // Entra's two versions have an issuer each.
        (issued_by("https://v1"), issued_by("https://v2"), true),
        (of("a", App, Some("u"), Some("c")), of("a", App, Some("v"), Some("c")), true),
        (of("a", App, Some("u"), Some("c")), of("a", App, Some("u"), Some("d")), false),
        // A user may be called as a client is.
        (of("a", User, Some("x"), None), of("a", App, None, Some("x")), false),
        // No name can be made of the parts of two others.
        (of("ab", User, Some("c"), None), of("a", User, Some("bc"), None), false),
    ] {
        let limit = limit(1, 1, By::User);
        admit_caller(&limit, Some(&first)).unwrap();
        let refused = admit_caller(&limit, Some(&second)).is_err();
        assert_eq!(refused, together, "{first:?} {second:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_one_of_a_provider_for_all_its_users() {
    use CallerKind::User;
    let of = |provider, user, client| identity(provider, User, Some(user), client);
    for (first, second, together) in [
        (of("a", "u", Some("c")), of("a", "v", Some("c")), true),
        (of("a", "u", Some("c")), of("a", "u", Some("d")), false),
        (of("a", "u", Some("c")), of("b", "u", Some("c")), false),
        (of("a", "u", None), of("a", "v", None), true),
        (of("a", "u", None), of("a", "v", Some("")), false),
    ] {
        let limit = limit(1, 1, By::Client);
        admit_caller(&limit, Some(&first)).unwrap();
        let refused = admit_caller(&limit, Some(&second)).is_err();
        assert_eq!(refused, together, "{first:?} {second:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_is_counted_at_its_time_and_nobody_passes_uncounted() {
    let alice = identity("a", CallerKind::User, Some("u"), Some("c"));
    for by in [By::User, By::Client] {
        let limit = limit(1, 1, by);
        for _ in 0..3 {
            admit(&limit, ip("192.0.2.1")).unwrap();
        }
        admit_caller(&limit, Some(&alice)).unwrap();
        assert!(admit_caller(&limit, Some(&alice)).is_err());
        assert_eq!(admit_caller(&limit, None).unwrap_err().code(), Code::Internal);
    }
    for by in [By::Ip, By::Route] {
        let limit = limit(1, 1, by);
        for caller in [Some(&alice), None, Some(&alice)] {
            admit_caller(&limit, caller).unwrap();
        }
        admit(&limit, ip("192.0.2.1")).unwrap();
        assert!(admit(&limit, ip("192.0.2.1")).is_err());
    }
}

#[test]
fn limits_that_cannot_be_measured_are_refused() {
    let made = |requests, per, burst| try_limit(allowance(requests, per, burst, By::Route)).err();
    assert_eq!(made(1_000_000, SECOND, 1), None);
    assert_eq!(made(1_000_001, SECOND, 1), Some(Unmeasurable::TooFast));
    assert_eq!(made(1, Duration::from_hours(24), 31), None);
    assert_eq!(made(1, Duration::from_hours(24), 32), Some(Unmeasurable::TooSlow));
    assert_eq!(made(1, Duration::from_hours(24 * 365), u32::MAX), Some(Unmeasurable::TooSlow));
}

/// How many buckets there are in the end.
fn remembered(limit: RateLimit) -> usize {
    match limit.meters {
        Meters::One(_) => 1,
        Meters::Each(meters) => meters.into_state_store().len(),
        Meters::Together(_) => panic!("it is this replica's alone"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_addresses_frees_nobody_and_refuses_no_newcomer() {
    let room = 16 * 64;
    let limit = limit_within(room, allowance(1, Duration::from_mins(1), 5, By::Ip)).unwrap();
    let culprit = ip("192.0.2.1");
    for _ in 0..5 {
        admit(&limit, culprit).unwrap();
    }
    // Half a million networks of one /32, each once.
    for network in 0..500_000_u128 {
        let address = (0x2001_0db8_u128 << 96) | (network << 64);
        admit(&limit, IpAddr::from(address.to_be_bytes())).unwrap();
    }
    assert!(admit(&limit, culprit).is_err());
    admit(&limit, ip("198.51.100.1")).unwrap();
    let kept = remembered(limit);
    assert!(kept <= room, "{kept}");
}

#[tokio::test(start_paused = true)]
async fn where_all_have_used_more_than_a_newcomer_the_newcomer_is_forgotten() {
    let room = 16;
    let limit = limit_within(room, allowance(1, Duration::from_mins(1), 3, By::Ip)).unwrap();
    let address = |number: u32| IpAddr::from(number.to_be_bytes());
    for _ in 0..3 {
        for number in 0..200 {
            admit(&limit, address(number)).unwrap();
        }
    }
    // Those who are remembered, one in each shard, have used up theirs, and stay.
    let used_up = (0..200).filter(|number| admit(&limit, address(*number)).is_err()).count();
    let kept = remembered(limit);
    assert!(kept <= room && used_up >= 1 && used_up <= kept, "{kept} {used_up}");
}

#[tokio::test(start_paused = true)]
async fn whose_burst_is_whole_again_is_forgotten() {
    let limit = limit(1, 5, By::Ip);
    for number in 0..1000_u32 {
        admit(&limit, IpAddr::from(number.to_be_bytes())).unwrap();
    }
    tokio::time::advance(SECOND).await;
    for number in 5000..6000_u32 {
        admit(&limit, IpAddr::from(number.to_be_bytes())).unwrap();
    }
    assert_eq!(remembered(limit), 1000);
}

#[test]
fn counts_are_exact_under_contention() {
    let limit = try_limit(allowance(1, Duration::from_hours(24), 20, By::Ip)).unwrap();
    let admitted: usize = std::thread::scope(|scope| {
        let work = || (0..100).filter(|_| admit(&limit, ip("192.0.2.1")).is_ok()).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 20);
}

#[test]
fn nobody_is_printed() {
    let limit = limit(1, 1, By::Ip);
    admit(&limit, ip("192.0.2.1")).unwrap();
    let shown = format!("{limit:?}");
    assert!(shown.contains("Ip") && !shown.contains("192"), "{shown}");
    let reason = admit(&limit, ip("192.0.2.1")).unwrap_err().reason();
    assert!(reason.contains("by ip") && reason.contains("1 requests in 1s"), "{reason}");
}

/// One that replicas hold together, in a store that there is not.
fn fleet_limit(requests: u32, burst: u32, by: By) -> RateLimit {
    let allowance = allowance(requests, SECOND, burst, by);
    try_limit(Allowance { reach: Reach::Fleet, ..allowance }).unwrap()
}

async fn settled(limit: &RateLimit, client_ip: IpAddr) -> Result<Waited, Rejection> {
    match limit.admit(client_ip)? {
        Admission::Passes => panic!("the replicas are not asked"),
        Admission::Asks(replicas) => replicas.await,
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_store_each_replica_holds_the_limit_alone() {
    for by in [By::Route, By::Ip] {
        let limit = fleet_limit(10, 3, by);
        for _ in 0..3 {
            settled(&limit, ip("192.0.2.1")).await.unwrap();
        }
        // Known here: nobody is asked.
        assert_eq!(wait(admit(&limit, ip("192.0.2.1"))), Duration::from_millis(100));
        tokio::time::advance(Duration::from_millis(100)).await;
        settled(&limit, ip("192.0.2.1")).await.unwrap();
        let refused = admit(&limit, ip("192.0.2.1")).unwrap_err();
        assert!(refused.reason().contains("3 at once, over all replicas"), "{refused}");
    }
    let limit = fleet_limit(1, 1, By::User);
    let alice = identity("a", CallerKind::User, Some("u"), None);
    let Admission::Asks(replicas) = limit.admit_caller(Some(&alice)).unwrap() else { panic!() };
    replicas.await.unwrap();
    assert!(admit_caller(&limit, Some(&alice)).is_err());
    assert_eq!(admit_caller(&limit, None).unwrap_err().code(), Code::Internal);
    at_once(&limit.admit(ip("192.0.2.1")).unwrap());
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_at_once_are_judged_once_they_are_counted() {
    let limit = fleet_limit(10, 1, By::Route);
    let ask = || match limit.admit(ip("192.0.2.1")).unwrap() {
        Admission::Passes => panic!("the replicas are not asked"),
        Admission::Asks(replicas) => replicas,
    };
    let (first, second) = (ask(), ask());
    second.await.unwrap();
    assert_eq!(wait(first.await.map(drop)), Duration::from_millis(100));
}

#[test]
fn what_is_known_of_a_bucket_only_grows() {
    let each = Duration::from_millis(10);
    let buckets = Buckets::new(16, each);
    let (now, key) = (SECOND, Key(7));
    buckets.raise(key, now, each * 3);
    buckets.raise(key, now, each);
    assert_eq!(buckets.full_at(key), Some((now + each * 3).into()));
    buckets.raise(key, now + each, each * 3);
    assert_eq!(buckets.full_at(key), Some((now + each * 4).into()));
    assert_eq!(buckets.full_at(Key(8)), None);
    // The one who used more stays.
    buckets.raise(Key(7 + 16), now, each);
    assert_eq!((buckets.full_at(Key(7 + 16)), buckets.len()), (None, 1));
    // A newcomer of a later time finds it full.
    buckets.raise(Key(7 + 16), now + SECOND, each);
    assert_eq!((buckets.full_at(key), buckets.len()), (None, 1));
}
