//! Which credential the upstream gets.

mod never_mixed;
mod outage;
mod refused;
