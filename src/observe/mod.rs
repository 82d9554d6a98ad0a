//! What leaves the gateway for its operators: metrics, the access log and the log of the process.
//!
//! It counts and writes what it is told, and judges nothing. Tokens and secrets have no way
//! in: the records here hold only what section 5 of the interface names.

pub mod timestamp;
pub mod sink;
mod escape;
pub(crate) mod digits;
mod histogram;
mod labels;
pub mod stats;
pub mod refusals;
pub mod handles;
pub mod endpoint_health;
mod process;
pub mod operators;
pub mod shared_cache;
pub mod metrics;
pub mod exposition;
pub mod request_id;
pub mod trace;
pub mod otlp;
pub mod tracer;
pub mod phases;
pub mod field;
mod event;
pub(crate) mod cut_off;
pub mod access_log;
mod span;
pub mod recorded_body;
pub mod log;

pub use access_log::{AccessLog, AccessRecord, Observer};
pub use metrics::Metrics;
