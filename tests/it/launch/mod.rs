//! A gateway that is changed while it serves, and its end.

mod admin_port;
mod drain;
mod listeners;
mod supervisor;
mod watched_files;

use std::net::SocketAddr;

use crate::support::gateway::Gateway;
use crate::support::upstream::Upstream;

/// A routes file on these `listeners`, in flow style, with an open route to `upstream` for all
/// paths but `/here`; `more` are further sections.
fn file(listeners: &[&str], upstream: &Upstream, more: &str) -> String {
    let listeners: String =
        listeners.iter().flat_map(|listener| ["  - { ", listener, " }\n"]).collect();
    let more = if more.contains("admin:") {
        more.to_owned()
    } else {
        format!("admin: {{ address: \"127.0.0.1:0\" }}\n{more}")
    };
    format!(
        "listeners:\n{listeners}{more}\nupstreams: {{ up: {{ url: \"{}\" }} }}\nroutes:\n  \
         - {{ name: all, match: {{ path: \"/{{*rest}}\" }}, auth: none, upstream: up }}\n  \
         - {{ name: here, match: {{ path: /here }}, auth: none, respond: {{ status: 204 }} }}\n",
        upstream.url()
    )
}

/// A listener on any port.
const ANY: &str = "address: \"127.0.0.1:0\"";

/// A listener at `address`, with more keys.
fn at(address: SocketAddr, more: &str) -> String {
    format!("address: \"{address}\"{more}")
}

/// Waits until nobody listens at `address`.
async fn closed(address: SocketAddr) {
    let refused = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    crate::support::within("new connections to be refused", refused).await;
}

/// The message of the one line that tells of each reload so far.
fn reloads(gateway: &Gateway) -> Vec<String> {
    let events = gateway.log().events().into_iter();
    events
        .filter_map(|event| event["message"].as_str().map(str::to_owned))
        .filter(|message| message.contains("the routes file was read again and"))
        .collect()
}
