//! The development identity provider and the stand-in upstreams.
//!
//! They play Entra, Microsoft Graph and Azure Resource Manager on loopback, with fixed names
//! (section 6 of the interface), so that the gateway and users' own tests work without a
//! tenant. All secrets here are printed in the documentation: nothing binds beyond loopback.
//! This module prints nothing and reads no configuration; `cli/` does.
//!
//! Each server is a pure function from a request to an answer (`identity_provider.rs`,
//! `graph.rs`, `arm.rs`); `serve.rs` alone knows sockets. Nothing of the request path uses
//! this module, and it uses nothing of the request path: it must not share its mistakes.

pub mod directory;
mod timestamp;
mod answer;
mod keys;
mod tls;
mod serve;
mod authority;
mod scope;
mod token_error;
mod token_request;
mod grants;
mod discovery;
mod dev_token;
mod identity_provider;
mod bearer;
mod graph;
mod arm;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use arm::{ArmStandIn, SUBSCRIPTIONS};
pub use graph::GraphStandIn;
pub use identity_provider::IdentityProvider;
pub use serve::{Bound, DevServer};
pub use tls::DevTls;

/// What `dev-idp` and `demo` say loudly before they serve.
pub const WARNING: &str = "\
This is a DEVELOPMENT identity provider. Its passwords and secrets are public, and it gives\n\
anyone who reaches it a token for any of its users. Its keys are made anew at each start and it\n\
listens on loopback only. Never let anything that matters trust it.";

/// Why a development server does not start.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// An address that others could reach.
    #[error(
        "`{0}` is not a loopback address: the development servers give a token to anyone who asks, \
         so they listen on 127.0.0.0/8 or [::1] only"
    )]
    NotLoopback(SocketAddr),
    /// The address is taken, or not ours.
    #[error("can't listen on `{address}`")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No signing key or certificate could be made.
    #[error("can't make a key or certificate")]
    Certificate(#[from] rcgen::Error),
    /// The signing key can't be used for tokens.
    #[error("the key that was made can't sign tokens")]
    SigningKey(#[from] jsonwebtoken::errors::Error),
    /// The key that was made has no public part of the RSA kind.
    #[error("the key that was made is not an RSA key")]
    NotRsa,
    /// TLS can't be set up.
    #[error("TLS can't be set up")]
    Tls(#[from] rustls::Error),
    /// The CA's certificate could not be written.
    #[error("can't write the CA's certificate to `{}`", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
