//! `/api/v1/config`: the file in force without its secrets, since when it is, and what became of
//! the last reload.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::admin::Shown;
use crate::admin::reloads::{LastReload, rfc3339};
use crate::observe::stats::FetchTotals;
use crate::snapshot::Snapshot;

/// The answer of `/api/v1/config`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Config {
    /// The routes file as it was written, as JSON: secrets, and what came from outside, not shown.
    pub config: Value,
    /// Since when it is in force.
    pub loaded_at: String,
    /// What became of the last reload; `null` if there was none yet.
    pub last_reload: Option<LastReload>,
    /// Reloads since the start.
    pub reloads: FetchTotals,
}

impl Config {
    pub(super) fn of(snapshot: &Snapshot, shown: &Shown) -> Self {
        let (loaded_at, last_reload) = shown.reloads.so_far();
        Self {
            config: snapshot.written.redacted().clone(),
            loaded_at: rfc3339(loaded_at),
            last_reload,
            reloads: shown.metrics.reloads(),
        }
    }
}
