//! Who makes an entry: whoever asks gets the value that is there, or the right to make it, or hears
//! who has that.

use std::sync::Arc;

use futures_util::future::join;
use redis::Value as Answer;
use tokio::time::Instant;

use super::scripts::CLAIM;
use super::{Entry, Lease, Seen, Value, fetch_all, milliseconds};
use crate::limits;
use crate::observe::shared_cache::{Operation, SharedOutcome};
use crate::shared_store::script::sha1_hex;
use crate::shared_store::{Failure, Session};

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

/// A lease that is asked for.
struct Taking {
    lease: Lease,
    /// Whether it is the asker's, or may be.
    is_taken: bool,
}

/// What came of it under all names.
enum Answered {
    Found(Value),
    Yours,
    Busy(Holder),
}

impl Session {
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
        let mut taking =
            Taking { lease: Lease::new(self.site.lease_name(entry))?, is_taken: false };
        let answered = self.claim_by(&mut taking, entry, useless).await;
        let outcome = answered.as_ref().map(|answered| match answered {
            Answered::Found(_) => SharedOutcome::Hit,
            Answered::Yours => SharedOutcome::Miss,
            Answered::Busy(_) => SharedOutcome::Busy,
        });
        self.count(Operation::Claim, outcome);
        let Taking { lease, is_taken } = taking;
        let claimed = match answered {
            Ok(Answered::Yours) => return Ok(Claim::Yours(lease)),
            Ok(Answered::Busy(holder)) => return Ok(Claim::Busy(holder)),
            Ok(Answered::Found(value)) => Ok(Claim::Found(value)),
            Err(failure) => Err(failure),
        };
        if is_taken {
            // Nobody is to wait for one who does not make it, and this request not for that.
            let mut session = self.beside();
            tokio::spawn(async move { session.release(lease).await });
        }
        claimed
    }

    async fn claim_by(
        &mut self,
        taking: &mut Taking,
        entry: Entry<'_>,
        useless: Option<&Seen>,
    ) -> Result<Answered, Failure> {
        let site = Arc::clone(&self.site);
        let name = site.value_name(entry);
        if let Some(seen) = useless.filter(|seen| seen.name == name) {
            taking.lease.replaces.clone_from(&seen.sha1);
        }
        let former = if useless.is_none() { site.former_names(entry) } else { Vec::new() };
        let (began, whole) = (Instant::now(), self.budget);
        let (claimed, values) =
            join(self.take(taking, &name), fetch_all(&site.link, whole, &former)).await;
        self.budget = whole.since(began);
        let claimed = match claimed? {
            Claimed::Found(value) => {
                if let Some(value) = self.opened(&name, &value) {
                    return Ok(Answered::Found(value));
                }
                // It is no value to us, and so may be replaced.
                taking.lease.replaces = sha1_hex(&value);
                self.take(taking, &name).await?
            }
            other @ (Claimed::Yours | Claimed::Busy(_)) => other,
        };
        // One that can't be asked for is one that is not there.
        let mut former = former.iter().zip(values);
        let found = former.find_map(|(name, value)| self.opened_answer(name, &value.ok()?));
        match (claimed, found) {
            (Claimed::Found(value), _) => {
                self.opened(&name, &value).map(Answered::Found).ok_or_else(Failure::strange)
            }
            (Claimed::Yours | Claimed::Busy(_), Some(value)) => Ok(Answered::Found(value)),
            (Claimed::Yours, None) => Ok(Answered::Yours),
            (Claimed::Busy(holder), None) => Ok(Answered::Busy(holder)),
        }
    }

    /// Asks for the value called `name`, else for the lease.
    async fn take(&mut self, taking: &mut Taking, name: &str) -> Result<Claimed, Failure> {
        let Lease { name: lease, holder, replaces } = &taking.lease;
        let time = milliseconds(limits::SHARED_LEASE);
        let most = limits::MAX_SHARED_VALUE_BYTES.to_string();
        let arguments = [holder, &time, replaces, &most].map(String::as_bytes);
        let keys = [name, lease.as_str()];
        let ask = |connection| CLAIM.run(connection, &keys, &arguments);
        let claimed = self.site.link.ask(&mut self.budget, name, ask).await;
        let claimed = claimed.and_then(Claimed::of);
        taking.is_taken = match &claimed {
            Ok(Claimed::Found(_) | Claimed::Busy(_)) | Err(Failure::Away) => false,
            // It may have been, and the answer was lost.
            Ok(Claimed::Yours) | Err(_) => true,
        };
        claimed
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
