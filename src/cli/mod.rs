//! The command line: arguments, exit codes, signals. One file a command.
//!
//! Results go to stdout, logs and problems to stderr. Exit codes: 0 done; 1 it failed; 2 wrong
//! usage (clap's own).

mod check;
mod completions;
mod demo;
mod dev_idp;
mod dev_token;
mod explain;
mod healthcheck;
mod man;
mod routes;
mod run;
mod schema;
mod start_log;
mod test;

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::parser::ValueSource;
use clap::{ArgGroup, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::dry_run::harmless;
use crate::observe::sink::LogSink;
use crate::observe::{Metrics, log, sink};

/// `0.1.0 (abc1234 2026-11-23)`: the commit and its day, see `build.rs`.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("OBO_GATEWAY_BUILD"), ")");

/// An authenticating reverse proxy that swaps the caller's token for an on-behalf-of token
/// scoped to each upstream.
#[derive(Debug, Parser)]
#[command(name = "obo-gateway", version = VERSION, disable_help_subcommand = true)]
struct CommandLine {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Global {
    /// The routes file; `-` is stdin
    #[arg(
        short,
        long,
        global = true,
        env = "OBO_GATEWAY_CONFIG",
        default_value = "routes.yaml",
        value_name = "FILE"
    )]
    config: String,

    /// What is logged: error, warn, info, debug, trace, or directives like `info,obo_gateway::exchange=debug`
    #[arg(
        long,
        global = true,
        env = "OBO_GATEWAY_LOG",
        default_value = "info",
        value_name = "LEVEL"
    )]
    log_level: String,

    /// How it is logged [default: text on a terminal, json otherwise]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the routes file (also when no command is given)
    Run,
    /// Read the routes file and print every problem with its place
    Check(CheckArguments),
    /// Say what a request would meet, without sending it: which route and why not the others, what
    /// its token must carry, which token its upstream would get. Exit 0 if it would pass, 1 if not
    Explain(explain::ExplainArguments),
    /// Hold the routes to the `tests:` of their file, without any network
    Test(test::TestArguments),
    /// Print the route table: match, auth, upstream, outbound token; open and unusual routes are marked
    Routes {
        /// `json` is for reviews and programs: sorted by name, without line numbers
        #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
        format: routes::Format,
    },
    /// Show the gateway on loopback: a development identity provider, stand-ins for Microsoft
    /// Graph and Azure Resource Manager, and the gateway in front
    Demo(DemoArguments),
    /// Serve the development identity provider alone, for your own tests; or have it mint a token
    DevIdp(DevIdpArguments),
    /// Ask `/readyz` of the configured admin address; exit 0 or 1
    Healthcheck,
    /// Print the JSON Schema of the routes file, for editors
    Schema {
        /// `markdown` is the reference of all keys, for people
        #[arg(long, value_enum, value_name = "FORMAT", default_value = "json")]
        format: schema::Format,
    },
    /// Print the manual page, for `man -l -`
    Man,
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
struct CheckArguments {
    /// Try for real what the file names: providers, credentials, upstreams
    #[arg(long)]
    online: bool,

    /// How the report of `--online` is printed
    #[arg(long, value_enum, default_value_t, requires = "online", value_name = "FORMAT")]
    format: ReportFormat,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ReportFormat {
    /// A table
    #[default]
    Text,
    /// One JSON document
    Json,
}

#[derive(Debug, Args)]
struct DemoArguments {
    /// Move all ports to N, N+1, … [default: 8080, 9901, 9010, 9011, 9012]
    #[arg(long, value_name = "N")]
    port_base: Option<u16>,

    /// Serve the gateway and the provider over https
    #[arg(long, requires = "ca_file")]
    tls: bool,

    /// Where the certificate of the CA that `--tls` makes is written
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct DevIdpArguments {
    /// Where it listens; loopback only
    #[arg(long, global = true, default_value = "127.0.0.1:9010")]
    address: SocketAddr,

    /// Speak https, at `https://localhost:PORT`, as Microsoft's libraries insist on
    #[arg(long, global = true)]
    tls: bool,

    /// The certificate of the CA that `--tls` makes: serving writes this file, and `token` reads it
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<DevIdpCommand>,
}

#[derive(Debug, Subcommand)]
enum DevIdpCommand {
    /// Print a token that the running one (`dev-idp` or `demo`) mints
    Token(DevTokenArguments),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true).args(["user", "client"]))]
struct DevTokenArguments {
    /// Whose token: alice, bob, mfa, noconsent or blocked
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// The token of an application by itself: daemon
    #[arg(long, value_name = "NAME")]
    client: Option<String>,

    /// The scopes, with spaces between [default: that of the demo; an application has none]
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,

    /// Seconds until it expires; negative for one that has expired [default: 3600]
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    expires_in: Option<i64>,

    /// Claims to add, to replace or (null) to leave out: a JSON object
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let mut matches = CommandLine::command().get_matches();
    // The environment is not for one command alone, and may well be set.
    let names_a_file = matches.value_source("config") == Some(ValueSource::CommandLine);
    let CommandLine { global, command } = match CommandLine::from_arg_matches_mut(&mut matches) {
        Ok(line) => line,
        Err(error) => error.format(&mut CommandLine::command()).exit(),
    };
    match command.as_ref().and_then(Command::reads_no_file) {
        Some(why) if names_a_file => return usage_error(why),
        None if global.config.is_empty() => {
            return usage_error(
                "`--config` (or `OBO_GATEWAY_CONFIG`) is empty: name the routes file, or leave it out for `routes.yaml` here",
            );
        }
        Some(_) | None => {}
    }
    let format = match global.log_format {
        Some(LogFormat::Text) => sink::LogFormat::Text,
        None if io::stderr().is_terminal() => sink::LogFormat::Text,
        Some(LogFormat::Json) | None => sink::LogFormat::Json,
    };
    let form = match global.log_format {
        Some(LogFormat::Json) => start_log::Form::Events,
        Some(LogFormat::Text) | None => start_log::Form::Text,
    };
    let metrics = Metrics::default();
    let sink = match LogSink::start(Box::new(io::stderr()), format, metrics.clone()) {
        Ok(sink) => sink,
        Err(error) => return failure(&format!("the log can't be written: {error}")),
    };
    if let Err(error) = log::init(&global.log_level, &sink) {
        return usage_error(&format!("--log-level `{}`: {error}", global.log_level));
    }
    let code = match command.unwrap_or(Command::Run) {
        Command::Run => {
            run::main(&global.config, start_log::StartLog { sink: &sink, form }, metrics)
        }
        Command::Check(arguments) => check::main(&global.config, &arguments),
        Command::Explain(arguments) => explain::main(&global.config, &arguments),
        Command::Test(arguments) => test::main(&global.config, &arguments),
        Command::Demo(arguments) => demo::main(&arguments, &sink, metrics),
        Command::DevIdp(arguments) => dev_idp::main(&arguments),
        Command::Healthcheck => healthcheck::main(&global.config),
        Command::Routes { format } => routes::main(&global.config, format),
        Command::Schema { format } => schema::main(format),
        Command::Man => man::main::<CommandLine>(),
        Command::Completions { shell } => completions::main::<CommandLine>(shell),
    };
    if RESULT_LOST.load(Ordering::Relaxed) { ExitCode::FAILURE } else { code }
}

impl Command {
    /// What is said of `--config` where the command would not heed it; `None` if it does.
    fn reads_no_file(&self) -> Option<&'static str> {
        match self {
            Self::Run
            | Self::Check(_)
            | Self::Explain(_)
            | Self::Test(_)
            | Self::Routes { .. }
            | Self::Healthcheck => None,
            Self::Demo(_) => Some(
                "`demo` shows the routes file that is built in: leave `--config` out, or serve your file with `obo-gateway run`",
            ),
            Self::DevIdp(_) => Some("`dev-idp` reads no routes file: leave `--config` out"),
            Self::Schema { .. } => Some("`schema` reads no routes file: leave `--config` out"),
            Self::Man => Some("`man` reads no routes file: leave `--config` out"),
            Self::Completions { .. } => {
                Some("`completions` reads no routes file: leave `--config` out")
            }
        }
    }
}

fn usage_error(text: &str) -> ExitCode {
    to_stderr(&format!("error: {text}\n"));
    ExitCode::from(2)
}

fn failure(text: &str) -> ExitCode {
    to_stderr(&format!("error: {text}\n"));
    ExitCode::FAILURE
}

/// Whether a result could not be printed: whoever asked for it has less than they think.
static RESULT_LOST: AtomicBool = AtomicBool::new(false);

/// Prints a result. A reader that went away is not our failure; a full disk is.
fn to_stdout(text: &str) {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    if let Err(error) = printed
        && error.kind() != io::ErrorKind::BrokenPipe
        && !RESULT_LOST.swap(true, Ordering::Relaxed)
    {
        to_stderr(&format!("error: the result can't be written to stdout: {error}\n"));
    }
}

/// Prints a result for programs, on lines.
fn to_stdout_as_json(result: &impl serde::Serialize) {
    match serde_json::to_string_pretty(result) {
        Ok(text) => to_stdout(&format!("{text}\n")),
        // Nothing of ours has maps with keys that are no text, which is all that can be wrong.
        Err(error) => to_stderr(&format!("error: no JSON: {error}\n")),
    }
}

/// Prints what went wrong. Names of files and arguments may be anybody's where a script passes them on.
fn to_stderr(text: &str) {
    io::stderr().lock().write_all(harmless(text).as_bytes()).unwrap_or_default();
}
