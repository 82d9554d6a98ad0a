//! Forwarding, with a whole gateway between real sockets: what reaches the upstream, what comes
//! back, and what becomes of both when either side fails.

mod headers;
mod links;
mod protocols;
mod bodies;
mod process;
mod memory;
mod scale;
mod killed;
mod upstream;
mod endpoints;
mod health;
mod interim;
mod expect;
mod framing;
mod strays;
mod grpc;
mod upstream_tls;
mod timeouts;
mod routes;
mod reload;
mod retries;
mod elsewhere;
mod connections;
mod log;
mod upgrades;
mod token_end;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::support::gateway::Gateway;
use crate::support::provider::Provider;
use crate::support::servers::{PeerBody, PeerError};
use crate::support::token::{CLIENT_ID, TENANT};

/// A routes file on ports of the system's choice: `server`, `upstreams` and `routes` as YAML,
/// the last two in flow style, one entry a line.
fn file(server: &str, upstreams: &[&str], routes: &[&str]) -> String {
    let list = |entries: &[&str], mark: &str| {
        entries.iter().flat_map(|entry| ["  ", mark, entry, "\n"]).collect::<String>()
    };
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\n\
         server: {{ {server} }}\nupstreams:\n{}routes:\n{}",
        list(upstreams, ""),
        list(routes, "- "),
    )
}

/// One open route for all paths, named `all`, to one upstream, named `up`; with more keys of each.
fn open(url: &str, upstream: &str, route: &str) -> String {
    file("", &[&up(url, upstream)], &[&all(route)])
}

/// The upstream `up`, with more keys.
fn up(url: &str, keys: &str) -> String {
    format!("up: {{ url: \"{url}\", {keys} }}")
}

/// The open route `all`, with more keys.
fn all(keys: &str) -> String {
    format!("{{ name: all, match: {{ path: \"/{{*rest}}\" }}, auth: none, upstream: up, {keys} }}")
}

/// The `providers` of a routes file: Entra, as `provider` plays it.
fn entra(provider: &Provider) -> String {
    format!(
        "providers:\n  entra: {{ type: entra, tenant: {TENANT}, authority: \"{}\", \
         client_id: {CLIENT_ID}, credential: {{ client_secret: \"${{CLIENT_SECRET}}\" }} }}\n",
        provider.base()
    )
}

/// What goes into a body that a test sends piece by piece; dropping it ends the body.
type Pieces = mpsc::Sender<Result<Frame<Bytes>, PeerError>>;

/// A body that the test sends piece by piece, without `Content-Length`.
fn pieces() -> (Pieces, PeerBody) {
    let (send, receive) = mpsc::channel(1);
    let frames = futures_util::stream::unfold(receive, |mut receive| async move {
        Some((receive.recv().await?, receive))
    });
    (send, StreamBody::new(frames).boxed_unsync())
}

/// A piece of a body.
#[allow(clippy::unnecessary_wraps, reason = "what the channel of a body takes")]
fn piece(bytes: impl Into<Bytes>) -> Result<Frame<Bytes>, PeerError> {
    Ok(Frame::data(bytes.into()))
}

/// Waits for the access event of the one request to `path`.
async fn event(gateway: &Gateway, path: &str) -> Map<String, Value> {
    let found = || {
        let events = gateway.log().events();
        events.into_iter().find(|event| event.get("path").is_some_and(|value| value == path))
    };
    let found = async {
        loop {
            if let Some(event) = found() {
                return event;
            }
            // The log tells of nothing; the interval only spares the processor.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    crate::support::within("the access event", found).await
}
