//! Which route a request takes.
