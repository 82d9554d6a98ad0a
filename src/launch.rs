//! From a routes file to a serving gateway.
