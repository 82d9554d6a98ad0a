//! Entries of the store, and who may make them: values that are sealed, and leases.
//!
//! An entry has an owner, and is made by somebody: a token by the exchange that gives it. Whoever
//! finds none, and gets the lease, makes it; a lease that is not renewed ends by itself, so that a
//! maker who died holds nobody up. All that has to be looked at and changed in one step is one script.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::{join, join_all};
use redis::{Cmd, RedisResult, Value as Answer};
use tokio::time::Instant;

use super::budget::Budget;
use super::connection::Connection;
use super::failure::Failure;
use super::link::Link;
use super::script::{Script, sha1_hex};
use super::{Session, Site};
use crate::limits;
use crate::observe::shared_cache::{Operation, SharedOutcome};

/// Kinds of names.
const VALUE: &str = "token";
const LEASE: &str = "lease";

/// Gives the value, unless it is the one of no use; else tries to take the lease. What has no end, or
/// a later one than a lease has, or is no text, is none: nobody waits for it.
pub(super) const CLAIM: Script = Script::new(
    "local value = redis.call('GET', KEYS[1])\n\
     if value and redis.sha1hex(value) ~= ARGV[3] then return {'value', value} end\n\
     if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {'yours'} end\n\
     local left = redis.call('PTTL', KEYS[2])\n\
     local holder = redis.pcall('GET', KEYS[2])\n\
     if type(holder) == 'string' and left >= 0 and left <= tonumber(ARGV[2]) then\n\
     return {'busy', holder} end\n\
     redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])\n\
     return {'yours'}",
);

/// Keeps a value, and gives back the lease of whoever made it.
pub(super) const STORE: Script = Script::new(
    "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])\n\
     if redis.call('GET', KEYS[2]) == ARGV[3] then redis.call('DEL', KEYS[2]) end\n\
     return 1",
);

/// Keeps a lease from ending.
const HOLD: Script = Script::new(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n\
     return redis.call('PEXPIRE', KEYS[1], ARGV[2])",
);

/// Gives a lease back.
const RELEASE: Script = Script::new(
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n\
     return redis.call('DEL', KEYS[1])",
);

/// Drops a value that is still the one that was seen.
pub(super) const DELETE: Script = Script::new(
    "local value = redis.call('GET', KEYS[1])\n\
     if not value or redis.sha1hex(value) ~= ARGV[1] then return 0 end\n\
     return redis.call('DEL', KEYS[1])",
);

/// An entry, and who makes it.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// Whose it is: names the value.
    pub owner: &'a [u8],
    /// By what it is made: names the lease, beside the owner.
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
}

/// Who has a lease, as told to those who do not: tells one from another.
#[derive(PartialEq, Eq)]
pub struct Holder(Vec<u8>);

/// What is said of an entry.
pub enum Claim {
    /// It is there.
    Found(Value),
    /// It is not, and the asker is the one to make it.
    Yours(Lease),
    /// It is not, and this other one is making it.
    Busy(Holder),
}

/// What [`CLAIM`] says.
enum Claimed {
    Found(Vec<u8>),
    Yours,
    Busy(Holder),
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

    /// The value of `entry`, or the right to make it. One that is of no use to the asker is passed
    /// over if it is named.
    ///
    /// # Errors
    ///
    /// Why the store does not say.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a lease behind, which ends by itself.
    pub async fn claim(
        &mut self,
        entry: Entry<'_>,
        useless: Option<&Seen>,
    ) -> Result<Claim, Failure> {
        let claimed = self.claim_or_pass_over(entry, useless).await;
        let outcome = claimed.as_ref().map(|claim| match claim {
            Claim::Found(_) => SharedOutcome::Hit,
            Claim::Yours(_) => SharedOutcome::Miss,
            Claim::Busy(_) => SharedOutcome::Busy,
        });
        self.count(Operation::Claim, outcome);
        claimed
    }

    async fn claim_or_pass_over(
        &mut self,
        entry: Entry<'_>,
        useless: Option<&Seen>,
    ) -> Result<Claim, Failure> {
        let site = Arc::clone(&self.site);
        let name = site.value_name(entry);
        let lease = Lease::new(site.lease_name(entry))?;
        let former = if useless.is_none() { site.former_names(entry) } else { Vec::new() };
        let passed_over = useless.filter(|seen| seen.name == name);
        let mut passed_over = passed_over.map(|seen| seen.sha1.clone()).unwrap_or_default();
        let (claimed, values) = {
            let began = Instant::now();
            let (mut budget, all) = (self.budget, self.budget);
            let ask = |connection| ask_one(connection, [&name, &lease.name], &lease, &passed_over);
            let claim = site.link.ask(&mut budget, &name, ask);
            let both = join(claim, get_all(&site.link, all, &former)).await;
            self.budget = all.since(began);
            both
        };
        let mut claimed = Claimed::of(claimed?)?;
        if let Claimed::Found(value) = claimed {
            match self.opened(&name, &value) {
                Some(value) => return Ok(Claim::Found(value)),
                // It is no value to us, and so may be replaced.
                None => passed_over = sha1_hex(&value),
            }
            let ask = |connection| ask_one(connection, [&name, &lease.name], &lease, &passed_over);
            claimed = Claimed::of(site.link.ask(&mut self.budget, &name, ask).await?)?;
        }
        // One that can't be asked for is one that is not there.
        let mut former = former.iter().zip(values);
        let found = former.find_map(|(name, value)| self.opened_answer(name, &value.ok()?));
        match (claimed, found) {
            (Claimed::Found(value), _) => {
                let value = self.opened(&name, &value).ok_or_else(Failure::strange)?;
                Ok(Claim::Found(value))
            }
            (Claimed::Yours, Some(value)) => {
                self.release(lease).await;
                Ok(Claim::Found(value))
            }
            (Claimed::Busy(_), Some(value)) => Ok(Claim::Found(value)),
            (Claimed::Yours, None) => Ok(Claim::Yours(lease)),
            (Claimed::Busy(holder), None) => Ok(Claim::Busy(holder)),
        }
    }

    /// The values of `entry`, of which there may be one for each key.
    ///
    /// # Errors
    ///
    /// Why the store says of none of them whether it is there.
    pub async fn find(&mut self, entry: Entry<'_>) -> Result<Vec<Value>, Failure> {
        let site = Arc::clone(&self.site);
        let mut names = site.former_names(entry);
        names.insert(0, site.value_name(entry));
        let began = Instant::now();
        let all = self.budget;
        let answers = get_all(&site.link, all, &names).await;
        self.budget = all.since(began);
        let mut failed = None;
        let mut values = Vec::new();
        for (name, answer) in names.iter().zip(answers) {
            match answer {
                Ok(answer) => values.extend(self.opened_answer(name, &answer)),
                Err(failure) => failed = Some(failure),
            }
        }
        let found = match failed {
            Some(failure) if values.is_empty() => Err(failure),
            Some(_) | None => Ok(values),
        };
        let outcome = |found: &Vec<Value>| {
            if found.is_empty() { SharedOutcome::Miss } else { SharedOutcome::Hit }
        };
        self.count(Operation::Claim, found.as_ref().map(outcome));
        found
    }

    /// Keeps `plain` as the value of `entry` for `time`, and gives `lease` back.
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
        let holder = lease.map(|lease| lease.holder).unwrap_or_default();
        let arguments = [&*sealed, time.as_bytes(), holder.as_bytes()];
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
        Ok(Self { name, holder: URL_SAFE_NO_PAD.encode(holder) })
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

impl Claimed {
    fn of(answer: Answer) -> Result<Self, Failure> {
        let Answer::Array(parts) = answer else { return Err(Failure::strange()) };
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next()) {
            (Some(Answer::BulkString(word)), Some(Answer::BulkString(value)))
                if word == b"value" =>
            {
                Ok(Self::Found(value))
            }
            (Some(Answer::BulkString(word)), None) if word == b"yours" => Ok(Self::Yours),
            (Some(Answer::BulkString(word)), Some(Answer::BulkString(holder)))
                if word == b"busy" =>
            {
                Ok(Self::Busy(Holder(holder)))
            }
            _ => Err(Failure::strange()),
        }
    }
}

async fn ask_one(
    connection: Connection,
    keys: [&str; 2],
    lease: &Lease,
    passed_over: &str,
) -> RedisResult<Answer> {
    let time = milliseconds(limits::SHARED_LEASE);
    let arguments = [lease.holder.as_bytes(), time.as_bytes(), passed_over.as_bytes()];
    CLAIM.run(connection, &keys, &arguments).await
}

/// What is there under each of `names`, at once: they may be of several servers.
async fn get_all(link: &Link, budget: Budget, names: &[String]) -> Vec<Result<Answer, Failure>> {
    join_all(names.iter().map(|name| async move {
        let get = |mut connection: Connection| async move {
            connection.ask(Cmd::new().arg("GET").arg(name)).await
        };
        link.ask(&mut { budget }, name, get).await
    }))
    .await
}

/// As Redis takes it; never zero, which it refuses.
fn milliseconds(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}
