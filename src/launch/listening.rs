//! The listeners that serve, and what a reload changes of them: the certificates, and no address.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use crate::accept::{self, BoundListener, Certified, Handler, Tls, Unread};
use crate::body::Body;
use crate::config::resolve::Listener;
use crate::gateway::Gateway;
use crate::interim::Interim;
use crate::observe::Metrics;
use crate::observe::recorded_body::RecordedBody;
use crate::peer::Peer;

/// A listener that serves.
pub(super) struct Listening {
    /// With the port that was really taken.
    pub(super) address: SocketAddr,
    tls: Option<Arc<Tls>>,
    proxy_protocol: bool,
}

impl Listening {
    /// Serves the connections of `socket`, as `listener` says, to `gateway`.
    pub(super) fn begin(
        socket: BoundListener,
        listener: Listener,
        server: &Arc<accept::Server>,
        gateway: &Arc<Gateway>,
        metrics: &Metrics,
    ) -> Self {
        let address = socket.address();
        let tls = listener.tls.map(|certified| {
            count_expiry(metrics, address, &certified);
            Arc::new(Tls::new(certified))
        });
        tracing::info!(%address, tls = tls.is_some(), "listening");
        let handler = ToGateway(Arc::clone(gateway));
        tokio::spawn(accept::serve(Arc::clone(server), socket, tls.clone(), handler));
        Self { address, tls, proxy_protocol: listener.proxy_protocol }
    }

    /// Whether it is the one that the file now describes as `read`.
    fn is(&self, read: &Listener) -> bool {
        let port = read.address.port();
        read.address.ip() == self.address.ip()
            && (port == 0 || port == self.address.port())
            && read.tls.is_some() == self.tls.is_some()
            && read.proxy_protocol == self.proxy_protocol
    }
}

/// New handshakes get the certificates that were just read, also where other listeners came or
/// went: those take a restart, and until then a certificate must not end unrenewed.
pub(super) fn renew_certificates(
    listening: &[Listening],
    mut listeners: Vec<Listener>,
    metrics: &Metrics,
) {
    let mut changed = false;
    for now in listening {
        let Some(at) = listeners.iter().position(|read| now.is(read)) else {
            changed = true;
            continue;
        };
        if let (Some(tls), Some(certified)) = (&now.tls, listeners.remove(at).tls) {
            count_expiry(metrics, now.address, &certified);
            tls.replace(certified);
        }
    }
    if changed || !listeners.is_empty() {
        tracing::warn!("`listeners` changed; that takes effect with a restart");
    }
}

/// What a listener hands requests to.
#[derive(Clone, Debug)]
struct ToGateway(Arc<Gateway>);

impl Handler for ToGateway {
    type Body = RecordedBody<Body>;

    async fn handle(
        self,
        request: Request<Incoming>,
        peer: Peer,
        interim: Option<Interim>,
    ) -> Response<Self::Body> {
        self.0.handle(request, peer, interim).await
    }

    fn refused(&self, peer: &Peer, refused: &Unread) {
        self.0.refused(peer, &refused.request_id, &refused.rejection);
    }
}

fn count_expiry(metrics: &Metrics, address: SocketAddr, certified: &Certified) {
    if let Some(expires) = certified.expires_at() {
        metrics.certificate_expires(&address.to_string(), expires);
    }
}
