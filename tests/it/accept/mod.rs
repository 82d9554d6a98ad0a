//! What comes in as bytes.

mod raw_requests;
