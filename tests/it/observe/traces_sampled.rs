//! Which requests leave spans, and what the upstream is told where they do not.

use http::Request;

use super::{file, otlp};
use crate::support::collector::Collector;
use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::upstream::Upstream;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

#[tokio::test]
async fn only_a_trusted_proxy_decides_by_its_flag() {
    let trusted = "trusted_proxies: [127.0.0.1]";
    for (server, keys, parent, sampled) in [
        // A stranger who sets the flag on everything pays nothing for it, and gets nothing.
        ("", "sample: 0%", SAMPLED, false),
        ("", "sample: 100%", NOT_SAMPLED, true),
        (trusted, "sample: 0%", SAMPLED, true),
        (trusted, "sample: 100%", NOT_SAMPLED, false),
        ("", "sample: 0%, follow_parent: always", SAMPLED, true),
        (trusted, "sample: 0%, follow_parent: never", SAMPLED, false),
    ] {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let collector = Collector::start();
        let yaml = file(&provider, &upstream, server, &otlp(&collector.url(), keys));
        let gateway = Gateway::start_in_virtual_time(&yaml);
        let mut client = gateway.client().await;
        let request = Request::get("/plain/x").header("traceparent", parent);
        assert_eq!(client.send(request, "").await.status, 200);
        let flag = if sampled { "-01" } else { "-00" };
        let sent = upstream.last().value("traceparent").unwrap();
        assert!(sent.contains(TRACE) && sent.ends_with(flag), "{server} {keys} {parent}: {sent}");
        assert_eq!(gateway.log().event_when("/plain/x").await["trace_id"], TRACE);
        drop(client);
        drop(gateway);
        let spans = collector.spans().len();
        assert_eq!(spans, if sampled { 3 } else { 0 }, "{server} {keys} {parent}");
    }
}

#[tokio::test]
async fn a_request_without_a_trace_begins_one() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let collector = Collector::start();
    let yaml = file(&provider, &upstream, "", &otlp(&collector.url(), "sample: 0%"));
    let gateway = Gateway::start(&yaml);
    let mut client = gateway.client().await;
    for parent in
        [None, Some("00-broken"), Some("00-00000000000000000000000000000000-00f067aa0ba902b7-01")]
    {
        let mut request = Request::get("/plain/x").header("tracestate", "a=b");
        if let Some(parent) = parent {
            request = request.header("traceparent", parent);
        }
        assert_eq!(client.send(request, "").await.status, 200);
        let seen = upstream.last();
        let sent = seen.value("traceparent").unwrap();
        assert!(sent.len() == 55 && sent.ends_with("-00") && !sent.contains("broken"), "{sent}");
        assert!(!sent.contains("00000000000000000000000000000000"), "{sent}");
        assert_eq!(seen.value("tracestate"), None, "it was of another trace");
    }
}

#[tokio::test]
async fn without_traces_the_headers_pass_as_they_came() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = Gateway::start(&file(&provider, &upstream, "", ""));
    let mut client = gateway.client().await;
    assert_eq!(client.get("/plain/x").await.status, 200);
    assert_eq!(upstream.last().value("traceparent"), None);
    let request =
        Request::get("/plain/x").header("traceparent", SAMPLED).header("tracestate", "a=b");
    assert_eq!(client.send(request, "").await.status, 200);
    assert_eq!(upstream.last().value("traceparent").as_deref(), Some(SAMPLED));
    assert_eq!(upstream.last().value("tracestate").as_deref(), Some("a=b"));
}
