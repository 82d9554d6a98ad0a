//! A gateway that is changed while it serves, and its end.

mod admin_port;
mod drain;
mod listeners;
mod supervisor;
mod watched_files;
mod workers;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::support::gateway::Gateway;
use crate::support::upstream::Upstream;
use crate::support::within;

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
    within("new connections to be refused", refused).await;
}

/// The messages of the lines that tell of each reload, once there are `count`.
async fn reloads(gateway: &Gateway, count: usize) -> Vec<String> {
    let text = |event: &Map<String, Value>| Some(event.get("message")?.as_str()?.to_owned());
    let so_far = || -> Vec<_> {
        let messages = gateway.log().events().iter().filter_map(text).collect::<Vec<_>>();
        let tell = |message: &String| message.contains("the routes file was read again and");
        messages.into_iter().filter(tell).collect()
    };
    let told = async {
        while so_far().len() < count {
            // Lines are written behind; the interval only spares the processor.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("a reload to be told", told).await;
    let lines = so_far();
    assert_eq!(lines.len(), count, "one line each: {lines:?}");
    lines
}

/// Waits until the log has `text`.
async fn logged(gateway: &Gateway, text: &str) {
    let there = async {
        while !gateway.log().text().contains(text) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(text, there).await;
}
