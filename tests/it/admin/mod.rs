//! The admin API: what it says, to whom, and what it can be asked to do.

mod api;
mod forget;
mod gate;
mod reload;

use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::token::{CLIENT_ID, TENANT};
use crate::support::upstream::Upstream;

/// A secret that the routes file has in clear; its upstream is to see it, so that it is not registered.
const API_KEY: &str = "it-admin-api-key-51d07f2e9c";

/// A routes file with Entra, an upstream that gets its tokens, and one that gets [`API_KEY`];
/// `admin` are keys behind `address`, routes in flow style, one an entry.
fn file(provider: &Provider, upstream: &Upstream, admin: &str, routes: &[&str]) -> String {
    let routes: String = routes.iter().flat_map(|route| ["  - ", route, "\n"]).collect();
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0"{admin} }}
providers:
  entra:
    type: entra
    tenant: {TENANT}
    authority: {}
    client_id: {CLIENT_ID}
    credential: {{ client_secret: "${{CLIENT_SECRET}}" }}
upstreams:
  graph: {{ url: "{url}", token: {{ on_behalf_of: {{ scopes: ["https://graph.microsoft.com/.default"] }} }} }}
  keyed: {{ url: "{url}", token: {{ header: {{ name: x-key, value: {API_KEY} }} }} }}
routes:
{routes}"#,
        provider.base(),
        url = upstream.url(),
    )
}

const GRAPH: &str = "{ name: graph, match: { path: \"/graph/{*rest}\" }, auth: { scopes: [access_as_user] }, upstream: graph }";
const OPEN: &str = "{ name: open, match: { path: /open }, auth: none, upstream: keyed }";

/// A gateway with [`GRAPH`] and [`OPEN`].
fn start(provider: &Provider, upstream: &Upstream, admin: &str) -> Gateway {
    Gateway::start(&file(provider, upstream, admin, &[GRAPH, OPEN]))
}
