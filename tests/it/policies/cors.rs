//! CORS over sockets: preflights that no upstream hears of, and answers, refusals among them, that
//! just the pages of the file's origins may read.

use http::{Method, Request};
use serde_json::{Map, Value};

use super::file;
use crate::support::client::{Client, Reply};
use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::token::Token;
use crate::support::upstream::{Answer, Upstream};

const APP: &str = "https://app.example.com";
const EVIL: &str = "https://evil.example";

struct Scene {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
    client: Client,
}

impl Scene {
    async fn start(routes: &[&str]) -> Self {
        Self::start_with("", routes).await
    }

    async fn start_with(server: &str, routes: &[&str]) -> Self {
        let (provider, upstream) = (Provider::start(), Upstream::start());
        let gateway = Gateway::start(&file(&provider, &upstream, server, routes));
        gateway.ready().await;
        let client = gateway.client().await;
        Self { provider, upstream, gateway, client }
    }

    async fn preflight(&mut self, target: &str, fields: &[(&str, &str)]) -> Reply {
        let mut request = Request::options(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        self.client.send(request, "").await
    }

    async fn call(&mut self, target: &str, origin: &str, token: Option<&str>) -> Reply {
        let mut request = Request::get(target).header("origin", origin);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.client.send(request, "").await
    }

    fn token(&self) -> String {
        Token::entra_v2(&self.provider.entra_issuer()).build()
    }
}

/// The fields of the protocol that an answer has, in order.
fn said(reply: &Reply) -> Vec<String> {
    let mut said: Vec<String> = reply
        .headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("access-control-"))
        .map(|(name, value)| format!("{}: {}", name.as_str(), value.to_str().unwrap()))
        .collect();
    said.sort();
    said.iter().map(|line| line.replacen("access-control-", "", 1)).collect()
}

const EXPOSED: &str = "expose-headers: www-authenticate, x-request-id, retry-after";
const PREFLIGHT_VARY: &str =
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

fn asks(origin: &'static str, method: &'static str) -> [(&'static str, &'static str); 2] {
    [("origin", origin), ("access-control-request-method", method)]
}

#[tokio::test]
async fn a_preflight_is_answered_without_a_token_and_without_the_upstream() {
    let route = "{ name: api, match: { path: \"/api/{*rest}\", methods: [GET, POST] }, auth: any, upstream: up, \
                 cors: { origins: [https://app.example.com], methods: [GET, POST, PUT, OPTIONS], headers: [authorization, x-a], max_age: 5m } }";
    let mut scene = Scene::start(&[route]).await;
    // Of the methods that the file lists, those that the route takes.
    for http2 in [false, true] {
        if http2 {
            scene.client = scene.gateway.client_http2().await;
        }
        let reply = scene.preflight("/api/x?y", &asks(APP, "POST")).await;
        assert_eq!(reply.status, 204);
        let granted = [
            "allow-headers: authorization, x-a",
            "allow-methods: GET, POST",
            "allow-origin: https://app.example.com",
            "max-age: 300",
        ];
        assert_eq!(said(&reply), granted);
        assert_eq!(reply.header("vary"), Some(PREFLIGHT_VARY));
        assert!(reply.body.is_empty());
    }
    // Whose pages may not call, learns nothing: not even whether the route takes the method.
    for (origin, method) in
        [(EVIL, "GET"), ("null", "GET"), ("https://app.example.com.evil.example", "GET")]
    {
        let reply = scene.preflight("/api/x", &asks(origin, method)).await;
        assert_eq!((reply.status.as_u16(), said(&reply)), (204, vec![]), "{origin}");
        assert_eq!(reply.header("vary"), Some(PREFLIGHT_VARY));
    }
    let twice = [asks(APP, "GET"), asks(APP, "GET")].concat();
    assert_eq!(said(&scene.preflight("/api/x", &twice[..3]).await), Vec::<String>::new());
    let private = [&asks(APP, "GET")[..], &[("access-control-request-private-network", "true")]];
    let reply = scene.preflight("/api/x", &private.concat()).await;
    assert!(!said(&reply).iter().any(|line| line.contains("private")), "{reply:?}");

    // A method that the route does not take, and OPTIONS that is no preflight, are what they were.
    let reply = scene.preflight("/api/x", &asks(APP, "DELETE")).await;
    assert_eq!(reply.outcome(), (405, "method_not_allowed".to_owned()));
    for fields in [&asks(APP, "GET")[..1], &asks(APP, "GET")[1..], &[]] {
        let reply = scene.preflight("/api/x", fields).await;
        assert_eq!(reply.outcome(), (405, "method_not_allowed".to_owned()), "{fields:?}");
    }
    assert_eq!(scene.upstream.count(), 0);
    let not_granted =
        |event: &Map<String, Value>| event["status"] == 204 && !event["reason"].is_null();
    let refused = scene.gateway.log().access_events_when(1, not_granted).await.remove(0);
    assert_eq!(refused["route"], "api");
    assert!(refused["reason"].as_str().unwrap().contains("`cors.origins`"), "{refused:?}");
    scene
        .gateway
        .metrics_when("obo_gateway_requests_total{route=\"api\",method=\"OPTIONS\",status=\"204\"}")
        .await;
}

#[tokio::test]
async fn options_goes_the_usual_way_where_it_is_no_preflight_or_the_route_has_no_cors() {
    let open = "{ name: open, match: { path: /open }, auth: none, upstream: up }";
    let shared = "{ name: shared, match: { path: /shared }, auth: none, upstream: up, cors: { origins: [https://app.example.com] } }";
    let mut scene = Scene::start(&[open, shared]).await;
    // The upstream may know the protocol itself.
    scene
        .upstream
        .answer(|_| Answer::ok("").header("access-control-allow-origin", "https://theirs.example"));
    let reply = scene.preflight("/open", &asks(APP, "PUT")).await;
    assert_eq!(said(&reply), ["allow-origin: https://theirs.example"]);
    assert_eq!(scene.upstream.count(), 1);
    let reply = scene.preflight("/shared", &[("origin", APP)]).await;
    assert_eq!(said(&reply), ["allow-origin: https://app.example.com", EXPOSED]);
    assert_eq!(scene.upstream.count(), 2, "no preflight");
    // The route takes all methods, and pages may use them; but those that none may.
    let reply = scene.preflight("/shared", &asks(APP, "PURGE")).await;
    assert!(said(&reply).contains(&"allow-methods: PURGE".to_owned()), "{reply:?}");
    for method in ["TRACE", "connect", "a b", ""] {
        let reply = scene.preflight("/shared", &asks(APP, method)).await;
        assert_eq!((reply.status.as_u16(), said(&reply)), (204, vec![]), "{method}");
    }
    assert_eq!(scene.upstream.count(), 2);
}

#[tokio::test]
async fn the_method_that_is_asked_for_chooses_the_route() {
    let read = "{ name: read, match: { path: /x, methods: [GET] }, auth: none, upstream: up, cors: { origins: [\"*\"], methods: [GET] } }";
    let write = "{ name: write, match: { path: /x, methods: [PUT] }, auth: any, upstream: up, cors: { origins: [https://app.example.com], methods: [PUT], credentials: true } }";
    let delete =
        "{ name: delete, match: { path: /x, methods: [DELETE] }, auth: any, upstream: up }";
    let mut scene = Scene::start(&[read, write, delete]).await;
    let reply = scene.preflight("/x", &asks(EVIL, "HEAD")).await;
    assert_eq!(
        said(&reply),
        [
            "allow-headers: authorization, content-type",
            "allow-methods: GET",
            "allow-origin: *",
            "max-age: 600"
        ]
    );
    let reply = scene.preflight("/x", &asks(APP, "PUT")).await;
    assert!(said(&reply).contains(&"allow-credentials: true".to_owned()), "{reply:?}");
    assert!(said(&reply).contains(&"allow-methods: PUT".to_owned()), "{reply:?}");
    assert_eq!(said(&scene.preflight("/x", &asks(EVIL, "PUT")).await), Vec::<String>::new());
    // A refusal that can be read, and that no browser takes for leave.
    let reply = scene.preflight("/x", &asks(APP, "DELETE")).await;
    assert_eq!(
        (reply.status.as_u16(), said(&reply)),
        (405, vec!["allow-origin: *".to_owned(), EXPOSED.to_owned()])
    );
    assert_eq!(scene.upstream.count(), 0);
}

/// A preflight names header fields and shows no values: what could go to two routes is granted
/// only where both say the same.
#[tokio::test]
async fn a_preflight_grants_nothing_that_another_value_of_a_header_would_not_have() {
    let cors = "cors: { origins: [https://app.example.com], headers: [x-api-version] }";
    let route = |name: &str, path: &str, more: &str, cors: &str| {
        format!(
            "{{ name: {name}, match: {{ path: {path}{more} }}, auth: none, upstream: up, {cors} }}"
        )
    };
    let v2 = ", headers: { x-api-version: \"2\" }";
    let routes = [
        route("a1", "/a", "", ""),
        route("a2", "/a", v2, cors),
        route("b1", "/b", "", cors),
        route("b2", "/b", v2, ""),
        route("c1", "/c", "", cors),
        route("c2", "/c", v2, cors),
        route("d1", "/d", "", cors),
        route("d2", "/d", ", headers: { accept: text/html }", ""),
        route("e1", "/e", ", query: { v: \"1\" }", cors),
        route("e2", "/e", "", ""),
    ];
    let mut scene = Scene::start(&routes.each_ref().map(String::as_str)).await;
    let named = [&asks(APP, "GET")[..], &[("access-control-request-headers", "x-api-version")]];
    let named = named.concat();
    for (target, fields, granted) in [
        ("/a", &named[..], false),
        ("/b", &named, false),
        ("/b", &named[..2], true),
        ("/c", &named, true),
        ("/d", &named, false),
        ("/e?v=1", &named, true),
    ] {
        let reply = scene.preflight(target, fields).await;
        assert_eq!(reply.status, 204, "{target}");
        let is_granted = said(&reply).contains(&format!("allow-origin: {APP}"));
        assert_eq!(is_granted, granted, "{target} {fields:?}");
    }
    assert_eq!(scene.upstream.count(), 0);
    // Without the name it can be no other route than the one that says nothing of pages.
    scene.preflight("/a", &named[..2]).await;
    scene.preflight("/e", &named).await;
    assert_eq!(scene.upstream.count(), 2);
}

#[tokio::test]
async fn any_header_is_reflected_as_a_list_of_names_and_nothing_else() {
    let route = "{ match: { path: /x }, auth: none, upstream: up, cors: { origins: [https://app.example.com], headers: [\"*\"] } }";
    let mut scene = Scene::start(&[route]).await;
    for (asked, allowed) in [
        ("Authorization, x-a", Some("authorization, x-a")),
        (" x-a ,,x-b", Some("x-a, x-b")),
        ("x-a, x b", None),
        ("x-a\u{ff}", None),
        ("*", Some("*")),
        ("", None),
    ] {
        let fields = [&asks(APP, "GET")[..], &[("access-control-request-headers", asked)]].concat();
        let reply = scene.preflight("/x", &fields).await;
        assert_eq!(reply.header("access-control-allow-headers"), allowed, "{asked:?}");
    }
    let many = (0..101).map(|number| format!("x-{number}")).collect::<Vec<_>>().join(",");
    let fields = [
        ("origin", APP),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", &*many),
    ];
    assert_eq!(scene.preflight("/x", &fields).await.header("access-control-allow-headers"), None);
}

#[tokio::test]
async fn answers_and_refusals_can_be_read_by_pages_of_the_file_alone() {
    let cors = "cors: { origins: [https://app.example.com, \"https://*.example.org\"], expose: [x-total] }";
    let routes = [
        format!(
            "{{ match: {{ path: \"/api/{{*rest}}\", methods: [GET, POST] }}, auth: {{ scopes: [access_as_user] }}, upstream: up, max_body_bytes: 3B, {cors} }}"
        ),
        format!("{{ match: {{ path: /role }}, auth: {{ roles: [boss] }}, upstream: up, {cors} }}"),
        format!("{{ match: {{ path: /dead }}, auth: none, upstream: dead, {cors} }}"),
        format!(
            "{{ match: {{ path: /own }}, auth: none, respond: {{ status: 200, body: hi }}, {cors} }}"
        ),
        format!(
            "{{ match: {{ path: /away }}, auth: none, redirect: {{ to: https://www.example.com/ }}, {cors} }}"
        ),
        format!(
            "{{ match: {{ path: /often }}, auth: none, upstream: up, rate_limit: {{ requests: 1, per: 1h }}, {cors} }}"
        ),
    ];
    let mut scene = Scene::start(&routes.each_ref().map(String::as_str)).await;
    scene.upstream.answer(|_| {
        Answer::ok("read")
            .header("access-control-allow-origin", "*")
            .header("access-control-allow-credentials", "true")
            .header("access-control-expose-headers", "set-cookie")
            .header("vary", "accept-encoding")
    });
    let token = scene.token();
    let exposed = format!("{EXPOSED}, x-total");
    for origin in [APP, "https://a.b.example.org", EVIL, "null", "https://example.org"] {
        let may = origin == APP || origin.ends_with("b.example.org");
        let readable =
            if may { vec![format!("allow-origin: {origin}"), exposed.clone()] } else { Vec::new() };
        for (target, token, status) in [
            ("/api/x", Some(&*token), 200),
            ("/api/x", None, 401),
            ("/api/x", Some("nonsense"), 401),
            ("/role", Some(&*token), 403),
            ("/dead", None, 502),
            ("/own", None, 200),
            ("/away", None, 308),
        ] {
            let reply = scene.call(target, origin, token).await;
            assert_eq!(reply.status, status, "{target} {origin}");
            assert_eq!(said(&reply), readable, "{target} {origin}");
            let vary = if status == 200 && target != "/own" {
                "accept-encoding, Origin"
            } else {
                "Origin"
            };
            assert_eq!(reply.header("vary"), Some(vary), "{target} {origin}");
        }
        let request = Request::post("/api/x").header("origin", origin);
        let request = request.header("authorization", format!("Bearer {token}"));
        let reply = scene.client.send(request, "four").await;
        assert_eq!(
            (reply.outcome().1.as_str(), said(&reply)),
            ("body_too_large", readable.clone())
        );
        scene.client = scene.gateway.client().await;
        scene.call("/often", origin, None).await;
        let reply = scene.call("/often", origin, None).await;
        assert_eq!((reply.outcome().1.as_str(), said(&reply)), ("rate_limited", readable.clone()));
        // No route, but pages of this path: the refusal tells them no more than anybody.
        let request = Request::delete("/api/x").header("origin", origin);
        let reply = scene.client.send(request, "").await;
        assert_eq!((reply.status.as_u16(), said(&reply)), (405, readable));
        let reply = scene.call("/nowhere", origin, None).await;
        assert_eq!((reply.status.as_u16(), said(&reply)), (404, vec![]));
    }
    // Who is no browser gets what the upstream said less what it said of this.
    let reply = scene.client.get_with("/api/x", &token).await;
    assert_eq!((said(&reply), reply.header("vary")), (vec![], Some("accept-encoding, Origin")));
}

#[tokio::test]
async fn a_page_of_any_origin_gets_no_credentials() {
    let route = "{ match: { path: /x }, auth: none, upstream: up, cors: { origins: [\"*\"], headers: [\"*\"], expose: [\"*\"] } }";
    let mut scene = Scene::start(&[route]).await;
    for origin in [APP, EVIL, "null"] {
        let reply = scene.call("/x", origin, None).await;
        assert_eq!(said(&reply), ["allow-origin: *", "expose-headers: *"]);
        assert_eq!(reply.header("vary"), None, "the answer is the same for all");
    }
    let reply = scene.client.send(Request::builder().method(Method::GET).uri("/x"), "").await;
    assert_eq!(said(&reply), ["allow-origin: *", "expose-headers: *"]);
}

#[tokio::test]
async fn preflights_cost_nobody_his_allowance_and_pass_no_ambiguous_path_on() {
    let route = "{ match: { path: \"/x/{*rest}\" }, auth: none, upstream: up, rate_limit: { requests: 1, per: 1h, by: ip }, cors: { origins: [https://app.example.com] } }";
    let guarded = "{ match: { path: /x/admin }, auth: any, upstream: up }";
    let mut scene = Scene::start(&[route, guarded]).await;
    for _ in 0..5 {
        assert_eq!(scene.preflight("/x/y", &asks(APP, "GET")).await.status, 204);
    }
    for target in ["/x/%2F..%2fadmin", "/x/%5Cy", "/x/..;/admin", "/x/%00"] {
        scene.preflight(target, &asks(APP, "GET")).await;
    }
    assert_eq!(scene.upstream.count(), 0);
    assert_eq!(scene.call("/x/y", APP, None).await.status, 200);
    assert_eq!(scene.call("/x/y", APP, None).await.status, 429);
}
