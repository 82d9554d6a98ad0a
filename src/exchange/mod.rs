//! Which credential the upstream gets.
