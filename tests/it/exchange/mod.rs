//! Which credential the upstream gets.

mod cae;
mod never_mixed;
mod refused;
