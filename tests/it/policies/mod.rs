//! What a route does beside forwarding: which pages may call it, and how often anybody may.

mod cors;
mod rate_limit;

use crate::support::provider::Provider;
use crate::support::token::{CLIENT_ID, TENANT};
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
