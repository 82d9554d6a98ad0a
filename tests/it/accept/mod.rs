//! What comes in as bytes.

pub mod raw_requests;
