//! The cache that replicas share: whether the gateway may do there what it does.

use obo_gateway::online::Outcome;

use super::{one, says, tried};
use crate::support::redis::Redis;

/// A file whose route has a limit that replicas hold together, or each for itself.
fn file(redis: &Redis, shared: &str) -> String {
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: off }}\n\
         cache: {{ redis: {{ url: \"{}\", encryption_keys: [\"{}\"], timeout: 5s }} }}\n\
         routes:\n  - {{ match: {{ path: /a }}, auth: none, respond: {{ status: 204 }}, \
         rate_limit: {{ requests: 1, per: 1h, by: route, shared: {shared} }} }}\n",
        redis.url(),
        "0a1b".repeat(10) + "0aA=",
    )
}

#[tokio::test]
async fn a_right_that_is_missing_is_found_whatever_it_is_for() {
    for (denied, shared, missing) in [
        ("", "true", None),
        ("-time", "false", None),
        ("-time", "true", Some("time")),
        ("-xrevrange", "false", Some("xrevrange")),
        ("-xrange", "false", Some("xrange")),
        ("-xread", "false", Some("xread")),
        ("-xadd", "false", Some("xadd")),
        ("-pttl", "false", Some("pttl")),
        ("-strlen", "false", Some("strlen")),
    ] {
        let user = format!("user default on nopass ~* &* +@all {denied}\n");
        let redis = Redis::start_with(&user);
        let report = tried(&file(&redis, shared)).await;
        match missing {
            None => says(&report, "use", Outcome::Ok, &["stream of what is to be forgotten read"]),
            Some(command) => says(&report, "use", Outcome::Fail, &[&format!("+{command}")]),
        }
        let counted = one(&report, "use").detail.contains("a request was counted");
        assert_eq!(counted, shared == "true" && missing.is_none(), "{denied}");
    }
}
