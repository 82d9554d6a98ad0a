//! `/api/v1/refusals`: the last refusals and why, without who it was unless that is asked for.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::Shown;
use crate::admin::query::Query;
use crate::observe::refusals::Refusal;

/// The answer of `/api/v1/refusals`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LastRefusals {
    /// The last ones, about a hundred at most, the newest first; behind `since`, if that was asked for.
    pub refusals: Vec<Refusal>,
    /// How many there were of each code since the start.
    pub by_code: BTreeMap<&'static str, u64>,
}

impl LastRefusals {
    pub(super) fn of(shown: &Shown, query: &Query) -> Self {
        let refusals = shown.observer.refusals();
        Self { refusals: refusals.last(query.names, query.since), by_code: refusals.by_code() }
    }
}
