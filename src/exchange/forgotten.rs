//! Which tokens were forgotten, and what an exchange must know of that.
//!
//! A forgetting is about all tokens, those of an upstream, those of a user, or of a user at an
//! upstream. It drops what is in memory once; what it leaves behind is a mark, by which an exchange
//! that was under way does not put its token back, and tokens of the shared store that were asked
//! for before it are not taken. Pure: digests, numbers and times. Marks are bounded: those that find no
//! room become one mark about all tokens, so that more is refused then, and never less.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher as _;
use std::num::NonZeroU64;

use super::terms::{Digest, NAME_BYTES};
use crate::clock::UnixTime;
use crate::identity::Identity;
use crate::limits;
use crate::shared_store::{Part, Position};

/// Stands for an upstream or a user among replicas.
pub(super) type NameDigest = [u8; NAME_BYTES];

/// Whose tokens are to be forgotten, as the access log says who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Of a user of a tenant.
    OfTenant {
        /// `tid`.
        tenant: String,
        /// `oid`, or `sub` where the tokens have no `oid`.
        oid: String,
    },
    /// Of a user of a provider that has no tenants.
    OfProvider {
        /// Its name in the routes file.
        provider: String,
        /// `oid`, or `sub` where the tokens have no `oid`.
        user: String,
    },
}

/// Which tokens are to be forgotten: all, unless it says which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgetting {
    /// Those of this upstream only.
    pub upstream: Option<String>,
    /// Those of this user only.
    pub whose: Option<Whose>,
}

/// What a token in memory has of its upstream and its user: numbers that mean nothing to anybody
/// else, and rarely the same for two; then too much is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tags {
    upstream: NonZeroU64,
    /// None for a token in the gateway's own name.
    user: Option<NonZeroU64>,
}

/// Which tokens a mark is about: those with these tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct About {
    upstream: Option<NonZeroU64>,
    user: Option<NonZeroU64>,
}

/// Makes tags, by a key of this process.
#[derive(Default)]
pub(super) struct Tagger(RandomState);

/// Tells one forgetting from others, on all replicas.
pub(super) type Nonce = [u8; 16];

/// One forgetting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) nonce: Nonce,
    /// When it was asked for.
    pub(super) at: UnixTime,
    /// Its place among those that all replicas are told of; `None` as long as they are not.
    pub(super) position: Option<Position>,
}

/// What is known of forgettings at a moment.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    number: u64,
    /// How far all that replicas are told of was heard.
    pub(super) heard: Position,
}

/// What was forgotten.
#[derive(Default)]
pub(super) struct Forgotten {
    marks: HashMap<About, (u64, Mark)>,
    by_age: BTreeMap<u64, About>,
    /// The number of the next mark.
    next: u64,
    heard: Position,
}

impl Whose {
    fn digest(&self) -> NameDigest {
        match self {
            // GUIDs, whose case is nothing.
            Self::OfTenant { tenant, oid } => of_tenant(tenant, oid),
            Self::OfProvider { provider, user } => of_provider(provider, user),
        }
    }
}

impl Forgetting {
    /// What stands for the upstream and for the user among replicas.
    pub(super) fn digests(&self) -> (Option<NameDigest>, Option<NameDigest>) {
        let upstream = self.upstream.as_deref();
        (upstream.map(digest_of_upstream), self.whose.as_ref().map(Whose::digest))
    }
}

impl Tagger {
    /// The tags of a token for `upstream`, of the user that `caller` is; of nobody without one.
    pub(super) fn tags(&self, upstream: &str, caller: Option<&Identity>) -> Tags {
        self.tags_at(&digest_of_upstream(upstream), caller)
    }

    /// The same where what stands for the upstream is known.
    pub(super) fn tags_at(&self, upstream: &NameDigest, caller: Option<&Identity>) -> Tags {
        let user = caller.and_then(|caller| {
            let user = caller.user.as_deref()?;
            Some(match &caller.tenant {
                Some(tenant) => of_tenant(tenant, user),
                None => of_provider(&caller.provider, user),
            })
        });
        Tags { upstream: self.tag(upstream), user: user.map(|user| self.tag(&user)) }
    }

    /// Which tokens these digests are about.
    pub(super) fn about(
        &self,
        (upstream, user): (Option<NameDigest>, Option<NameDigest>),
    ) -> About {
        let tag = |digest: Option<NameDigest>| digest.map(|digest| self.tag(&digest));
        About { upstream: tag(upstream), user: tag(user) }
    }

    fn tag(&self, digest: &NameDigest) -> NonZeroU64 {
        NonZeroU64::new(self.0.hash_one(digest)).unwrap_or(NonZeroU64::MIN)
    }
}

impl About {
    const ALL: Self = Self { upstream: None, user: None };
}

impl Tags {
    /// All marks that can be about it.
    pub(super) fn abouts(self) -> [About; 4] {
        let (upstream, user) = (Some(self.upstream), self.user);
        [
            About::ALL,
            About { upstream, user: None },
            About { upstream: None, user },
            About { upstream, user },
        ]
    }
}

impl Mark {
    /// The two as one, of which `older` was there first: who heard of the newer one asked behind both.
    fn and_older(self, older: &Self) -> Self {
        let position =
            self.position.map(|position| older.position.unwrap_or(position).max(position));
        Self { at: self.at.max(older.at), position, ..self }
    }
}

impl Forgotten {
    /// What is known now.
    pub(super) fn moment(&self) -> Moment {
        Moment { number: self.next, heard: self.heard }
    }

    /// Remembers `mark`, and says whether it is another than those that were known, so that tokens have
    /// to be dropped.
    pub(super) fn add(&mut self, about: About, mark: Mark) -> bool {
        let known = self.marks.get(&about).copied();
        if let Some((number, known)) = known {
            if known.nonce == mark.nonce {
                let position = known.position.max(mark.position);
                self.marks.insert(about, (number, Mark { position, ..known }));
                return false;
            }
            // One that was heard before. What is asked for here is always another.
            let is_heard = mark.position.is_some() && mark.position <= known.position;
            if is_heard && mark.at <= known.at {
                return false;
            }
            self.by_age.remove(&number);
            self.put(about, mark.and_older(&known));
        } else {
            self.put(about, mark);
        }
        if about == About::ALL {
            self.merge_all();
        }
        while self.marks.len() > limits::MAX_FORGETTINGS && self.merge_oldest() {}
        true
    }

    /// Remembers that all replicas are told of the forgetting called `nonce`.
    pub(super) fn told(&mut self, about: About, nonce: Nonce, position: Position) {
        if let Some((_, mark)) = self.marks.get_mut(&about)
            && mark.nonce == nonce
        {
            mark.position = mark.position.max(Some(position));
            self.heard = self.heard.max(position);
        }
    }

    /// Remembers how far it was heard what replicas are told of: no further than that if it was all.
    pub(super) fn heard(&mut self, until: Position, part: Part) {
        self.heard = match part {
            Part::All | Part::Newest => until,
            Part::Next => self.heard.max(until),
        };
    }

    /// Whether tokens with `tags` were forgotten after `moment`.
    pub(super) fn since(&self, moment: Moment, tags: Tags) -> bool {
        self.next != moment.number
            && tags.abouts().iter().any(|about| {
                self.marks.get(about).is_some_and(|(number, _)| *number >= moment.number)
            })
    }

    /// Whether a token with `tags` was forgotten that another replica asked for at `asked_at`, which had
    /// heard of forgettings until `heard` then.
    pub(super) fn holds_back(&self, tags: Tags, asked_at: UnixTime, heard: Position) -> bool {
        let skew = limits::SHARED_CLOCK_SKEW;
        let by = |mark: &Mark| {
            // Clocks differ; where they don't tell, it counts what the other knew.
            let is_later = asked_at > mark.at.plus(skew);
            let is_earlier = asked_at.plus(skew) < mark.at;
            let knew = mark.position.is_some_and(|position| heard >= position);
            is_earlier || !(is_later || knew)
        };
        tags.abouts().iter().any(|about| self.marks.get(about).is_some_and(|(_, mark)| by(mark)))
    }

    fn put(&mut self, about: About, mark: Mark) {
        self.by_age.insert(self.next, about);
        self.marks.insert(about, (self.next, mark));
        self.next += 1;
    }

    /// The newest mark is about all: the others say nothing more.
    fn merge_all(&mut self) {
        let Some((number, mut all)) = self.marks.remove(&About::ALL) else { return };
        for (_, (_, mark)) in self.marks.drain() {
            all = all.and_older(&mark);
        }
        self.marks.insert(About::ALL, (number, all));
        self.by_age.retain(|other, _| *other == number);
    }

    /// Makes one mark about all of the oldest two; whether that made room.
    fn merge_oldest(&mut self) -> bool {
        let oldest = self.by_age.iter().find(|(_, about)| **about != About::ALL);
        let Some((&number, &about)) = oldest else { return false };
        self.by_age.remove(&number);
        let Some((_, mark)) = self.marks.remove(&about) else { return false };
        let all = match self.marks.remove(&About::ALL) {
            Some((older, all)) => {
                self.by_age.remove(&older);
                // Neither is known to be the newer one, so who knew of both is believed.
                let position = mark.position.and(all.position);
                (older.max(number), Mark { position, ..all }.and_older(&mark))
            }
            None => (number, mark),
        };
        self.by_age.insert(all.0, About::ALL);
        self.marks.insert(About::ALL, all);
        true
    }
}

pub(super) fn digest_of_upstream(name: &str) -> NameDigest {
    digest("upstream v1", &[name])
}

/// GUIDs, whose case is nothing.
fn of_tenant(tenant: &str, oid: &str) -> NameDigest {
    digest("user of a tenant v1", &[&tenant.to_ascii_lowercase(), &oid.to_ascii_lowercase()])
}

fn of_provider(provider: &str, user: &str) -> NameDigest {
    digest("user of a provider v1", &[provider, user])
}

fn digest(purpose: &str, parts: &[&str]) -> NameDigest {
    let mut digest = Digest::new("forgotten");
    digest.add(purpose);
    digest.add_all(parts);
    digest.finish()
}

#[cfg(test)]
pub(super) mod tests;
