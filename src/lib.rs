#![doc = include_str!("ARCHITECTURE.md")]

// In layer order: a module uses only those above it (`tests/it/layers.rs` checks this).

// Vocabulary: no IO, nothing of ours.
pub mod limits;
pub mod chain;
pub mod secret;
pub mod clock;
pub mod peer;
pub mod idle_timer;
pub mod giving_way;
pub mod held_up;
pub mod regular_file;
pub mod trust;
pub mod public_url;
pub mod body;
pub mod interim;

// Where it all runs.
pub mod workers;

// How we speak about requests.
pub mod identity;
pub mod rejection;
pub mod observe;

// What replicas share.
pub mod shared_store;

// The phases of a request.
pub mod route;
pub mod authn;
pub mod authz;
pub mod rate_limit;
pub mod exchange;
pub mod forward;

// Assembly.
pub mod respond;
pub mod own_answer;
pub mod metadata;
pub mod cors;
pub mod written;
pub mod last_reload;
pub mod snapshot;
pub mod outline;
pub mod preflight;
pub mod gateway;

// What a request would meet, without meeting it.
pub mod dry_run;

// Sockets in.
pub mod accept;
pub mod admin;

// YAML in.
pub mod config;

// What `check --online` tries.
pub mod online;

// The outside.
pub mod launch;
pub mod dev;
pub mod cli;

// The entry points of `fuzz/`; in no product.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
