//! However many paths, methods, hosts and statuses there are, the series of the metrics are as many
//! as the routes file makes them.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use obo_gateway::observe::access_log::{AccessLog, AccessRecord, Observer};
use obo_gateway::observe::request_id::RequestId;
use obo_gateway::observe::sink::{LogFormat, LogSink};
use obo_gateway::observe::{Metrics, exposition::Exposition};
use obo_gateway::peer::Peer;
use obo_gateway::rejection::{Code, Rejection};

use super::file;
use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::raw::Raw;
use crate::support::upstream::{Answer, Upstream};

/// Random requests in this process, of the 100,000.
const IN_PROCESS: usize = 97_000;
/// And over sockets.
const OVER_SOCKETS: usize = 3_000;

fn text(length: std::ops::Range<usize>) -> String {
    (0..fastrand::usize(length)).map(|_| fastrand::alphanumeric()).collect()
}

fn method() -> Method {
    match fastrand::u8(..4) {
        0 => [Method::GET, Method::POST, Method::HEAD, Method::PATCH][fastrand::usize(..4)].clone(),
        _ => Method::from_bytes(text(1..12).as_bytes()).unwrap(),
    }
}

fn series(metrics: &str) -> usize {
    metrics.lines().filter(|line| !line.starts_with('#')).count()
}

/// All statuses that there are, and all methods that have a name.
fn statuses() -> impl Iterator<Item = StatusCode> {
    (100..1000).map(|status| StatusCode::from_u16(status).unwrap())
}

const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"];

#[test]
fn random_requests_in_process_leave_the_number_of_series_unchanged() {
    let metrics = Metrics::default();
    let sink = LogSink::start(Box::new(std::io::sink()), LogFormat::Json, metrics.clone()).unwrap();
    let observer = Arc::new(Observer::new(metrics.clone(), sink, AccessLog::Off));
    let routes = [metrics.route("a"), metrics.route("b")];
    let peer = Peer { address: ([192, 0, 2, 1], 5000).into(), tls: false, certificate: None };
    let handle = |method: Method, target: String, host: &str, status: StatusCode| {
        let request = Request::builder().method(method).uri(target).header("host", host);
        let request = request.body(()).unwrap();
        let mut record = AccessRecord::begin(&observer, &request, &peer, RequestId::new());
        match fastrand::u8(..3) {
            0 => {}
            route => record.route = Some(Arc::clone(&routes[usize::from(route) - 1])),
        }
        record.complete(Response::builder().status(status).body(Full::<&[u8]>::default()).unwrap());
    };
    // What may be there: each method with each status, on each route, and a refusal of each code.
    for (method, status) in METHODS.iter().flat_map(|method| statuses().map(move |it| (method, it)))
    {
        for route in [None, Some(&routes[0]), Some(&routes[1])] {
            let request = Request::builder().method(*method).uri("/").body(()).unwrap();
            let mut record = AccessRecord::begin(&observer, &request, &peer, RequestId::new());
            record.route = route.cloned();
            let response = Response::builder().status(status).body(Full::<&[u8]>::default());
            record.complete(response.unwrap());
        }
    }
    let before = series(&metrics.encode());
    assert!(before < 3_000, "{before} series for two routes");
    for _ in 0..IN_PROCESS {
        let status = StatusCode::from_u16(fastrand::u16(100..1000)).unwrap();
        handle(method(), format!("/{}?{}", text(0..60), text(0..9)), &text(1..30), status);
    }
    assert_eq!(series(&metrics.encode()), before);
    let prometheus = Exposition::Prometheus.encode(&metrics);
    assert!(prometheus.contains(r#"method="other",status="5xx""#), "{prometheus}");
}

#[test]
fn a_refusal_of_any_code_is_a_series_of_its_route_and_no_more() {
    let metrics = Metrics::default();
    let sink = LogSink::start(Box::new(std::io::sink()), LogFormat::Json, metrics.clone()).unwrap();
    let observer = Observer::new(metrics.clone(), sink, AccessLog::Off);
    let peer = Peer { address: ([192, 0, 2, 1], 5000).into(), tls: false, certificate: None };
    let refuse = || {
        let rejection = Rejection::new(Code::BadRequest, text(1..9), text(1..9));
        observer.refused_unread(&peer, &RequestId::new(), &rejection);
    };
    refuse();
    let before = series(&metrics.encode());
    (0..1000).for_each(|_| refuse());
    assert_eq!(series(&metrics.encode()), before);
}

#[tokio::test]
async fn random_requests_over_sockets_leave_the_number_of_series_unchanged() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway =
        Gateway::start(&file(&provider, &upstream, "", "telemetry: { access_log: false }"));
    // The age of its keys is a series too.
    gateway.ready().await;
    // Every status that has a name, and one of each class that has none.
    for status in statuses().filter(|it| it.as_u16() >= 200) {
        if status.canonical_reason().is_some() || status.as_u16() % 100 == 99 {
            upstream.answer(move |_| Answer::status(status.as_u16()));
            for method in METHODS {
                exchange(&gateway, method, "/plain/x", "a").await;
            }
        }
    }
    for method in METHODS {
        exchange(&gateway, method, "/no", "a").await;
        exchange(&gateway, method, "/%2F", "a").await;
    }
    let before = series(&gateway.metrics().await);
    upstream.answer(|_| Answer::status(fastrand::u16(200..1000)));
    for _ in 0..OVER_SOCKETS {
        let path =
            format!("/{}{}?{}", ["plain/", ""][fastrand::usize(..2)], text(0..40), text(0..9));
        exchange(&gateway, method().as_str(), &path, &text(1..30)).await;
    }
    let after = gateway.metrics().await;
    assert_eq!(series(&after), before, "{after}");
}

/// One request on a connection of its own, to the end of the answer.
async fn exchange(gateway: &Gateway, method: &str, path: &str, host: &str) {
    let mut raw = Raw::connect(gateway.address()).await;
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    raw.send(head.as_bytes()).await;
    raw.rest().await;
}
