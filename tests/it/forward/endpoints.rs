//! Several endpoints to an upstream, by URL and by the addresses of a name: how requests are
//! shared, and what becomes of those that a name no longer has.

use std::net::SocketAddr;
use std::time::Duration;

use http::Request;

use super::{all, event, file, open};
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::names::Names;
use crate::support::upstream::{Answer, Upstream};
use crate::support::within;

/// A routes file whose upstream `up` has these URLs.
pub(super) fn balanced(upstreams: &[&Upstream], keys: &str) -> String {
    let urls: Vec<_> = upstreams.iter().map(|upstream| format!("\"{}\"", upstream.url())).collect();
    let up = format!("up: {{ urls: [{}], {keys} }}", urls.join(", "));
    file("", &[&up], &[&all("")])
}

pub(super) fn counts(upstreams: &[Upstream]) -> Vec<usize> {
    upstreams.iter().map(Upstream::count).collect()
}

/// Lines of the log so far that have `text`.
pub(super) fn lines(gateway: &Gateway, text: &str) -> usize {
    gateway.log().text().lines().filter(|line| line.contains(text)).count()
}

/// Waits until a line of the log has `text`.
pub(super) async fn logged(gateway: &Gateway, text: &str) {
    logged_times(gateway, text, 1).await;
}

/// Waits until so many lines of the log have `text`: they are written behind what they tell of.
pub(super) async fn logged_times(gateway: &Gateway, text: &str, times: usize) {
    let there = async {
        while lines(gateway, text) < times {
            // The log tells of nothing; the interval only spares the processor.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(text, there).await;
}

#[tokio::test]
async fn all_urls_take_part_in_turn() {
    let upstreams = [(); 3].map(|()| Upstream::start());
    let [a, b, c] = &upstreams;
    let gateway = Gateway::start(&balanced(&[a, b, c], "load_balancing: round_robin"));
    let mut client = gateway.client().await;
    for round in 1..=3 {
        for upstream in &upstreams {
            let reply = client.get(&format!("/{round}/{}", upstream.port())).await;
            assert_eq!(reply.status, 200);
            // Each is told its own host, and the log says which it was.
            assert_eq!(upstream.last().authority, upstream.authority());
        }
        assert_eq!(counts(&upstreams), [round; 3]);
    }
    let event = event(&gateway, &format!("/1/{}", b.port())).await;
    assert_eq!(event["endpoint"], b.authority());
}

#[tokio::test]
async fn the_one_with_fewer_requests_is_taken() {
    for protocol in ["http1", "http2"] {
        let upstreams = [(); 2].map(|()| Upstream::start());
        let [a, b] = &upstreams;
        let gate = Gate::new();
        for upstream in &upstreams {
            let hold = gate.clone();
            upstream.answer(move |_| Answer::ok("").held_by(&hold));
        }
        let keys = format!("protocol: {protocol}");
        let gateway = Gateway::start(&balanced(&[a, b], &keys));
        let mut calls = Vec::new();
        for number in 1..=10 {
            let mut client = gateway.client().await;
            calls.push(tokio::spawn(async move { client.get("/x").await.status }));
            gate.arrived(number).await;
            let counts = counts(&upstreams);
            assert!(counts[0].abs_diff(counts[1]) <= 1, "{counts:?}");
        }
        gate.open();
        for call in calls {
            assert_eq!(call.await.unwrap(), 200);
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_costs_no_request() {
    // Two of three are down.
    const RETRY: &str = "retry: { attempts: 3 }, ";
    for balancing in ["least_requests", "round_robin"] {
        let upstreams = [(); 3].map(|()| Upstream::start());
        let [a, b, c] = &upstreams;
        let gateway =
            Gateway::start(&balanced(&[a, b, c], &format!("{RETRY}load_balancing: {balancing}")));
        a.stop().await;
        b.stop().await;
        let mut client = gateway.client().await;
        for _ in 0..20 {
            assert_eq!(client.send(Request::post("/x"), "body").await.status, 200);
        }
        assert_eq!(counts(&upstreams), [0, 0, 20]);
        c.stop().await;
        assert_eq!(client.get("/x").await.outcome(), (502, "upstream_unreachable".into()));
        // Those that could not be reached are tried all the same where there is no other.
        a.start_again();
        assert_eq!(client.get("/x").await.status, 200);
    }
}

#[tokio::test]
async fn every_address_of_a_name_takes_part() {
    let upstreams = Upstream::start_on_one_port::<3>();
    let names = Names::default();
    names.set("up.test", &["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    let url = format!("http://up.test:{}", upstreams[0].port());
    let gateway = Gateway::start_with_names(&names, &open(&url, "load_balancing: round_robin", ""));
    let mut client = gateway.client().await;
    for _ in 0..9 {
        assert_eq!(client.get("/x").await.status, 200);
    }
    assert_eq!(counts(&upstreams), [3; 3]);
    let host = format!("up.test:{}", upstreams[0].port());
    assert!(upstreams.iter().all(|upstream| upstream.last().authority == host));
    assert_eq!(names.asked(), ["up.test"]);
    assert_eq!(event(&gateway, "/x").await["endpoint"], host);
    let series = format!("healthy{{upstream=\"up\",endpoint=\"{host}\"}} 1");
    gateway.metrics_when(&series).await;
}

#[tokio::test]
async fn an_address_family_that_leads_nowhere_costs_no_request() {
    let upstream = Upstream::start();
    let names = Names::default();
    names.set("up.test", &["::1", "127.0.0.1", "127.0.0.9"]);
    let url = format!("http://up.test:{}", upstream.port());
    let gateway = Gateway::start_with_names(&names, &open(&url, "", ""));
    let mut client = gateway.client().await;
    for _ in 0..10 {
        assert_eq!(client.get("/x").await.status, 200);
    }
}

#[tokio::test]
async fn a_name_is_looked_up_again_in_time_and_nobody_waits_for_it() {
    let [one, two] = Upstream::start_on_one_port::<2>();
    let names = Names::default();
    names.set("up.test", &["127.0.0.1"]);
    let url = format!("http://up.test:{}", one.port());
    let gateway = Gateway::start_in_virtual_time_with_names(&names, &open(&url, "", ""));
    // Nobody asked for anything: nor did the gateway.
    gateway.pass(Duration::from_mins(10)).await;
    assert_eq!(names.asked().len(), 0);
    let mut client = gateway.client().await;
    assert_eq!(client.get("/x").await.status, 200);
    gateway.pass(Duration::from_secs(26)).await;
    assert_eq!(client.get("/x").await.status, 200);
    assert_eq!(names.asked().len(), 1);

    // Old now. The look-up takes as long as it likes, and there is one.
    let gate = Gate::new();
    names.hold("up.test", &gate);
    names.set("up.test", &["127.0.0.2", "127.0.0.1"]);
    gateway.pass(Duration::from_secs(5)).await;
    for _ in 0..10 {
        assert_eq!(client.get("/x").await.status, 200);
    }
    names.asked_when(2).await;
    gateway.pass(Duration::from_mins(1)).await;
    assert_eq!(client.get("/x").await.status, 200);
    assert_eq!((names.asked().len(), one.count(), two.count()), (2, 13, 0));
    gate.open();
    let moved = async {
        while two.count() == 0 {
            assert_eq!(client.get("/x").await.status, 200);
        }
    };
    within("the new address", moved).await;
    // What stays keeps its connection; the pool was idle for no longer than it may be.
    let before = one.count();
    let again = async {
        while one.count() == before {
            assert_eq!(client.get("/x").await.status, 200);
        }
    };
    within("the old address", again).await;

    // What goes away is sent nothing new, and what is on its way there ends well.
    let hold = Gate::new();
    let gate = hold.clone();
    one.answer(move |_| Answer::ok("late").held_by(&gate));
    let mut on_its_way = Vec::new();
    for _ in 0..20 {
        let mut client = gateway.client().await;
        on_its_way.push(tokio::spawn(async move { client.get("/late").await.status }));
    }
    hold.arrived(1).await;
    let rest = async {
        // Looked at again and again: the last one may arrive at either.
        let late = |of: &Upstream| of.seen().iter().filter(|seen| seen.target == "/late").count();
        while late(&one) + late(&two) < 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the rest", rest).await;
    names.set("up.test", &["127.0.0.2"]);
    gateway.pass(Duration::from_secs(31)).await;
    // Whoever comes first begins the look-up, and may still go to the old address.
    let mut other = gateway.client().await;
    on_its_way.push(tokio::spawn(async move { other.get("/late").await.status }));
    names.asked_when(3).await;
    let settled = async {
        // The answer of the resolver is on its way to the list.
        while lines(&gateway, "the name was looked up") < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the new list", settled).await;
    for _ in 0..20 {
        assert_eq!(client.get("/new").await.status, 200);
    }
    assert!(one.seen().iter().all(|seen| seen.target != "/new"));
    hold.open();
    for call in on_its_way {
        assert_eq!(call.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn what_a_name_had_is_kept_while_it_cannot_be_looked_up() {
    let upstream = Upstream::start();
    let names = Names::default();
    names.set("up.test", &["127.0.0.1"]);
    let url = format!("http://up.test:{}", upstream.port());
    let gateway = Gateway::start_in_virtual_time_with_names(&names, &open(&url, "", ""));
    let mut client = gateway.client().await;
    assert_eq!(client.get("/x").await.status, 200);
    names.set("up.test", &[]);
    for round in 2..=5 {
        gateway.pass(Duration::from_secs(31)).await;
        assert_eq!(client.get("/x").await.status, 200);
        names.asked_when(round).await;
        logged(&gateway, "the name can't be looked up").await;
    }
    assert_eq!(lines(&gateway, "the name can't be looked up"), 1);
    names.set("up.test", &["127.0.0.1"]);
    gateway.pass(Duration::from_secs(1)).await;
    assert_eq!(client.get("/x").await.status, 200);
    logged(&gateway, "the name can be looked up again").await;
}

#[tokio::test]
async fn a_name_that_is_not_there_is_502_and_does_not_storm_the_resolver() {
    let upstream = Upstream::start();
    let names = Names::default();
    let url = format!("http://up.test:{}", upstream.port());
    let gateway = Gateway::start_in_virtual_time_with_names(&names, &open(&url, "", ""));
    let mut client = gateway.client().await;
    for _ in 0..10 {
        assert_eq!(client.get("/x").await.outcome(), (502, "upstream_unreachable".into()));
    }
    assert_eq!(names.asked().len(), 1);
    let event = event(&gateway, "/x").await;
    let reason = event["reason"].as_str().unwrap();
    assert!(reason.contains("up.test") && reason.contains("no such name"), "{reason}");
    gateway.metrics_when(&format!("endpoint=\"up.test:{}\"}} 0", upstream.port())).await;
    names.set("up.test", &["127.0.0.1"]);
    gateway.pass(Duration::from_millis(999)).await;
    assert_eq!(client.get("/x").await.status, 502);
    gateway.pass(Duration::from_millis(1)).await;
    assert_eq!(client.get("/x").await.status, 200);
    assert_eq!(names.asked().len(), 2);
}

#[tokio::test]
async fn a_look_up_that_hangs_is_504_and_there_is_one_for_all() {
    let upstream = Upstream::start();
    let (names, gate) = (Names::default(), Gate::new());
    names.set("up.test", &["127.0.0.1"]);
    names.hold("up.test", &gate);
    let url = format!("http://up.test:{}", upstream.port());
    let file = open(&url, "timeouts: { connect: 200ms }", "");
    let gateway = Gateway::start_with_names(&names, &file);
    let client = gateway.client_http2().await;
    let calls = (0..20).map(|_| {
        let mut client = client.beside();
        async move { client.get("/x").await.outcome() }
    });
    for outcome in futures_util::future::join_all(calls).await {
        assert_eq!(outcome, (504, "upstream_timeout".into()));
    }
    assert_eq!(names.asked().len(), 1);
    let event = event(&gateway, "/x").await;
    let reason = event["reason"].as_str().unwrap();
    assert!(reason.contains("no address of `up.test:"), "{reason}");
    gate.open();
    let mut client = client.beside();
    assert_eq!(client.get("/x").await.status, 200);
    assert_eq!(names.asked().len(), 1);
}

#[tokio::test]
async fn one_name_that_hangs_does_not_hold_up_the_others() {
    let upstream = Upstream::start();
    let (names, gate) = (Names::default(), Gate::new());
    names.hold("slow.test", &gate);
    let port = upstream.port();
    let up = format!("up: {{ urls: [\"http://slow.test:{port}\", \"http://127.0.0.1:{port}\"] }}");
    let gateway = Gateway::start_with_names(&names, &file("", &[&up], &[&all("")]));
    let mut client = gateway.client().await;
    for _ in 0..5 {
        assert_eq!(client.get("/x").await.status, 200);
    }
    assert_eq!(names.asked(), ["slow.test"]);
}

#[tokio::test]
async fn of_a_name_with_ten_thousand_addresses_some_are_used() {
    // At all addresses of 127.0.0.0/8 alike.
    let upstream = Upstream::start_at(SocketAddr::from(([0, 0, 0, 0], 0)));
    let names = Names::default();
    let addresses: Vec<_> =
        (0..10_000).map(|number| format!("127.0.{}.{}", number / 250, number % 250 + 1)).collect();
    names.set("up.test", &addresses.iter().map(String::as_str).collect::<Vec<_>>());
    let url = format!("http://up.test:{}", upstream.port());
    let gateway = Gateway::start_with_names(&names, &open(&url, "", ""));
    let mut client = gateway.client().await;
    for _ in 0..3 {
        assert_eq!(client.get("/x").await.status, 200);
    }
    logged(&gateway, "the name has more addresses than are used").await;
    logged(&gateway, "the name was looked up").await;
    let debug = gateway.log().text();
    let line = debug.lines().find(|line| line.contains("the name was looked up")).unwrap();
    assert_eq!(line.matches("up.test:").count() - 1, 128, "{line}");
}
