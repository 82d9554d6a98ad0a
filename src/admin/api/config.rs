//! `/api/v1/config`: the file in force without its secrets, since when it is, and what became of
//! the last reload.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::admin::Shown;
use crate::last_reload::LastReload;
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
        let last = shown.reloads.control().and_then(|control| control.last_reload());
        Self {
            config: snapshot.written.redacted(),
            loaded_at: shown.metrics.now().config_in_force_since.to_string(),
            last_reload: last.map(|last| LastReload::clone(&last)),
            reloads: shown.metrics.reloads(),
        }
    }
}
