//! Dropping the tokens that are forgotten, and keeping them out.
//!
//! The mark comes first, under the lock by which tokens are put in: from then on no exchange that was
//! under way puts one back. What is there is then looked through without that lock, and dropped a few
//! at a time, so that nobody waits for long; what came behind the mark stays.

use std::collections::HashSet;

use super::super::forgotten::{About, Mark, Moment, Nonce, Tags};
use super::super::terms::Key;
use super::TokenCache;
use crate::clock::UnixTime;
use crate::limits;
use crate::shared_store::{Part, Position};

impl TokenCache {
    /// What is known of forgettings now.
    pub(in crate::exchange) fn moment(&self) -> Moment {
        self.lock().forgotten.moment()
    }

    /// Whether tokens with `tags` were forgotten after `moment`.
    pub(in crate::exchange) fn was_forgotten_since(&self, moment: Moment, tags: Tags) -> bool {
        self.lock().forgotten.since(moment, tags)
    }

    /// Whether a token with `tags` was forgotten that another replica asked for at `asked_at`, which had
    /// heard of forgettings until `heard` then.
    pub(in crate::exchange) fn is_forgotten(
        &self,
        tags: Tags,
        asked_at: UnixTime,
        heard: Position,
    ) -> bool {
        self.lock().forgotten.holds_back(tags, asked_at, heard)
    }

    /// All replicas are told of the forgetting called `nonce`, at `position`.
    pub(in crate::exchange) fn told(&self, about: About, nonce: Nonce, position: Position) {
        self.lock().forgotten.told(about, nonce, position);
    }

    /// A `part` of what replicas are told of was heard, until there.
    pub(in crate::exchange) fn heard(&self, until: Position, part: Part) {
        self.lock().forgotten.heard(until, part);
    }

    /// Remembers `marks`, and drops the tokens that those are about that were not known; how many that
    /// were.
    pub(in crate::exchange) fn drop_marked(
        &self,
        marks: impl IntoIterator<Item = (About, Mark)>,
    ) -> usize {
        let mut abouts = HashSet::new();
        let behind = {
            let mut order = self.lock();
            for (about, mark) in marks {
                if order.forgotten.add(about, mark) {
                    abouts.insert(about);
                }
            }
            order.next_serial
        };
        if abouts.is_empty() {
            return 0;
        }
        let is_meant = |tags: Tags| tags.abouts().iter().any(|about| abouts.contains(about));
        let found = self.tokens.iter().filter(|it| it.serial < behind && is_meant(it.tags));
        let keys: Vec<Key> = found.map(|entry| *entry.key()).collect();
        let mut dropped = 0;
        for keys in keys.chunks(limits::FORGOTTEN_AT_ONCE) {
            let mut order = self.lock();
            for key in keys {
                let removed = self.tokens.remove_if(key, |_, entry| entry.serial < behind);
                if let Some((_, entry)) = removed {
                    order.remove(&entry);
                    dropped += 1;
                }
            }
        }
        dropped
    }
}
