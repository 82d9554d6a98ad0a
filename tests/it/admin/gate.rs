//! Who is answered: with a token and without, by which name, and from which page.

use std::net::SocketAddr;

use http::Request;

use super::{GRAPH, OPEN, file, start};
use crate::support::admin::Admin;
use crate::support::client::{Client, Reply};
use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::registry;
use crate::support::upstream::Upstream;

const TOKEN: &str = "it-admin-token-0c2f61aa97b3";
const CLOSED: &[&str] = &[
    "routes",
    "upstreams",
    "providers",
    "cache",
    "config",
    "stats",
    "refusals",
    "schema",
    "reload",
];
const FOREIGN: &str = "evil.example:9901";

async fn with(admin: &mut Admin, target: &str, headers: &[(&str, &str)]) -> Reply {
    let method = if target.ends_with("reload") { "POST" } else { "GET" };
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    admin.send(request, "").await
}

fn refused() -> (u16, String) {
    (403, "caller_not_allowed".to_owned())
}

#[tokio::test]
async fn a_token_is_asked_for_on_loopback_too_but_for_health_and_metrics() {
    registry::secret(TOKEN);
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = start(&provider, &upstream, &format!(", token: {TOKEN}"));
    gateway.ready().await;
    let mut nobody = Admin::of(&gateway).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(nobody.try_get(path).await.status, 200, "{path}");
    }
    let mut stranger = Admin::of(&gateway).await.with_token("it-admin-token-0c2f61aa97b4");
    let mut operator = Admin::of(&gateway).await.with_token(TOKEN);
    for path in CLOSED {
        let target = format!("/api/v1/{path}");
        let reply = with(&mut nobody, &target, &[]).await;
        assert_eq!(reply.outcome(), (401, "token_missing".to_owned()), "{path}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"admin\""));
        let reply = with(&mut stranger, &target, &[]).await;
        assert_eq!(reply.outcome(), (401, "token_invalid".to_owned()), "{path}");
        // A Service, or an ingress, has a name: with a token that is no matter.
        for host in ["127.0.0.1", "localhost", "gateway.prod.svc:9901"] {
            let reply = with(&mut operator, &target, &[("host", host)]).await;
            assert_eq!(reply.status, 200, "{path} at {host}");
        }
    }
    assert_eq!(nobody.try_get("/api/v1/nothing").await.status, 401, "not even what there is not");
}

#[tokio::test]
async fn off_loopback_nothing_but_health_and_metrics_is_shown_without_a_token() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let yaml = file(&provider, &upstream, "", &[GRAPH, OPEN])
        .replace("admin: { address: \"127.0.0.1:0\"", "admin: { address: \"0.0.0.0:0\"");
    let gateway = Gateway::start(&yaml);
    let address = SocketAddr::from(([127, 0, 0, 1], gateway.admin_address().port()));
    let mut admin = Admin::at(address).await;
    for path in CLOSED {
        let reply = with(&mut admin, &format!("/api/v1/{path}"), &[]).await;
        assert_eq!(reply.outcome(), refused(), "{path}");
    }
    for path in ["/livez", "/metrics"] {
        assert_eq!(with(&mut admin, path, &[("host", FOREIGN)]).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_name_that_a_site_can_have_lead_here_is_refused() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = start(&provider, &upstream, "");
    let address = gateway.admin_address().to_string();
    let mut admin = Admin::of(&gateway).await;
    for path in CLOSED {
        let target = format!("/api/v1/{path}");
        assert_eq!(with(&mut admin, &target, &[("host", FOREIGN)]).await.outcome(), refused());
        assert_eq!(with(&mut admin, &target, &[("host", &address)]).await.status, 200, "{path}");
        assert_eq!(with(&mut admin, &target, &[("host", "localhost")]).await.status, 200);
    }
    let mut http2 = Client::http2(gateway.admin_address()).await;
    http2.is_not_a_gateway();
    let request = |host: &str| Request::get("/api/v1/routes").header("host", host.to_owned());
    assert_eq!(http2.send(request(FOREIGN), "").await.outcome(), refused());
    assert_eq!(http2.send(request("[::1]:9901"), "").await.status, 200);
}

#[tokio::test]
async fn pages_of_other_sites_read_nothing_and_reload_nothing() {
    registry::secret(TOKEN);
    let (provider, upstream) = (Provider::start(), Upstream::start());
    for token in [None, Some(TOKEN)] {
        let key = token.map(|token| format!(", token: {token}")).unwrap_or_default();
        let gateway = start(&provider, &upstream, &key);
        let mut admin = Admin::of(&gateway).await;
        if let Some(token) = token {
            admin = admin.with_token(token);
        }
        let own = format!("http://{}", gateway.admin_address());
        for target in ["/api/v1/reload", "/api/v1/routes"] {
            for headers in [
                [("origin", "http://evil.example"), ("accept", "*/*")],
                [("origin", "null"), ("accept", "*/*")],
                [("origin", "http://localhost:3000"), ("content-type", "text/plain")],
                [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
                [("sec-fetch-site", "same-site"), ("origin", &own)],
            ] {
                let reply = with(&mut admin, target, &headers).await;
                assert_eq!(reply.outcome(), refused(), "{target} {headers:?}");
            }
            for headers in [[("origin", own.as_str())], [("sec-fetch-site", "same-origin")]] {
                let reply = with(&mut admin, target, &headers).await;
                assert_eq!(reply.status, 200, "{target} {headers:?}");
            }
        }
        let preflight = Request::options("/api/v1/reload")
            .header("origin", own.as_str())
            .header("access-control-request-method", "POST");
        assert_eq!(admin.send(preflight, "").await.status, 405);
        // What an old browser sends for a form of any page: nothing says where it is from.
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let reply = with(&mut admin, "/api/v1/reload", &form).await;
        assert_eq!(reply.status, if token.is_none() { 403 } else { 200 });
        let json = [("content-type", "application/json")];
        assert_eq!(with(&mut admin, "/api/v1/reload", &json).await.status, 200);
    }
}
