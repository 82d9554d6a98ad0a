//! One event per request.
