//! Which fields a line of the access log has.

use super::file;
use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::upstream::Upstream;

#[tokio::test]
async fn a_line_has_the_fields_that_the_file_names() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let yaml = |telemetry: &str| file(&provider, &upstream, "", telemetry);
    let some = "telemetry: { access_log: { fields: [reason, request_id, path, bytes_in] } }";
    let gateway = Gateway::start(&yaml(some));
    let mut client = gateway.client().await;
    assert_eq!(client.get("/nowhere?query-never-logged").await.status, 404);
    let event = gateway.log().event_when("/nowhere").await;
    let keys: Vec<_> = event.keys().map(String::as_str).collect();
    assert_eq!(keys.len(), 4, "{keys:?}");
    for key in ["request_id", "path", "reason", "bytes_in"] {
        assert!(event.contains_key(key), "{key} in {keys:?}");
    }
    assert!(event["reason"].as_str().unwrap().len() > 10);

    // All of them, and a reload is enough.
    gateway.write_file(&yaml("telemetry: { access_log: true }"));
    gateway.reload();
    assert_eq!(client.get("/all").await.status, 404);
    assert_eq!(gateway.log().event_when("/all").await.len(), 22);

    gateway.write_file(&yaml("telemetry: { access_log: false }"));
    gateway.reload();
    assert_eq!(client.get("/none").await.status, 404);
    gateway.write_file(&yaml(some));
    gateway.reload();
    assert_eq!(client.get("/last").await.status, 404);
    gateway.log().event_when("/last").await;
    assert!(!gateway.log().text().contains("/none"));
}
