//! `schema`: the keys of the routes file, for editors and for people.

use std::process::ExitCode;

use clap::ValueEnum;

use crate::config::schema;

/// For whom.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
    /// JSON Schema.
    Json,
    /// A page of Markdown.
    Markdown,
}

pub(super) fn main(format: Format) -> ExitCode {
    super::to_stdout(&match format {
        Format::Json => schema::text(),
        Format::Markdown => schema::markdown(),
    });
    ExitCode::SUCCESS
}
