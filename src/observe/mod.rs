//! What leaves the gateway for its operators: metrics and the access log.

pub mod access_log;
pub mod metrics;
