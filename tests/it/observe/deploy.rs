//! The alerts and the dashboard of `deploy/` name only metrics and labels that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use obo_gateway::clock::UnixTime;
use obo_gateway::observe::Metrics;
use obo_gateway::observe::access_log::{AccessLog, AccessRecord, Observer};
use obo_gateway::observe::exposition::Exposition;
use obo_gateway::observe::metrics::{CacheResult, Outcome};
use obo_gateway::observe::request_id::RequestId;
use obo_gateway::observe::shared_cache::{Operation, SharedOutcome};
use obo_gateway::observe::sink::{LogFormat, LogSink};
use obo_gateway::peer::Peer;
use obo_gateway::rejection::{Code, Rejection};
use serde_json::Value;

use super::file;
use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::token::Token;
use crate::support::upstream::Upstream;

/// Labels that Prometheus adds.
const OF_PROMETHEUS: [&str; 4] = ["job", "instance", "le", "__name__"];

/// The label names of each metric, by the name that is written in queries.
type Known = BTreeMap<String, BTreeSet<String>>;

fn known(metrics: &str, into: &mut Known) {
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split("\",");
        let labels = labels.filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        into.entry(name.to_owned()).or_default().extend(labels);
    }
}

/// What a gateway says that has seen a little of everything, and what its code can say beyond.
async fn all_there_is() -> Known {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = Gateway::start(&file(&provider, &upstream, "", ""));
    gateway.ready().await;
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let mut client = gateway.client().await;
    assert_eq!(client.get("/graph/x").await.status, 401);
    assert_eq!(client.get_with("/graph/x", &token).await.status, 200);
    assert_eq!(client.get("/dead/x").await.status, 502);
    gateway.reload();
    let mut there = Known::new();
    known(&gateway.metrics().await, &mut there);

    // What takes certificates, or time.
    let metrics = Metrics::default();
    metrics.certificate_expires("a", UnixTime(1));
    metrics.credential_expires(&Arc::from("a"), Some(UnixTime(1)));
    metrics.client_certificate_expires(&Arc::from("a"), Some(UnixTime(1)));
    metrics.config_reloaded(Outcome::Failure);
    metrics.upstream("a").token_cache(CacheResult::Hit);
    metrics.exchanged("a", "a", "success", Duration::ZERO);
    metrics.shared_cache_up(true);
    metrics.shared_cache(Operation::Claim, SharedOutcome::Hit);
    known(&Exposition::Prometheus.encode(&metrics), &mut there);
    there
}

/// Words of a query that are names: letters, digits, `_` and `:`, not behind `$`, and in no quotes.
fn words(query: &str) -> Vec<(usize, String)> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for (at, c) in query.char_indices().chain([(query.len(), ' ')]) {
        let of_word = c.is_ascii_alphanumeric() || "_:$".contains(c);
        if c == '"' {
            quoted = !quoted;
        }
        if of_word && !quoted {
            word.push(c);
        } else if !word.is_empty() {
            let begun = at - word.len();
            words.push((begun, std::mem::take(&mut word)));
        }
    }
    words
}

fn is_metric(word: &str) -> bool {
    word.starts_with("obo_gateway_") || word.starts_with("process_")
}

/// What is wrong with a query, and the labels that its result may have.
fn check(query: &str, there: &Known) -> (Vec<String>, BTreeSet<String>) {
    let mut wrong = Vec::new();
    let mut labels: BTreeSet<String> = OF_PROMETHEUS.iter().map(|&it| it.to_owned()).collect();
    for (at, metric) in words(query).into_iter().filter(|(_, word)| is_metric(word)) {
        let Some(own) = there.get(&metric) else {
            wrong.push(format!("there is no metric `{metric}`"));
            continue;
        };
        labels.extend(own.iter().cloned());
        let rest = &query[at + metric.len()..];
        let Some(selector) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
            continue;
        };
        for (_, label) in words(selector.0) {
            if !own.contains(&label) && !OF_PROMETHEUS.contains(&label.as_str()) {
                wrong.push(format!("`{metric}` has no label `{label}`"));
            }
        }
    }
    let of_lists = ["by (", "on (", "without ("].iter().flat_map(|list| query.split(list).skip(1));
    let of_lists: Vec<_> = of_lists
        .flat_map(|rest| words(rest.split_once(')').unwrap().0))
        .map(|(_, label)| label)
        .collect();
    for label in &of_lists {
        if !labels.contains(label) {
            wrong.push(format!("no metric of `{query}` has a label `{label}`"));
        }
    }
    if query.trim_start().starts_with("sum by") || query.trim_start().starts_with("max by") {
        labels.retain(|label| of_lists.contains(label));
    }
    (wrong, labels)
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test]
async fn alerts_name_only_what_there_is_and_say_what_to_do() {
    let there = all_there_is().await;
    let rules: Value = serde_yaml::from_str(&read("deploy/prometheus/rules.yaml")).unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    let mut wrong = Vec::new();
    let mut names = BTreeSet::new();
    for rule in rules {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = text(&rule["alert"]);
        let (said, labels) = check(&text(&rule["expr"]), &there);
        wrong.extend(said.into_iter().map(|said| format!("{name}: {said}")));
        let (summary, description) =
            (text(&rule["annotations"]["summary"]), text(&rule["annotations"]["description"]));
        if summary.len() < 20 || description.len() < 40 {
            wrong.push(format!("{name}: it does not say what is wrong and what to do"));
        }
        for part in [&summary, &description] {
            for rest in part.split("$labels.").skip(1) {
                let label = &words(rest)[0].1;
                if !labels.contains(label) {
                    wrong.push(format!("{name}: its alerts have no label `{label}`"));
                }
            }
            let (said, _) = check(part, &there);
            wrong.extend(said.into_iter().map(|said| format!("{name}: {said}")));
        }
        if !matches!(text(&rule["labels"]["severity"]).as_str(), "page" | "ticket") {
            wrong.push(format!("{name}: who is told?"));
        }
        names.insert(name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(names.len(), rules.len(), "each has its own name");
    assert!(rules.len() >= 20);
}

#[tokio::test]
async fn the_dashboard_names_only_what_there_is() {
    let there = all_there_is().await;
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    for target in targets {
        let query = target["expr"].as_str().unwrap().to_owned();
        let (said, labels) = check(&query, &there);
        wrong.extend(said);
        for rest in target["legendFormat"].as_str().unwrap().split("{{").skip(1) {
            let label = rest.split_once("}}").unwrap().0;
            if !labels.contains(label) {
                wrong.push(format!("the legend of `{query}` has no label `{label}`"));
            }
        }
        used.extend(words(&query).into_iter().map(|(_, word)| word).filter(|word| is_metric(word)));
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["definition"].as_str() {
            wrong.extend(check(query, &there).0);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // And it forgets none.
    let families = there.keys().filter(|name| name.starts_with("obo_gateway_"));
    let shown = |name: &str| {
        let base = name.trim_end_matches("_count").trim_end_matches("_sum");
        used.contains(name)
            || used.contains(&format!("{}_bucket", base.trim_end_matches("_bucket")))
    };
    let missing: Vec<_> = families.filter(|name| !shown(name)).collect();
    assert_eq!(missing, ["obo_gateway_trace_spans_exported_total"]);
}

#[test]
fn a_name_that_is_not_there_is_found() {
    let mut there = Known::new();
    known("obo_gateway_a_total{route=\"x, y\",code=\"z\"} 1\nprocess_b 2\n", &mut there);
    let good = "sum by (route) (rate(obo_gateway_a_total{code=~\"obo_gateway_x\",job=~\"$job\"}[5m])) > process_b";
    assert_eq!(check(good, &there).0, Vec::<String>::new());
    for bad in [
        "obo_gateway_b_total",
        "rate(obo_gateway_a_total{status=\"5..\"}[5m])",
        "sum by (upstream) (obo_gateway_a_total)",
        "process_c",
    ] {
        assert_eq!(check(bad, &there).0.len(), 1, "{bad}");
    }
}

#[test]
fn every_name_of_the_contract_is_there_with_its_labels() {
    let metrics = Metrics::default();
    let sink = LogSink::start(Box::new(std::io::sink()), LogFormat::Json, metrics.clone()).unwrap();
    let observer = Arc::new(Observer::new(metrics.clone(), sink, AccessLog::Off));
    let request = Request::get("/").body(()).unwrap();
    let peer = Peer { address: ([192, 0, 2, 1], 5000).into(), tls: false, certificate: None };
    let mut record = AccessRecord::begin(&observer, &request, &peer, RequestId::new());
    record.route = Some(metrics.route("a"));
    record.upstream = Some(metrics.upstream("a"));
    record.refused(&Rejection::new(Code::TokenMissing, "a", "b"));
    drop(record.complete(Response::new(Full::<&[u8]>::default())));
    metrics.upstream("a").token_cache(CacheResult::Hit);
    metrics.exchanged("a", "a", "success", Duration::ZERO);
    metrics.jwks_refreshed("a", "success");
    metrics.config_reloaded(Outcome::Success);
    metrics.config_in_force_since(UnixTime(1));
    metrics.certificate_expires("a", UnixTime(1));
    metrics.watch_endpoints(vec![Arc::new(Healthy)]);
    let mut there = Known::new();
    known(&Exposition::Prometheus.encode(&metrics), &mut there);
    for (name, labels) in [
        ("requests_total", "method,route,status"),
        ("request_duration_seconds_bucket", "le,route"),
        ("upstream_duration_seconds_bucket", "le,upstream"),
        ("overhead_seconds_bucket", "le,route"),
        ("requests_in_flight", ""),
        ("connections_open", ""),
        ("auth_failures_total", "code,route"),
        ("token_cache_requests_total", "result,upstream"),
        ("token_cache_entries", ""),
        ("exchanges_total", "outcome,provider,upstream"),
        ("exchange_duration_seconds_bucket", "le,provider"),
        ("jwks_refreshes_total", "outcome,provider"),
        ("upstream_endpoint_healthy", "endpoint,upstream"),
        ("upstream_retries_total", "upstream"),
        ("config_reloads_total", "outcome"),
        ("config_last_reload_success_timestamp_seconds", ""),
        ("tls_certificate_expiry_timestamp_seconds", "listener"),
        ("build_info", "version"),
    ] {
        let own = there.get(&format!("obo_gateway_{name}"));
        let own = own.unwrap_or_else(|| panic!("there is no `{name}`"));
        assert_eq!(own.iter().cloned().collect::<Vec<_>>().join(","), labels, "{name}");
    }
}

struct Healthy;

impl obo_gateway::observe::endpoint_health::EndpointHealth for Healthy {
    fn upstream(&self) -> Arc<str> {
        Arc::from("a")
    }

    fn health(&self) -> Vec<(Arc<str>, bool)> {
        vec![(Arc::from("a:1"), true)]
    }
}
