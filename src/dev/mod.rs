//! The development identity provider and the stand-in upstreams.
