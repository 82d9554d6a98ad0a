//! `/api/v1/routes`: the route table as requests meet it, with what was counted for each route.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::query::Query;
use crate::observe::stats::RouteTotals;
use crate::outline::{AuthOutline, Outline, RouteOutline};
use crate::snapshot::Snapshot;

/// The answer of `/api/v1/routes`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Routes {
    /// The routes, sorted by name.
    pub routes: Vec<RouteRow>,
    /// How many the file has.
    pub total: usize,
    /// What to ask for `after` to get those that found no room here.
    pub next: Option<String>,
}

/// A route.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RouteRow {
    /// What the file says of it.
    #[serde(flatten)]
    pub outline: RouteOutline,
    /// Whether it asks for no token.
    pub open: bool,
    /// Its requests since the start.
    pub requests: RouteTotals,
}

impl Routes {
    pub(super) fn of(snapshot: &Snapshot, query: &Query) -> Self {
        let page = query.page(Outline::of(snapshot).routes, |route| &route.name);
        let routes = snapshot.routes.iter().map(|route| (&**route.metrics.name(), &route.metrics));
        let by_name: HashMap<_, _> = routes.collect();
        let totals =
            |name: &str| by_name.get(name).map(|metrics| metrics.totals()).unwrap_or_default();
        let row = |outline: RouteOutline| RouteRow {
            open: matches!(outline.auth, AuthOutline::None),
            requests: totals(&outline.name),
            outline,
        };
        let routes = page.entries.into_iter().map(row).collect();
        Self { routes, total: page.total, next: page.next }
    }
}
