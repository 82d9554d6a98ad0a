//! What comes in as tokens.

mod hostile_tokens;
