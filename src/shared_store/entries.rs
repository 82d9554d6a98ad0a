//! Entries of the store, and who may make them: values that are sealed, and leases.
//!
//! An entry has an owner, and is made by somebody: a token by the exchange that gives it. Whoever
//! finds none, and gets the lease, makes it; a lease that is not renewed ends by itself, so that a
//! maker who died holds nobody up. All that has to be looked at and changed in one step is one script.
//!
//! Of the makers of one entry the owner itself is the weakest: what any other one makes is good for
//! all who want the entry, and what the owner makes for nobody who asks for another maker. So it takes
//! the place of nothing but what it was made to replace.

mod claim;
mod scripts;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use redis::Value as Answer;
use tokio::time::Instant;

use self::scripts::{FETCH, HOLD, RELEASE};
use super::budget::Budget;
use super::failure::Failure;
use super::link::Link;
use super::script::{Script, sha1_hex};
use super::{Session, Site};
use crate::limits;
use crate::observe::shared_cache::{Operation, SharedOutcome};

pub use self::claim::{Claim, Holder};
pub(super) use self::scripts::{CLAIM, DELETE, STORE};

/// Kinds of names.
const VALUE: &str = "token";
const LEASE: &str = "lease";

/// What [`STORE`] is told where a value takes the place of any other.
const ANY: &str = "any";

/// An entry, and who makes it.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// Whose it is: names the value.
    pub owner: &'a [u8],
    /// By what it is made: names the lease, beside the owner. The owner itself is the weakest one.
    pub maker: &'a [u8],
}

/// A value of the store that was opened. Nothing is known of it but that somebody with an encryption
/// key made it for this owner.
pub struct Value {
    /// What was sealed.
    pub plain: Vec<u8>,
    /// Names this very value.
    pub seen: Seen,
}

/// Names one value of one entry, to be passed over or dropped.
#[derive(Clone)]
pub struct Seen {
    name: String,
    sha1: String,
}

/// The right to make an entry, until it is given back or not renewed any more.
pub struct Lease {
    name: String,
    holder: String,
    /// Names the value that was there and is of no use, if there was one.
    replaces: String,
}

impl Session {
    /// Other dealings with the same store, whatever the configuration names by now, with all of
    /// `cache.redis.timeout` before them.
    #[must_use]
    pub fn beside(&self) -> Self {
        let budget = Budget::new(self.site.settings.timeout);
        Self { site: Arc::clone(&self.site), budget, metrics: self.metrics.clone() }
    }

    /// Whether `other` is with the same store, of the same configuration.
    pub fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.site, &other.site)
    }

    /// The values of `entry`, of which there may be one for each key; and why the store does not say of
    /// each whether it is there, if it does not.
    pub async fn find(&mut self, entry: Entry<'_>) -> (Vec<Value>, Result<(), Failure>) {
        let site = Arc::clone(&self.site);
        let mut names = site.former_names(entry);
        names.insert(0, site.value_name(entry));
        let began = Instant::now();
        let all = self.budget;
        let answers = fetch_all(&site.link, all, &names).await;
        self.budget = all.since(began);
        let mut heard = Ok(());
        let mut values = Vec::new();
        for (name, answer) in names.iter().zip(answers) {
            match answer {
                Ok(answer) => values.extend(self.opened_answer(name, &answer)),
                Err(failure) => heard = Err(failure),
            }
        }
        let outcome = if values.is_empty() { SharedOutcome::Miss } else { SharedOutcome::Hit };
        self.count(Operation::Claim, heard.as_ref().map(|()| outcome));
        (values, heard)
    }

    /// Keeps `plain` as the value of `entry` for `time`, and gives `lease` back. What a stronger maker
    /// left meanwhile stays.
    ///
    /// # Errors
    ///
    /// Why it is not kept; the lease ends by itself then.
    pub async fn store(
        &mut self,
        entry: Entry<'_>,
        plain: &[u8],
        time: Duration,
        lease: Option<Lease>,
    ) -> Result<(), Failure> {
        let site = Arc::clone(&self.site);
        let name = site.value_name(entry);
        let lease_name = site.lease_name(entry);
        let sealed = site.keyring.seal(&name, plain);
        let sealed = sealed.map_err(|error| Failure::Refused(error.to_string()))?;
        let time = milliseconds(time);
        let (holder, replaces) =
            lease.map(|lease| (lease.holder, lease.replaces)).unwrap_or_default();
        let replaces = if entry.maker == entry.owner { replaces.as_str() } else { ANY };
        let most = limits::MAX_SHARED_VALUE_BYTES.to_string();
        let arguments =
            [&*sealed, time.as_bytes(), holder.as_bytes(), replaces.as_bytes(), most.as_bytes()];
        let keys = [name.as_str(), lease_name.as_str()];
        let stored =
            site.link.ask(&mut self.budget, &name, |it| STORE.run(it, &keys, &arguments)).await;
        self.count(Operation::Store, stored.as_ref().map(|_one| SharedOutcome::Done));
        stored.map(|_one| ())
    }

    /// Keeps `lease` for another [`limits::SHARED_LEASE`]; whether it still is the asker's.
    ///
    /// # Errors
    ///
    /// Why the store does not say.
    pub async fn hold(&mut self, lease: &Lease) -> Result<bool, Failure> {
        let time = milliseconds(limits::SHARED_LEASE);
        let arguments = [lease.holder.as_bytes(), time.as_bytes()];
        self.on_lease(HOLD, lease, &arguments).await
    }

    /// Gives `lease` back: who waits for it makes the entry. If the store does not hear it, the lease
    /// ends by itself.
    pub async fn release(&mut self, lease: Lease) {
        let released = self.on_lease(RELEASE, &lease, &[lease.holder.as_bytes()]).await;
        if let Err(failure) = released {
            tracing::debug!("a lease of the shared cache was not given back: {failure}");
        }
    }

    async fn on_lease(
        &mut self,
        script: Script,
        lease: &Lease,
        arguments: &[&[u8]],
    ) -> Result<bool, Failure> {
        let keys = [lease.name.as_str()];
        let ask = |connection| script.run(connection, &keys, arguments);
        let answer = self.site.link.ask(&mut self.budget, &lease.name, ask).await;
        self.count(Operation::Lease, answer.as_ref().map(|_number| SharedOutcome::Done));
        answer.map(|changed| changed == Answer::Int(1))
    }

    /// Drops the value that was `seen`; one that took its place stays.
    ///
    /// # Errors
    ///
    /// Why the store did not do it.
    pub async fn delete(&mut self, seen: &Seen) -> Result<(), Failure> {
        let keys = [seen.name.as_str()];
        let arguments = [seen.sha1.as_bytes()];
        let ask = |connection| DELETE.run(connection, &keys, &arguments);
        let answer = self.site.link.ask(&mut self.budget, &seen.name, ask).await;
        self.count(Operation::Delete, answer.as_ref().map(|_number| SharedOutcome::Done));
        answer.map(|_number| ())
    }

    fn opened_answer(&self, name: &str, answer: &Answer) -> Option<Value> {
        let Answer::BulkString(value) = answer else { return None };
        self.opened(name, value)
    }

    /// What was sealed as `value` of the entry called `name`; that it can't be opened is said once in a while.
    fn opened(&self, name: &str, value: &[u8]) -> Option<Value> {
        match self.site.keyring.open(name, value) {
            Ok(plain) => {
                let seen = Seen { name: name.to_owned(), sha1: sha1_hex(value) };
                Some(Value { plain, seen })
            }
            Err(why) => {
                self.count(Operation::Claim, Ok(SharedOutcome::Unreadable));
                self.site.link.complain(&format!("an entry is passed over and replaced: {why}"));
                None
            }
        }
    }
}

impl Lease {
    fn new(name: String) -> Result<Self, Failure> {
        let mut holder = [0; 16];
        rand::fill(&mut holder).map_err(|_unspecified| {
            Failure::Refused("the system gave no random bytes".to_owned())
        })?;
        let holder = URL_SAFE_NO_PAD.encode(holder);
        Ok(Self { name, holder, replaces: String::new() })
    }
}

impl Site {
    fn value_name(&self, entry: Entry<'_>) -> String {
        self.name(VALUE, &[entry.owner])
    }

    /// Of the same owner, and so of the same hash slot.
    fn lease_name(&self, entry: Entry<'_>) -> String {
        let maker = self.keyring.first().digest(&[entry.owner, entry.maker]);
        self.name(LEASE, &[entry.owner]) + &maker
    }

    /// The names under which replicas keep the value that seal with another of our keys.
    fn former_names(&self, entry: Entry<'_>) -> Vec<String> {
        let others = self.keyring.others().iter();
        others.map(|key| self.name_by(&key.digest(&[entry.owner]), VALUE)).collect()
    }
}

/// What is there under each of `names`, at once: they may be of several servers.
async fn fetch_all(link: &Link, budget: Budget, names: &[String]) -> Vec<Result<Answer, Failure>> {
    let most = limits::MAX_SHARED_VALUE_BYTES.to_string();
    let most = [most.as_bytes()];
    join_all(names.iter().map(|name| async move {
        let keys = [name.as_str()];
        link.ask(&mut { budget }, name, |it| FETCH.run(it, &keys, &most)).await
    }))
    .await
}

/// As Redis takes it; never zero, which it refuses.
fn milliseconds(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}
