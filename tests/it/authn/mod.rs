//! What callers present, and the keys that it is judged by.

pub mod hostile_tokens;
mod keys;
mod proof;
