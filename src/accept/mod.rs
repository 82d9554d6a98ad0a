//! Sockets in.

pub mod framing;
