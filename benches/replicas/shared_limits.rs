//! temporary
pub(crate) use obo_gateway::limits::*;
use std::time::Duration;
pub(crate) const SHARED_LEASE: Duration = Duration::from_secs(2);
pub(crate) const SHARED_STORE_FAILURES: u32 = 5;
pub(crate) const SHARED_STORE_PAUSE_MIN: Duration = Duration::from_millis(100);
pub(crate) const SHARED_STORE_PAUSE_MAX: Duration = Duration::from_secs(5);
pub(crate) const SHARED_POLL_MIN: Duration = Duration::from_millis(10);
pub(crate) const SHARED_POLL_MAX: Duration = Duration::from_millis(250);
pub(crate) const SHARED_WAIT: Duration = Duration::from_secs(15);
