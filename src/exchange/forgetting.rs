//! Forgetting tokens: here, and on all replicas.
//!
//! Here at once; the others are told by a notice of the shared store, which this one hears as well.
//! Decides how the notice is written and what is answered to whoever asked; which tokens it is about,
//! and what holds from then on, is in `forgotten.rs`.

use std::sync::Arc;

use super::exchanger::Exchanger;
use super::forgotten::{About, Forgetting, Mark, NameDigest, Nonce};
use super::terms::NAME_BYTES;
use crate::clock::UnixTime;
use crate::shared_store::{Audience, Failure, Heard, Notice, Part};

/// The form of a notice.
const VERSION: u8 = 1;

/// What became of a forgetting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgot {
    /// How many tokens were dropped from this replica's memory.
    pub dropped: usize,
    /// Whether other replicas hear of it.
    pub others: Others,
}

/// Whether other replicas hear of a forgetting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Others {
    /// There is no shared store: each has what it got itself.
    ShareNothing,
    /// They are told.
    Told,
    /// They may not be, for this reason.
    NotTold(Failure),
}

/// A forgetting as all replicas are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    nonce: Nonce,
    at: UnixTime,
    upstream: Option<NameDigest>,
    user: Option<NameDigest>,
}

impl Exchanger {
    /// Forgets what `forgetting` is about: no replica uses a token that was asked for before.
    ///
    /// # Cancel safety
    ///
    /// What was begun is done; dropping the future gives up the answer.
    pub async fn forget_tokens(self: &Arc<Self>, forgetting: &Forgetting) -> Forgot {
        let (upstream, user) = forgetting.digests();
        let about = self.tagger.about((upstream, user));
        let nonce: Nonce = fastrand::u128(..).to_be_bytes();
        let told = Told { nonce, at: self.clock.now(), upstream, user };
        let exchanger = Arc::clone(self);
        let work = tokio::spawn(async move {
            let mark = Mark { nonce, at: told.at, position: None };
            let dropping = Arc::clone(&exchanger);
            let dropped = move || dropping.drop_marked([(about, mark)]);
            let dropped = tokio::task::spawn_blocking(dropped).await.unwrap_or_default();
            let others = match exchanger.store.announce(&told.to_bytes()).await {
                None => Others::ShareNothing,
                Some(Err(failure)) => Others::NotTold(failure),
                Some(Ok(position)) => {
                    exchanger.cache.told(about, nonce, position);
                    Others::Told
                }
            };
            Forgot { dropped, others }
        });
        work.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a forgetting was not done");
            let failure = Failure::Refused("the task of it ended".to_owned());
            Forgot { dropped: 0, others: Others::NotTold(failure) }
        })
    }

    /// Remembers `marks`, and drops from memory what they are about; how many tokens that was.
    fn drop_marked(&self, marks: impl IntoIterator<Item = (About, Mark)>) -> usize {
        let dropped = self.cache.drop_marked(marks);
        self.metrics.token_cache_entries(self.cache.len());
        dropped
    }
}

impl Audience for Exchanger {
    fn reached(&self) {
        self.erasures.again();
    }

    fn hear(&self, heard: Heard) {
        let Heard { notices, until, part } = heard;
        let now = self.clock.now();
        let marks = notices.iter().filter_map(|notice| {
            let told = Told::read(notice)?;
            let about = self.tagger.about((told.upstream, told.user));
            // The other's clock may be ahead of ours.
            let at = told.at.min(now);
            Some((about, Mark { nonce: told.nonce, at, position: Some(notice.position) }))
        });
        let marks: Vec<_> = marks.collect();
        // What there was before these is not known, and so it was about everything.
        let before = (part == Part::Newest).then(|| {
            let first = marks.first().map(|(_, mark)| *mark);
            let unread = Mark { nonce: until.to_bytes(), at: now, position: Some(until) };
            (About::default(), first.unwrap_or(unread))
        });
        let dropped = self.drop_marked(before.into_iter().chain(marks));
        // Only now: who has heard of them has dropped what they are about.
        self.cache.heard(until, part);
        if dropped > 0 {
            tracing::info!(
                "{dropped} outbound tokens were forgotten, as another replica was asked to"
            );
        }
    }
}

impl Told {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.nonce);
        bytes.extend_from_slice(&self.at.0.to_be_bytes());
        for name in [self.upstream, self.user] {
            bytes.push(u8::from(name.is_some()));
            bytes.extend_from_slice(&name.unwrap_or_default());
        }
        bytes
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (at, rest) = rest.split_first_chunk()?;
        let (upstream, rest) = name(rest)?;
        let (user, rest) = name(rest)?;
        let told = Self { nonce: *nonce, at: UnixTime(u64::from_be_bytes(*at)), upstream, user };
        (version == VERSION && rest.is_empty()).then_some(told)
    }

    /// What `notice` says; one of another form is told of in the log.
    fn read(notice: &Notice) -> Option<Self> {
        let told = Self::of_bytes(&notice.plain);
        if told.is_none() {
            tracing::warn!(
                "a notice of another version of this program is passed over: what it says is to be forgotten may stay here"
            );
        }
        told
    }
}

fn name(bytes: &[u8]) -> Option<(Option<NameDigest>, &[u8])> {
    let (&is_there, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_first_chunk::<NAME_BYTES>()?;
    match is_there {
        0 => Some((None, rest)),
        1 => Some((Some(*name), rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
