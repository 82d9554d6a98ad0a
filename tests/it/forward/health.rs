//! Endpoints that take no requests: those whose health checks fail, and those that are left alone
//! because requests to them failed.

use std::time::Duration;

use http::{Request, Version};

use super::endpoints::{balanced, counts, lines, logged, logged_times};
use super::{event, open};
use crate::support::gateway::Gateway;
use crate::support::raw_upstream::{RawUpstream, Then};
use crate::support::seen::Seen;
use crate::support::upstream::{Answer, Upstream};
use crate::support::within;

/// Virtual time goes on while a check is on its way between real sockets: on a busy machine that must
/// not be its timeout.
const CHECKED: &str = "load_balancing: round_robin, health_check: { path: /healthz, timeout: 1h }";
const DOWN: &str = "an endpoint is unhealthy";
const UP: &str = "an endpoint is healthy again";

fn checks(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| seen.target == "/healthz").count()
}

fn requests(upstream: &Upstream) -> usize {
    upstream.seen().iter().filter(|seen| seen.target != "/healthz").count()
}

/// Answers the `n`th check, counted from 1, with a status, and everything else with 200.
fn script(upstream: &Upstream, status: impl Fn(usize) -> u16 + Send + 'static) {
    let mut number = 0;
    upstream.answer(move |seen| {
        if seen.target != "/healthz" {
            return Answer::ok("ok");
        }
        number += 1;
        Answer::status(status(number))
    });
}

/// Lets time pass until a line of the log has `text`.
async fn pass_until(gateway: &Gateway, text: &str) {
    let there = async {
        while lines(gateway, text) == 0 {
            gateway.pass(Duration::from_secs(2)).await;
            // The check is on its way between real sockets.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(text, there).await;
}

/// Lets time pass until the upstream saw so many checks in all.
async fn pass_until_checked(gateway: &Gateway, upstream: &Upstream, count: usize) {
    let there = async {
        while checks(&upstream.seen()) < count {
            gateway.pass(Duration::from_secs(2)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("health checks", there).await;
}

#[tokio::test]
async fn an_endpoint_whose_checks_fail_takes_no_requests_until_they_do_not() {
    let upstreams = [(); 3].map(|()| Upstream::start());
    let [a, b, c] = &upstreams;
    // Three are enough to be out; one good one is not enough to be back, two are.
    script(b, |number| if number <= 3 || number == 5 { 500 } else { 204 });
    let gateway = Gateway::start_in_virtual_time(&balanced(&[a, b, c], CHECKED));
    let series = |up: u8| format!("healthy{{upstream=\"up\",endpoint=\"{}\"}} {up}", b.authority());
    gateway.metrics_when(&series(1)).await;
    pass_until(&gateway, DOWN).await;
    assert!((3..=5).contains(&checks(&b.seen())), "{}", checks(&b.seen()));
    assert!(gateway.metrics().await.contains(&series(0)));
    let before = requests(b);
    let mut client = gateway.client().await;
    for _ in 0..6 {
        assert_eq!(client.get("/x").await.status, 200);
    }
    assert_eq!((requests(a), requests(b), requests(c)), (3, before, 3));
    pass_until(&gateway, UP).await;
    assert!(checks(&b.seen()) >= 7, "{}", checks(&b.seen()));
    assert!(gateway.metrics().await.contains(&series(1)));
    let mut client = gateway.client().await;
    for _ in 0..6 {
        assert_eq!(client.get("/x").await.status, 200);
    }
    assert_eq!(requests(b), before + 2);
    // One line for each change.
    logged(&gateway, DOWN).await;
    logged(&gateway, UP).await;
    assert_eq!((lines(&gateway, DOWN), lines(&gateway, UP)), (1, 1));
}

#[tokio::test]
async fn fewer_failures_in_a_row_than_asked_for_change_nothing() {
    let upstream = Upstream::start();
    script(&upstream, |number| if number % 3 == 0 { 200 } else { 503 });
    let gateway = Gateway::start_in_virtual_time(&open(&upstream.url(), CHECKED, ""));
    pass_until_checked(&gateway, &upstream, 13).await;
    assert_eq!(gateway.client().await.get("/x").await.status, 200);
    assert_eq!(lines(&gateway, DOWN), 0);
}

#[tokio::test]
async fn with_nothing_healthy_the_answer_is_503_at_once_and_nothing_is_tried() {
    let upstreams = [(); 2].map(|()| Upstream::start());
    for some in [&upstreams[..1], &upstreams[..]] {
        for upstream in some {
            script(upstream, |_| 404);
        }
        let all: Vec<_> = some.iter().collect();
        let gateway = Gateway::start_in_virtual_time(&balanced(&all, CHECKED));
        for upstream in some {
            let down = format!("\"endpoint\":\"{}\"", upstream.authority());
            pass_until(&gateway, &down).await;
        }
        let before: Vec<_> = some.iter().map(requests).collect();
        let mut client = gateway.client().await;
        for request in [Request::get("/x"), Request::post("/x")] {
            let reply = client.send(request, "").await;
            assert_eq!(reply.outcome(), (503, "upstream_overloaded".into()));
            assert_eq!(reply.header("retry-after"), Some("10"));
            assert!(!String::from_utf8_lossy(&reply.body).contains("127.0.0.1"));
        }
        assert_eq!(some.iter().map(requests).collect::<Vec<_>>(), before);
        let event = event(&gateway, "/x").await;
        let reason = event["reason"].as_str().unwrap();
        for upstream in some {
            let named = format!("{0} at {0} unhealthy for ", upstream.authority());
            assert!(reason.contains(&named) && reason.contains("answered 404"), "{reason}");
        }
    }
}

#[tokio::test]
async fn a_check_is_a_request_of_the_gateways_own() {
    for (protocol, version) in [("http1", Version::HTTP_11), ("http2", Version::HTTP_2)] {
        let upstream = Upstream::start();
        let keys = format!(
            "protocol: {protocol}, token: {{ header: {{ name: x-api-key, value: \"${{CLIENT_SECRET}}\" }} }}, \
             health_check: {{ path: \"/healthz?deep=1\", interval: 10ms }}"
        );
        let url = format!("{}/base", upstream.url());
        let gateway = Gateway::start(&open(&url, &keys, ""));
        let seen = upstream.seen_when("checks", |seen| seen.len() >= 3).await;
        drop(gateway);
        for (number, check) in seen.iter().enumerate() {
            assert_eq!((check.method.as_str(), check.target.as_str()), ("GET", "/healthz?deep=1"));
            assert_eq!((check.version, check.connection), (version, number));
            assert_eq!(check.authority, upstream.authority());
            let names: Vec<_> = check.headers.iter().map(|(name, _)| name.as_str()).collect();
            let fine = |name: &&str| matches!(*name, "host" | "user-agent");
            assert!(names.iter().all(fine), "{names:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_good_answer_is_a_failed_check() {
    for (bytes, then, good) in [
        ("", Then::Close, false),
        ("", Then::KeepOpen, false),
        ("garbage\r\n\r\n", Then::Close, false),
        ("HTTP/1.1 200 OK\r\ncontent-len", Then::Close, false),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Then::KeepOpen, false),
        (
            "HTTP/1.1 301 Moved\r\nlocation: /healthy\r\ncontent-length: 0\r\n\r\n",
            Then::KeepOpen,
            false,
        ),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Then::Close, false),
        ("HTTP/1.1 503 Down\r\n\r\n", Then::Close, false),
        // A body is not waited for, however long it says it is.
        ("HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\nx", Then::KeepOpen, true),
        ("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", Then::Close, true),
        ("HTTP/1.0 200 OK\r\n\r\n", Then::Close, true),
        (
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 299 Fine\r\ncontent-length: 0\r\n\r\n",
            Then::Close,
            true,
        ),
    ] {
        let upstream = RawUpstream::start();
        for _ in 0..100 {
            upstream.answer(bytes, then);
        }
        // Not to be used up by a busy machine where the check is to pass.
        let timeout = if good { "20s" } else { "100ms" };
        let keys = format!(
            "health_check: {{ path: /, interval: 10ms, timeout: {timeout}, unhealthy_after: 1 }}"
        );
        let gateway = Gateway::start(&open(&upstream.url(), &keys, ""));
        let what = bytes.escape_debug();
        if good {
            upstream.heads_when(3).await;
            assert_eq!(lines(&gateway, DOWN), 0, "{what}");
        } else {
            logged(&gateway, DOWN).await;
            let outcome = gateway.client().await.get("/x").await.outcome();
            assert_eq!(outcome, (503, "upstream_overloaded".into()), "{what}");
        }
    }
}

#[tokio::test]
async fn a_head_without_end_is_a_failed_check() {
    let upstream = RawUpstream::start();
    let field = format!("x-a: {}\r\n", "a".repeat(1000));
    upstream.answer(format!("HTTP/1.1 200 OK\r\n{}", field.repeat(70)), Then::KeepOpen);
    let keys = "health_check: { path: /, interval: 1h, timeout: 1h, unhealthy_after: 1 }";
    let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
    logged(&gateway, DOWN).await;
}

#[tokio::test]
async fn checks_go_on_over_a_reload_that_leaves_the_upstream_and_end_with_it() {
    let (upstream, other) = (Upstream::start(), Upstream::start());
    script(&upstream, |_| 500);
    let yaml = |route: &str| open(&upstream.url(), CHECKED, route);
    let gateway = Gateway::start_in_virtual_time(&yaml(""));
    pass_until(&gateway, DOWN).await;
    gateway.write_file(&yaml("response_headers: { set: { x-a: b } }"));
    gateway.reload();
    // Still known to be down, and still asked, no more often than before.
    assert_eq!(gateway.client().await.get("/x").await.status, 503);
    let before = checks(&upstream.seen());
    pass_until_checked(&gateway, &upstream, before + 2).await;

    gateway.write_file(&open(&other.url(), CHECKED, ""));
    gateway.reload();
    pass_until_checked(&gateway, &other, 1).await;
    let before = checks(&upstream.seen());
    pass_until_checked(&gateway, &other, 5).await;
    assert_eq!(checks(&upstream.seen()), before);
    let metrics = gateway.metrics().await;
    assert!(metrics.contains(&format!("endpoint=\"{}\"}} 1", other.authority())), "{metrics}");
    assert!(!metrics.contains(&upstream.authority()), "{metrics}");
}

#[tokio::test]
async fn checks_end_with_the_drain() {
    let upstream = Upstream::start();
    let keys = "health_check: { path: /healthz, interval: 10ms }";
    let gateway = Gateway::start(&open(&upstream.url(), keys, ""));
    upstream.seen_when("checks", |seen| seen.len() >= 3).await;
    within("the drain", gateway.running().drain()).await;
    // One may be on its way.
    let before = upstream.count();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(upstream.count() <= before + 1);
}

const EJECTING: &str = "load_balancing: round_robin, timeouts: { response: 100ms }, outlier_ejection: { consecutive_failures: 3 }";
const EJECTED: &str = "failed requests in a row";

#[tokio::test]
async fn an_endpoint_that_fails_requests_in_a_row_is_left_alone_and_comes_back() {
    let upstreams = [(); 2].map(|()| Upstream::start());
    let [a, b] = &upstreams;
    b.answer(|_| Answer::status(503));
    let gateway = Gateway::start_in_virtual_time(&balanced(&[a, b], EJECTING));
    let mut client = gateway.client().await;
    for _ in 0..12 {
        client.get("/x").await;
    }
    assert_eq!(counts(&upstreams), [9, 3]);
    let series = |up: u8| format!("healthy{{upstream=\"up\",endpoint=\"{}\"}} {up}", b.authority());
    assert!(gateway.metrics().await.contains(&series(0)));
    gateway.pass(Duration::from_millis(29_990)).await;
    assert_eq!(client.get("/x").await.status, 200);
    gateway.pass(Duration::from_millis(10)).await;
    assert!(gateway.metrics().await.contains(&series(1)));
    // It fails again, and is left alone for twice as long.
    for _ in 0..12 {
        client.get("/x").await;
    }
    assert_eq!(b.count(), 6);
    gateway.pass(Duration::from_millis(59_990)).await;
    for _ in 0..4 {
        assert_eq!(client.get("/x").await.status, 200);
    }
    b.answer(|_| Answer::ok("ok"));
    gateway.pass(Duration::from_millis(10)).await;
    for _ in 0..4 {
        assert_eq!(client.get("/x").await.status, 200);
    }
    assert_eq!(b.count(), 8);
    logged_times(&gateway, EJECTED, 2).await;
    assert_eq!(lines(&gateway, EJECTED), 2);
}

#[tokio::test]
async fn failures_with_a_success_in_between_and_refusals_are_no_reason() {
    let upstreams = [(); 2].map(|()| Upstream::start());
    let [a, b] = &upstreams;
    let mut number = 0;
    b.answer(move |_| {
        number += 1;
        Answer::status(if number % 3 == 0 { 200 } else { 500 })
    });
    a.answer(|_| Answer::status(429));
    let gateway = Gateway::start(&balanced(&[a, b], EJECTING));
    let mut client = gateway.client().await;
    for _ in 0..20 {
        client.get("/x").await;
    }
    assert_eq!(counts(&upstreams), [10, 10]);
}

#[tokio::test]
async fn whatever_loses_a_request_counts_but_not_a_caller_who_goes_away() {
    for (what, status) in [("hang up", 502), ("silence", 504), ("500", 500)] {
        let upstreams = [(); 2].map(|()| Upstream::start());
        let [a, b] = &upstreams;
        b.answer(move |_| match what {
            "hang up" => Answer { hang_up: true, ..Answer::ok("") },
            "silence" => Answer::ok("").held_by(&crate::support::gate::Gate::new()),
            _ => Answer::status(500),
        });
        let gateway = Gateway::start(&balanced(&[a, b], EJECTING));
        let mut client = gateway.client().await;
        let mut seen = Vec::new();
        for _ in 0..10 {
            seen.push(client.send(Request::post("/x"), "body").await.status.as_u16());
        }
        assert_eq!(seen.iter().filter(|seen| **seen == status).count(), 3, "{what}: {seen:?}");
        assert_eq!(counts(&upstreams), [7, 3], "{what}");
    }
    // Callers who give up on a slow endpoint don't put it out.
    let upstreams = [(); 2].map(|()| Upstream::start());
    let [a, b] = &upstreams;
    let gate = crate::support::gate::Gate::new();
    let hold = gate.clone();
    b.answer(move |_| Answer::ok("").held_by(&hold));
    let keys = "load_balancing: round_robin, outlier_ejection: { consecutive_failures: 1 }";
    let gateway = Gateway::start(&balanced(&[a, b], keys));
    for number in 1..=4 {
        assert_eq!(gateway.client().await.get("/x").await.status, 200);
        let mut client = gateway.client().await;
        let call =
            tokio::spawn(async move { client.try_send(Request::get("/x"), "").await.is_ok() });
        gate.arrived(number).await;
        call.abort();
    }
    assert_eq!(lines(&gateway, EJECTED), 0);
    assert_eq!(b.count(), 4);
    gate.open();
}

#[tokio::test]
async fn a_connection_that_is_refused_counts_too() {
    let upstreams = [(); 2].map(|()| Upstream::start());
    let [a, b] = &upstreams;
    b.stop().await;
    let keys = "load_balancing: round_robin, outlier_ejection: { consecutive_failures: 1 }";
    let gateway = Gateway::start(&balanced(&[a, b], keys));
    let mut client = gateway.client().await;
    for _ in 0..4 {
        assert_eq!(client.get("/x").await.status, 200);
    }
    logged(&gateway, EJECTED).await;
}

#[tokio::test]
async fn no_more_than_the_share_are_left_alone_and_never_the_last_but_by_request() {
    for (endpoints, percent, out) in [(1, 99, 0), (2, 99, 1), (3, 66, 1), (3, 67, 2), (4, 50, 2)] {
        let upstreams: Vec<_> = (0..endpoints).map(|_| Upstream::start()).collect();
        for upstream in &upstreams {
            upstream.answer(|_| Answer::status(502));
        }
        let keys = format!(
            "load_balancing: round_robin, outlier_ejection: {{ consecutive_failures: 1, max_percent: {percent} }}"
        );
        let gateway = Gateway::start(&balanced(&upstreams.iter().collect::<Vec<_>>(), &keys));
        let mut client = gateway.client().await;
        for _ in 0..20 {
            let reply = client.get("/x").await;
            assert_eq!((reply.status.as_u16(), reply.header("x-upstream-mark")), (502, Some("1")));
        }
        let ones = counts(&upstreams).into_iter().filter(|count| *count == 1).count();
        assert_eq!(ones, out, "{percent} % of {endpoints}: {:?}", counts(&upstreams));
    }
    let upstreams = [(); 2].map(|()| Upstream::start());
    let [a, b] = &upstreams;
    for upstream in &upstreams {
        upstream.answer(|_| Answer::status(502));
    }
    let keys = "load_balancing: round_robin, outlier_ejection: { consecutive_failures: 1, max_percent: 100 }";
    let gateway = Gateway::start_in_virtual_time(&balanced(&[a, b], keys));
    let mut client = gateway.client().await;
    for _ in 0..2 {
        assert_eq!(client.get("/x").await.status, 502);
    }
    for _ in 0..3 {
        let reply = client.get("/out").await;
        assert_eq!(reply.outcome(), (503, "upstream_overloaded".into()));
        assert_eq!(reply.header("retry-after"), Some("30"));
    }
    assert_eq!(counts(&upstreams), [1, 1]);
    let event = event(&gateway, "/out").await;
    let reason = event["reason"].as_str().unwrap();
    assert!(reason.contains("ejected 0 s ago for failed requests, for 30 s more"), "{reason}");
    gateway.pass(Duration::from_secs(30)).await;
    assert_eq!(client.get("/x").await.status, 502);
}

#[tokio::test]
async fn without_the_keys_failures_change_nothing() {
    let upstreams = [(); 2].map(|()| Upstream::start());
    let [a, b] = &upstreams;
    b.answer(|_| Answer::status(503));
    let gateway = Gateway::start_in_virtual_time(&balanced(&[a, b], "load_balancing: round_robin"));
    let mut client = gateway.client().await;
    for _ in 0..20 {
        client.get("/x").await;
    }
    gateway.pass(Duration::from_mins(10)).await;
    assert_eq!(counts(&upstreams), [10, 10]);
}
