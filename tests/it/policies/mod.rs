//! What a route does beside forwarding: which pages may call it, and how often anybody may.

mod cors;
mod rate_limit;
mod shared_rate_limit;

use http::Request;

use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::token::{CLIENT_ID, TENANT, Token};
use crate::support::upstream::Upstream;

/// A routes file on ports of the system's choice, with Entra and an OIDC provider, and one
/// upstream, `up`, that gets no token; routes in flow style, one an entry.
fn file(provider: &Provider, upstream: &Upstream, server: &str, routes: &[&str]) -> String {
    let routes: String = routes.iter().flat_map(|route| ["  - ", route, "\n"]).collect();
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\n\
         server: {{ {server} }}\nproviders:\n  \
         entra: {{ type: entra, tenant: {TENANT}, authority: \"{}\", client_id: {CLIENT_ID} }}\n  \
         sso: {{ type: oidc, issuer: \"{}\", audiences: [orders] }}\n\
         upstreams:\n  up: {{ url: \"{}\" }}\n  dead: {{ url: \"http://127.0.0.1:9\" }}\nroutes:\n{routes}",
        provider.base(),
        provider.oidc_issuer(),
        upstream.url(),
    )
}

#[tokio::test]
async fn the_upstreams_answers_are_changed_and_the_gateways_own_are_not() {
    let (provider, upstream) = (Provider::start(), Upstream::start());
    let route = |name: &str, to: &str, more: &str| {
        format!(
            "{{ name: {name}, match: {{ path: /{name}, methods: [GET, POST] }}, auth: any, upstream: {to}, {more} \
             response_headers: {{ set: {{ x-set: ours }}, add: {{ x-add: [a, b] }}, remove: [x-request-id-of-theirs] }} }}"
        )
    };
    let routes = [
        route("ok", "up", "max_body_bytes: 3B, rate_limit: { requests: 2, per: 24h },"),
        route("dead", "dead", ""),
    ];
    let routes = routes.each_ref().map(String::as_str);
    let gateway = Gateway::start(&file(&provider, &upstream, "", &routes));
    gateway.ready().await;
    let token = Token::entra_v2(&provider.entra_issuer()).build();
    let mut client = gateway.client_http2().await;
    let reply = client.get_with("/ok", &token).await;
    assert_eq!((reply.status.as_u16(), reply.header("x-set")), (200, Some("ours")));
    assert_eq!(reply.headers.get_all("x-add").iter().count(), 2);
    let post = Request::post("/ok").header("authorization", format!("Bearer {token}"));
    for (reply, status) in [
        (client.get("/ok").await, 401),
        (client.get_with("/ok", "nonsense").await, 401),
        (client.send(post, "four").await, 413),
        (client.get_with("/ok", &token).await, 429),
        (client.get_with("/dead", &token).await, 502),
    ] {
        assert_eq!(reply.status, status);
        assert_eq!((reply.header("x-set"), reply.headers.contains_key("x-add")), (None, false));
    }
}
