//! Which credential the upstream gets.

mod managed_identity;
mod never_mixed;
mod refused;
