//! `rate_limit` of a route.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::super::super::file::{self, Auth, LimitBy};
use super::super::super::spanned::Spanned;
use super::Resolver;
use crate::rate_limit::{Allowance, By, RateLimit, Reach, Unmeasurable};
use crate::snapshot::Snapshot;

/// The limits of the previous configuration, by route.
pub(super) fn limits_of(
    previous: Option<&Snapshot>,
) -> HashMap<&str, &Arc<RateLimit>, RandomState> {
    let routes = previous.into_iter().flat_map(|previous| previous.routes.iter());
    let limits = routes.map(|route| Some((&**route.metrics.name(), route.rate_limit.as_ref()?)));
    limits.flatten().collect()
}

impl Resolver<'_, '_> {
    /// The route's limit: that of the previous configuration with what is used of it, if it did
    /// not change.
    pub(super) fn rate_limit(
        &mut self,
        route: &Spanned<file::Route>,
        name: &str,
    ) -> Option<Arc<RateLimit>> {
        let limit = route.rate_limit.as_ref()?;
        let is_open = matches!(route.auth.value, Auth::None);
        let by = match limit.by.as_ref() {
            None if is_open => By::Ip,
            None => By::User,
            Some(by) => match by.value {
                LimitBy::Ip => By::Ip,
                LimitBy::Route => By::Route,
                LimitBy::User | LimitBy::Client if is_open => {
                    let message = "an open route does not know who its callers are";
                    let hint = "write `by: ip`, or `by: route` for all callers together; or ask for a token";
                    self.finding.error(by.place, message, hint);
                    return None;
                }
                LimitBy::User => By::User,
                LimitBy::Client => By::Client,
            },
        };
        let reach = match &limit.shared {
            Some(shared) if shared.value => {
                // One that is there and could not be read has its own problem, which was said.
                let has_problems =
                    self.finding.names_shared_cache && self.finding.problems.refuse();
                if self.file.cache.redis.is_none() && !has_problems {
                    let message = "replicas can't count together: there is no `cache.redis`";
                    let hint = "name the Redis that they share under `cache.redis`, or write `shared: false`";
                    self.finding.error(shared.place, message, hint);
                    return None;
                }
                Reach::Fleet
            }
            Some(_) | None => Reach::Replica,
        };
        let requests = limit.requests.value.0;
        let burst = limit.burst.as_ref().map_or(requests, |burst| burst.value.0);
        let allowance = Allowance { requests, per: limit.per.0, burst, by, reach };
        if let Some(limit) = self.limits.get(name)
            && limit.allowance() == allowance
        {
            return Some(Arc::clone(limit));
        }
        match RateLimit::new(allowance, name, &self.finding.lasting.shared_store) {
            Ok(limit) => Some(Arc::new(limit)),
            Err(error) => {
                let (place, hint) = match error {
                    Unmeasurable::TooFast => {
                        (limit.requests.place, "write fewer `requests`, or leave the limit out")
                    }
                    Unmeasurable::TooSlow => (
                        limit.burst.as_ref().unwrap_or(&limit.requests).place,
                        "what is used is remembered in memory only: write a shorter `per`, or a smaller `burst`",
                    ),
                };
                self.finding.error(place, error.to_string(), hint);
                None
            }
        }
    }
}
