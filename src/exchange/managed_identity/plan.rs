//! `managed_identity` of an upstream or route, resolved: the tokens that requests get by it.
//!
//! One token serves all callers: it is the gateway's own, and ends with nobody's. It is kept
//! with the others, and asked for by one at a time, for an upstream.

use std::sync::Arc;

use tokio::time::{Instant, timeout};

use super::super::advice::Class;
use super::super::exchanger::Obtained;
use super::super::failure::ExchangeError;
use super::super::shared::Sought;
use super::super::terms::Key;
use super::super::trial::Told;
use super::super::{Exchanger, UpstreamCredential};
use super::{ManagedIdentity, PROVIDER};
use crate::clock::UnixTime;
use crate::limits;
use crate::observe::handles::UpstreamMetrics;
use crate::observe::metrics::CacheResult;
use crate::rejection::Rejection;
use crate::shared_store::Waited;

/// The end of a token that is swapped for none.
const NEVER: UnixTime = UnixTime(u64::MAX);

/// How an upstream's token is had by a managed identity.
pub struct ManagedIdentityPlan {
    identity: ManagedIdentity,
    resource: String,
    upstream: Arc<str>,
    key: Key,
}

impl ManagedIdentityPlan {
    /// Tokens of `identity` for `resource`, which is written without `/.default`, for requests
    /// to `upstream` and no other.
    pub fn new(identity: ManagedIdentity, resource: String, upstream: Arc<str>) -> Self {
        let [host, endpoint, kind, id] = identity.parts();
        let parts = [host, endpoint, kind, id, &resource, &upstream];
        let key = Key::of("managed identity v1", &parts);
        Self { identity, resource, upstream, key }
    }

    /// The upstream that it is for.
    pub fn upstream(&self) -> &Arc<str> {
        &self.upstream
    }

    /// What the tokens are for.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Has the machine give a token, and drops it: for `check --online`.
    ///
    /// # Errors
    ///
    /// Why it gives none, and what to do.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the call.
    pub async fn try_out(&self) -> Result<(), Told> {
        let outcome = self.identity.token(&self.resource, &self.upstream).await;
        outcome.map(drop).map_err(|error| Told::from(&*error))
    }

    /// The credential for a request to `upstream`, whose `metrics` count it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up waiting; a call that it started goes on.
    pub(in crate::exchange) async fn credential(
        self: &Arc<Self>,
        exchanger: &Arc<Exchanger>,
        upstream: &Arc<str>,
        metrics: &UpstreamMetrics,
    ) -> Result<UpstreamCredential, Rejection> {
        if self.upstream != *upstream {
            return Err(Rejection::internal("a token of one upstream was asked for another"));
        }
        let bound = |obtained| UpstreamCredential::token(upstream, self.key, None, obtained);
        if let Some(at_hand) = exchanger.at_hand(&self.key, NEVER, metrics, Waited::default()) {
            return Ok(bound(at_hand));
        }
        let began = Instant::now();
        let call = || {
            let plan = Arc::clone(self);
            async move { plan.identity.token(&plan.resource, &plan.upstream).await }
        };
        let provider = Arc::from(PROVIDER);
        let tags = exchanger.tags(upstream, None);
        let (key, flight) = (self.key, self.key);
        let sought = Sought { key, flight, inbound_expires_at: NEVER, tags, shared: None };
        let flight = exchanger.obtain(sought, &provider, call);
        let flown = timeout(limits::MANAGED_IDENTITY_WAIT, flight).await.unwrap_or_else(
            // Who is not there for the end of a flight started it, or came later: a miss.
            |_elapsed| (CacheResult::Miss, Err(Arc::new(self.too_slow()))),
        );
        Obtained::after(began, flown, metrics, Waited::default()).map(bound)
    }

    fn too_slow(&self) -> ExchangeError {
        let what = format!(
            "none came in {} s, and it is still being asked for",
            limits::MANAGED_IDENTITY_WAIT.as_secs(),
        );
        let error = self.identity.wanted(&self.resource).failed(Class::Unavailable, &what);
        error.with_remedy("see the warnings in the log, which tell what was answered")
    }
}

impl std::fmt::Debug for ManagedIdentityPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagedIdentityPlan")
            .field("upstream", &self.upstream)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::super::{ManagedIdentityHost, MetadataService};
    use super::*;
    use crate::clock::SystemClock;
    use crate::observe::Metrics;
    use crate::rejection::{Code, Extra};

    #[tokio::test(start_paused = true)]
    async fn a_request_does_not_wait_for_ever_and_the_call_goes_on() {
        let metrics = Metrics::default();
        let host = ManagedIdentityHost::imds(&Url::parse(ManagedIdentityHost::IMDS).unwrap());
        let service =
            Arc::new(MetadataService::new(host, Arc::new(SystemClock), metrics.clone()).unwrap());
        let exchanger = Exchanger::new(10, Arc::new(SystemClock), metrics.clone());
        let metrics = metrics.upstream("arm");
        let upstream = Arc::from("arm");
        let identity = ManagedIdentity::new(Arc::clone(&service), None);
        let plan = ManagedIdentityPlan::new(identity, "https://r".into(), Arc::clone(&upstream));
        let plan = Arc::new(plan);

        let _turns = service.occupied().await;
        let started = Instant::now();
        for waited in 1..=2 {
            let rejection = plan.credential(&exchanger, &upstream, &metrics).await.unwrap_err();
            assert_eq!(rejection.code(), Code::ProviderUnavailable);
            assert!(matches!(rejection.extra(), Extra::RetryAfter(_)));
            assert_eq!(started.elapsed(), limits::MANAGED_IDENTITY_WAIT * waited);
            assert_eq!(exchanger.under_way(), 1, "the same call");
        }
    }

    #[tokio::test]
    async fn a_token_of_one_upstream_is_not_given_to_another() {
        let metrics = Metrics::default();
        let host = ManagedIdentityHost::imds(&Url::parse(ManagedIdentityHost::IMDS).unwrap());
        let service = MetadataService::new(host, Arc::new(SystemClock), metrics.clone()).unwrap();
        let identity = ManagedIdentity::new(Arc::new(service), None);
        let plan = |upstream: &str| {
            ManagedIdentityPlan::new(identity.clone(), "https://r".into(), Arc::from(upstream))
        };
        assert!(plan("a").key != plan("b").key);
        let exchanger = Exchanger::new(10, Arc::new(SystemClock), metrics.clone());
        let metrics = metrics.upstream("b");
        let rejection = Arc::new(plan("a"))
            .credential(&exchanger, &Arc::from("b"), &metrics)
            .await
            .unwrap_err();
        assert_eq!(rejection.code(), Code::Internal);
    }
}
