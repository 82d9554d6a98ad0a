//! `/api/v1/providers`: the keys of each provider, and how calls to its token endpoint go.

use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::Shown;
use crate::authn::Provider;
use crate::limits;
use crate::observe::stats::ProviderTotals;
use crate::outline::{Outline, ProviderOutline};
use crate::snapshot::Snapshot;

/// The answer of `/api/v1/providers`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Providers {
    /// The providers, in the order of the file.
    pub providers: Vec<ProviderRow>,
}

/// A provider.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ProviderRow {
    /// What the file says of it.
    #[serde(flatten)]
    pub outline: ProviderOutline,
    /// How many keys are loaded; `null` until that has succeeded once.
    pub keys: Option<usize>,
    /// Their ids, sorted; the first hundred.
    pub key_ids: Vec<String>,
    /// How long ago they were fetched; `null` also for keys from a file.
    pub keys_age_seconds: Option<u64>,
    /// Why the last fetch failed; `null` if it did not, or there was none yet.
    pub failure: Option<String>,
    /// Exchanges under way.
    pub in_flight: usize,
    /// Most of them; 0 where none was ever asked for.
    pub max_in_flight: usize,
    /// Exchanges that wait for their turn.
    pub queued: usize,
    /// Whether its token endpoint is asked.
    pub breaker: BreakerState,
    /// Which calls it is not asked for; the first twenty.
    pub open_breakers: Vec<OpenBreaker>,
    /// How many those are in all.
    pub open_breakers_total: usize,
    /// Calls to it since the start.
    pub totals: ProviderTotals,
}

/// Whether a provider's token endpoint is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Always.
    Closed,
    /// Not for some calls.
    Open,
}

/// Calls that a provider is not asked for, because too many of their like failed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct OpenBreaker {
    /// For which client, scopes and tenant.
    pub calls: String,
    /// For how long this has been so.
    pub for_seconds: u64,
    /// Until one call asks again; `null` while one does.
    pub left_seconds: Option<u64>,
    /// What went wrong last.
    pub why: String,
}

impl Providers {
    pub(super) fn of(snapshot: &Snapshot, shown: &Shown) -> Self {
        let outlines = Outline::of(snapshot).providers;
        let providers = outlines.into_iter().zip(&snapshot.providers);
        let rows = providers.map(|(outline, provider)| ProviderRow::of(outline, provider, shown));
        Self { providers: rows.collect() }
    }
}

impl ProviderRow {
    fn of(outline: ProviderOutline, provider: &Provider, shown: &Shown) -> Self {
        let (name, status) = (provider.name(), provider.status());
        let load = shown.exchanger.load(name);
        let (open, count) = shown.exchanger.open_breakers(name, limits::MAX_BREAKERS_SAID);
        let open = open.into_iter().map(|breaker| OpenBreaker {
            calls: breaker.which,
            for_seconds: breaker.since.as_secs(),
            left_seconds: breaker.left.map(|left| left.as_secs()),
            why: breaker.why,
        });
        Self {
            outline,
            keys: status.keys,
            key_ids: provider.key_ids(limits::MAX_KEY_IDS_SAID),
            keys_age_seconds: status.age.map(|age| age.as_secs()),
            failure: status.failure.map(|failure| failure.to_string()),
            in_flight: load.in_flight,
            max_in_flight: load.max_in_flight,
            queued: load.queued,
            breaker: if count == 0 { BreakerState::Closed } else { BreakerState::Open },
            open_breakers: open.collect(),
            open_breakers_total: count,
            totals: shown.metrics.provider_totals(name),
        }
    }
}
