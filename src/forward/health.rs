//! Active health checks (`health_check`): which endpoints answer when nobody asks for anything.
//!
//! A check is a request of the gateway's own on a connection of its own: it carries nobody's
//! credential, takes no place in a pool, and says something of connecting, too. Nothing is read
//! of an answer but its head. What follows from a state is decided where an endpoint is chosen.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, StatusCode, Uri, Version};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::balance::Endpoints;
use super::client::ConnectError;
use super::dial::{Dialled, Spoken, dial};
use super::endpoint::Endpoint;
use crate::chain::with_sources;
use crate::limits;

/// How the health of endpoints is found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for, below the host: the upstream's base path is not put before it.
    pub path: PathAndQuery,
    /// From one check of an endpoint to the next.
    pub interval: Duration,
    /// How long a check may take, connecting included.
    pub timeout: Duration,
    /// So many checks in a row make an unhealthy endpoint healthy.
    pub healthy_after: u32,
    /// So many failed ones in a row make a healthy endpoint unhealthy.
    pub unhealthy_after: u32,
}

/// What the checks of one endpoint say. Before the first one ends it counts as healthy.
#[derive(Debug)]
pub(super) struct Checked {
    healthy: AtomicBool,
    streak: Mutex<Streak>,
}

/// Checks in a row that speak against the state it has.
#[derive(Debug)]
struct Streak {
    length: u32,
    since: Instant,
    why: Arc<str>,
}

/// An endpoint whose checks fail.
#[derive(Clone, Debug)]
pub struct Unhealthy {
    /// What the check met that made it unhealthy.
    pub why: Arc<str>,
    /// How long ago that was.
    pub since: Duration,
}

impl Checked {
    pub(super) fn unknown() -> Self {
        let streak = Streak { length: 0, since: Instant::now(), why: Arc::from("") };
        Self { healthy: AtomicBool::new(true), streak: Mutex::new(streak) }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    pub(super) fn unhealthy(&self) -> Option<Unhealthy> {
        let streak = self.streak.lock().unwrap_or_else(PoisonError::into_inner);
        let (why, since) = (Arc::clone(&streak.why), streak.since.elapsed());
        (!self.is_healthy()).then_some(Unhealthy { why, since })
    }

    /// Takes what a check says, and tells whether that made it another.
    fn take(&self, result: Result<(), String>, settings: &HealthCheck) -> Change {
        let mut streak = self.streak.lock().unwrap_or_else(PoisonError::into_inner);
        let healthy = self.is_healthy();
        if healthy == result.is_ok() {
            streak.length = 0;
            return Change::None;
        }
        streak.length = streak.length.saturating_add(1);
        let enough = if healthy { settings.unhealthy_after } else { settings.healthy_after };
        if streak.length < enough {
            return Change::None;
        }
        let before = streak.since.elapsed();
        *streak = Streak { length: 0, since: Instant::now(), why: Arc::from("") };
        self.healthy.store(!healthy, Ordering::Relaxed);
        match result {
            Ok(()) => Change::Up { down_for: before },
            Err(why) => {
                streak.why = Arc::from(why.as_str());
                Change::Down(why)
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    None,
    Up { down_for: Duration },
    Down(String),
}

/// Checks all endpoints for ever, those that turn up later too.
///
/// # Cancel safety
///
/// Dropping it ends all checks.
pub(super) async fn keep(endpoints: &Endpoints, settings: &HealthCheck) {
    let mut changes = endpoints.changes();
    let mut checks = JoinSet::new();
    let mut checked: HashMap<(Arc<str>, SocketAddr), (Arc<Endpoint>, AbortHandle)> = HashMap::new();
    loop {
        // Checks are a use: a name is looked up for them, and again in time.
        endpoints.refresh();
        let known = endpoints.known();
        checked.retain(|_, (endpoint, task)| {
            let stays = known.iter().any(|known| Arc::ptr_eq(known, endpoint));
            if !stays {
                task.abort();
            }
            stays
        });
        for endpoint in known.iter() {
            let key = (Arc::clone(&endpoint.origin.label), endpoint.address);
            checked.entry(key).or_insert_with(|| {
                let task = checks.spawn(check_for_ever(Arc::clone(endpoint), settings.clone()));
                (Arc::clone(endpoint), task)
            });
        }
        tokio::select! {
            told = changes.changed() => if told.is_err() { return },
            () = sleep(limits::NAME_AGE) => {}
            // Aborted ones, taken out of the set.
            Some(_) = checks.join_next() => {}
        }
    }
}

async fn check_for_ever(endpoint: Arc<Endpoint>, settings: HealthCheck) {
    loop {
        let result = match timeout(settings.timeout, check(&endpoint, &settings.path)).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(status)) => Err(format!("answered {}", status.as_u16())),
            Ok(Err(failed)) => Err(with_sources(&failed)),
            Err(_) => Err(format!("no answer within {} ms", settings.timeout.as_millis())),
        };
        let name = &endpoint.origin.settings.name;
        let (label, address) = (&endpoint.origin.label, endpoint.address);
        match endpoint.checked.take(result, &settings) {
            Change::None => {}
            Change::Up { down_for } => {
                tracing::info!(
                    upstream = %name, endpoint = %label, %address, seconds = down_for.as_secs(),
                    "an endpoint is healthy again"
                );
            }
            Change::Down(why) => {
                let checks = settings.unhealthy_after;
                tracing::warn!(
                    upstream = %name, endpoint = %label, %address, checks, reason = %why,
                    "an endpoint is unhealthy and takes no requests"
                );
            }
        }
        // So that the checks of many gateways and endpoints don't fall on one moment.
        sleep(settings.interval.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
    }
}

/// Why a check has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the request can't be encoded")]
    Encode(#[from] http::Error),
    #[error("no answer")]
    Http(#[from] hyper::Error),
}

/// One check: the status of the answer, whose body is left unread.
pub(super) async fn check(
    endpoint: &Endpoint,
    path: &PathAndQuery,
) -> Result<StatusCode, CheckError> {
    let (stream, spoken) = dial(endpoint).await?;
    let request = request(endpoint, path, spoken)?;
    match stream {
        Dialled::Clear(tcp) => ask(tcp, spoken, request).await,
        Dialled::Tls(tls) => ask(*tls, spoken, request).await,
    }
}

fn request(
    endpoint: &Endpoint,
    path: &PathAndQuery,
    spoken: Spoken,
) -> Result<Request<Empty<Bytes>>, http::Error> {
    const AGENT: HeaderValue =
        HeaderValue::from_static(concat!("obo-gateway/", env!("CARGO_PKG_VERSION")));
    let origin = &endpoint.origin;
    let request = Request::get(Uri::from(path.clone())).header(USER_AGENT, AGENT);
    match spoken {
        Spoken::Http1 => request.header(HOST, origin.authority.clone()).body(Empty::new()),
        Spoken::Http2 => {
            let scheme = if origin.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
            let uri = Uri::builder().scheme(scheme).authority(&*origin.label);
            let uri = uri.path_and_query(path.clone()).build()?;
            request.uri(uri).version(Version::HTTP_2).body(Empty::new())
        }
    }
}

async fn ask<S>(
    stream: S,
    spoken: Spoken,
    request: Request<Empty<Bytes>>,
) -> Result<StatusCode, CheckError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    match spoken {
        Spoken::Http1 => {
            let mut builder = http1::Builder::new();
            builder.max_buf_size(limits::MAX_HEALTH_ANSWER_BYTES);
            let (mut sender, connection) = builder.handshake(io).await?;
            Ok(beside(connection, sender.send_request(request)).await?.status())
        }
        Spoken::Http2 => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.max_header_list_size(MAX_HEADER_LIST);
            let (mut sender, connection) = builder.handshake(io).await?;
            Ok(beside(connection, sender.send_request(request)).await?.status())
        }
    }
}

/// Waits for an answer and drives its connection meanwhile; with the answer the connection ends.
async fn beside<T>(
    connection: impl Future<Output = hyper::Result<()>>,
    answer: impl Future<Output = T>,
) -> T {
    let driving = async {
        // Why it ended, the answer says too.
        connection.await.unwrap_or_default();
        std::future::pending().await
    };
    tokio::select! {
        answer = answer => answer,
        never = driving => never,
    }
}

/// The same limit, as HTTP/2 counts.
#[allow(clippy::cast_possible_truncation, reason = "it is a constant far below 4 GiB")]
const MAX_HEADER_LIST: u32 = limits::MAX_HEALTH_ANSWER_BYTES as u32;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> HealthCheck {
        HealthCheck {
            path: PathAndQuery::from_static("/healthz"),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            healthy_after: 2,
            unhealthy_after: 3,
        }
    }

    #[test]
    fn only_results_in_a_row_change_anything() {
        let (checked, settings) = (Checked::unknown(), settings());
        let bad = || Err("answered 500".to_owned());
        assert!(checked.is_healthy());
        for (result, change, healthy) in [
            (bad(), "None", true),
            (bad(), "None", true),
            (Ok(()), "None", true),
            (bad(), "None", true),
            (bad(), "None", true),
            (bad(), "Down(\"answered 500\")", false),
            (bad(), "None", false),
            (Ok(()), "None", false),
            (bad(), "None", false),
            (Ok(()), "None", false),
            (Ok(()), "Up", true),
            (Ok(()), "None", true),
        ] {
            let came = format!("{:?}", checked.take(result, &settings));
            assert!(came.starts_with(change), "{came} in place of {change}");
            assert_eq!(checked.is_healthy(), healthy);
            let why = checked.unhealthy().map(|unhealthy| unhealthy.why.to_string());
            assert_eq!(why.as_deref(), (!healthy).then_some("answered 500"));
        }
    }
}
