//! Tokens of a managed identity: those that the machine itself gives the gateway, without a
//! secret.
//!
//! Knows when to ask, to wait and to give up. Which hosts there are, what each is sent and how
//! often, is `host.rs`; what an answer means, `answer.rs`; Azure Arc's proof of being on the
//! machine, `azure_arc.rs`. It refuses to know the environment, who wants the token, and
//! caches: whoever asks keeps what was given.

mod advice;
mod answer;
mod azure_arc;
mod host;
mod plan;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::advice::Class;
use super::cache::{Granted, Source};
use super::failure::ExchangeError;
use super::flight::Outcome;
use super::throttle::retry_after;
use crate::authn::fetch::{FetchError, Fetched, Fetcher};
use crate::chain::with_sources;
use crate::clock::SharedClock;
use crate::limits;
use crate::observe::metrics::Metrics;
use crate::rejection::Code;
use crate::trust::{Roots, TrustError};

use self::advice::Wanted;
use self::azure_arc::ChallengeError;

pub use self::azure_arc::KEY_DIRECTORY;
pub use self::host::{ManagedIdentityHost, may_be_asked};
pub use self::plan::ManagedIdentityPlan;

/// What managed identities are called where a provider has a name: in metrics, in the log, and
/// among the lanes. No provider of a routes file may have it.
pub const PROVIDER: &str = "managed_identity";

/// Tokens of this life or a longer one are renewed at half of it, as MSAL does.
const RENEWED_AT_HALF: Duration = Duration::from_hours(2);

/// The service of this machine that gives tokens. It outlives a configuration, so that a reload
/// does not forget that it asked for peace.
#[derive(Debug)]
pub struct MetadataService {
    host: ManagedIdentityHost,
    fetcher: Fetcher,
    calls: Semaphore,
    /// Until when the service asked not to be called: it throttles the machine as a whole.
    held_back: Mutex<Option<Instant>>,
    clock: SharedClock,
    metrics: Metrics,
}

/// One identity that the machine may use.
#[derive(Clone, Debug)]
pub struct ManagedIdentity {
    service: Arc<MetadataService>,
    /// The user-assigned identity; the system-assigned one without it.
    client_id: Option<String>,
    refused: Arc<Mutex<Option<Refused>>>,
}

/// What the service said no to, and would again: a caller in a loop must not reach it each time.
#[derive(Debug)]
struct Refused {
    resource: String,
    until: Instant,
    error: Arc<ExchangeError>,
}

/// Why the service was not heard, or not as it is asked.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
}

impl MetadataService {
    /// The service of `host`. It is called without a proxy, and its redirects are not followed.
    ///
    /// # Errors
    ///
    /// TLS can't be set up.
    pub fn new(
        host: ManagedIdentityHost,
        clock: SharedClock,
        metrics: Metrics,
    ) -> Result<Self, TrustError> {
        let fetcher = Fetcher::new(&Roots::System, limits::MANAGED_IDENTITY_TIMEOUT)?;
        let calls = Semaphore::new(limits::MAX_MANAGED_IDENTITY_CALLS);
        Ok(Self { host, fetcher, calls, held_back: Mutex::default(), clock, metrics })
    }

    /// Where it is.
    pub fn host(&self) -> &ManagedIdentityHost {
        &self.host
    }

    /// Whether there are no identities but the system-assigned one.
    pub fn is_system_assigned_only(&self) -> bool {
        matches!(self.host, ManagedIdentityHost::AzureArc { .. })
    }

    /// What the `made`th answer comes to.
    fn judge(
        &self,
        answer: Result<Fetched, AskError>,
        wanted: &Wanted<'_>,
        made: usize,
    ) -> Result<answer::Token, Failed> {
        let fetched = answer.map_err(|error| unheard(&error, wanted, made))?;
        let now = self.clock.now();
        let refusal = match answer::read(fetched.status, &fetched.body, now) {
            Ok(token) => return Ok(token),
            Err(refusal) => refusal,
        };
        let status = fetched.status;
        let pause = wanted.host.pause(status, made);
        // What was not worth a try is not throttling, whatever the headers say.
        let passing = pause.is_some() || wanted.host.pause(status, 1).is_some();
        let wait = retry_after(&fetched.headers, now).filter(|wait| passing && !wait.is_zero());
        if let Some(wait) = wait {
            self.hold_back(wait);
        }
        let error = Arc::new(wanted.refused(status, &refusal, made, wait));
        Err(Failed { error, pause: pause.filter(|_| wait.is_none()) })
    }

    /// As if others called, and nobody else's turn came.
    #[cfg(test)]
    pub(super) async fn occupied(&self) -> tokio::sync::SemaphorePermit<'_> {
        let all = u32::try_from(limits::MAX_MANAGED_IDENTITY_CALLS).unwrap();
        self.calls.acquire_many(all).await.unwrap()
    }

    fn hold_back(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut held_back = self.held_back.lock().unwrap_or_else(PoisonError::into_inner);
        *held_back = Some(held_back.map_or(until, |before| before.max(until)));
    }

    /// How long it must not be called; `None` if it may be.
    fn wait(&self) -> Option<Duration> {
        let until = (*self.held_back.lock().unwrap_or_else(PoisonError::into_inner))?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

impl ManagedIdentity {
    /// The user-assigned identity `client_id` of the machine, or the system-assigned one.
    pub fn new(service: Arc<MetadataService>, client_id: Option<String>) -> Self {
        Self { service, client_id, refused: Arc::default() }
    }

    /// What makes its tokens others than those of another identity, for cache keys: the kind of
    /// host, its endpoint, and the `client_id`.
    fn parts(&self) -> [&str; 4] {
        let (kind, id) = match &self.client_id {
            Some(id) => ("user-assigned", id.as_str()),
            None => ("system-assigned", ""),
        };
        [self.service.host.name(), self.service.host.endpoint().as_str(), kind, id]
    }

    /// A token for `resource`, which is written without `/.default`; `upstream` is what the
    /// call is counted for. Takes up to 70 s while the service is updated: whoever answers a
    /// caller bounds its own wait, and lets this go on.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the call.
    pub(super) async fn token(&self, resource: &str, upstream: &str) -> Outcome {
        let Self { service, client_id, .. } = self;
        let call = || service.host.ask(&service.fetcher, resource, client_id.as_deref());
        self.persist(resource, upstream, call).await
    }

    fn refused_before(&self, resource: &str) -> Option<Arc<ExchangeError>> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |it: &&Refused| it.resource == resource && Instant::now() < it.until;
        refused.as_ref().filter(holds).map(|it| Arc::clone(&it.error))
    }

    /// Keeps a refusal for a while; an outage may be over at any time, and is not kept.
    fn remember(&self, resource: &str, error: &Arc<ExchangeError>) {
        if error.code() == Code::ExchangeFailed {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(Refused {
                resource: resource.to_owned(),
                until: Instant::now() + limits::MANAGED_IDENTITY_REFUSAL_MEMORY,
                error: Arc::clone(error),
            });
        }
    }

    fn wanted<'a>(&'a self, resource: &'a str) -> Wanted<'a> {
        let client_id = self.client_id.as_deref();
        Wanted { host: &self.service.host, client_id, resource }
    }

    /// Asks by `call`, as often as the host's table says.
    async fn persist<F>(&self, resource: &str, upstream: &str, call: impl Fn() -> F) -> Outcome
    where
        F: Future<Output = Result<Fetched, AskError>>,
    {
        if let Some(error) = self.refused_before(resource) {
            return Err(error);
        }
        let service = &*self.service;
        let wanted = self.wanted(resource);
        let mut made = 0;
        loop {
            let turn = service.calls.acquire().await;
            // After the wait for a turn, in which another call may have been told to wait.
            if let Some(left) = service.wait() {
                return Err(Arc::new(wanted.held_back(left)));
            }
            let (asked_at, started) = (service.clock.now(), Instant::now());
            let answer = call().await;
            drop(turn);
            made += 1;
            let judged = service.judge(answer, &wanted, made);
            let outcome =
                judged.as_ref().map_or_else(|failed| failed.error.outcome(), |_| "success");
            service.metrics.exchanged(PROVIDER, upstream, outcome, started.elapsed());
            match judged {
                Ok(answer::Token { header, life }) => {
                    // No host says when; the services themselves give a new one from then on.
                    let refresh_in =
                        life.filter(|life| *life >= RENEWED_AT_HALF).map(|life| life / 2);
                    let source = Source::Provider;
                    return Ok(Granted { header, asked_at, life, refresh_in, source });
                }
                Err(Failed { error, pause: None }) => {
                    self.remember(resource, &error);
                    return Err(error);
                }
                Err(Failed { error, pause: Some(pause) }) => {
                    // The requests that wait may be gone when the last word is spoken.
                    let seconds = pause.as_secs();
                    tracing::warn!(
                        upstream,
                        reason = &*error.reason(),
                        "asking again in {seconds} s"
                    );
                    sleep(pause).await;
                }
            }
        }
    }
}

/// A try that gave no token.
struct Failed {
    error: Arc<ExchangeError>,
    /// How long to wait before the next try, if there is to be one.
    pause: Option<Duration>,
}

fn unheard(error: &AskError, wanted: &Wanted<'_>, made: usize) -> Failed {
    let once_more = (made == 1).then_some(limits::EXCHANGE_RETRY_PAUSE);
    match error {
        AskError::Challenge(challenge) => {
            let error = wanted.failed(Class::Gateway, &with_sources(challenge));
            Failed { error: Arc::new(error.with_remedy(challenge.remedy())), pause: None }
        }
        AskError::Fetch(fetch) => {
            let (class, pause) = match fetch {
                FetchError::TooLarge => (Class::Gateway, None),
                // It took all the time there is, and would take it again.
                FetchError::Timeout => (Class::Unavailable, None),
                FetchError::Connect(_) | FetchError::Broken(_) => (Class::Unavailable, once_more),
            };
            let error = wanted.failed(class, &with_sources(fetch));
            Failed { error: Arc::new(error.with_remedy(wanted.host.absent())), pause }
        }
    }
}

#[cfg(test)]
mod tests;
