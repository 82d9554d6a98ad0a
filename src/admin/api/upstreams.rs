//! `/api/v1/upstreams`: where each upstream is, and how its endpoints are.

use std::net::SocketAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::query::Query;
use crate::forward::{EndpointStatus, Upstream};
use crate::observe::endpoint_health::EndpointHealth as _;
use crate::outline::{Outline, UpstreamOutline};
use crate::snapshot::Snapshot;

/// The answer of `/api/v1/upstreams`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Upstreams {
    /// The upstreams, sorted by name.
    pub upstreams: Vec<UpstreamRow>,
    /// How many the file has.
    pub total: usize,
    /// What to ask for `after` to get those that found no room here.
    pub next: Option<String>,
}

/// An upstream.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UpstreamRow {
    /// What the file says of it.
    #[serde(flatten)]
    pub outline: UpstreamOutline,
    /// Whether any endpoint takes requests.
    pub healthy: bool,
    /// One for each address that the names of its URLs have, as far as they are known.
    pub endpoints: Vec<EndpointRow>,
}

/// An endpoint of an upstream.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct EndpointRow {
    /// `host[:port]`, as the file names it.
    pub endpoint: Arc<str>,
    /// The address; `null` while the name was not looked up, or can't be.
    #[schemars(with = "Option<String>")]
    pub address: Option<SocketAddr>,
    /// Whether it is sent requests. Without a health check it is until it is ejected.
    pub healthy: bool,
    /// Why and for how long its health checks have failed, if they do.
    pub unhealthy: Option<Unhealthy>,
    /// For how long it is left alone because requests to it failed, if it is.
    pub ejected: Option<Ejected>,
    /// Requests on their way to it.
    pub requests_in_flight: usize,
}

/// What the health checks of an endpoint say against it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Unhealthy {
    /// What a check met.
    pub why: Arc<str>,
    /// For how long this has been so.
    pub for_seconds: u64,
}

/// An endpoint that is left alone for a while.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Ejected {
    /// For how long it has been.
    pub for_seconds: u64,
    /// For how long it still will be.
    pub left_seconds: u64,
}

impl Upstreams {
    pub(super) fn of(snapshot: &Snapshot, query: &Query) -> Self {
        let outlines = Outline::of(snapshot).upstreams;
        let all: Vec<_> = outlines.into_iter().zip(&snapshot.upstreams).collect();
        let page = query.page(all, |(outline, _)| &outline.name);
        let row = |(outline, upstream): (UpstreamOutline, &Arc<Upstream>)| {
            let endpoints = endpoints(upstream);
            let healthy = endpoints.iter().any(|endpoint| endpoint.healthy);
            UpstreamRow { outline, healthy, endpoints }
        };
        let upstreams = page.entries.into_iter().map(row).collect();
        Self { upstreams, total: page.total, next: page.next }
    }
}

fn endpoints(upstream: &Upstream) -> Vec<EndpointRow> {
    let mut rows: Vec<_> = upstream.endpoints().into_iter().map(EndpointRow::from).collect();
    for (endpoint, healthy) in upstream.health() {
        if rows.iter().any(|row| row.endpoint == endpoint) {
            continue;
        }
        rows.push(EndpointRow {
            endpoint,
            address: None,
            healthy,
            unhealthy: None,
            ejected: None,
            requests_in_flight: 0,
        });
    }
    rows
}

impl From<EndpointStatus> for EndpointRow {
    fn from(status: EndpointStatus) -> Self {
        Self {
            healthy: status.takes_requests(),
            endpoint: status.endpoint,
            address: Some(status.address),
            unhealthy: status.unhealthy.map(|unhealthy| Unhealthy {
                why: unhealthy.why,
                for_seconds: unhealthy.since.as_secs(),
            }),
            ejected: status.ejected.map(|ejected| Ejected {
                for_seconds: ejected.since.as_secs(),
                left_seconds: ejected.left.as_secs() + u64::from(ejected.left.subsec_nanos() > 0),
            }),
            requests_in_flight: status.requests,
        }
    }
}
