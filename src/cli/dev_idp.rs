//! `dev-idp`: the development identity provider alone.

use std::process::ExitCode;
use std::sync::Arc;

use super::DevIdpArguments;
use super::run::{self, Signals};
use crate::body::BoxError;
use crate::clock::SystemClock;
use crate::dev::{self, Bound, DevTls, IdentityProvider};

pub(super) fn main(arguments: &DevIdpArguments) -> ExitCode {
    let runtime = match run::runtime(Some(1)) {
        Ok(runtime) => runtime,
        Err(error) => return super::failure(&format!("no runtime: {error}")),
    };
    match runtime.block_on(serve(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::failure(&super::with_causes(error.as_ref())),
    }
}

async fn serve(arguments: &DevIdpArguments) -> Result<(), BoxError> {
    let mut signals = Signals::register()?;
    super::to_stderr(&format!("{}\n", dev::WARNING.trim_end()));
    let tls = match &arguments.ca_file {
        Some(file) => {
            let tls = DevTls::generate()?;
            tls.write_ca_file(file).await?;
            Some(tls)
        }
        None => None,
    };
    let bound = Bound::bind(arguments.address, tls.as_ref()).await?;
    let provider = IdentityProvider::new(bound.base_url(), Arc::new(SystemClock))?;
    let server = provider.serve(bound);
    super::to_stdout(&format!("listening on {}\n", server.base_url()));
    signals.end().await;
    Ok(())
}
