//! `rate_limit` of a route.

use std::sync::Arc;

use super::super::super::file::{self, Auth, LimitBy};
use super::super::super::spanned::Spanned;
use super::Resolver;
use crate::rate_limit::{Allowance, By, RateLimit, Reach, Unmeasurable};
use crate::snapshot::Route;

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
        let previous = self.finding.previous.and_then(|previous| {
            let named = |route: &&Route| **route.metrics.name() == *name;
            let limit = previous.routes.iter().find(named)?.rate_limit.as_ref()?;
            (limit.allowance() == allowance).then(|| Arc::clone(limit))
        });
        if previous.is_some() {
            return previous;
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
