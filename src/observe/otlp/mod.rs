//! Spans on their way out: OTLP, the protocol of OpenTelemetry, over gRPC or over HTTP.
//!
//! `message.rs` has what is said, `collector.rs` one call, and the exporter here decides when: spans
//! wait in a queue of bounded length, leave it in batches, and are dropped and counted where the
//! collector does not take them. Nothing here is waited for by a request.

mod collector;
mod exporter;
pub(super) mod message;

use std::time::Duration;

use http::{HeaderName, Uri};

use crate::secret::SecretHeader;
use crate::trust::Roots;

pub(super) use exporter::Exporter;

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC, over HTTP/2.
    Grpc,
    /// Protobuf in the body of a POST, over HTTP/1.1.
    Http,
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorSettings {
    /// `http` or `https`; over HTTP with the path that is called, over gRPC its path does not count.
    pub endpoint: Uri,
    /// How.
    pub protocol: Protocol,
    /// What each call carries: keys of whoever runs the collector.
    pub headers: Vec<(HeaderName, SecretHeader)>,
    /// Whose certificates are believed.
    pub roots: Roots,
    /// For one call, connecting included.
    pub timeout: Duration,
}
