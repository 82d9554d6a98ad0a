//! What replicas share: a store (Redis or Valkey), asked within the time that a request has for it.
//!
//! The rest of the program speaks to it in commands of its own: is the token there, may I be the
//! one who asks for it, keep it, tell all. Decides how that is said, named and sealed, how long it may take,
//! and when it is not tried at all. A store that is slow, down or full costs a request
//! `cache.redis.timeout` at most, and no answer of it is believed: what it holds is sealed, and whoever
//! takes something out judges it anew. Knows no token, no caller and no provider.
//!
//! [`SharedStore`] outlives configurations; [`SharedStore::session`] is one request's dealings with it.

mod bounded;
mod budget;
mod complaints;
mod connection;
mod entries;
mod failure;
mod line;
mod link;
mod notices;
mod script;
mod seal;
mod servers;
mod shards;
mod slots;
mod trial;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use self::budget::Budget;
use self::link::Link;
use self::notices::{Audiences, Board};
use self::seal::Keyring;
use crate::observe::Metrics;
use crate::observe::shared_cache::{Operation, SharedOutcome};

pub use self::budget::Waited;
pub use self::entries::{Claim, Entry, Holder, Lease, Seen, Value};
pub use self::failure::Failure;
pub use self::notices::{Audience, Heard, Notice, POSITION_BYTES, Part, Position};
pub use self::script::Script;
pub use self::seal::EncryptionKey;
pub use self::trial::{ScriptTrial, Tried, try_out};
pub use self::url::{StoreAddress, WrongUrl};

/// `cache.redis` of the routes file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Where the store is.
    pub address: StoreAddress,
    /// The first seals, all open.
    pub encryption_keys: Vec<EncryptionKey>,
    /// What all names there begin with.
    pub key_prefix: String,
    /// All that the store may add to one request.
    pub timeout: Duration,
}

/// The store that replicas share, if the configuration in force names one.
pub struct SharedStore {
    site: ArcSwapOption<Site>,
    audience: Audiences,
    metrics: Metrics,
}

/// A store as the configuration names it.
struct Site {
    settings: StoreSettings,
    keyring: Arc<Keyring>,
    link: Link,
}

/// One request's dealings with the store: they have `cache.redis.timeout` together.
pub struct Session {
    site: Arc<Site>,
    budget: Budget,
    metrics: Metrics,
}

impl SharedStore {
    /// None yet.
    pub fn new(metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { site: ArcSwapOption::empty(), audience: Arc::default(), metrics })
    }

    /// Puts `settings` in force; a store that is the same keeps its connection. Opens none itself, and
    /// has to be called within a runtime.
    pub fn configure(&self, settings: Option<StoreSettings>) {
        let before = self.site.load_full();
        let Some(settings) = settings else {
            self.site.store(None);
            if let Some(site) = before {
                site.link.retire();
            }
            self.metrics.shared_cache_gone();
            return;
        };
        if before.as_ref().is_some_and(|site| site.settings == settings) {
            return;
        }
        // There is a key at least, or there are no settings.
        let Some(keyring) = Keyring::new(&settings.encryption_keys) else { return };
        if let Some(site) = before {
            site.link.retire();
        }
        self.metrics.shared_cache_up(false);
        let keyring = Arc::new(keyring);
        let audience = Arc::clone(&self.audience);
        let metrics = self.metrics.clone();
        let board = Board::new(&settings.key_prefix, Arc::clone(&keyring), audience, metrics);
        let (address, patience) = (settings.address.clone(), settings.timeout);
        let link = Link::new(address, patience, board, self.metrics.clone());
        self.site.store(Some(Arc::new(Site { settings, keyring, link })));
    }

    /// Whether the configuration in force names a store.
    pub fn is_configured(&self) -> bool {
        self.site.load().is_some()
    }

    /// Begins one request's dealings with the store; `None` if there is none.
    pub fn session(&self) -> Option<Session> {
        self.session_after(Waited::default())
    }

    /// Goes on with the dealings of a request that has `waited` for the store before.
    pub fn session_after(&self, waited: Waited) -> Option<Session> {
        let site = self.site.load_full()?;
        let budget = Budget::after(site.settings.timeout, waited);
        Some(Session { site, budget, metrics: self.metrics.clone() })
    }
}

impl Session {
    /// The same dealings with all of `cache.redis.timeout` before them: what follows is no delay that
    /// the store adds to a request.
    pub fn renew(&mut self) {
        self.grant(self.site.settings.timeout);
    }

    /// The same with so much time before them.
    fn grant(&mut self, time: Duration) {
        self.budget = Budget::new(time);
    }

    /// How long the request has waited for the store so far.
    pub fn waited(&self) -> Waited {
        self.budget.waited()
    }

    /// Waits for `what` as long as the store may still delay the request; `None` if that was not enough.
    pub async fn wait_for<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        self.budget.spend(what).await
    }

    /// What `read` makes of the numbers that `script` answers, run on the entry of `kind` that belongs
    /// to `owner`; nobody learns from its name who that is.
    ///
    /// # Errors
    ///
    /// Why there is no answer, or none of numbers that `read` makes anything of.
    pub async fn numbers<T>(
        &mut self,
        operation: Operation,
        script: Script,
        (kind, owner): (&str, &[&[u8]]),
        arguments: &[&[u8]],
        read: impl FnOnce(&[i64]) -> Option<T>,
    ) -> Result<T, Failure> {
        let name = self.site.name(kind, owner);
        let keys = [name.as_str()];
        let run = |connection| script.run(connection, &keys, arguments);
        let answer = self.site.link.ask(&mut self.budget, &name, run).await;
        let answer = answer.and_then(|value| {
            let numbers: Option<Vec<i64>> = redis::from_redis_value(value).ok();
            numbers.as_deref().and_then(read).ok_or_else(|| {
                let strange = Failure::strange();
                self.site.link.complain(&strange.to_string());
                strange
            })
        });
        self.count(operation, answer.as_ref().map(|_read| SharedOutcome::Done));
        answer
    }

    fn count(&self, operation: Operation, outcome: Result<SharedOutcome, &Failure>) {
        let outcome = outcome.unwrap_or_else(|failure| match failure {
            Failure::Away => SharedOutcome::Away,
            Failure::Late => SharedOutcome::Late,
            Failure::Lost(_) | Failure::Passing(_) | Failure::Refused(_) => SharedOutcome::Failed,
        });
        self.metrics.shared_cache(operation, outcome);
    }
}

impl Site {
    /// The name of the entry of `kind` that belongs to `owner`. What belongs to one owner is of one
    /// hash slot of a cluster: that is what the braces say.
    fn name(&self, kind: &str, owner: &[&[u8]]) -> String {
        self.name_by(&self.keyring.first().digest(owner), kind)
    }

    fn name_by(&self, digest: &str, kind: &str) -> String {
        name_of(&self.settings, kind, digest)
    }
}

fn name_of(settings: &StoreSettings, kind: &str, digest: &str) -> String {
    format!("{}{kind}:{{{digest}}}", settings.key_prefix)
}

impl fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.site.load().as_ref().map(|site| site.settings.address.clone());
        f.debug_struct("SharedStore").field("address", &address).finish_non_exhaustive()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("left", &self.budget).finish_non_exhaustive()
    }
}
