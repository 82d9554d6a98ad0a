//! What comes in as bytes.

pub mod raw_requests;
mod http2;
mod http2_conformance;
mod http2_floods;
mod limits;
mod proxy_protocol;
pub mod tls;

use crate::support::upstream::Upstream;

/// An open route to `upstream`; `listener` and `server` are members of those sections.
fn open_routes(upstream: &Upstream, listener: &str, server: &str) -> String {
    let url = upstream.url();
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0"{listener} }}]
admin: {{ address: "127.0.0.1:0" }}
server: {{ {server} }}
upstreams:
  plain: {{ url: "{url}" }}
  plain2: {{ url: "{url}", protocol: http2 }}
routes:
  - {{ match: {{ path: "/open/{{*rest}}" }}, auth: none, upstream: plain }}
  - {{ match: {{ path: "/open2/{{*rest}}" }}, auth: none, upstream: plain2 }}
  - {{ match: {{ path: /here }}, auth: none, respond: {{ status: 204 }} }}
"#
    )
}
