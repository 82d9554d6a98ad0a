//! The metadata of protected resources (RFC 9728), as clients find and follow it.

use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::client::{Client, Reply, fetch};
use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::token::{CLIENT_ID, TENANT, Token};
use crate::support::upstream::Upstream;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
const PUBLIC_URL: &str = "https://api.example.com";

fn routes_file(provider: &Provider, upstream: &Upstream, server: &str, routes: &str) -> String {
    let (authority, sso, url) = (provider.base(), provider.oidc_issuer(), upstream.url());
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
{server}
providers:
  entra:
    type: entra
    tenant: {TENANT}
    authority: {authority}
    client_id: {CLIENT_ID}
    credential: {{ client_secret: "${{CLIENT_SECRET}}" }}
  sso: {{ type: oidc, issuer: "{sso}", audiences: [orders] }}
upstreams:
  plain: {{ url: "{url}" }}
  graph: {{ url: "{url}", token: {{ on_behalf_of: {{ scopes: ["https://graph.microsoft.com/.default"] }} }} }}
routes:
{routes}
"#
    )
}

const ROUTES: &str = r#"
  - { match: { path: "/graph/{*rest}" }, auth: { providers: [entra], scopes: [access_as_user] }, upstream: graph }
  - { match: { path: "/orders/{id}", methods: [GET] }, auth: { providers: [sso], scopes: [read] }, upstream: plain }
  - { match: { path: "/orders/{id}", methods: [POST] }, auth: { providers: [sso], scopes: [write] }, upstream: plain }
  - { match: { path: /mixed, methods: [GET] }, auth: none, upstream: plain }
  - { match: { path: /mixed, methods: [POST] }, auth: { providers: [sso], scopes: [post] }, upstream: plain }
  - { match: { path: "/open/{*rest}" }, auth: none, upstream: plain }
  - { match: { path: "/café au lait/{id}" }, auth: { providers: [sso], scopes: [milk] }, upstream: plain }
  - { match: { path: "/Legacy/{*rest}", ignore_case: true }, auth: { providers: [sso], scopes: [old] }, upstream: plain }
  - { match: { path: /here, hosts: [api.example.com] }, auth: { providers: [sso], scopes: [here] }, upstream: plain }
  - { match: { path: "/{*rest}", hosts: [other.example.com] }, auth: { providers: [sso], scopes: [other] }, upstream: plain }
"#;

async fn started(server: &str, routes: &str) -> (Provider, Upstream, Gateway) {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let gateway = Gateway::start(&routes_file(&provider, &upstream, server, routes));
    gateway.ready().await;
    (provider, upstream, gateway)
}

async fn public(routes: &str) -> (Provider, Upstream, Gateway) {
    started(&format!("server: {{ public_url: \"{PUBLIC_URL}\" }}"), routes).await
}

async fn asked(client: &mut Client, method: Method, host: &str, target: &str) -> Reply {
    let request = Request::builder().method(method).uri(target).header("host", host);
    client.send(request, "").await
}

/// The value of a parameter of a challenge.
fn parameter<'c>(challenge: &'c str, name: &str) -> Option<&'c str> {
    let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

/// The path and query that a client of the public URL would send to us.
fn target_of(url: &str) -> &str {
    url.strip_prefix(PUBLIC_URL).expect("a URL of the public host")
}

#[tokio::test]
async fn a_client_that_knows_the_url_alone_finds_its_way_to_200() {
    let (provider, upstream, gateway) = public(ROUTES).await;
    for mut client in [gateway.client().await, gateway.client_http2().await] {
        let refused = client.get("/graph/me").await;
        assert_eq!(refused.outcome(), (401, "token_missing".to_owned()));
        let challenge = refused.header("www-authenticate").unwrap().to_owned();
        let metadata = parameter(&challenge, "resource_metadata").unwrap();
        assert_eq!(metadata, format!("{PUBLIC_URL}{WELL_KNOWN}/graph"));

        let reply = client.get(target_of(metadata)).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        let document = reply.json();
        // MCP clients take a resource that is, segment by segment, the beginning of what they asked for.
        let resource = document["resource"].as_str().unwrap();
        assert_eq!(resource, format!("{PUBLIC_URL}/graph"));
        assert!(format!("{PUBLIC_URL}/graph/me").starts_with(&format!("{resource}/")));
        assert_eq!(document["bearer_methods_supported"], json!(["header"]));
        let proofs = document["dpop_signing_alg_values_supported"].as_array().unwrap();
        assert!(proofs.contains(&json!("ES256")) && !proofs.contains(&json!("none")));

        let issuer = document["authorization_servers"][0].as_str().unwrap();
        let server = fetch(&format!("{issuer}/.well-known/openid-configuration")).await.unwrap();
        assert_eq!(server.json()["issuer"], issuer);
        assert!(server.json()["token_endpoint"].is_string());

        // What Entra puts into `scp` is what stands behind the application.
        let scope = document["scopes_supported"][0].as_str().unwrap();
        let scope = scope.strip_prefix(&format!("api://{CLIENT_ID}/")).unwrap();
        let token = Token::entra_v2(issuer).claim("scp", scope).build();
        assert_eq!(client.get_with("/graph/me", &token).await.status, 200);
    }
    assert_eq!(upstream.count(), 2);
    assert_eq!(provider.issued_count(), 1);
}

#[tokio::test]
async fn every_challenge_names_the_metadata_and_nothing_else_does() {
    let (provider, _upstream, gateway) = public(ROUTES).await;
    let mut client = gateway.client().await;
    let good = Token::entra_v2(&provider.entra_issuer());
    let names = format!(", resource_metadata=\"{PUBLIC_URL}{WELL_KNOWN}/graph\"");
    for (token, outcome) in [
        (good.clone().claim("aud", "other").build(), (401, "token_invalid")),
        (good.clone().expires_in(-600).build(), (401, "token_expired")),
        (good.clone().claim("scp", "other").build(), (403, "insufficient_scope")),
    ] {
        let reply = client.get_with("/graph/me", &token).await;
        assert_eq!(reply.outcome(), (outcome.0, outcome.1.to_owned()));
        let challenge = reply.header("www-authenticate").unwrap();
        assert!(challenge.ends_with(&names), "{challenge}");
    }

    // In front of it stands the form that Microsoft's libraries parse.
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let wants =
        crate::support::obo::Answer::claims_challenge("interaction_required", 50076, claims);
    provider.script(
        crate::support::provider::Endpoint::Token,
        crate::support::provider::Reply::Answer(wants),
    );
    let reply = client.get_with("/graph/me", &good.build()).await;
    assert_eq!(reply.outcome(), (401, "claims_challenge".to_owned()));
    let challenge = reply.header("www-authenticate").unwrap();
    assert!(challenge.starts_with("Bearer realm=\"\", authorization_uri=\""), "{challenge}");
    assert_eq!(parameter(challenge, "error"), Some("insufficient_claims"));
    assert!(challenge.ends_with(&names), "{challenge}");

    for (target, status) in [("/none", 404), ("/open/x", 200)] {
        let reply = client.get(target).await;
        assert_eq!((reply.status.as_u16(), reply.header("www-authenticate")), (status, None));
    }
}

#[tokio::test]
async fn each_path_has_the_metadata_of_the_route_that_it_would_meet() {
    let (provider, upstream, gateway) = public(ROUTES).await;
    let mut client = gateway.client().await;
    let sso = provider.oidc_issuer();
    for (path, resource, scopes) in [
        ("/graph", "/graph", json!([format!("api://{CLIENT_ID}/access_as_user")])),
        ("/graph/a/b", "/graph", json!([format!("api://{CLIENT_ID}/access_as_user")])),
        ("/graph/%61/../b", "/graph", json!([format!("api://{CLIENT_ID}/access_as_user")])),
        // Two methods, one resource.
        ("/orders/7", "/orders", json!(["read", "write"])),
        ("/orders", "/orders", json!(["read", "write"])),
        ("/mixed", "/mixed", json!(["post"])),
        ("/caf%C3%A9%20au%20lait", "/caf%C3%A9%20au%20lait", json!(["milk"])),
        ("/caf%c3%a9%20au%20lait/1", "/caf%C3%A9%20au%20lait", json!(["milk"])),
        ("/legacy/x", "/Legacy", json!(["old"])),
        // A route of the public URL's own host, whatever host is asked.
        ("/here", "/here", json!(["here"])),
    ] {
        for host in ["api.example.com", "evil.example", "127.0.0.1:1"] {
            let target = format!("{WELL_KNOWN}{path}");
            let reply = asked(&mut client, Method::GET, host, &target).await;
            assert_eq!(reply.status, 200, "{path} {host}");
            let document = reply.json();
            assert_eq!(document["resource"], format!("{PUBLIC_URL}{resource}"), "{path}");
            assert_eq!(document["scopes_supported"], scopes, "{path}");
            if resource != "/graph" {
                assert_eq!(document["authorization_servers"], json!([sso]), "{path}");
            }
            assert!(!String::from_utf8_lossy(&reply.body).contains("evil"), "{path}");
        }
    }
    for path in ["", "/", "/open/x", "/orders/7/8", "/none", "x", "/.well-known/x"] {
        let reply = client.get(&format!("{WELL_KNOWN}{path}")).await;
        assert_eq!(reply.outcome(), (404, "route_not_found".to_owned()), "{path}");
    }
    for path in ["/graph%2Fx", "/..%3Bx/graph"] {
        assert_eq!(client.get(&format!("{WELL_KNOWN}{path}")).await.status, 400, "{path}");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_path_with_other_letters_is_challenged_with_a_url_that_leads_back() {
    let (_provider, _upstream, gateway) = public(ROUTES).await;
    let mut client = gateway.client().await;
    for (path, resource) in [
        ("/caf%c3%a9%20au%20lait/1", "/caf%C3%A9%20au%20lait"),
        ("/LEGACY/x", "/Legacy"),
        ("/orders/%22,%20x=%22%5B", "/orders"),
    ] {
        let challenge = client.get(path).await.header("www-authenticate").unwrap().to_owned();
        let metadata = parameter(&challenge, "resource_metadata").unwrap();
        assert_eq!(metadata, format!("{PUBLIC_URL}{WELL_KNOWN}{resource}"));
        let document = client.get(target_of(metadata)).await.json();
        assert_eq!(document["resource"], format!("{PUBLIC_URL}{resource}"));
    }
}

#[tokio::test]
async fn a_route_that_the_public_url_does_not_lead_to_has_no_metadata() {
    let (_provider, _upstream, gateway) = public(ROUTES).await;
    let mut client = gateway.client().await;
    // The catch-all of that host does not take the well-known path either.
    for target in ["/graph/me".to_owned(), format!("{WELL_KNOWN}/graph")] {
        let reply = asked(&mut client, Method::GET, "other.example.com", &target).await;
        if target.starts_with(WELL_KNOWN) {
            assert_eq!(reply.json()["resource"], format!("{PUBLIC_URL}/graph"));
        } else {
            let challenge = reply.header("www-authenticate").unwrap();
            assert_eq!(challenge, "Bearer realm=\"obo-gateway\"");
        }
    }
}

#[tokio::test]
async fn a_document_is_read_with_get_and_head_by_any_page() {
    let (_provider, _upstream, gateway) = public(ROUTES).await;
    let target = format!("{WELL_KNOWN}/graph");
    for mut client in [gateway.client().await, gateway.client_http2().await] {
        let read = client.get(&target).await;
        let head = asked(&mut client, Method::HEAD, "x", &target).await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), read.header("content-length"));
        let preflight = Request::options(&target)
            .header("origin", "https://inspector.example")
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "mcp-protocol-version");
        let reply = client.send(preflight, "").await;
        assert_eq!(reply.status, 204);
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-methods", "GET, HEAD, OPTIONS"),
            ("access-control-allow-headers", "*"),
        ] {
            assert_eq!(reply.header(name), Some(value));
        }
        let reply = asked(&mut client, Method::POST, "x", &target).await;
        assert_eq!(reply.outcome(), (405, "method_not_allowed".to_owned()));
        assert_eq!(reply.header("allow"), Some("GET, HEAD, OPTIONS"));
        // No token is looked at, and two are refused as on every route.
        let junk = Request::get(&target).header("authorization", "Bearer junk");
        assert_eq!(client.send(junk, "").await.status, 200);
    }
    let events = gateway.log().access_events_when(10, |_| true).await;
    assert!(events.iter().all(|event| event["route"] == "oauth-protected-resource"));
    let metrics = gateway.metrics().await;
    assert!(metrics.contains(
        "obo_gateway_requests_total{route=\"oauth-protected-resource\",method=\"GET\",status=\"200\"} 4"
    ));
    assert!(!metrics.contains("oauth-protected-resource/graph"));
}

#[tokio::test]
async fn without_a_public_url_the_well_known_paths_are_ordinary() {
    let routes = r#"
  - { match: { path: "/graph/{*rest}" }, auth: { providers: [entra] }, upstream: graph }
"#;
    let (_provider, _upstream, gateway) = started("", routes).await;
    let mut client = gateway.client().await;
    let reply = client.get(&format!("{WELL_KNOWN}/graph")).await;
    assert_eq!(reply.outcome(), (404, "route_not_found".to_owned()));
    let challenge = client.get("/graph/x").await;
    assert_eq!(challenge.header("www-authenticate"), Some("Bearer realm=\"obo-gateway\""));
}

#[tokio::test]
async fn what_the_file_says_of_a_well_known_path_goes_before_and_a_catch_all_does_not() {
    let own = |path: &str| {
        format!("{{ match: {{ path: \"{path}\" }}, auth: none, respond: {{ status: 203 }} }}")
    };
    let catch_all =
        "  - { match: { path: \"/{*rest}\" }, auth: { providers: [sso] }, upstream: plain }\n";
    for (path, ours, theirs) in [
        // Just this one …
        ("/.well-known/oauth-protected-resource/mine", "/other", "/mine"),
        ("/.well-known/oauth-protected-resource", "/mine", ""),
        // … those of one segment …
        ("/.well-known/oauth-protected-resource/{name}", "/a/b", "/a"),
    ] {
        let routes = format!("{catch_all}  - {}\n", own(path));
        let (_provider, upstream, gateway) = public(&routes).await;
        let mut client = gateway.client().await;
        client.meets_configured_answers();
        let reply = client.get(&format!("{WELL_KNOWN}{ours}")).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.json()["resource"]),
            (200, &Value::from(PUBLIC_URL))
        );
        assert_eq!(client.get(&format!("{WELL_KNOWN}{theirs}")).await.status, 203, "{path}");
        assert_eq!(upstream.count(), 0);
    }
    // … or all of them, under any name.
    let routes =
        format!("{catch_all}  - {}\n", own("/.well-known/oauth-protected-resource/{*all}"));
    let (_provider, _upstream, gateway) = public(&routes).await;
    let mut client = gateway.client().await;
    client.meets_configured_answers();
    for path in ["", "/a", "/a/b"] {
        assert_eq!(client.get(&format!("{WELL_KNOWN}{path}")).await.status, 203, "{path}");
    }
    // Challenges name the place all the same: somebody answers there.
    let challenge = client.get("/x").await.header("www-authenticate").unwrap().to_owned();
    assert_eq!(
        parameter(&challenge, "resource_metadata"),
        Some(&*format!("{PUBLIC_URL}{WELL_KNOWN}"))
    );
    // A catch-all of the well-known folder is one too.
    let routes = format!("{catch_all}  - {}\n", own("/.well-known/{*all}"));
    let (_provider, _upstream, gateway) = public(&routes).await;
    let mut client = gateway.client().await;
    client.meets_configured_answers();
    assert_eq!(client.get("/.well-known/security.txt").await.status, 203);
    assert_eq!(client.get(WELL_KNOWN).await.json()["resource"], PUBLIC_URL);
}

#[tokio::test]
async fn a_route_of_the_file_keeps_its_name_for_itself() {
    let routes = "  - { name: oauth-protected-resource, match: { path: /x }, auth: { providers: [sso] }, upstream: plain }\n";
    let (_provider, _upstream, gateway) = public(routes).await;
    let mut client = gateway.client().await;
    let target = format!("{WELL_KNOWN}/x");
    assert_eq!(client.get(&target).await.status, 200);
    let event = gateway.log().event_when(&target).await;
    assert_eq!(event["route"], "oauth-protected-resource-2");
}

#[tokio::test]
async fn a_reload_changes_what_is_told() {
    let (provider, upstream, gateway) = public(ROUTES).await;
    let mut client = gateway.client().await;
    let target = format!("{WELL_KNOWN}/graph");
    assert_eq!(client.get(&target).await.json()["resource"], format!("{PUBLIC_URL}/graph"));
    let moved = "server: { public_url: \"https://moved.example.com\" }";
    gateway.write_file(&routes_file(&provider, &upstream, moved, ROUTES));
    gateway.reload();
    let reply = client.get(&target).await;
    assert_eq!(reply.json()["resource"], "https://moved.example.com/graph");
}
