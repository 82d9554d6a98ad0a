//! The routes file.
