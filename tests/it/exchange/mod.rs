//! Which credential the upstream gets.

mod answers;
mod never_mixed;
mod refused;
