//! One exchange: a call to a token endpoint, with one more try where that may help.
//!
//! Knows when to call, to wait and to give up. What is sent is `grant.rs`, what an answer
//! means `answer.rs`; the network is the provider's `Fetcher`, which sets timeouts and sizes
//! and follows no redirect.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::Map;
use tokio::time::{Instant, sleep};

use super::advice::Class;
use super::answer;
use super::breaker::{Breakers, Health, Open, Pass};
use super::cache::{Granted, Source};
use super::challenge::Claims;
use super::claims;
use super::credential::Groundwork;
use super::failure::{ExchangeError, Memory};
use super::flight::Outcome;
use super::grant;
use super::lanes::{Lanes, Turn};
use super::plan::OAuthClient;
use super::terms::Terms;
use super::throttle::{Throttles, retry_after};
use crate::authn::Issuing;
use crate::authn::fetch::{FetchError, Fetched};
use crate::chain::with_sources;
use crate::clock::{Clock, UnixTime};
use crate::limits;
use crate::observe::metrics::Metrics;
use crate::secret::{InboundToken, TokenDigest};

/// All that an exchange needs, owned: it outlives the request that started it.
pub(super) struct Call {
    pub(super) terms: Arc<Terms>,
    pub(super) client: Arc<OAuthClient>,
    /// The caller's token, where one is swapped.
    pub(super) subject: Option<InboundToken>,
    /// What the upstream asked for, where it did.
    pub(super) claims: Option<Claims>,
    /// The routing hint for the user, where there is one.
    pub(super) anchor: Option<HeaderValue>,
    /// The upstream that the token is for; a label.
    pub(super) upstream: Arc<str>,
}

/// What exchanges share.
pub(super) struct Office<'a> {
    pub(super) throttles: &'a Throttles,
    pub(super) lanes: &'a Lanes,
    pub(super) breakers: &'a Breakers,
    pub(super) clock: &'a dyn Clock,
    pub(super) metrics: &'a Metrics,
}

impl Call {
    /// Makes the exchange.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the call; the provider may have acted on it all the same.
    pub(super) async fn make(self, office: Office<'_>) -> Outcome {
        // Both tries have one id: to the provider's support they are one operation.
        let id = grant::request_id();
        let headers = || grant::headers_of(id.clone(), self.anchor.clone());
        let prepare =
            || self.client.credential.prepare(&self.terms, &self.upstream, office.clock.now());
        let post = |groundwork| self.post(headers(), groundwork, office.clock.now());
        let asking = Asking {
            terms: &self.terms,
            whose: self.subject.as_ref().map(InboundToken::digest),
            upstream: &self.upstream,
        };
        ask(&asking, &office, prepare, post).await
    }

    /// One call and its bare answer, for `trial.rs`: it waits for no turn, is made whatever calls
    /// before it came to, and nothing is counted or remembered of it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the call; the provider may have acted on it all the same.
    pub(super) async fn once(&self, clock: &dyn Clock) -> Result<Fetched, Arc<ExchangeError>> {
        let Self { terms, client, upstream, .. } = self;
        let groundwork = client.credential.prepare(terms, upstream, clock.now()).await?;
        let answer = self.post(grant::headers(None), groundwork, clock.now()).await;
        answer.map_err(|error| not_asked(error, terms).error)
    }

    /// One try: the proof that we are the client is made anew for each.
    async fn post(
        &self,
        mut headers: HeaderMap,
        groundwork: Groundwork,
        now: UnixTime,
    ) -> Result<Fetched, NotAsked> {
        let Self { terms, client, subject, claims, .. } = self;
        let proof = client.credential.prove(terms, groundwork, now).await?;
        if let Some(authorization) = &proof.authorization {
            headers.insert(AUTHORIZATION, authorization.expose().clone());
        }
        let claims = match (&client.provider.settings().kind, claims) {
            (Issuing::Entra { .. }, None) => Some(Cow::Borrowed(claims::CAPABILITIES)),
            (Issuing::Entra { .. }, wanted) => {
                claims::parameter(claims::capabilities(), wanted.as_ref()).map(Cow::Owned)
            }
            (Issuing::Oidc { .. }, wanted) => {
                claims::parameter(Map::new(), wanted.as_ref()).map(Cow::Owned)
            }
        };
        let form = grant::form(terms, &proof, subject.as_ref(), claims.as_deref());
        let fetcher = client.provider.fetcher();
        Ok(fetcher.form(&terms.token_address, form, headers).await?)
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum NotAsked {
    /// The provider gave none.
    Fetch(FetchError),
    /// It was not asked: the gateway can't prove who it is.
    NoProof(Arc<ExchangeError>),
}

impl From<FetchError> for NotAsked {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl From<Arc<ExchangeError>> for NotAsked {
    fn from(error: Arc<ExchangeError>) -> Self {
        Self::NoProof(error)
    }
}

/// Which exchange is made.
struct Asking<'a> {
    terms: &'a Terms,
    /// The caller's token that is swapped, where one is.
    whose: Option<TokenDigest>,
    /// The upstream that the token is for; a label.
    upstream: &'a str,
}

/// Asks by `post`, and once more after a pause if the provider failed rather than refused. What
/// each try is made of is had by `prepare`, which may take long, before the call takes the place
/// of others.
async fn ask<P, G, F>(
    asking: &Asking<'_>,
    office: &Office<'_>,
    prepare: impl Fn() -> P,
    post: impl Fn(G) -> F,
) -> Outcome
where
    P: Future<Output = Result<G, Arc<ExchangeError>>>,
    F: Future<Output = Result<Fetched, NotAsked>>,
{
    let Asking { terms, upstream, .. } = asking;
    let mut tries_left = 1_u8;
    loop {
        let groundwork = prepare().await?;
        // For each try: our pause is no call.
        let (turn, pass) = turn(asking, office).await.map_err(Arc::new)?;
        let (asked_at, started) = (office.clock.now(), Instant::now());
        let answer = post(groundwork).await;
        drop(turn);
        let judged = judge(answer, terms, office.clock);
        let (outcome, health) = match &judged {
            Ok(_) => ("success", Health::Alive),
            Err(failed) => (failed.error.outcome(), failed.health()),
        };
        // What was not asked is no exchange, neither in the counters nor in their times.
        if !matches!(health, Health::Unknown) {
            office.metrics.exchanged(&terms.provider, upstream, outcome, started.elapsed());
        }
        pass.report(health);
        match judged {
            Ok(grant) => {
                let answer::Grant { header, life, refresh_in } = grant;
                let source = Source::Provider;
                return Ok(Granted { header, asked_at, life, refresh_in, source });
            }
            Err(failed) => {
                if let Some(wait) = failed.hold_back {
                    office.throttles.hold_back(terms.throttle_key(), wait);
                }
                if !failed.worth_a_retry || tries_left == 0 {
                    return Err(failed.error);
                }
            }
        }
        tries_left -= 1;
        sleep(limits::EXCHANGE_RETRY_PAUSE).await;
    }
}

/// Waits until the provider may be called.
async fn turn(asking: &Asking<'_>, office: &Office<'_>) -> Result<(Turn, Pass), ExchangeError> {
    let Asking { terms, whose, .. } = asking;
    not_held_back(terms, office)?;
    let Office { lanes, breakers, .. } = office;
    if let Some(open) = breakers.open(terms) {
        return Err(left_alone(terms, &open));
    }
    let turn = lanes.enter(&terms.provider).await;
    let turn = turn.ok_or_else(|| full(terms, lanes.max(&terms.provider)))?;
    // Another exchange may have been told to wait while this one waited for its turn.
    not_held_back(terms, office)?;
    let pass = breakers.admit(terms, *whose).map_err(|open| left_alone(terms, &open))?;
    Ok((turn, pass))
}

fn not_held_back(terms: &Terms, office: &Office<'_>) -> Result<(), ExchangeError> {
    let left = office.throttles.wait(terms.throttle_key());
    left.map_or(Ok(()), |left| Err(held_back(terms, left)))
}

/// A try that gave no token.
struct Failed {
    error: Arc<ExchangeError>,
    /// The provider failed, and did not say when to come back.
    worth_a_retry: bool,
    /// How long nobody must ask for the like.
    hold_back: Option<Duration>,
    /// Who it speaks against.
    fault: Fault,
}

/// What a failed try says about the provider's health.
enum Fault {
    /// It gave no answer, or one with a failure of its own.
    Provider,
    /// It answered: with a refusal, or by throttling.
    Elsewhere,
    /// It was not asked.
    NotAsked,
}

impl Failed {
    fn health(&self) -> Health {
        match self.fault {
            Fault::Provider => Health::Failing(self.error.reason().into_owned()),
            Fault::Elsewhere => Health::Alive,
            Fault::NotAsked => Health::Unknown,
        }
    }
}

fn judge(
    answer: Result<Fetched, NotAsked>,
    terms: &Terms,
    clock: &dyn Clock,
) -> Result<answer::Grant, Failed> {
    let fetched = answer.map_err(|error| not_asked(error, terms))?;
    let refusal = match answer::read(fetched.status, &fetched.body) {
        Ok(grant) => return Ok(grant),
        Err(refusal) => refusal,
    };
    let unavailable = refusal.class() == Class::Unavailable;
    let failing = unavailable && fetched.status.is_server_error();
    // What one user may not do holds nobody else back, whatever the headers say.
    let wait = retry_after(&fetched.headers, clock.now()).filter(|_| unavailable);
    Err(Failed {
        error: Arc::new(refusal.explain(terms, wait)),
        worth_a_retry: failing && wait.is_none(),
        hold_back: wait.filter(|wait| !wait.is_zero()),
        fault: if failing { Fault::Provider } else { Fault::Elsewhere },
    })
}

fn not_asked(error: NotAsked, terms: &Terms) -> Failed {
    match error {
        NotAsked::Fetch(error) => unreachable_provider(&error, terms),
        NotAsked::NoProof(error) => {
            Failed { error, worth_a_retry: false, hold_back: None, fault: Fault::NotAsked }
        }
    }
}

fn unreachable_provider(error: &FetchError, terms: &Terms) -> Failed {
    let reason =
        format!("exchange with provider `{}` failed: {}", terms.provider, with_sources(error));
    match error {
        FetchError::TooLarge => Failed {
            error: Arc::new(
                ExchangeError::new(Class::Gateway, reason)
                    .remembered(Memory::Token(limits::SHORT_REFUSAL_MEMORY)),
            ),
            worth_a_retry: false,
            hold_back: None,
            fault: Fault::Elsewhere,
        },
        // A provider that took all the time there is would take it again, while the caller waits.
        FetchError::Timeout => Failed {
            error: Arc::new(ExchangeError::unavailable(reason, None)),
            worth_a_retry: false,
            hold_back: None,
            fault: Fault::Provider,
        },
        FetchError::Connect(_) | FetchError::Broken(_) => Failed {
            error: Arc::new(ExchangeError::unavailable(reason, None)),
            worth_a_retry: true,
            hold_back: None,
            fault: Fault::Provider,
        },
    }
}

fn held_back(terms: &Terms, left: Duration) -> ExchangeError {
    let reason = format!(
        "provider `{}` asked to wait (`Retry-After`) and {} s are left: no exchange for client {} and scopes `{}` until then",
        terms.provider,
        left.as_secs() + 1,
        terms.client_id,
        terms.wanted(),
    );
    ExchangeError::unavailable(reason, Some(left))
}

fn left_alone(terms: &Terms, open: &Open) -> ExchangeError {
    let reason = format!(
        "provider `{}` is not asked for another {} s for client {} and scopes `{}`, as too many calls for them failed; the last one: {}",
        terms.provider,
        open.left.as_secs() + 1,
        terms.client_id,
        terms.wanted(),
        open.why,
    );
    ExchangeError::unavailable(reason, Some(open.left))
}

fn full(terms: &Terms, max: usize) -> ExchangeError {
    let reason = format!(
        "{max} exchanges with provider `{}` are under way (`max_in_flight`), and this one's turn did not come in {} s: the provider is slow, or more users came at once than it serves",
        terms.provider,
        limits::EXCHANGE_QUEUE_WAIT.as_secs(),
    );
    ExchangeError::unavailable(reason, None).with_remedy("see how long its exchanges take")
}

#[cfg(test)]
mod tests;
