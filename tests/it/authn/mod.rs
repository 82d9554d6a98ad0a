//! What callers present, and the keys that it is judged by.

pub mod hostile_tokens;
mod dialects;
mod keys;
mod several_providers;
mod tenants;
mod proof;
