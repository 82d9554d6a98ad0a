//! To the upstream and back.
