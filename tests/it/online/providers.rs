//! Discovery, keys and clocks of providers.

use std::time::{Duration, UNIX_EPOCH};

use obo_gateway::clock::{Clock as _, SystemClock};
use obo_gateway::online::Outcome::{Fail, Ok, Warn};
use obo_gateway::online::Report;
use serde_json::json;

use super::{SECRET, all, entra, file, one, says, tried};
use crate::support::keys;
use crate::support::obo::{Answer, file_before_routes};
use crate::support::provider::{Endpoint, Provider, Reply};
use crate::support::tls_upstream::{self, Authority, Purpose, Settings};
use crate::support::token::{CLIENT_ID, TENANT};
use crate::support::upstream::Upstream;

async fn tried_provider(provider: &Provider, keys: &str) -> Report {
    tried(&file(&format!("providers: {{ {} }}", entra(provider, keys)))).await
}

#[tokio::test]
async fn the_table_of_a_good_file() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let routes = "  - { match: { path: /me }, auth: any, upstream: graph, \
                  token: { on_behalf_of: { scopes: [\"https://graph.example/User.Read\"] } } }\n";
    let report = tried(&(file_before_routes(&provider, &upstream) + routes)).await;
    let text = report.text().replace(&provider.base(), "http://sts");
    let text = text.replace(&upstream.authority(), "127.0.0.1:1");
    let expected = format!(
        "ok    provider entra  discovery   http://sts/{TENANT}/v2.0/.well-known/openid-configuration is there and names the configured issuer\n\
         ok    provider entra  keys        1 usable key at http://sts/{TENANT}/discovery/v2.0/keys\n\
         ok    provider entra  clock       the provider's clock agrees with this machine's\n\
         ok    provider entra  credential  client secret of client `{CLIENT_ID}`: accepted, and a token was given\n\
         ok    upstream graph  token       provider `entra` knows `https://graph.example/.default`; what users consented to shows with a user only\n\
         ok    upstream graph  connect     127.0.0.1:1\n\
         6 ok, 0 warnings, 0 failed\n"
    );
    assert_eq!(text, expected);
    assert!(report.is_good());
    // The credential by a token for the application itself, the resource by one of its own for it.
    let scopes: Vec<_> = provider.forms().iter().map(|form| form.fields.clone()).collect();
    for (fields, scope) in scopes
        .iter()
        .zip([format!("{CLIENT_ID}/.default"), "https://graph.example/.default".into()])
    {
        assert!(fields.contains(&("grant_type".into(), "client_credentials".into())), "{fields:?}");
        assert!(fields.contains(&("scope".into(), scope)), "{fields:?}");
    }
    assert_eq!((scopes.len(), upstream.count()), (2, 0));
}

#[tokio::test]
async fn a_certificate_that_can_t_be_believed_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let issue = |name, years| authority.issue_in(Purpose::Server, name, years);
    for (issued, words) in [
        (issue("other.internal", (2020, 2099)), ["has another name", "`issuer`"]),
        (issue("localhost", (2020, 2021)), ["has expired", "clock"]),
        (stranger.issue(Purpose::Server, "localhost"), ["no CA that is believed", "`ca_file`"]),
    ] {
        let server = tls_upstream::start(&issued, &Settings::default());
        let report = tried(&file(&format!(
            "providers: {{ sso: {{ type: oidc, issuer: \"https://localhost:{}\", audiences: [a], ca_file: \"{}/ca.pem\" }} }}",
            server.address().port(),
            folder.path().display(),
        )))
        .await;
        says(&report, "discovery", Fail, &words);
    }
}

#[tokio::test]
async fn discovery_that_fails_is_told_with_what_to_do() {
    let provider = Provider::start();
    let other = json!({ "issuer": "https://other.example", "jwks_uri": "https://other.example/k" });
    for (reply, words) in [
        (Reply::json(200, &other), ["names issuer `https://other.example`", "correct `tenant`"]),
        (Reply::json(404, &json!({})), ["status 404", "is it the right place?"]),
        (Reply::Reset, ["broke off", "see what answers there"]),
        (Reply::json(200, &json!([])), ["can't be read", "only the provider can mend"]),
    ] {
        provider.always(Endpoint::Discovery, reply);
        let report = tried_provider(&provider, "").await;
        says(&report, "discovery", Fail, &words);
        // Where its keys are, nobody can say then.
        assert!(all(&report, "keys").is_empty(), "{}", report.text());
    }
    assert_eq!(provider.count(Endpoint::Keys), 0);
    provider.stop().await;
    says(&tried_provider(&provider, "").await, "discovery", Fail, &["can't connect", "firewall"]);
}

#[tokio::test]
async fn a_provider_that_hangs_is_given_up() {
    let provider = Provider::start();
    provider.always(Endpoint::Discovery, Reply::Hang);
    let report = tried_provider(&provider, ", timeout: 100ms").await;
    says(&report, "discovery", Fail, &["no answer in time", "`timeout`"]);
}

#[tokio::test]
async fn keys_that_are_no_good_are_told() {
    let provider = Provider::start();
    let good = provider.entra_jwk(&keys::rsa());
    let mut nameless = good.clone();
    nameless["kid"] = json!("");
    provider.publish_jwks(&[good, nameless]);
    let words = ["1 usable key", "is refused: it has no usable `kid`"];
    says(&tried_provider(&provider, "").await, "keys", Warn, &words);

    provider.publish_jwks(&[json!({ "kty": "oct", "kid": "a", "k": "AAAA" })]);
    let words = ["none of the 1 keys", "`algorithms`"];
    says(&tried_provider(&provider, "").await, "keys", Fail, &words);
    provider.always(Endpoint::Keys, Reply::json(500, &json!({})));
    says(&tried_provider(&provider, "").await, "keys", Fail, &["status 500"]);
}

#[tokio::test]
async fn what_is_configured_is_not_asked_for() {
    let provider = Provider::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, json!({ "keys": [keys::rsa().jwk()] }).to_string()).unwrap();
    let jwks_file = format!(", jwks_file: \"{}\"", path.display());
    let report = tried_provider(&provider, &jwks_file).await;
    says(&report, "discovery", Ok, &["not needed"]);
    says(&report, "keys", Ok, &["1 usable key in `jwks_file`"]);
    assert!(all(&report, "clock").is_empty(), "nobody was asked:\n{}", report.text());
    assert_eq!(provider.count(Endpoint::Discovery) + provider.count(Endpoint::Keys), 0);
}

/// A discovery document that was made when this clock says.
fn at(provider: &Provider, ahead: i64) -> Reply {
    let now = UNIX_EPOCH + Duration::from_secs(SystemClock.now().0);
    let by = Duration::from_secs(ahead.unsigned_abs());
    let date = httpdate::fmt_http_date(if ahead < 0 { now - by } else { now + by });
    let issuer = provider.entra_issuer();
    let keys = format!("{}/{TENANT}/discovery/v2.0/keys", provider.base());
    let document = json!({ "issuer": issuer, "jwks_uri": keys });
    Reply::Answer(Answer::json(200, &document).header("date", &date))
}

#[tokio::test]
async fn clocks_that_differ_are_warned_of_then_refused() {
    let provider = Provider::start();
    // Far from every limit: the machine may be slow.
    for (ahead, keys, outcome, words) in [
        (0, "", Ok, "agrees"),
        (2000, "", Fail, "ahead of this machine's (`clock_skew` is 60 s)"),
        (-2000, "", Fail, "behind this machine's"),
        (160, ", clock_skew: 300s", Warn, "ahead of"),
        (-160, ", clock_skew: 300s", Warn, "(NTP)"),
    ] {
        provider.script(Endpoint::Discovery, at(&provider, ahead));
        let report = tried_provider(&provider, keys).await;
        says(&report, "clock", outcome, &[words]);
    }
}

#[tokio::test]
async fn a_discovery_that_failed_leaves_the_credential_to_its_known_endpoint() {
    let provider = Provider::start();
    provider.always(Endpoint::Discovery, Reply::json(503, &json!({})));
    let report = tried_provider(&provider, SECRET).await;
    assert_eq!(one(&report, "discovery").outcome, Fail);
    // Entra's endpoints are known by their layout.
    assert_eq!(one(&report, "credential").outcome, Ok, "{}", report.text());
}
