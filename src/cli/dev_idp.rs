//! `dev-idp`: the development identity provider alone. `dev-idp token` is `dev_token.rs`.

use std::process::ExitCode;
use std::sync::Arc;

use super::run::{self, Signals};
use super::{DevIdpArguments, DevIdpCommand, dev_token};
use crate::body::BoxError;
use crate::chain::with_sources;
use crate::clock::SystemClock;
use crate::dev::{self, Bound, DevTls, IdentityProvider};

pub(super) fn main(arguments: &DevIdpArguments) -> ExitCode {
    // Said here, since clap looks at one place of the command line only, and these may stand
    // before `token` or behind it.
    if arguments.tls != arguments.ca_file.is_some() {
        return super::usage_error("`--tls` and `--ca-file FILE` belong together");
    }
    if let Some(DevIdpCommand::Token(wanted)) = &arguments.command {
        return dev_token::main(arguments, wanted);
    }
    let runtime = match run::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return super::failure(&format!("no runtime: {error}")),
    };
    match runtime.block_on(serve(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::failure(&with_sources(error.as_ref())),
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
    let ca = arguments
        .ca_file
        .as_ref()
        .map_or(String::new(), |file| format!(" --cacert {}", file.display()));
    super::to_stderr(&format!(
        "A token of a user (alice, bob, mfa, noconsent, blocked; password `dev`), as a client would get it:\n\n  \
         curl -s{ca} '{}/dev/token?user=alice&scope=access_as_user'\n\n",
        server.base_url()
    ));
    super::to_stdout(&format!("listening on {}\n", server.base_url()));
    signals.end().await;
    Ok(())
}
