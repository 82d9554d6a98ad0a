//! Which credential the upstream gets.

mod grants;
mod never_mixed;
mod refused;
