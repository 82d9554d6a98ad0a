//! Which credential the upstream gets.

mod answers;
mod cae;
mod never_mixed;
mod refused;
