use std::sync::Arc;

use super::*;
use crate::clock::UnixTime;

const SECOND: Duration = Duration::from_secs(1);

fn allowance(requests: u32, per: Duration, burst: u32, by: By) -> Allowance {
    let number = |number| NonZeroU32::new(number).unwrap();
    Allowance { requests: number(requests), per, burst: number(burst), by }
}

fn limit(requests: u32, burst: u32, by: By) -> RateLimit {
    RateLimit::new(allowance(requests, SECOND, burst, by)).unwrap()
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
        claims: serde_json::Map::new(),
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
        limit.admit(ip("192.0.2.1")).unwrap();
    }
    assert_eq!(wait(limit.admit(ip("192.0.2.2"))), Duration::from_millis(100));
    tokio::time::advance(Duration::from_millis(99)).await;
    assert_eq!(wait(limit.admit(ip("192.0.2.3"))), Duration::from_millis(1));
    tokio::time::advance(Duration::from_millis(1)).await;
    limit.admit(ip("192.0.2.3")).unwrap();
    assert!(limit.admit(ip("192.0.2.3")).is_err());
    // Refusals cost nothing, and what is not used is not saved up beyond the burst.
    tokio::time::advance(Duration::from_hours(1)).await;
    for _ in 0..3 {
        limit.admit(ip("192.0.2.1")).unwrap();
    }
    assert!(limit.admit(ip("192.0.2.1")).is_err());
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
        limit.admit(ip(first)).unwrap();
        assert_eq!(limit.admit(ip(second)).is_err(), together, "{first} {second}");
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
        limit.admit_caller(Some(&first)).unwrap();
        let refused = limit.admit_caller(Some(&second)).is_err();
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
        limit.admit_caller(Some(&first)).unwrap();
        let refused = limit.admit_caller(Some(&second)).is_err();
        assert_eq!(refused, together, "{first:?} {second:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_is_counted_at_its_time_and_nobody_passes_uncounted() {
    let alice = identity("a", CallerKind::User, Some("u"), Some("c"));
    for by in [By::User, By::Client] {
        let limit = limit(1, 1, by);
        for _ in 0..3 {
            limit.admit(ip("192.0.2.1")).unwrap();
        }
        limit.admit_caller(Some(&alice)).unwrap();
        assert!(limit.admit_caller(Some(&alice)).is_err());
        assert_eq!(limit.admit_caller(None).unwrap_err().code(), Code::Internal);
    }
    for by in [By::Ip, By::Route] {
        let limit = limit(1, 1, by);
        for caller in [Some(&alice), None, Some(&alice)] {
            limit.admit_caller(caller).unwrap();
        }
        limit.admit(ip("192.0.2.1")).unwrap();
        assert!(limit.admit(ip("192.0.2.1")).is_err());
    }
}

#[test]
fn limits_that_cannot_be_measured_are_refused() {
    let made =
        |requests, per, burst| RateLimit::new(allowance(requests, per, burst, By::Route)).err();
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
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_addresses_frees_nobody_and_refuses_no_newcomer() {
    let room = 16 * 64;
    let limit = RateLimit::within(allowance(1, Duration::from_mins(1), 5, By::Ip), room).unwrap();
    let culprit = ip("192.0.2.1");
    for _ in 0..5 {
        limit.admit(culprit).unwrap();
    }
    // Half a million networks of one /32, each once.
    for network in 0..500_000_u128 {
        let address = (0x2001_0db8_u128 << 96) | (network << 64);
        limit.admit(IpAddr::from(address.to_be_bytes())).unwrap();
    }
    assert!(limit.admit(culprit).is_err());
    limit.admit(ip("198.51.100.1")).unwrap();
    let kept = remembered(limit);
    assert!(kept <= room, "{kept}");
}

#[tokio::test(start_paused = true)]
async fn where_all_have_used_more_than_a_newcomer_the_newcomer_is_forgotten() {
    let room = 16;
    let limit = RateLimit::within(allowance(1, Duration::from_mins(1), 3, By::Ip), room).unwrap();
    let address = |number: u32| IpAddr::from(number.to_be_bytes());
    for _ in 0..3 {
        for number in 0..200 {
            limit.admit(address(number)).unwrap();
        }
    }
    // Those who are remembered, one in each shard, have used up theirs, and stay.
    let used_up = (0..200).filter(|number| limit.admit(address(*number)).is_err()).count();
    let kept = remembered(limit);
    assert!(kept <= room && used_up >= 1 && used_up <= kept, "{kept} {used_up}");
}

#[tokio::test(start_paused = true)]
async fn whose_burst_is_whole_again_is_forgotten() {
    let limit = limit(1, 5, By::Ip);
    for number in 0..1000_u32 {
        limit.admit(IpAddr::from(number.to_be_bytes())).unwrap();
    }
    tokio::time::advance(SECOND).await;
    for number in 5000..6000_u32 {
        limit.admit(IpAddr::from(number.to_be_bytes())).unwrap();
    }
    assert_eq!(remembered(limit), 1000);
}

#[test]
fn counts_are_exact_under_contention() {
    let limit = RateLimit::new(allowance(1, Duration::from_hours(24), 20, By::Ip)).unwrap();
    let admitted: usize = std::thread::scope(|scope| {
        let work = || (0..100).filter(|_| limit.admit(ip("192.0.2.1")).is_ok()).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 20);
}

#[test]
fn nobody_is_printed() {
    let limit = limit(1, 1, By::Ip);
    limit.admit(ip("192.0.2.1")).unwrap();
    let shown = format!("{limit:?}");
    assert!(shown.contains("Ip") && !shown.contains("192"), "{shown}");
    let reason = limit.admit(ip("192.0.2.1")).unwrap_err().reason();
    assert!(reason.contains("by ip") && reason.contains("1 requests in 1s"), "{reason}");
}
