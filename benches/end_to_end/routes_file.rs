//! The gateway's routes file: what an operator would write, with metrics and access log on.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::case::{Payload, Route};
use crate::seat::Addresses;
use crate::tls::CertificateFiles;
use crate::users::{CLIENT_ID, INBOUND_SCOPE, TENANT, UPSTREAM_SCOPE};

/// Of the routes of services that nobody calls, those of one file alone: the first of this many.
pub(crate) const NEW_ONE_IN: usize = 10;

/// What is not the same in all cases.
#[derive(Clone, Default)]
pub(crate) struct Written {
    pub(crate) tls: Option<CertificateFiles>,
    pub(crate) workers: usize,
    /// Without providers there are no routes that need one either.
    pub(crate) has_no_providers: bool,
    /// Outbound tokens that are kept; `None` for the default.
    pub(crate) cache_entries: Option<usize>,
    /// More routes, of services that nobody calls.
    pub(crate) more_routes: usize,
    /// Makes the file another.
    pub(crate) generation: usize,
}

impl Written {
    /// The file of a gateway that listens at `address`.
    pub(crate) fn text(
        &self,
        address: SocketAddr,
        admin: SocketAddr,
        addresses: Addresses,
    ) -> String {
        let tls = self.tls.as_ref().map(|CertificateFiles { chain, key }| {
            let (chain, key) = (chain.display(), key.display());
            format!("    tls: {{ cert_file: {chain}, key_file: {key} }}\n")
        });
        let cache = self.cache_entries.map(|most| format!("cache:\n  max_entries: {most}\n"));
        let served = if self.has_no_providers {
            let (plain, upstream) = (Route::Plain.name(), addresses.upstream);
            let open = open_route(plain, plain);
            format!("upstreams:\n  {plain}:\n    url: http://{upstream}\nroutes:\n{open}")
        } else {
            with_providers(addresses)
        };
        // Idle connections are to be there until they were counted.
        let mut text = format!(
            "listeners:
  - address: {address}
{tls}admin:
  address: {admin}
server:
  workers: {workers}
  idle_timeout: 1h
{cache}telemetry:
  access_log: true
{served}",
            tls = tls.unwrap_or_default(),
            workers = self.workers,
            cache = cache.unwrap_or_default(),
        );
        self.write_more_routes(&mut text);
        text
    }

    fn write_more_routes(&self, text: &mut String) {
        let upstream = Route::Plain.name();
        for number in 0..self.more_routes {
            let generation = if number % NEW_ONE_IN == 0 { self.generation } else { 0 };
            // Writing to a string can't fail.
            write!(
                text,
                "  - match: {{ path: \"/service-{number}-{generation}/{{id}}/parts/{{*rest}}\", methods: [GET, POST] }}
    auth: none
    upstream: {upstream}
",
            )
            .ok();
        }
    }
}

fn with_providers(addresses: Addresses) -> String {
    let authority = addresses.authority();
    let upstream = addresses.upstream;
    let (plain, swap, checked) = (Route::Plain.name(), Route::Swap.name(), Route::Checked.name());
    let open = open_route(plain, plain);
    format!(
        "providers:
  entra:
    type: entra
    tenant: {TENANT}
    authority: {authority}
    client_id: {CLIENT_ID}
    credential:
      client_secret: ${{BENCH_SECRET}}
upstreams:
  {plain}:
    url: http://{upstream}
  {swap}:
    url: http://{upstream}
    token:
      on_behalf_of:
        scopes: [\"{UPSTREAM_SCOPE}\"]
routes:
{open}  - name: {swap}
    match: {{ path: \"/{swap}/{{*rest}}\" }}
    auth: {{ providers: [entra], scopes: [{INBOUND_SCOPE}] }}
    upstream: {swap}
  - name: {checked}
    match: {{ path: \"/{checked}/{{*rest}}\" }}
    auth: {{ providers: [entra], scopes: [{INBOUND_SCOPE}] }}
    upstream: {plain}
"
    )
}

fn open_route(name: &str, upstream: &str) -> String {
    format!(
        "  - name: {name}
    match: {{ path: \"/{name}/{{*rest}}\" }}
    auth: none
    upstream: {upstream}
"
    )
}

/// The path of a request of user 0 by way of `route`.
pub(crate) fn path(route: Route) -> String {
    format!("/{}/{}/0", route.name(), Payload::Small.name())
}
