//! Collectors that are busy, deaf or gone: nobody who makes a request notices.

use std::time::Duration;

use super::{file, otlp};
use crate::support::collector::{Collector, Mood};
use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::upstream::Upstream;

const PROTOCOLS: [&str; 2] = ["protocol: grpc", "protocol: http/protobuf"];

#[tokio::test]
async fn a_busy_collector_is_asked_again() {
    for protocol in PROTOCOLS {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let collector = Collector::start();
        // Time passes here whether or not the collector has had its turn on the processor: no call may
        // time out.
        let keys = format!("{protocol}, timeout: 1h");
        let yaml = file(&provider, &upstream, "", &otlp(&collector.url(), &keys));
        let gateway = Gateway::start_in_virtual_time(&yaml);
        let mut client = gateway.client().await;
        collector.is(Mood::Busy);
        assert_eq!(client.get("/plain/x").await.status, 200);
        // Whatever the pauses are, time enough passes for one more try.
        let calls = async |count| loop {
            gateway.pass(Duration::from_millis(500)).await;
            if collector.calls().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        crate::support::within("two calls", calls(2)).await;
        collector.is(Mood::Takes);
        crate::support::within("a further one", async {
            while collector.spans().is_empty() {
                gateway.pass(Duration::from_millis(500)).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        gateway.metrics_when("obo_gateway_trace_spans_exported_total 3\n").await;
        assert!(gateway.metrics().await.contains("obo_gateway_trace_spans_dropped_total 0\n"));
    }
}

#[tokio::test]
async fn one_that_refuses_is_not_asked_again_and_is_complained_of_once() {
    for protocol in PROTOCOLS {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let collector = Collector::start();
        let yaml = file(&provider, &upstream, "", &otlp(&collector.url(), protocol));
        let gateway = Gateway::start(&yaml);
        let mut client = gateway.client().await;
        collector.is(Mood::Refuses);
        for (count, dropped) in [(1, 3), (2, 6)] {
            assert_eq!(client.get("/plain/x").await.status, 200);
            gateway
                .metrics_when(&format!("obo_gateway_trace_spans_dropped_total {dropped}\n"))
                .await;
            assert_eq!(collector.calls().len(), count);
        }
        collector.is(Mood::Takes);
        assert_eq!(client.get("/plain/x").await.status, 200);
        collector.spans_when(3).await;
        gateway.metrics_when("obo_gateway_trace_spans_exported_total 3\n").await;
        let complaints = gateway.log().text().matches("traces can't be sent").count();
        assert_eq!(complaints, 1, "{}", gateway.log().text());
    }
}

#[tokio::test]
async fn requests_do_not_wait_for_a_deaf_collector_and_neither_does_the_end() {
    for mood in [Some(Mood::Silent), None] {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let collector = Collector::start();
        match mood {
            Some(mood) => collector.is(mood),
            None => collector.stop().await,
        }
        let gateway = Gateway::start(&file(&provider, &upstream, "", &otlp(&collector.url(), "")));
        let mut client = gateway.client().await;
        for _ in 0..200 {
            assert_eq!(client.get("/plain/x").await.status, 200);
        }
        drop(client);
        // The harness waits for the drain no longer than for anything else.
        drop(gateway);
    }
}

#[tokio::test]
async fn spans_beyond_the_queue_are_dropped_and_counted() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let collector = Collector::start();
    collector.is(Mood::Silent);
    let yaml = file(&provider, &upstream, "", &otlp(&collector.url(), ""));
    let gateway = Gateway::start_in_virtual_time(&yaml);
    let mut client = gateway.client().await;
    // A batch is with the collector, which says nothing; the queue fills behind it.
    let most = obo_gateway::limits::MAX_QUEUED_TRACES + obo_gateway::limits::TRACE_BATCH_SPANS;
    for _ in 0..most + 10 {
        assert_eq!(client.get("/nowhere").await.status, 404);
    }
    let metrics = gateway.metrics().await;
    let dropped = metrics.lines().find_map(|line| {
        line.strip_prefix("obo_gateway_trace_spans_dropped_total ")?.parse::<usize>().ok()
    });
    assert!(dropped.unwrap() >= 10, "{metrics}");
}
