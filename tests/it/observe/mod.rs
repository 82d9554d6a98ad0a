//! What leaves the gateway for its operators: traces, series, fields of the log, and the files of
//! `deploy/` that name them.

mod access_log;
mod deploy;
mod series;
mod server_timing;
mod traces;
mod traces_lost;
mod traces_sampled;

use crate::support::provider::Provider;
use crate::support::token::{CLIENT_ID, TENANT};
use crate::support::upstream::Upstream;

/// A routes file with an upstream that gets tokens (`graph`, route `graph`), one that gets none
/// (`plain`, an open route `plain`), and one that is not there (`dead`); `more` at its end.
fn file(provider: &Provider, upstream: &Upstream, server: &str, more: &str) -> String {
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\n\
         server: {{ {server} }}\nproviders:\n  entra: {{ type: entra, tenant: {TENANT}, authority: \"{}\", \
         client_id: {CLIENT_ID}, credential: {{ client_secret: \"${{CLIENT_SECRET}}\" }} }}\n\
         upstreams:\n  graph: {{ url: \"{url}\", token: {{ on_behalf_of: {{ scopes: [\"https://graph.microsoft.com/.default\"] }} }} }}\n  \
         plain: {{ url: \"{url}\" }}\n  dead: {{ url: \"http://127.0.0.1:9\" }}\nroutes:\n  \
         - {{ name: graph, match: {{ path: \"/graph/{{*rest}}\" }}, auth: {{ scopes: [access_as_user] }}, upstream: graph, server_timing: true }}\n  \
         - {{ name: plain, match: {{ path: \"/plain/{{*rest}}\" }}, auth: none, upstream: plain }}\n  \
         - {{ name: timed, match: {{ path: \"/timed/{{*rest}}\" }}, auth: none, upstream: plain, server_timing: true }}\n  \
         - {{ name: dead, match: {{ path: \"/dead/{{*rest}}\" }}, auth: none, upstream: dead, server_timing: true }}\n{more}\n",
        provider.base(),
        url = upstream.url(),
    )
}

/// `telemetry` with traces for the collector at `url`.
fn otlp(url: &str, keys: &str) -> String {
    format!("telemetry: {{ otlp: {{ endpoint: \"{url}\", {keys} }} }}")
}
