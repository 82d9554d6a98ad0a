//! The binary: crypto provider, then the command line. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // One crypto stack for TLS, signatures and digests. It can only be set once, and nothing
    // has been set before `main`.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    obo_gateway::cli::main()
}
