//! What became of the last reload: plain data without a secret, for the log and the admin port.
//!
//! How a file is read again is not known here.

use schemars::JsonSchema;
use serde::Serialize;

use crate::written::Changes;

/// One reload, good or bad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LastReload {
    /// When it was: RFC 3339, UTC.
    pub at: String,
    /// Why it was: `SIGHUP`, `the admin API`, or the files that changed.
    pub cause: String,
    /// What became of it.
    pub outcome: ReloadOutcome,
    /// What is wrong with the file, or only odd where the outcome is success: by place.
    pub problems: Vec<FoundProblem>,
    /// The same for people, as `check` prints it. Empty if there is nothing.
    pub text: String,
    /// What is another now; of a failure nothing is.
    pub changes: Changes,
    /// Keys whose new values take effect with a restart.
    pub needs_restart: Vec<String>,
}

/// What became of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReloadOutcome {
    /// The file is in force.
    Success,
    /// The one before stays in force.
    Failure,
}

/// A problem of the routes file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FoundProblem {
    /// The file.
    pub file: String,
    /// Line, from 1; `null` for the file as a whole.
    pub line: Option<u32>,
    /// Column, from 1, in characters.
    pub column: Option<u32>,
    /// How many characters it is about.
    pub length: Option<u32>,
    /// Whether it stops the file from being used.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// A second place that has a part in it.
    pub related: Option<RelatedPlace>,
    /// What to do.
    pub hint: Option<String>,
}

/// Whether a problem stops the file from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// A second place of a problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RelatedPlace {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
    /// What is there.
    pub message: String,
}
