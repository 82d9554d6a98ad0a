//! Which credential the upstream gets.

mod answers;
mod cae;
mod credentials;
mod grants;
mod managed_identity;
mod never_mixed;
mod outage;
mod refused;
