//! What comes in as tokens.

pub mod hostile_tokens;
