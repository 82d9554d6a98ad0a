//! `completions`: shell completions, made from the definition of the command line.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

pub(super) fn main<C: CommandFactory>(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut C::command(), "obo-gateway", &mut script);
    super::to_stdout(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
