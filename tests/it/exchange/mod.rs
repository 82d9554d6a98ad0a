//! Which credential the upstream gets.

mod cae;
mod grants;
mod never_mixed;
mod outage;
mod refused;
