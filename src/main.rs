//! The binary: crypto provider, then the command line. Everything else is in the library.

use std::process::ExitCode;

/// musl's own has one lock for all threads; see the table of dependencies in README.md.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // One crypto stack for TLS, signatures and digests. It can only be set once, and nothing
    // has been set before `main`.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    obo_gateway::cli::main()
}
