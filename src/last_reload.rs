//! What became of the last reload: plain data without a secret, for the log and the admin port.
//!
//! How a file is read again is not known here.

use schemars::JsonSchema;
use serde::Serialize;

use crate::written::Changes;

/// One reload, good or bad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LastReload {
    /// When it was, in seconds since 1970.
    pub at: u64,
    /// Why it was: `SIGHUP`, `the admin API`, or the files that changed.
    pub cause: String,
    /// What became of it.
    pub outcome: ReloadOutcome,
    /// What is wrong with the file, or only odd where the outcome is success: each with place and
    /// hint, as `check` prints it. Empty if there is nothing.
    pub problems: String,
    /// What is another now; of a failure nothing is.
    pub changes: Changes,
    /// Keys whose new values take effect with a restart.
    pub needs_restart: Vec<String>,
}

/// What became of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReloadOutcome {
    /// The file is in force.
    Success,
    /// The one before stays in force.
    Failure,
}
