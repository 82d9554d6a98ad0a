//! Rejection to response.
