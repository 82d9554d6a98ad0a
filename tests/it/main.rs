//! The integration tests: one binary, its modules named as in `src/`.
//!
//! What they share is in `tests/support/`: everything runs on loopback sockets with ports of
//! the system's choice, keys are made at start, and nothing sleeps to wait for something.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]
#![allow(
    unreachable_pub,
    reason = "`pub` says what of the harness is for tests; nothing leaves the binary"
)]
#![allow(dead_code, reason = "the harness is whole, whichever of it today's tests use")]
#![allow(clippy::print_stderr, reason = "a failed test shows what its gateway logged")]
#![allow(clippy::too_many_lines, reason = "tables are long")]

#[path = "../support/mod.rs"]
mod support;

mod layers;
mod accept;
mod admin;
mod authn;
mod cli;
mod forward;
mod route;
mod dev;
mod exchange;
mod examples;
mod explain_and_test;
mod gateway;
mod launch;
mod metadata;
mod observe;
mod online;
mod policies;
mod shared_entries;
mod shared_erasures;
mod shared_renewals;
mod shared_strangers;
mod shared_store;
