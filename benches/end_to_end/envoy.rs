//! Envoy with `jwt_authn` and its token cache. It can't exchange: all users' tokens are swapped for one
//! that stands in the file, so it does less than the others.
//!
//! As its benchmarking guide has it: no request ids, no access log, no statistics of requests, no
//! circuit breakers.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::Failure;
use crate::case::Route;
use crate::seat::Addresses;
use crate::upstream::SHARED_TOKEN;
use crate::users::{CLIENT_ID, Users, issuer};

/// Tokens that are cached; Envoy's own default is 100.
const CACHED_TOKENS: u32 = 120_000;
const MAX_TOKEN_BYTES: u32 = 8192;

/// Writes its configuration to `dir` and has `command` run it at `address`.
pub(crate) fn prepare(
    command: &mut Command,
    program: &Path,
    dir: &Path,
    address: SocketAddr,
    addresses: Addresses,
    users: &Users,
) -> Result<(), Failure> {
    let file = dir.join("envoy.json");
    fs::write(&file, configuration(address, addresses, users).to_string())?;
    command.arg(program).arg("-c").arg(file);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]);
    Ok(())
}

fn configuration(address: SocketAddr, addresses: Addresses, users: &Users) -> Value {
    let swap = format!("/{}/", Route::Swap.name());
    let jwt_authn = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": { "entra": {
            "issuer": issuer(&addresses.authority()),
            "audiences": [CLIENT_ID],
            "local_jwks": { "inline_string": users.jwks.to_string() },
            "jwt_cache_config": {
                "jwt_cache_size": CACHED_TOKENS,
                "jwt_max_token_size": MAX_TOKEN_BYTES,
            },
        }},
        "rules": [{ "match": { "prefix": swap }, "requires": { "provider_name": "entra" } }],
    });
    let router =
        json!({ "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" });
    let swapped = json!({
        "match": { "prefix": swap },
        "route": { "cluster": "behind" },
        "request_headers_to_add": [{
            "header": { "key": "authorization", "value": format!("Bearer {SHARED_TOKEN}") },
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }],
    });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "HTTP1",
        "generate_request_id": false,
        "http_filters": [
            { "name": "jwt_authn", "typed_config": jwt_authn },
            { "name": "router", "typed_config": router },
        ],
        "route_config": { "virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [
                swapped,
                { "match": { "prefix": "/" }, "route": { "cluster": "behind" } },
            ],
        }]},
    });
    let endpoint = json!({ "endpoint": { "address": socket(addresses.upstream) } });
    json!({ "static_resources": {
        "listeners": [{
            "name": "bench",
            "address": socket(address),
            "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }],
        }],
        "clusters": [{
            "name": "behind",
            "type": "STATIC",
            "load_assignment": { "cluster_name": "behind", "endpoints": [{ "lb_endpoints": [endpoint] }] },
        }],
    }})
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": {
        "address": address.ip().to_string(), "port_value": address.port(),
    }})
}
