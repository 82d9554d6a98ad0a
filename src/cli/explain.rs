//! `explain`: says what a request would meet, without sending it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use http::HeaderName;

use super::run::File;
use crate::clock::SystemClock;
use crate::config::resolve::default_host;
use crate::dry_run::{self, Asking};
use crate::launch;
use crate::limits::MAX_TOKEN_BYTES;
use crate::observe::Metrics;

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    /// The method: GET
    method: String,

    /// What is called: `https://api.example.com/graph/me`, or a path
    url: String,

    /// A header of the request: 'Name: value'
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,

    /// Judge the token in this file; `-` is stdin
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// How it is said
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

fn header(text: &str) -> Result<(String, String), &'static str> {
    // What is wrong is not repeated: it may be a secret.
    let wrong = "--header: write 'Name: value', with nothing but the name before the colon";
    let (name, value) = text.split_once(':').ok_or(wrong)?;
    HeaderName::try_from(name).map_err(|_nothing_more| wrong)?;
    Ok((name.to_owned(), value.trim().to_owned()))
}

pub(super) fn main(config: &str, arguments: &ExplainArguments) -> ExitCode {
    let ExplainArguments { method, url, headers, token_file, format } = arguments;
    // Not by clap, which would repeat them.
    let headers = match headers.iter().map(|text| header(text)).collect::<Result<Vec<_>, _>>() {
        Ok(headers) => headers,
        Err(wrong) => return super::usage_error(wrong),
    };
    if config == "-" && token_file.as_deref() == Some(Path::new("-")) {
        return super::usage_error("the routes file and the token can't both come from stdin");
    }
    let has_own = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if token_file.is_some() && has_own {
        return super::usage_error("--token-file and an `Authorization` header exclude each other");
    }
    // Wrong usage is said before anything is read; what stands for the host makes no difference.
    if let Err(wrong) = Asking::new(method, url, &headers, "localhost") {
        return super::usage_error(&wrong.to_string());
    }
    let prepared =
        launch::prepare(Box::new(File::new(config)), Arc::new(SystemClock), Metrics::default());
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(problems) => {
            super::to_stderr(&problems.to_string());
            return ExitCode::FAILURE;
        }
    };
    let snapshot = &prepared.resolved().snapshot;
    let host = default_host(snapshot.public_url.as_deref());
    let asking = Asking::new(method, url, &headers, &host).map_err(|wrong| wrong.to_string());
    let asking = match token_file {
        None => asking,
        Some(path) => asking.and_then(|asking| {
            let token = read_token(path)?;
            asking.with_token(token.trim()).map_err(|_hidden| "the token is not text".to_owned())
        }),
    };
    let asking = match asking {
        Ok(asking) => asking,
        Err(wrong) => return super::usage_error(&wrong),
    };
    let runtime = match super::run::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return super::failure(&format!("no runtime: {error}")),
    };
    let explanation = runtime.block_on(dry_run::explain(snapshot, &asking));
    match format {
        Format::Text => super::to_stdout(&explanation.to_string()),
        Format::Json => super::to_stdout_as_json(&explanation),
    }
    if explanation.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The token in a file, a little more than the longest that is judged: a longer one is refused by the
/// rule for that.
fn read_token(path: &Path) -> Result<String, String> {
    let most = u64::try_from(MAX_TOKEN_BYTES.saturating_mul(2)).unwrap_or(u64::MAX);
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path);
        file.and_then(|file| file.take(most).read_to_string(&mut text))
    };
    match read {
        Ok(_) if text.trim().is_empty() => {
            Err(format!("--token-file `{}` is empty", path.display()))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(format!("--token-file `{}`: {error}", path.display())),
    }
}
