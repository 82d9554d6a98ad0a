//! How the providers of the configuration in force are, for the metrics: their keys are known by
//! themselves, their breakers by the exchanger.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::authn::Provider;
use crate::exchange::Exchanger;
use crate::observe::operators::ProviderHealth;
use crate::snapshot::Snapshot;

/// A provider, as the metrics ask it.
struct Watched {
    provider: Arc<Provider>,
    /// It holds the metrics itself.
    exchanger: Weak<Exchanger>,
}

/// The providers of `snapshot`.
pub(super) fn providers(
    snapshot: &Snapshot,
    exchanger: &Arc<Exchanger>,
) -> Vec<Arc<dyn ProviderHealth>> {
    let providers = snapshot.providers.iter().cloned();
    let watched = providers.map(|provider| {
        let exchanger = Arc::downgrade(exchanger);
        Arc::new(Watched { provider, exchanger }) as Arc<dyn ProviderHealth>
    });
    watched.collect()
}

impl ProviderHealth for Watched {
    fn provider(&self) -> Arc<str> {
        Arc::clone(self.provider.name())
    }

    fn is_ready(&self) -> bool {
        self.provider.has_keys()
    }

    fn keys_age(&self) -> Option<Duration> {
        self.provider.status().age
    }

    fn breakers_open(&self) -> usize {
        self.exchanger.upgrade().map_or(0, |it| it.open_breakers(self.provider.name(), 0).1)
    }
}
